"""A control plane that runs as pods survives a power cut of its only node."""

from __future__ import annotations

import os
import statistics
import time

import pytest

from tests.e2e.cluster.control_plane import API_SERVER, READ, WORKLOADS
from tests.e2e.cluster.folder_watch import FolderWatch
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.timeline import Timeline
from tests.e2e.cluster.waiting import hold
from tests.e2e.conftest import Cluster
from tests.e2e.summary import ACTIVATION, GAP, SERVING, Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SERVING_SECONDS = 5.0
"""The API answers reads within this time of the kubelet's start, the agent's own not counted:
that is the copy's answer, and it brings the kubelet the parents."""
MEDIAN_SECONDS, WORST_SECONDS = 6.0, 12.0
"""From the kubelet's start to an API server that calls itself ready, in the median and at most.
Often it is the parent: its container is made before the copy is ready, and that goes."""
DARK_SECONDS = 7.0
"""All the time without service in one power cycle, in the median."""
AGENT_START_SECONDS = 2.0
"""From the agent's start to the API server's manifest; generous, for a machine with others."""
STEADY_SECONDS = 30.0


def test_pivot_and_snapshots(cluster: Cluster, record: Record) -> None:
    """All three workloads of a self-hosted control plane get a checkpoint, with no hand on it."""
    node = cluster.node()
    assert node.agent is not None
    record.seconds("cluster and pivot", cluster.build_seconds)
    record.seconds("API server process, start to ready", node.api_start_seconds)
    with node.watch_manifests() as folder:
        node.wait_for_checkpoints(60)
        record.seconds("agent start to 3 checkpoints", time.monotonic() - node.agent.started)
    assert node.checkpoints() == set(WORKLOADS)
    assert folder.happenings == []


def test_without_an_agent_the_node_stays_dark(node: Node, record: Record) -> None:
    """The problem is real: after a power cut nothing serves, until the agent is started."""
    with node.watch_service() as service, node.watch_manifests() as folder:
        node.power_cut()
        began = time.time()
        start = node.power_on(with_agent=False)
        hold(STEADY_SECONDS)
        assert service.first_answer(start) is None
        node.start_agent()
        assert node.agent is not None
        node.wait_until_returned(since=began)
    record.seconds("agent start to serving", service.first_answer(node.agent.started))
    assert folder.present == []


@pytest.mark.parametrize("records", ["kept", "forgotten"])
def test_power_cycle(node: Node, record: Record, patience: float, records: str) -> None:
    """After a power cut the API serves again in seconds, the parents return, the copies go."""
    with (
        node.watch_service() as service,
        node.watch_service(READ) as reads,
        node.watch_manifests() as folder,
    ):
        start = cycle(node, forget_containers=records == "forgotten")
        hold(STEADY_SECONDS, node.check_processes)
    assert node.is_ready()
    record.seconds("first read answered", reads.first_answer(start))
    record.seconds("reads not answered in all", reads.seconds_dark(start))
    tell(record, start, service, folder)
    tell_in_all(record, start, service, folder)
    check(start, service, folder, patience)
    activated, answered = folder.first(API_SERVER, appeared=True), reads.first_answer(start)
    assert activated is not None
    assert answered is not None
    assert answered <= SERVING_SECONDS * patience + (activated - start)


def test_power_cycles_in_a_row(node: Node, record: Record, patience: float) -> None:
    """The node comes back from one power cut after another, each time as quickly."""
    runs = []
    for _ in range(int(os.environ.get("E2E_CYCLES", "3"))):
        with node.watch_service() as service, node.watch_manifests() as folder:
            start = cycle(node)
        runs.append((start, service, folder))
        tell_in_all(record, start, service, folder)
    serving = [service.first_answer(start) for start, service, _ in runs]
    dark = [service.seconds_dark(start) for start, service, _ in runs]
    record.count("cycles", len(runs))
    record.seconds("serving, median", statistics.median(s for s in serving if s))
    record.seconds("serving, worst", None if None in serving else max(s for s in serving if s))
    record.seconds("not serving in all, median", statistics.median(dark))
    record.seconds("not serving in all, worst", max(dark))
    for start, service, folder in runs:
        check(start, service, folder, patience)
    assert statistics.median(s or WORST_SECONDS for s in serving) <= MEDIAN_SECONDS * patience
    assert statistics.median(dark) <= DARK_SECONDS * patience


def cycle(node: Node, forget_containers: bool = False) -> float:
    """Cut the power and restore it; return the moment of the kubelet's start when all is back."""
    node.power_cut()
    began = time.time()
    start = node.power_on(forget_containers=forget_containers)
    node.wait_until_returned(since=began)
    return start


def check(start: float, service: Timeline, folder: FolderWatch, patience: float) -> None:
    """Assert what every power cycle has to show."""
    activated = folder.first(API_SERVER, appeared=True)
    assert activated is not None
    assert activated - start <= AGENT_START_SECONDS * patience
    serving = service.first_answer(start)
    assert serving is not None
    assert serving <= WORST_SECONDS * patience
    assert folder.present == []


def tell_in_all(record: Record, start: float, service: Timeline, folder: FolderWatch) -> None:
    """Count one power cycle among those of the whole run."""
    activated = folder.first(API_SERVER, appeared=True)
    record.in_all(ACTIVATION, activated and activated - start)
    record.in_all(SERVING, service.first_answer(start))
    record.in_all(GAP, service.seconds_not_serving(start))


def tell(record: Record, start: float, service: Timeline, folder: FolderWatch) -> None:
    """Record the times of one power cycle, all from the kubelet's start."""
    activated, released = (folder.first(API_SERVER, appeared=which) for which in (True, False))
    record.seconds("manifest of the API server", activated and activated - start)
    record.seconds("API serving", service.first_answer(start))
    record.seconds("copy of the API server released", released and released - start)
    record.seconds("last copy released", max(h.moment for h in folder.released) - start)
    record.count("copies activated", len(folder.activated))
    record.seconds("longest gap after first answer", service.longest_gap(start))
    record.seconds("not serving in all", service.seconds_dark(start))
