"""A control plane that runs as pods survives a power cut of its only node."""

from __future__ import annotations

import math
import statistics
import time

import pytest

from tests.e2e.cluster.control_plane import READ, WORKLOADS
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.waiting import hold
from tests.e2e.conftest import Cluster
from tests.e2e.power_cycle import CYCLES, PowerCycle, tell_of_many
from tests.e2e.summary import GAP, Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SERVING_SECONDS = 5.0
"""The API answers reads within this time of the kubelet's start, the agent's own not counted:
that is the copy's answer, and it brings the kubelet the parents."""
MEDIAN_SECONDS, WORST_SECONDS = 6.0, 12.0
"""From the kubelet's start to an API server that serves for good, in the median and at most: its
parent's, whether or not the copy was ready before it made way."""
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
    record.column(GAP, service.seconds_not_serving(start))
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
    answered, seen = reads.first_answer(start), PowerCycle(start, service, folder)
    seen.tell(record)
    record.seconds("first read answered", answered)
    record.seconds("reads not answered in all", reads.seconds_dark(start))
    record.seconds("not serving in all", seen.dark)
    record.seconds("longest gap after first answer", service.longest_gap(start))
    record.seconds("copy of the API server released", seen.release)
    record.seconds("last copy released", max(h.moment for h in folder.released) - start)
    activated = check(seen, patience)
    assert answered is not None
    assert answered <= SERVING_SECONDS * patience + activated


def test_power_cycles_in_a_row(node: Node, record: Record, patience: float) -> None:
    """The node comes back from one power cut after another, each time as quickly."""
    runs = []
    for _ in range(CYCLES):
        with node.watch_service() as service, node.watch_manifests() as folder:
            start = cycle(node)
        runs.append(PowerCycle(start, service, folder))
        runs[-1].tell(record)
    tell_of_many(record, runs)
    for run in runs:
        check(run, patience)
    for_good = [math.inf if run.for_good is None else run.for_good for run in runs]
    assert max(for_good) <= WORST_SECONDS * patience
    assert statistics.median(for_good) <= MEDIAN_SECONDS * patience
    assert statistics.median(run.dark for run in runs) <= DARK_SECONDS * patience


def cycle(node: Node, forget_containers: bool = False) -> float:
    """Cut the power and restore it; return the moment of the kubelet's start when all is back."""
    node.power_cut()
    began = time.time()
    start = node.power_on(forget_containers=forget_containers)
    node.wait_until_returned(since=began)
    return start


def check(seen: PowerCycle, patience: float) -> float:
    """Assert what every power cycle has to show; return the seconds to the activation."""
    assert seen.activation is not None
    assert seen.activation <= AGENT_START_SECONDS * patience
    assert seen.serving is not None
    assert seen.serving <= WORST_SECONDS * patience
    assert seen.folder.present == []
    return seen.activation
