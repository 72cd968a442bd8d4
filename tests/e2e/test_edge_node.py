"""An edge node with many ordinary workloads comes up alone, for as long as it has to."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.cluster.edge_node import EdgeNode, Web, Workload
from tests.e2e.cluster.folder_watch import FolderWatch
from tests.e2e.cluster.timeline import Timeline
from tests.e2e.cluster.waiting import hold
from tests.e2e.summary import ACTIVATION, GAP, Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SETTINGS = {
    "selection": {
        "namespaces": ["kube-system", "edge"],
        "labelSelectors": [{"matchLabels": {"edge": "yes"}}],
    }
}
COUNT = 18
UP_SECONDS = 240.0
ALONE_SECONDS = 240.0
BACK_SECONDS = 480.0
STEADY_SECONDS = 30.0
WITHOUT_CONTROLLERS_SECONDS = 80.0
"""Longer than a copy waits for anything else that a refused parent may need."""


def workloads() -> list[Workload]:
    """Return as many ways to be reached as there are, in turn, each selected in one of two ways."""
    found = []
    for number in range(COUNT):
        by_label = number % 2 == 0
        found.append(
            Workload(
                f"edge-{number:02}",
                namespace="edge" if number % 4 < 2 else "kube-system",
                host_port=8000 + number if number % 3 == 0 else 0,
                own_port=8100 + number if number % 3 == 1 else 0,
                annotated=not by_label,
                labels={"edge": "yes"} if by_label else {"tier": "edge"},
            )
        )
    return found


def by_way(wanted: list[Workload]) -> dict[str, list[Workload]]:
    return {
        "host port": [w for w in wanted if w.host_port],
        "host network": [w for w in wanted if w.own_port],
        "pod network": [w for w in wanted if not w.port],
    }


def all_of(holds: Callable[[Workload], bool], wanted: list[Workload]) -> Callable[[], bool]:
    return lambda: all(holds(workload) for workload in wanted)


def protect(node: EdgeNode, wanted: list[Workload]) -> float:
    """Have the workloads up, and a checkpoint of each; return how long that took the agent."""
    node.create(*wanted)
    node.wait("the workloads to be up", all_of(node.is_up, wanted), UP_SECONDS)
    node.agent_settings = SETTINGS
    node.start_agent()
    assert node.agent is not None
    node.wait("their checkpoints", all_of(node.has_checkpoint, wanted), UP_SECONDS)
    return time.monotonic() - node.agent.started


def test_many_daemonsets_without_their_control_plane(edge_node: EdgeNode, record: Record) -> None:
    """All copies come up and serve with no API; what was not selected stays dark; all hand back."""
    node, wanted = edge_node, workloads()
    others = [Workload("unselected", annotated=False), Workload("outside", namespace="default")]
    node.create(*others)
    record.count("workloads", len(wanted))
    record.seconds("agent's start to all checkpoints", protect(node, wanted))
    node.wait("the other workloads", all_of(node.is_up, others), UP_SECONDS)

    with node.watch_manifests() as folder:
        node.power_cut()
        began = time.time()
        start = node.power_on()
        node.wait("all copies to serve", all_of(node.serves, wanted), ALONE_SECONDS)
        record.seconds("kubelet's start to all serving", time.monotonic() - start)
        hold(STEADY_SECONDS, node.check_processes)
        assert all_of(node.serves, wanted)()
        assert [w.name for w in others if node.runs(w)] == []
        record.seconds("kubelet's start to last activation", folder.activated[-1].moment - start)
        record.column(ACTIVATION, folder.activated[0].moment - start)
        assert len(folder.activated) == len(wanted)
        assert folder.released == []

    ways = by_way(wanted)
    with (
        node.watch_manifests() as folder,
        serving(node, ways["host port"][0]) as through_port,
        serving(node, ways["host network"][0]) as on_network,
    ):
        back = time.monotonic()
        node.start_api_server()
        node.start_controllers()
        record.seconds("start of the API to its answer", time.monotonic() - back)
        node.wait(
            "all to be handed back",
            lambda: not node.active() and all(node.is_up(w, began) for w in [*wanted, *others]),
            BACK_SECONDS,
        )
        record.seconds("start of the API to all handed back", time.monotonic() - back)
        hold(STEADY_SECONDS, node.check_processes)
    for way, some in ways.items():
        record.seconds(
            f"start of the API to the last copy gone, {way}", last_of(folder, some, back)
        )
    for way, service in (("host port", through_port), ("host network", on_network)):
        record.seconds(f"not serving at the hand-over, {way}", service.seconds_not_serving())
        record.column(GAP, service.seconds_not_serving())
    assert all_of(node.serves, wanted)()
    assert {node.runs(w) for w in wanted} == {1}
    assert folder.activated == []
    assert folder.present == []


def test_a_declared_host_port(edge_node: EdgeNode, record: Record, patience: float) -> None:
    """The kubelet refuses a pod whose port its copy has; it comes in once the copy is gone.

    And that is when somebody is there who makes the pod anew, not before.
    """
    node = edge_node
    (web,) = wanted = [Workload("web", host_port=8080, labels={"edge": "yes"})]
    node.create(Workload("other", annotated=False))  # an API that lists no pod at all says nothing
    protect(node, wanted)
    with node.watch_manifests() as folder:
        node.power_cut()
        began = time.time()
        start = node.power_on()
        node.wait("the copy to serve", all_of(node.serves, wanted), ALONE_SECONDS)
        record.seconds("kubelet's start to serving", time.monotonic() - start)
        with serving(node, web) as service:
            node.start_api_server()
            hold(WITHOUT_CONTROLLERS_SECONDS, node.check_processes)
            assert folder.released == []
            back = time.monotonic()
            node.start_controllers()
            node.wait(
                "it to be handed back",
                lambda: not node.active() and node.is_up(web, began),
                BACK_SECONDS,
            )
            hold(STEADY_SECONDS, node.check_processes)
    record.seconds("API there without controllers for", WITHOUT_CONTROLLERS_SECONDS)
    record.seconds("start of the controllers to the copy gone", folder.released[-1].moment - back)
    record.column(ACTIVATION, folder.activated[0].moment - start)
    record.column(GAP, service.seconds_not_serving())
    assert (len(folder.activated), len(folder.released)) == (1, 1)
    assert node.serves(web)
    assert service.seconds_not_serving() <= 30 * patience


def serving(node: EdgeNode, workload: Workload) -> Timeline:
    """Watch when a workload serves on its port of the host."""
    return Timeline(Web(node.machine, workload.port), "/config/motd")


def last_of(folder: FolderWatch, some: list[Workload], since: float) -> float:
    gone = [h.moment for h in folder.released if any(w.name in h.name for w in some)]
    return max(gone) - since
