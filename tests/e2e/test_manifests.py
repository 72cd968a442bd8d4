"""The manifests before a real API server: it would take each of them as it is."""

from __future__ import annotations

import re
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster.node import Node

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
CUSTOM = {"monitoring"}
"""Overlays with kinds that only a cluster with their definitions knows."""
OVERLAYS = sorted({path.name for path in (MANIFESTS / "overlays").iterdir()} - CUSTOM)


@pytest.fixture
def kubectl(node: Node) -> Iterator[list[str]]:
    """The command of kubectl as the cluster's administrator."""
    program = shutil.which("kubectl", path=sysconfig.get_path("scripts")) or "kubectl"
    config = node.machine.disk / "etc/kubernetes/admin.conf"
    config.write_text(node.admin_kubeconfig())
    yield [program, "--kubeconfig", str(config)]
    config.unlink()


@pytest.mark.parametrize("name", OVERLAYS)
def test_api_server_takes_every_object(node: Node, kubectl: list[str], name: str) -> None:
    """Admission and validation of the release, unknown fields included; nothing is stored."""
    folder = MANIFESTS / "overlays" / name
    said = node.machine.run(
        *(*kubectl, "apply", "--dry-run=server", "--validate=strict", "-k", folder)
    )
    lines = said.splitlines()
    assert [line for line in lines if not line.endswith("created (server dry run)")] == []
    assert any(line.startswith("daemonset.apps/pod-checkpointer") for line in lines)


def test_api_server_takes_the_examples_of_the_pages(node: Node, kubectl: list[str]) -> None:
    """Who pastes a control plane must not find a field refused half-way."""
    page = (ROOT / "docs/install.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    pasted = "---\n".join(block for block in blocks if "kind: DaemonSet" in block)
    command = (*kubectl, "create", "--dry-run=server", "--validate=strict", "-f", "-")
    for document in pasted.split("---\n"):
        # The control plane of this node bears the same names, so each is asked for as another's.
        other = document.replace("  name: kube-", "  name: my-kube-", 1)
        said = node.machine.run(*command, text=other)
        assert said.endswith("created (server dry run)\n")
