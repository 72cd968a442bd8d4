"""The running agent as those see it who ask: over its socket, and in its journal."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from checkpointer.agent import Agent
from checkpointer.config import load
from checkpointer.core.facts import Unknown
from checkpointer.core.observation import NOT_ASKED
from checkpointer.doctor.snapshots import take_snapshots
from checkpointer.report.agent_socket import AgentUnreachableError, ask_agent
from checkpointer.report.happenings import Kind
from checkpointer.report.history import read_history
from checkpointer.simulation import pod_status
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.control_plane import CHECKPOINT
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.waiting import wait_until
from checkpointer.store.revisions import Store

QUICK: dict[str, Any] = {
    "timing": {"ready": "0s", "grace": "1s"},
    "contact": {"recovery": "0s", "healthyInterval": "300ms"},
    "probe": {"timeout": "300ms", "jitter": "0s"},
}


@pytest.fixture
def web(node: SimulatedNode) -> SimulatedNode:
    """A node on which one pod is Ready that wants a checkpoint, and one that may not have one."""
    spec = {"nodeName": node.name, "containers": [{"name": "c", "image": "c"}]}
    for name, namespace in (("web", "kube-system"), ("shop", "default")):
        metadata = {"name": name, "namespace": namespace, "annotations": dict(CHECKPOINT)}
        node.cluster.create("pods", {"metadata": metadata, "spec": spec})
    wait_until(lambda: all(pod_status.is_ready(pod) for pod in node.pods()), 5, "the pods")
    return node


@contextmanager
def running(node: SimulatedNode, **overrides: Any) -> Iterator[Agent]:
    path = node.write_agent_config(**{**QUICK, **overrides})
    agent = Agent(load(path.read_text()))
    thread = threading.Thread(target=agent.run)
    thread.start()
    try:
        yield agent
    finally:
        agent.stop()
        thread.join(10)
        assert not thread.is_alive()


def ask(node: SimulatedNode, path: str, method: str = "GET") -> tuple[int, bytes]:
    return ask_agent(node.store_folder, path, 10.0, method)


def status(node: SimulatedNode) -> dict[str, Any]:
    try:
        return json.loads(ask(node, "/statusz")[1])
    except AgentUnreachableError:
        return {"checkpoints": [], "contact": {"state": ""}}


def until(node: SimulatedNode, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Return the first status of which this holds."""
    found: dict[str, Any] = {}

    def does_hold() -> bool:
        found.clear()
        found.update(status(node))
        return bool(holds(found))

    wait_until(does_hold, 10, "that status")
    return found


def test_status_of_a_running_agent(web: SimulatedNode) -> None:
    """Contact, the checkpoint, and the pod that this node's configuration does not allow."""
    with running(web) as agent:
        found = until(web, lambda s: s["checkpoints"] and s["checkpoints"][0]["verdict"])
        assert found["contact"]["state"] == "reachable"
        assert found["agent"]["running"] is True
        (one,) = found["checkpoints"]
        assert (one["name"], one["state"], one["revision"]) == ("web", "standby", 1)
        (refused,) = found["notCheckpointable"]
        assert refused["pod"] == "shop"
        expected = "this node's configuration does not allow namespace default"
        assert refused["reasons"] == [expected]
        assert ask(web, "/healthz") == (200, b"ok\n")
        assert ask(web, "/readyz") == (200, b"ok\n")
        metrics = ask(web, "/metrics")[1].decode()
        assert 'pod_checkpointer_checkpoints{state="standby"} 1.0' in metrics
        assert 'pod_checkpointer_contact_state{state="reachable"} 1.0' in metrics
        agent.reporter._began -= 1e6
        assert ask(web, "/healthz") == (200, b"ok\n")
        assert agent.reporter._last is not None
        assert ask(web, "/v1/reconcile", "POST")[0] == 202
    assert not (web.store_folder / "agent.sock").exists()


def test_status_at_rest_tells_what_runs(web: SimulatedNode) -> None:
    """No cycle has asked the runtime, so whoever asks for the status has it asked, and not long."""
    with running(web) as agent:
        until(web, lambda s: s["contact"]["state"] == "reachable" and s["checkpoints"])
        wait_until(lambda: agent.reporter._last.seen.runtime is NOT_ASKED, 5, "rest")
        until(web, lambda s: s["checkpoints"][0]["runs"] == "parent")
        web.cri.hangs = True
        silent = until(web, lambda s: s["checkpoints"][0]["runs"] is None)
        assert silent["unknown"] == []
        web.cri.hangs = False
        until(web, lambda s: s["checkpoints"][0]["runs"] == "parent")


def test_fresh_snapshots_on_demand(web: SimulatedNode) -> None:
    """Root has all parents snapshotted now, and is told of each what came of it."""
    with running(web):
        until(web, lambda s: s["checkpoints"])
        code, content = ask(web, "/v1/snapshot?timeout=10s", "POST")
        found = json.loads(content)
        assert code == 200
        assert found["kind"] == "SnapshotReport"
        shop, other = found["pods"]
        assert (shop["pod"], shop["revision"]) == ("shop", None)
        assert "does not allow namespace default" in shop["reason"]
        expected = {"revision": 1, "new": False, "reason": None, "pod": "web"}
        assert {key: other[key] for key in expected} == expected
        assert found["complete"] is False


def test_no_fresh_snapshots_without_the_api(web: SimulatedNode) -> None:
    """The answer is why, at once."""
    with running(web):
        until(web, lambda s: s["checkpoints"])
        web.cut_network(Mode.REFUSED)
        until(web, lambda s: s["contact"]["state"] == "lost")
        code, content = ask(web, "/v1/snapshot", "POST")
        assert code == 503
        assert json.loads(content)["reason"].startswith("contact is lost")


STRANGER = {"authorities": ["0" * 64], "uid": "another"}
"""What is pinned to the store of a node whose API is now another cluster's."""


def test_no_fresh_snapshots_of_another_clusters_pods(web: SimulatedNode) -> None:
    """Neither by the agent, nor without one: the answer is why."""
    store = Store(web.store_folder)
    store.write_state("cluster", STRANGER)
    with running(web):
        until(web, lambda s: s["contact"]["state"] == "reachable" and s["problems"])
        code, content = ask(web, "/v1/snapshot", "POST")
        assert code == 503
        assert "not that of the cluster" in json.loads(content)["reason"]
    config = load(web.write_agent_config(**QUICK).read_text())
    found = take_snapshots(config, web.name, None, 5.0)
    assert isinstance(found, Unknown)
    assert f"move {web.store_folder}/.state/cluster.json away" in found.reason
    assert store.read().value.checkpoints == ()  # type: ignore[union-attr]


def kinds(node: SimulatedNode) -> list[str]:
    return [
        " ".join(filter(None, (one.kind.value, one.state)))
        for one in read_history(node.store_folder).happenings
    ]


def test_history_of_an_outage(web: SimulatedNode) -> None:
    """From the first snapshot over a power cut to the hand-over, in order, each once."""
    with running(web):
        until(web, lambda s: s["checkpoints"])
    web.power_off()
    web.cut_network(Mode.REFUSED)
    web.power_on()
    with running(web):
        wait_until(lambda: web.copies("c"), 10, "the copy")
        until(web, lambda s: s["checkpoints"][0]["manifest"])
        web.restore_network()
        wait_until(lambda: "handed-over" in kinds(web), 20, "the hand-over")
    first = ["started", "contact reachable", "snapshot", "stopped"]
    second = ["started", "contact lost", "activated", "contact reachable", "released"]
    found = [kind for kind in kinds(web) if kind != "snapshot-failed"]
    assert found[: len(first)] == first
    rest = [kind for kind in found[len(first) :] if kind != "snapshot"]
    assert rest == [*second, "handed-over", "stopped"]
    happenings = read_history(web.store_folder).happenings
    assert [one.number for one in happenings] == list(range(1, len(happenings) + 1))
    (activated,) = [one for one in happenings if one.kind is Kind.ACTIVATED]
    assert (activated.pod, activated.revision) == ("web", 1)


def test_nothing_is_written_at_rest(web: SimulatedNode) -> None:
    """The journal grows by what happens, not by the hour."""
    with running(web) as agent:
        until(web, lambda s: s["checkpoints"])
        before = kinds(web)
        cycles = agent.reporter.tally.cycles
        turned = cycles.read()[0][-1][1]
        for _ in range(3):
            ask(web, "/v1/reconcile", "POST")
            turned += 1
            wait_until(lambda: cycles.read()[0][-1][1] >= turned, 5, "a cycle")  # noqa: B023
        assert kinds(web) == before


def test_cycle_that_hangs_is_unhealthy(web: SimulatedNode, monkeypatch: Any) -> None:
    """A loop that does not turn is told to whoever can restart it."""
    with running(web) as agent:
        until(web, lambda s: s["checkpoints"])
        monkeypatch.setattr("checkpointer.report.reporter.STALLED_SECONDS", -1e9)
        code, content = ask(web, "/healthz")
        assert code == 503
        assert content.startswith(b"no cycle has been finished for ")
        assert agent.reporter.unready() == ""
