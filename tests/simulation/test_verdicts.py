"""The agent tells its verdicts: Events for operators, counts for metrics, nothing secret."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from checkpointer.agent import Agent
from checkpointer.config import load
from checkpointer.manifest.verdict import Outcome
from checkpointer.simulation import pod_status
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.waiting import wait_until

SECRET = "hunter2-is-not-for-everybody"
REFERENCE = {"secretKeyRef": {"name": "login", "key": "password"}}
QUICK: dict[str, Any] = {
    "timing": {"ready": "0s"},
    "contact": {"recovery": "0s"},
    "probe": {"timeout": "500ms", "jitter": "0s"},
}


@contextmanager
def running(node: SimulatedNode, **settings: Any) -> Iterator[Agent]:
    """Run the agent in a thread."""
    agent = Agent(load(node.write_agent_config(**{**QUICK, **settings}).read_text()))
    thread = threading.Thread(target=agent.run)
    thread.start()
    try:
        yield agent
    finally:
        agent.stop()
        thread.join(10)
        assert not thread.is_alive()


def deploy(node: SimulatedNode, **spec: Any) -> None:
    """Have a DaemonSet's pod run and be Ready."""
    node.add_daemonset("web", {"containers": [{"name": "web", "image": "web"}], **spec})
    wait_until(lambda: any(pod_status.is_ready(pod) for pod in node.pods("web")), 5, "the pod")


def events(node: SimulatedNode) -> list[dict[str, Any]]:
    """Return what the agent told, oldest first."""
    found = [
        event
        for event in node.cluster.objects("events", "kube-system")
        if event.get("reportingController") == "checkpointer.alpha.coreos.com"
    ]
    return sorted(found, key=lambda event: str(event["eventTime"]))


def wait_for_reasons(node: SimulatedNode, *reasons: str) -> None:
    wait_until(lambda: len(events(node)) >= len(reasons), 10, f"{len(reasons)} Events")
    assert tuple(event["reason"] for event in events(node)) == reasons


def outcomes(agent: Agent) -> dict[Outcome, int]:
    return {outcome: count for outcome, count in agent.verdicts.by_outcome.items() if count}


def test_each_change_is_told_once_over_restarts(
    node: SimulatedNode, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused, the same after a restart, then good; and the secret appears in none of it."""
    encoded = base64.b64encode(SECRET.encode()).decode()
    named = {"name": "login", "namespace": "kube-system"}
    node.cluster.create("secrets", {"metadata": named, "data": {"password": encoded}})
    container = {"name": "web", "image": "web", "env": [{"name": "P", "valueFrom": REFERENCE}]}
    deploy(node, containers=[container])
    with running(node) as agent:
        wait_for_reasons(node, "CheckpointRefused")
        assert outcomes(agent) == {Outcome.REFUSED: 1}
    (event,) = events(node)
    (pod,) = node.pods("web")
    assert event["regarding"]["uid"] == pod["metadata"]["uid"]
    assert "inline-secrets" in event["note"]
    with running(node) as agent:
        wait_until(lambda agent=agent: outcomes(agent), 10, "the verdict after a restart")
    assert len(events(node)) == 1

    def opt_in(stored: dict[str, Any]) -> None:
        key = "checkpointer.alpha.coreos.com/inline-secrets"
        stored["metadata"]["annotations"][key] = "true"

    node.cluster.update("pods", "kube-system", pod["metadata"]["name"], opt_in)
    with running(node) as agent:
        wait_for_reasons(node, "CheckpointRefused", "Checkpointable")
        assert outcomes(agent) == {Outcome.CHECKPOINTABLE: 1}
    (manifest,) = node.store_folder.rglob("manifest.json")
    assert SECRET in manifest.read_text()
    assert SECRET not in json.dumps(events(node)) + caplog.text


def test_an_image_that_is_gone_is_warned_of(node: SimulatedNode) -> None:
    """The runtime is asked for the copy's images at each look."""
    deploy(node)
    node.runtime.images.clear()
    with running(node) as agent:
        wait_for_reasons(node, "CheckpointableWithWarnings")
        assert outcomes(agent) == {Outcome.WITH_WARNINGS: 1}
    assert "the runtime does not have this image" in events(node)[0]["note"]


def test_material_that_cannot_be_taken_is_a_refusal(node: SimulatedNode) -> None:
    """The spec is good, what it mounts is too much: the verdict is what becomes of the pod."""
    named = {"name": "big", "namespace": "kube-system"}
    node.cluster.create("configmaps", {"metadata": named, "data": {"a": "x" * 5000}})
    deploy(node, volumes=[{"name": "big", "configMap": {"name": "big"}}])
    with running(node, snapshot={"maxMaterialBytes": 1000}) as agent:
        wait_for_reasons(node, "CheckpointRefused")
        assert outcomes(agent) == {Outcome.REFUSED: 1}
    assert "1000" in events(node)[0]["note"]


def test_a_workload_that_is_gone_is_counted_no_more(node: SimulatedNode) -> None:
    """The gauge is of what is here."""
    deploy(node)
    with running(node) as agent:
        wait_until(lambda: outcomes(agent), 10, "the verdict")
        node.cluster.delete("daemonsets", "kube-system", "web")
        wait_until(lambda: not outcomes(agent), 20, "the verdict to be forgotten")
        assert agent.verdicts.changes[Outcome.CHECKPOINTABLE] == 1
