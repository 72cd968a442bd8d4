"""What is taken away on purpose is not brought back, and its checkpoint goes after a grace."""

from __future__ import annotations

import time

import pytest

from tests.e2e.cluster.edge_node import EdgeNode, Workload
from tests.e2e.cluster.kubelet import NODE
from tests.e2e.cluster.waiting import hold
from tests.e2e.summary import DETECTION, Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

GRACE_SECONDS = 20.0
GONE_SECONDS = 180.0
OUTAGE_SECONDS = 60.0
"""Longer than the time after which what is down counts as not coming back."""

SCALED = Workload("scaled", kind="Deployment")
DRAINED = Workload("drained", kind="Deployment")
DELETED = Workload("deleted", namespace="deleted")
STAYS = Workload("stays")


def scale_to_zero(node: EdgeNode) -> None:
    node.api.patch(SCALED.path, {"spec": {"replicas": 0}})


def drain(node: EdgeNode) -> None:
    """Cordon the node and evict what a drain evicts; another node is not there to take it."""
    node.api.patch(f"/api/v1/nodes/{NODE}", {"spec": {"unschedulable": True}})
    pod = node.pod_of(DRAINED)
    assert pod is not None
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    node.api.create(f"/api/v1/namespaces/{DRAINED.namespace}/pods/{name}/eviction", eviction)


def delete_namespace(node: EdgeNode) -> None:
    node.api.delete(f"/api/v1/namespaces/{DELETED.namespace}")


def test_workloads_taken_away(edge_node: EdgeNode, record: Record) -> None:
    """Scaled to zero, drained, namespace deleted: none is activated, each checkpoint goes later."""
    node, taken = edge_node, {SCALED: scale_to_zero, DRAINED: drain, DELETED: delete_namespace}
    everything = [*taken, STAYS]
    node.create(*everything)
    node.wait("the workloads", lambda: all(node.is_up(w) for w in everything), GONE_SECONDS)
    node.agent_settings = {
        "selection": {"namespaces": ["edge", "deleted"]},
        "timing": {"absent": GRACE_SECONDS, "removalInterval": 1, "grace": 5},
    }
    node.start_agent()
    node.wait("checkpoints", lambda: all(map(node.has_checkpoint, everything)), GONE_SECONDS)
    with node.watch_manifests() as folder:
        begun = time.monotonic()
        for take in taken.values():
            take(node)
        gone: dict[Workload, float] = {}

        def all_gone() -> bool:
            for workload in taken:
                if workload not in gone and not node.has_checkpoint(workload):
                    gone[workload] = time.monotonic() - begun
            return len(gone) == len(taken)

        node.wait("the checkpoints to go", all_gone, GONE_SECONDS)
        for workload, seconds in gone.items():
            record.seconds(f"checkpoint removed, {workload.name}", seconds)
        assert min(gone.values()) >= GRACE_SECONDS
        assert node.has_checkpoint(STAYS)
        assert [w.name for w in taken if node.runs(w)] == []
        cut = time.monotonic()
        node.cut_network(refuse=True)
        try:
            node.wait_for_agent("contact lost", 30)
            record.column(DETECTION, time.monotonic() - cut)
            node.restart_kubelet()
            hold(OUTAGE_SECONDS, node.check_processes)
        finally:
            node.mend_network()
        node.wait_for_kubelet()
    assert folder.happenings == []
    assert [node.runs(w) for w in (*taken, STAYS)] == [0, 0, 0, 1]
    assert node.has_checkpoint(STAYS)
