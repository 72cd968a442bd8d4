"""What an operator pastes from the pages works, and the diagrams show what the code does."""

from __future__ import annotations

import re
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


def test_pages_lead_to_pages() -> None:
    """And to files of the repository."""
    broken = [
        f"{page.name}: {target}"
        for page in [*DOCS.glob("*.md"), ROOT / "README.md"]
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []
