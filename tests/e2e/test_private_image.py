"""An image that was pulled with a pod's secret: what the kubelet keeps of that, and what it means.

The kubelet's record says whose credentials got the image. A copy has none, so a kubelet that
verifies them wants to pull again, and no registry is there. What the agent says of that beforehand
has to be true, with either of the kubelet's policies.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import registry
from tests.e2e.cluster.agent import CONFIG, command
from tests.e2e.cluster.edge_node import EdgeNode, Workload
from tests.e2e.cluster.processes import Process
from tests.e2e.cluster.waiting import hold
from tests.e2e.summary import ACTIVATION, Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

REGISTRY = "127.0.0.1:5000"
REPOSITORY = "private/busybox"
PULLED = "var/lib/kubelet/image_manager/pulled"
PULLS = ["IfNotPresent", "Always"]
"""The parents' imagePullPolicy; a copy's is always IfNotPresent."""
LONG_SECONDS = 60.0
BACK_SECONDS = 300.0


def start_registry(node: EdgeNode) -> Process:
    program = shutil.which("busybox")
    assert program is not None
    arguments = ["5000", REPOSITORY, program]
    return node.machine.start("registry", sys.executable, registry.__file__, *arguments)


def create(node: EdgeNode) -> list[Workload]:
    """Create a workload for each pull policy, with the secret to pull its image."""
    container = {"image": f"{REGISTRY}/{REPOSITORY}:1"}
    spec = {"imagePullSecrets": [{"name": "registry"}]}
    wanted = [
        Workload(f"private-{p.lower()}", spec=spec, container={**container, "imagePullPolicy": p})
        for p in PULLS
    ]
    secret = base64.b64encode(registry.pull_secret(REGISTRY).encode()).decode()
    node.api.create("/api/v1/namespaces", {"metadata": {"name": "edge"}})
    node.api.create(
        "/api/v1/namespaces/edge/secrets",
        {
            "metadata": {"name": "registry"},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": secret},
        },
    )
    node.create(*wanted)
    node.wait("the workloads", lambda: all(node.is_up(w) for w in wanted), BACK_SECONDS)
    return wanted


def records(disk: Path) -> list[dict[str, Any]]:
    """Return the kubelet's records of images that it pulled from the registry."""
    found = [json.loads(path.read_text()) for path in (disk / PULLED).iterdir()]
    name = f"{REGISTRY}/{REPOSITORY}"
    return [r["credentialMapping"][name] for r in found if name in r["credentialMapping"]]


def told(node: EdgeNode) -> tuple[set[str], set[str]]:
    """Return how the doctor's looks at the pull records end, and which workloads return."""
    _, output, _ = node.machine.try_to_run(*command(), "doctor", "-o", "json", "--config", CONFIG)
    said = json.loads(output)
    outcomes = {c["outcome"] for c in said["checks"] if c["check"] == "pull-records"}
    returns = {w["workload"] for w in said["readiness"]["workloads"] if w["returns"] == "yes"}
    return outcomes, returns


@pytest.mark.parametrize("policy", ["NeverVerifyPreloadedImages", "NeverVerify"])
def test_private_image(edge_node: EdgeNode, record: Record, policy: str) -> None:
    """By default no copy of it starts, and the agent has said so; with the cure all do."""
    node = edge_node
    node.kubelet_settings = {"imagePullCredentialsVerificationPolicy": policy}
    node.restart_kubelet()
    start_registry(node)
    wanted = create(node)
    (credentials,) = records(node.machine.disk)
    assert [s["name"] for s in credentials["kubernetesSecrets"]] == ["registry"]
    node.agent_settings = {"selection": {"namespaces": ["edge"]}}
    node.start_agent()
    node.wait("checkpoints", lambda: all(node.has_checkpoint(w) for w in wanted), BACK_SECONDS)
    starts = policy == "NeverVerify"
    outcomes, returns = told(node)
    assert (outcomes, len(returns)) == (({"pass"}, len(wanted)) if starts else ({"fail"}, 0))

    with node.watch_manifests() as folder:
        node.power_cut()
        began = time.time()
        start = node.power_on()
        node.wait("the copies' manifests", lambda: len(node.active()) == len(wanted), BACK_SECONDS)
        if starts:
            node.wait("the copies", lambda: all(node.runs(w) for w in wanted), BACK_SECONDS)
            record.seconds("kubelet's start to all copies", time.monotonic() - start)
        else:
            hold(LONG_SECONDS, node.check_processes)
            record.seconds("tried for", LONG_SECONDS)
        record.count("copies that run", sum(node.runs(w) for w in wanted))
        assert [node.runs(w) for w in wanted] == [int(starts)] * len(wanted)
        back = time.monotonic()
        start_registry(node)
        node.start_api_server()
        node.start_controllers()
        node.wait(
            "all to be handed back",
            lambda: not node.active() and all(node.is_up(w, began) for w in wanted),
            BACK_SECONDS,
        )
    record.column(ACTIVATION, folder.activated[0].moment - start)
    record.seconds("start of the API to all handed back", time.monotonic() - back)
    assert folder.present == []
