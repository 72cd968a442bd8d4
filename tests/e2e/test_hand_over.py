"""A copy gives way to its parent at the moment that costs least, and never for nothing.

E2E_BACKOFFS   how many times a parent deep in backoff is given way to (default 1).
E2E_DEEP       how long it sits there before, in seconds (default 60; the kubelet's backoff
               doubles from 10 s to five minutes).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.cluster.control_plane import API_SERVER, NAMESPACE, READ, Options
from tests.e2e.cluster.folder_watch import FolderWatch
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.timeline import Timeline
from tests.e2e.cluster.waiting import hold, wait_for
from tests.e2e.conftest import Maker
from tests.e2e.power_cycle import CYCLES, PowerCycle, tell_of_many
from tests.e2e.summary import GAP, LOSS, Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

GOOD_SECONDS = 70.0
"""After this time a revision is known good."""
BROKEN_SECONDS = 90.0
REPLACED_SECONDS = 100.0
"""The fourth start is lost by then, and the next is more than half a minute away."""
LONGEST_START_SECONDS = 480.0
"""The kubelet's longest backoff, and half of it that its jitter may add, and the start."""


@contextmanager
def ready_node(maker: Maker, options: Options) -> Iterator[Node]:
    """Build a node that has its checkpoints; remove it in the end."""
    node = maker.node(options)
    try:
        node.build()
        node.start_agent()
        node.wait_for_checkpoints(60)
        yield node
    finally:
        node.remove()


@pytest.fixture
def sharing_node(maker: Maker) -> Iterator[Node]:
    """A node whose API servers may listen beside each other."""
    with ready_node(maker, Options(share_port=True)) as node:
        yield node


def test_power_cycles_with_a_shared_port(sharing_node: Node, record: Record) -> None:
    """From its first answer on every read is answered: the parent is Ready first.

    While the parent starts the kernel gives it its share of the connections, from its bind on.
    kube-apiserver serves them a second or two later, and says of itself on /readyz that it is
    not ready yet. One that ends tells the last to come again. That is not the hand-over's fault.
    """
    node, runs, slowest = sharing_node, [], 0.0
    asides: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    asked = 0
    for _ in range(CYCLES):
        with (
            node.watch_service() as service,
            node.watch_answers(READ) as reads,
            node.watch_manifests() as folder,
        ):
            node.power_cut()
            began = time.time()
            start = node.power_on()
            node.wait_until_returned(since=began)
            hold(5, node.check_processes)
        runs.append(PowerCycle(start, service, folder))
        runs[-1].tell(record)
        asides += Counter({f"/readyz said {k}": n for k, n in service.failures(start).items()})
        asides += Counter(
            {f"a read first said {k}": n for k, n in reads.asked_again(start).items()}
        )
        failures += reads.failures(start)
        asked += reads.answered(start)
        slowest = max(slowest, reads.slowest_answer(start))
        assert folder.present == []
    for what, count in sorted(asides.items()):
        record.count(f"after the first answer {what}", count)
    record.count("after the first answer, reads answered", asked)
    for said, count in sorted(failures.items()):
        record.count(f"after the first answer, reads that failed: {said}", count)
    tell_of_many(record, runs)
    record.seconds("read after the first answer, slowest", slowest)
    assert not failures


@pytest.fixture
def declaring_node(maker: Maker) -> Iterator[Node]:
    """A node whose API server declares its port, on the host's network."""
    with ready_node(maker, Options(declared_ports=True)) as node:
        yield node


def test_power_cycle_with_a_declared_port(declaring_node: Node, record: Record) -> None:
    """A copy does not declare it: beside one that does, the kubelet would refuse the parent."""
    node = declaring_node
    uid = node.parents()[API_SERVER]["metadata"]["uid"]
    with node.watch_service() as service, node.watch_manifests() as folder:
        node.power_cut()
        began = time.time()
        start = node.power_on()
        node.wait_until_returned(since=began)
        hold(5, node.check_processes)
    PowerCycle(start, service, folder).tell(record)
    assert node.parents()[API_SERVER]["metadata"]["uid"] == uid
    assert folder.present == []


def test_a_parent_deep_in_backoff(node: Node, record: Record, patience: float) -> None:
    """It is given way at once and started anew: one start of the program is lost."""
    deep = float(os.environ.get("E2E_DEEP", "60"))
    gaps, waits = [], []
    for _ in range(int(os.environ.get("E2E_BACKOFFS", "1"))):
        node.power_cut()
        began = time.time()
        node.power_on()
        wait_for("the copy", lambda: any(node.manifests.glob("pod-checkpointer-*")), 30, 0.02)
        node.stop_agent()
        wait_for("the copy to serve", node.api.is_ready, 60)
        hold(deep)
        with node.watch_service() as service:
            node.start_agent()
            assert node.agent is not None
            started = node.agent.started
            node.wait_until_returned(since=began, seconds=LONGEST_START_SECONDS)
            waits.append(time.monotonic() - started)
        gaps.append(service.seconds_not_serving())
        record.column(GAP, gaps[-1])
    record.seconds("deep in backoff for", deep)
    record.seconds("agent start to the end of it, worst", max(waits))
    assert max(gaps) <= 25 * patience


def test_a_parent_deep_in_backoff_is_replaced(node: Node, record: Record, patience: float) -> None:
    """The agent deletes it, its DaemonSet makes a new one, and the copy serves meanwhile."""
    node.power_cut()
    began = time.time()
    node.power_on()
    wait_for("the copy", lambda: any(node.manifests.glob("pod-checkpointer-*")), 30, 0.02)
    node.stop_agent()
    wait_for("the copy to serve", node.api.is_ready, 60)
    hold(REPLACED_SECONDS)
    old = node.parents()[API_SERVER]["metadata"]
    node.agent_settings = {"handOver": {"replaceParent": True}}
    try:
        with node.watch_service() as service, node.watch_manifests() as folder:
            node.start_agent()
            assert node.agent is not None
            started = node.agent.started
            node.wait_until_returned(since=began, seconds=LONGEST_START_SECONDS)
            waited = time.monotonic() - started
    finally:
        node.stop_agent()
        node.agent_settings = {}
        node.start_agent()
    record.seconds("deep in backoff for", REPLACED_SECONDS)
    record.seconds("agent start to the copy released", folder.released[-1].moment - started)
    record.seconds("agent start to the end of it", waited)
    record.column(GAP, service.seconds_not_serving())
    events = node.api.items(f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events")
    told = [e for e in events if e["reason"] == "CheckpointedPodReplaced"]
    assert [e["regarding"].get("uid") for e in told] == [old["uid"]]
    assert node.parents()[API_SERVER]["metadata"]["uid"] != old["uid"]
    assert service.seconds_not_serving() <= 25 * patience


def test_a_rollout_to_a_broken_flag(node: Node, record: Record, patience: float) -> None:
    """The API is back on the last known good with no hand on it; the fixed rollout takes over."""
    hold(GOOD_SECONDS, node.check_processes)
    with node.watch_service() as service, node.watch_manifests() as folder:
        begun = time.monotonic()
        node.roll_out(API_SERVER, ["--no-such-flag"])
        wait_for("the API to go", lambda: not node.api.is_ready(), 60, 0.05)
        wait_for("its copy", lambda: folder.present, 60, 0.05)
        hold(BROKEN_SECONDS, node.check_processes)
        broken = time.monotonic()
        hold(30, lambda: (node.check_processes(), _require(node.api.is_ready(5))))
        record.seconds("API away after the broken rollout", service.seconds_dark(begun))
        assert service.seconds_dark(begun, broken) <= BROKEN_SECONDS * patience
        mended, since = time.monotonic(), time.time()
        node.roll_out(API_SERVER, [])
        node.wait_until_returned(since=since, restarted=[API_SERVER], seconds=300)
        hold(10, node.check_processes)
    record.seconds("fixed rollout to its parent alone", time.monotonic() - mended - 10)
    record.seconds("API away for the fixed rollout", service.seconds_dark(mended))
    tell_of_loss(record, begun, service, folder)
    record.column(GAP, service.seconds_not_serving(mended))
    assert folder.present == []


def test_a_rollout_that_works(node: Node, record: Record) -> None:
    """The old pod goes before the new one comes: a copy bridges the time in between."""
    with node.watch_service() as service, node.watch_manifests() as folder:
        begun, since = time.monotonic(), time.time()
        node.roll_out(API_SERVER, ["--v=1"])
        wait_for("the API to go", lambda: not node.api.is_ready(), 60, 0.05)
        node.wait_until_returned(since=since, restarted=[API_SERVER], seconds=300)
    record.seconds("API away", service.seconds_dark(begun))
    tell_of_loss(record, begun, service, folder)
    record.column(GAP, service.seconds_not_serving(folder.activated[0].moment))


def test_the_last_pod_of_the_api_server_is_deleted(node: Node, record: Record) -> None:
    """Its controller cannot make another without an API server: a copy lets it."""
    with node.watch_service() as service, node.watch_manifests() as folder:
        begun, since = time.monotonic(), time.time()
        name = node.parents()[API_SERVER]["metadata"]["name"]
        node.api.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
        wait_for("the API to go", lambda: not node.api.is_ready(), 60, 0.05)
        node.wait_until_returned(since=since, restarted=[API_SERVER], seconds=300)
    record.seconds("API away", service.seconds_dark(begun))
    tell_of_loss(record, begun, service, folder)
    record.column(GAP, service.seconds_not_serving(folder.activated[0].moment))


def tell_of_loss(record: Record, begun: float, service: Timeline, folder: FolderWatch) -> None:
    """Record how long after the API's last good answer the first copy was activated.

    Where there was none after `begun`, it went at once.
    """
    activated = folder.activated[0].moment
    good = (s.answered for s in service.samples if s.ready and begun < s.answered < activated)
    record.column(LOSS, activated - max(good, default=begun))


def _require(is_so: bool) -> None:
    assert is_so
