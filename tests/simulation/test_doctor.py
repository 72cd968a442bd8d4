"""`checkpointer doctor` as a user runs it, on a simulated node."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkpointer.simulation.connections import Mode
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.waiting import wait_until
from checkpointer.store import layout

SPEC = {
    "hostNetwork": True,
    "containers": [
        {"name": "web", "image": "registry.example/web:1", "ports": [{"containerPort": 8080}]}
    ],
}
SECRET = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "web", "key": "key"}}}


def doctor(node: SimulatedNode, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run it as a process; return its exit status and what it says."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "checkpointer", "doctor", "-o", "json", "--timeout", "2s"),
            *("--config", str(node.agent_config_file), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def outcomes(said: dict[str, Any], *kinds: str) -> set[str]:
    """Return the checks with one of these outcomes."""
    return {check["check"] for check in said["checks"] if check["outcome"] in kinds}


@pytest.fixture
def protected(node: SimulatedNode) -> SimulatedNode:
    """A node with a running agent and one checkpoint."""
    node.write_agent_config(timing={"ready": "0s"})
    node.add_daemonset("web", SPEC)
    node.agent.start()
    folder = node.store_folder / "kube-system/daemonset.web"
    wait_until((folder / layout.CURRENT).exists, 30, "the checkpoint")
    return node


ENVIRONMENT = {"clock-sync", "user"}
"""What depends on the machine that the tests run on."""


def test_a_protected_node_would_come_back(protected: SimulatedNode) -> None:
    """Only what starts the agent at boot cannot be told here: it is no pod and no service."""
    status, said = doctor(protected)
    assert status in (1, 2)
    assert outcomes(said, "fail", "warn") - ENVIRONMENT <= {"agent-at-boot"}
    assert outcomes(said, "skip") - ENVIRONMENT == {"kubelet-version", "runtime-endpoint"}
    assert said["readiness"] == {
        "summary": "this node would bring back: kube-system/daemonset/web",
        "blocker": "",
        "workloads": [
            {
                "workload": "kube-system/daemonset/web",
                "stage": 1,
                "returns": "yes",
                "reason": "",
                "hold": "",
            }
        ],
    }


def test_without_the_api_the_disk_and_the_runtime_tell_enough(protected: SimulatedNode) -> None:
    """What only the API knows is skipped, and that it does not answer is said."""
    protected.cut_network(Mode.BLACK_HOLE)
    _, said = doctor(protected)
    assert "api" in outcomes(said, "warn")
    assert {"selected-pods", "freshness", "clock"} <= outcomes(said, "skip")
    assert {"images", "checkpoints", "agent", "acceptance"} <= outcomes(said, "pass")
    assert said["readiness"]["workloads"][0]["returns"] == "yes"


def test_what_is_wrong_is_found(protected: SimulatedNode) -> None:
    """A lost image, a refused pod, a foreign manifest on the same port; exit status 2."""
    node = protected
    node.runtime.images.discard("registry.example/web:1")
    refused = {"containers": [{"name": "a", "image": "a:1", "env": [SECRET]}]}
    node.add_daemonset("refused", refused)
    node.add_daemonset("elsewhere", {"containers": [{"name": "a", "image": "a:1"}]}, "default")
    wait_until(lambda: len(node.pods()) == 3, 30, "the pods")
    foreign = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "proxy"},
        "spec": {"hostNetwork": True, **SPEC, "restartPolicy": "Never"},
    }
    (node.manifest_folder / "proxy.json").write_text(json.dumps(foreign))
    (node.manifest_folder / "proxy.json~").write_text("{")
    (node.manifest_folder.parent / "checkpoint-secrets").mkdir()
    status, said = doctor(node)
    assert status == 2
    assert outcomes(said, "fail") == {"images", "selected-pods", "conflicts", "other-checkpointers"}
    assert {"namespaces", "static-pods"} <= outcomes(said, "warn")
    reasons = {one["workload"]: one["reason"] for one in said["readiness"]["workloads"]}
    assert reasons == {
        "kube-system/daemonset/refused": "it is not checkpointable "
        "(spec.containers[0].env[0].valueFrom.secretKeyRef)",
        "kube-system/daemonset/web": "image registry.example/web:1 is not on this node",
    }


def test_nothing_makes_it_hang(protected: SimulatedNode, folder: Path) -> None:
    """A runtime that accepts and says nothing, an API that swallows everything."""
    protected.cut_network(Mode.BLACK_HOLE)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(folder / "silent.sock"))
        silent.listen()
        endpoint = f"runtimeEndpoint=unix://{folder}/silent.sock"
        status, said = doctor(protected, "--set", endpoint)
    assert status == 2
    assert "runtime" in outcomes(said, "fail")
    assert said["readiness"]["workloads"][0]["returns"] == "unknown"


def test_a_node_without_anything_is_told_what_to_do(folder: Path) -> None:
    """Everything is missing: kubelet, runtime, kubeconfig, folders; it still says so."""
    node = SimulatedNode(folder, self_hosted=False)
    node.write_agent_config()
    status, said = doctor(node)
    assert status == 2
    missing = {"manifest-folder", "kubelet", "runtime", "identity", "agent", "checkpoints"}
    assert missing <= outcomes(said, "fail")
    assert said["readiness"]["summary"].startswith("this node would bring back nothing, because")
    assert not node.store_folder.exists()


def test_a_wrong_configuration_fails(folder: Path) -> None:
    """With the key that is wrong, on standard error."""
    (folder / "c.yaml").write_text("kind: Wrong\n")
    done = subprocess.run(
        [sys.executable, "-m", "checkpointer", "doctor", "--config", str(folder / "c.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "kind: expected CheckpointerConfiguration" in done.stderr


def test_looking_changes_nothing(protected: SimulatedNode) -> None:
    """No file is made, written or touched, whatever is found."""
    node = protected
    node.agent.stop()

    def files() -> dict[str, tuple[int, int]]:
        folders = (node.folder / "etc", node.folder / "run")
        paths = [path for folder in folders for path in folder.rglob("*")]
        return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_ctime_ns) for p in paths}

    before = files()
    doctor(node)
    assert files() == before
