"""What an operator pastes from the pages works, and the diagrams show what the code does."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client import models

from checkpointer.core.contact import (
    ContactRules,
    ProbeOutcome,
    ProbeResult,
    after_probe,
    initial_contact,
)
from checkpointer.manifest.sanitize import sanitize
from checkpointer.manifest.select import (
    DEFAULT_STAGE_RULES,
    Selection,
    exclusion,
    is_meant,
    stage_of,
)
from checkpointer.manifest.sources import Options, Sources
from checkpointer.report.metrics import STATES
from tests.unit.deploy.conftest import ROOT

DOCS = ROOT / "docs"
INSTALL = (DOCS / "install.md").read_text()
_BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
_OPTIONS = Options(
    node_name="node-1",
    kubelet_dir="/var/lib/kubelet",
    service_host="10.0.0.1",
    service_port="6443",
)


def _examples() -> list[dict[str, Any]]:
    documents = [d for block in _BLOCK.findall(INSTALL) for d in yaml.safe_load_all(block)]
    return [document for document in documents if document.get("kind") == "DaemonSet"]


def _pod_of(daemon_set: dict[str, Any]) -> dict[str, Any]:
    """Return a running pod of it."""
    name, template = daemon_set["metadata"]["name"], daemon_set["spec"]["template"]
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": name, "uid": "1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **template["metadata"],
            "name": f"{name}-abcde",
            "namespace": daemon_set["metadata"]["namespace"],
            "uid": "0b6f0a80-0000-4000-8000-000000000001",
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": {**template["spec"], "nodeName": "node-1"},
        "status": {"phase": "Running"},
    }


def test_install_page_has_its_examples() -> None:
    """A complete control plane, and a VIP."""
    names = [example["metadata"]["name"] for example in _examples()]
    assert names == ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-vip-ds"]


@pytest.mark.parametrize("example", _examples(), ids=lambda e: e["metadata"]["name"])
def test_example_is_valid(example: dict[str, Any]) -> None:
    """The API takes each field of it."""
    typed = models.V1DaemonSet.from_dict(example)
    assert client.ApiClient().sanitize_for_serialization(typed) == example
    labels = example["spec"]["template"]["metadata"]["labels"]
    assert example["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("example", _examples(), ids=lambda e: e["metadata"]["name"])
def test_example_is_checkpointed(example: dict[str, Any]) -> None:
    """With the default configuration, without a refusal or a warning."""
    pod = _pod_of(example)
    assert is_meant(pod, Selection())
    assert exclusion(pod, Selection()) is None
    verdict = sanitize(pod, "/material", Sources(), _OPTIONS)
    assert (verdict.refusals, verdict.warnings) == ((), ())
    assert verdict.manifest is not None


def test_example_that_restores_contact_goes_first() -> None:
    """By the default rules, which the page relies on."""
    stages = {e["metadata"]["name"]: stage_of(_pod_of(e), DEFAULT_STAGE_RULES) for e in _examples()}
    assert [name for name, stage in stages.items() if stage == 0] == [
        "kube-apiserver",
        "kube-vip-ds",
    ]


def _diagram(word: str) -> tuple[set[tuple[str, str]], dict[str, str]]:
    """Return the transitions of the state diagram with this word, and the names of its states."""
    page = (DOCS / "how-it-works.md").read_text()
    (diagram,) = [d for d in re.findall(r"```mermaid\n(.*?)```", page, re.DOTALL) if word in d]
    named = re.findall(r'state "(.*?)" as ([a-z]+)', diagram)
    return set(re.findall(r"^  ([a-z]+) --> ([a-z]+)", diagram, re.MULTILINE)), {
        short: long for long, short in named
    }


def test_diagram_of_contact_is_what_contact_does() -> None:
    """Each change that a row of answers can make is drawn, and no other."""
    rules = ContactRules(
        failures=2,
        server_error_seconds=1.5,
        denied_seconds=1.5,
        successes=2,
        recovery_seconds=1.0,
    )
    seen: set[tuple[str, str]] = set()
    reached = [initial_contact(0.0)]
    for second in range(1, 8):
        after = [
            (before, after_probe(before, [ProbeResult(outcome, "")], rules, float(second)))
            for before in reached
            for outcome in ProbeOutcome
        ]
        seen |= {(b.state.value, a.state.value) for b, a in after if b.state is not a.state}
        reached = [contact for _, contact in after]
    drawn, _ = _diagram("suspect")
    assert drawn == seen


def test_diagram_of_a_checkpoint_has_its_states() -> None:
    """Those that status and metrics tell."""
    drawn, named = _diagram("standby")
    states = {named.get(state, state) for change in drawn for state in change}
    assert states == set(STATES) - {"unknown"}


class HostCommand:
    """The command on the host as the page writes it, with a containerd that has these images."""

    def __init__(self, folder: Path) -> None:
        self.manifests, self._bin = folder / "manifests", folder / "bin"
        self.manifests.mkdir()
        self._bin.mkdir()
        (block,) = [b for b in re.findall(r"```sh\n(.*?)```", INSTALL, re.DOTALL) if "<<'EOF'" in b]
        pasted = block.replace("/usr/local/bin", str(self._bin))
        pasted = pasted.replace("/etc/kubernetes/manifests/", f"{self.manifests}/")
        subprocess.run(["sh", "-e"], input=pasted.removesuffix("checkpointer status\n"), text=True)

    def image(self, *images: str, **environment: str) -> str:
        """Return the image that it would run, or what it complains of."""
        listed = "".join(f"echo {name}\n" for name in images)
        ctr = self._bin / "ctr"
        ctr.write_text(
            f'#!/bin/sh\ncase "$*" in *"images ls -q")\n{listed};; *) echo "$@";; esac\n'
        )
        ctr.chmod(0o755)
        path = f"{self._bin}:{os.environ['PATH']}"
        done = subprocess.run(
            [self._bin / "checkpointer", "status", "-o", "json"],
            env={"PATH": path, **environment},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            return done.stderr.splitlines()[-1]
        *_, image, _, program, command, option, form = done.stdout.split()
        assert (program, command, option, form) == ("checkpointer", "status", "-o", "json")
        return image

    def keep_own_copy(self, image: str) -> None:
        """Write the manifest of the agent's own copy, as the agent does."""
        name = f"{self.manifests}/pod-checkpointer-kube-system-daemonset-pod-checkpointer-0f.json"
        Path(name).write_text(f'{{"spec":{{"containers":[{{"image":"{image}","name":"a"}}]}}}}')


OURS = "registry.example/pod-checkpointer:0.1.0"


def test_command_on_the_host_runs_the_agent_s_image_only(tmp_path: Path) -> None:
    """It is root's: whoever may start pods can bring an image of any name onto the node."""
    command = HostCommand(tmp_path)
    command.keep_own_copy(OURS)
    assert command.image("evil.example/pod-checkpointer:9.9.9", OURS, f"{OURS}0") == OURS
    assert command.image("evil.example/pod-checkpointer:9.9.9").startswith(f"no image '{OURS}'")


def test_command_on_the_host_knows_short_names(tmp_path: Path) -> None:
    """containerd keeps them with the registry that is meant."""
    command = HostCommand(tmp_path)
    command.keep_own_copy("mine/pod-checkpointer:1")
    full = "docker.io/mine/pod-checkpointer:1"
    assert command.image("evil.example/mine/pod-checkpointer:1", full) == full


def test_command_on_the_host_works_before_the_agent_has_a_copy(tmp_path: Path) -> None:
    """With the image named; without, it says what it looked for."""
    command = HostCommand(tmp_path)
    assert command.image(OURS, POD_CHECKPOINTER_IMAGE=OURS) == OURS
    assert command.image(OURS) == "no image '' of the agent on this node"


def test_pages_lead_to_pages() -> None:
    """And to files of the repository."""
    broken = [
        f"{page.name}: {target}"
        for page in [*DOCS.glob("*.md"), ROOT / "README.md"]
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []
