"""A container runtime that is away for a while is no reason to start or to stop anything."""

from __future__ import annotations

import time

import pytest

from tests.e2e.cluster.containers import running
from tests.e2e.cluster.control_plane import WORKLOADS
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.waiting import hold, wait_for
from tests.e2e.summary import ACTIVATION, DETECTION, GAP, Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

AWAY_SECONDS = 20.0
STEADY_SECONDS = 15.0
ALL_COPIES_SECONDS = 150.0
"""Stage 0 first; the others 30 s later."""


def containers(node: Node) -> set[str]:
    """Return the ids of the control plane's containers that run."""
    return {c.id for c in running(node.machine.root) if c.name in WORKLOADS}


def bounce(node: Node) -> None:
    """Kill the runtime and start it again after a while; its containers run on."""
    node.kill_runtime()
    hold(AWAY_SECONDS, node.check_processes)
    node.start_runtime()


def test_runtime_restarted_while_all_runs(node: Node, record: Record) -> None:
    """Nothing is activated, no container is touched, and the API serves on."""
    before = containers(node)
    with node.watch_manifests() as folder, node.watch_service() as service:
        bounce(node)
        node.wait_for_kubelet()
        hold(STEADY_SECONDS, node.check_processes)
    record.seconds("runtime away", AWAY_SECONDS)
    record.seconds("API away", service.longest_gap())
    assert folder.happenings == []
    assert containers(node) == before


def test_runtime_restarted_during_an_outage(node: Node, record: Record) -> None:
    """Nobody can tell what runs, so what is active stays, and nothing else is activated."""
    before = containers(node)
    with node.watch_manifests() as folder:
        cut = time.monotonic()
        node.cut_network(refuse=True)
        try:
            node.wait_for_agent("contact lost", 30)
            record.column(DETECTION, time.monotonic() - cut)
            bounce(node)
            hold(STEADY_SECONDS, node.check_processes)
        finally:
            node.mend_network()
        node.wait_for_kubelet()
        hold(STEADY_SECONDS, node.check_processes)
    assert folder.happenings == []
    assert containers(node) == before


def test_runtime_restarted_with_active_copies(node: Node, record: Record) -> None:
    """Copies stay while nobody can tell of their parents, also when the API is back by then."""
    with node.watch_manifests() as folder, node.watch_service() as service:
        node.power_cut()
        began = time.time()
        start = node.power_on(before=lambda: node.cut_network(refuse=True))

        def all_run() -> bool:
            return len(folder.present) == len(WORKLOADS) == len(containers(node))

        node.wait("all copies to run", all_run, ALL_COPIES_SECONDS)
        record.seconds("kubelet's start to all copies", time.monotonic() - start)
        active, copies = folder.present, containers(node)
        bounce(node)
        hold(STEADY_SECONDS, node.check_processes)
        assert (folder.present, containers(node)) == (active, copies)
        node.kill_runtime()
        mended = time.monotonic()
        node.mend_network()
        hold(AWAY_SECONDS, node.check_processes)
        assert (folder.present, containers(node)) == (active, copies)
        node.start_runtime()
        wait_for("the first copy to go", lambda: folder.released, 240)
        node.wait_until_returned(since=began)
        hold(STEADY_SECONDS, node.check_processes)
    record.seconds("API back to the first copy released", folder.released[0].moment - mended)
    record.seconds("API back to the last copy released", folder.released[-1].moment - mended)
    record.column(ACTIVATION, folder.activated[0].moment - start)
    record.column(GAP, service.seconds_not_serving(start))
    again = [h for h in folder.activated if h.moment > mended]
    record.count("copies activated again after the API was back", len(again))
    assert len(folder.activated) - len(again) == len(WORKLOADS)
    assert folder.present == []
