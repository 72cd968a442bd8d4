"""`checkpointer prepare-reboot` as a runbook runs it, on a simulated node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkpointer.simulation import pod_status
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.waiting import wait_until
from checkpointer.store import layout

WEB = "registry.example/web:1"
VIP = "registry.example/kube-vip:1"
AGENT_MANIFEST = "agent.json"


def spec_of(image: str) -> dict[str, Any]:
    return {"hostNetwork": True, "containers": [{"name": "main", "image": image}]}


def prepare(node: SimulatedNode, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run it as a process; return its exit status and what it says."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "checkpointer", "prepare-reboot", "-o", "json"),
            *("--config", str(node.agent_config_file), "--timeout", "2s", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def unattended(node: SimulatedNode) -> SimulatedNode:
    """A node with a pod of stage 0 and another one, both Ready; the agent starts at boot only."""
    node.write_agent_config(timing={"ready": "0s"})
    node.add_daemonset("web", spec_of(WEB))
    node.add_daemonset("kube-vip", spec_of(VIP))
    mounts = [{"hostPath": {"path": str(node.manifest_folder.parent)}, "name": "kubernetes"}]
    agent = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "agent"},
        "spec": {**spec_of("registry.example/agent:1"), "volumes": mounts},
    }
    (node.manifest_folder / AGENT_MANIFEST).write_text(json.dumps(agent))

    def are_ready() -> bool:
        pods = node.pods()
        return len(pods) == 2 and all(pod_status.is_ready(pod) for pod in pods)

    wait_until(are_ready, 30, "the pods to be Ready")
    return node


def test_without_an_agent_it_takes_the_snapshots_itself(unattended: SimulatedNode) -> None:
    """Under the agent's lock, by the agent's rules; a second run finds nothing new."""
    status, said = prepare(unattended)
    assert (status, said["ready"], said["reasons"]) == (0, True, [])
    assert [
        (pod["workload"], pod["revision"], pod["new"]) for pod in said["snapshots"]["pods"]
    ] == [
        ("kube-system/daemonset/kube-vip", 1, True),
        ("kube-system/daemonset/web", 1, True),
    ]
    assert said["readiness"]["summary"] == (
        "this node would bring back: kube-system/daemonset/kube-vip, kube-system/daemonset/web"
    )
    _, said = prepare(unattended)
    assert [pod["new"] for pod in said["snapshots"]["pods"]] == [False, False]


def test_a_dry_run_takes_none_and_says_what_is_missing(unattended: SimulatedNode) -> None:
    """Nothing is stored, so nothing would come back."""
    status, said = prepare(unattended, "--dry-run")
    assert status == 3
    assert said["snapshots"] == {"reason": "dry run", "pods": []}
    assert not unattended.store_folder.exists()


def test_stage_zero_decides_and_strict_wants_all(unattended: SimulatedNode) -> None:
    """A lost image of stage 1 is told; of stage 0, or with --strict, it is a no."""
    assert prepare(unattended)[0] == 0
    unattended.runtime.images.discard(WEB)
    status, said = prepare(unattended)
    assert (status, said["outcome"]) == (0, "fail")
    status, said = prepare(unattended, "--strict")
    assert status == 3
    assert said["reasons"] == [
        f"kube-system/daemonset/web would not come back: image {WEB} is not on this node"
    ]
    unattended.runtime.images.discard(VIP)
    unattended.runtime.images.add(WEB)
    status, said = prepare(unattended)
    assert (status, len(said["reasons"])) == (3, 1)
    assert "kube-vip" in said["reasons"][0]


def test_without_the_api_what_is_stored_has_to_be_accepted(unattended: SimulatedNode) -> None:
    """By somebody, with --allow-stale: it may not be what ran lately."""
    assert prepare(unattended)[0] == 0
    unattended.cut_network(Mode.BLACK_HOLE)
    status, said = prepare(unattended)
    assert status == 3
    assert said["snapshots"]["reason"].startswith("no agent runs, and without it: GET ")
    status, said = prepare(unattended, "--allow-stale")
    assert (status, said["ready"]) == (0, True)


def test_without_anything_to_start_the_agent_the_answer_is_no(unattended: SimulatedNode) -> None:
    """Checkpoints alone bring nothing back."""
    (unattended.manifest_folder / AGENT_MANIFEST).unlink()
    status, said = prepare(unattended)
    assert status == 3
    assert said["reasons"] == [
        "nothing would come back: no agent runs, and nothing in the manifest folder would start "
        "one at boot"
    ]


def test_a_table_ends_in_the_verdict(unattended: SimulatedNode, folder: Path) -> None:
    """The last line is what an operator reads."""
    command = (sys.executable, "-m", "checkpointer", "prepare-reboot", "--config")
    done = subprocess.run(
        [*command, str(unattended.agent_config_file)], capture_output=True, text=True, timeout=90
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("snapshot of kube-system/daemonset/kube-vip (pod kube-vip-")
    assert lines[-1] == "ready: this node may be rebooted"
    assert done.returncode == 0


def test_a_running_agent_takes_the_snapshots(unattended: SimulatedNode) -> None:
    """Also of what has changed a moment ago; what the configuration excludes is no reason."""
    node = unattended
    node.add_daemonset("elsewhere", spec_of("a:1"), "default")
    node.agent.start()
    socket = node.store_folder / layout.SOCKET
    wait_until(socket.exists, 30, "the agent's socket")

    def is_taken(revision: int) -> bool:
        status, said = prepare(node, "--strict")
        pods = {pod["workload"]: pod["revision"] for pod in said["snapshots"]["pods"]}
        return status == 0 and pods.get("kube-system/daemonset/web") == revision

    wait_until(lambda: is_taken(1), 60, "prepare-reboot to say go")
    changed = {**spec_of(WEB), "terminationGracePeriodSeconds": 7}
    node.add_daemonset("web", changed)
    wait_until(lambda: _grace(node) == [7], 30, "the new pod")
    wait_until(lambda: is_taken(2), 60, "the new revision")


def _grace(node: SimulatedNode) -> list[int]:
    return [pod["spec"]["terminationGracePeriodSeconds"] for pod in node.pods("web")]
