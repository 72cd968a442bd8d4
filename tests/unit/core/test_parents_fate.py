"""What becomes of an active copy when its parent is taken away, moved, drained or refused.

One row for each way in which a parent can go, or fail to come, and the right outcome of it. The
API is Reachable throughout; the agent looks every ten seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from checkpointer.core.decide import decide
from checkpointer.core.facts import Known
from checkpointer.core.observation import Pod
from checkpointer.core.plan import Release, Remove
from checkpointer.core.runtime import Runtime
from tests.unit.core.builders import (
    ACTIVE,
    API,
    COPY_RUNS,
    NOW,
    OTHER_POD,
    RULES,
    Node,
    at,
    both,
    checkpoint,
    container_of,
    made,
    parent_sandbox,
    pod,
    reachable,
    revision,
    stamp,
)

STEP = 10.0


@dataclass(frozen=True)
class Row:
    """What the API and the runtime show from then on, and what comes of it."""

    name: str
    pods: tuple[Pod, ...]
    """Of the workload, on this node, by the API."""
    sandbox: str = ""
    """UID of the parent whose sandbox is up and has a container."""
    runs: bool = False
    """Whether its container runs as well."""
    released_after: float | None = None
    """Seconds until the copy goes; None when it stays for good."""
    removed_after: float | None = None
    """Seconds until the checkpoint is removed from the store; None when it is kept."""
    reason: str = ""
    stage: int = 0
    shares: bool = False


OLD = pod(ready=False, terminating=True)
NEW = pod(uid="new-uid", ready=False)
REFUSED = pod(ready=False, is_parent=False, finished=True)
UNWANTED = "nothing of it has been wanted here"
STARTS = "its parent is being started and needs the ports"
ROWS = (
    Row("a DaemonSet's update has deleted the old pod, which still ends", (OLD,)),
    Row(
        "a DaemonSet's update has brought the new pod: its container is the moment",
        (NEW,),
        sandbox="new-uid",
        released_after=0.0,
        reason=STARTS,
    ),
    Row(
        "old and new pod at once, of a Deployment's surge on one node",
        (OLD, NEW),
        sandbox="new-uid",
        released_after=0.0,
        reason=STARTS,
    ),
    Row("the new pod is bound, and its image is still pulled", (NEW,)),
    Row(
        "a new pod that shares the ports is waited for until it is Ready",
        (NEW,),
        sandbox="new-uid",
        runs=True,
        shares=True,
        stage=1,
    ),
    Row(
        "a Deployment has moved to another node",
        (),
        released_after=300.0,
        removed_after=360.0,
        reason=UNWANTED,
        stage=1,
    ),
    Row(
        "the node was drained on purpose: the pod was evicted through the API",
        (),
        released_after=300.0,
        removed_after=360.0,
        reason=UNWANTED,
        stage=1,
    ),
    Row(
        "a pod under pressure was evicted by the kubelet, and no controller makes the next one",
        (replace(REFUSED, uid="evicted"),),
        stage=1,
    ),
    Row("the node was drained: a DaemonSet's pod stays, and is not Ready yet", (pod(ready=False),)),
    Row("the node was cordoned: what runs here stays wanted", (pod(ready=False),)),
    Row(
        "the node was cordoned, and its Ready parent is back",
        (pod(),),
        sandbox="parent-uid",
        runs=True,
        shares=True,
        released_after=0.0,
        reason="its parent is Ready",
        stage=1,
    ),
    Row(
        "the workload was scaled to zero",
        (),
        released_after=300.0,
        removed_after=360.0,
        reason=UNWANTED,
        stage=1,
    ),
    Row("an API server was scaled to zero: its copy may be what says so", ()),
    Row(
        "the namespace is being deleted: its pods end first",
        (pod(ready=False, terminating=True),),
    ),
    Row(
        "the namespace is gone",
        (),
        released_after=300.0,
        removed_after=360.0,
        reason=UNWANTED,
        stage=1,
    ),
    Row(
        "the kubelet refused the parent: NodePorts, which the copy has; no controller is at work",
        (REFUSED,),
        stage=1,
    ),
    Row("the same of the only API server: nobody could make it anew", (REFUSED,)),
    Row(
        "the kubelet refused the parent: OutOfcpu, for the copy's requests",
        (REFUSED,),
        stage=1,
    ),
    Row(
        "refused, and its controller has made the next one, which was let in",
        (replace(REFUSED, uid="refused"), NEW),
        sandbox="new-uid",
        released_after=0.0,
        reason=STARTS,
    ),
)


def node_of(row: Row) -> Node:
    stored = revision(stage=row.stage, shares_ports=row.shares, host_network=not row.shares)
    runtime = COPY_RUNS
    if row.sandbox:
        sandbox = parent_sandbox(row.sandbox, created_at=stamp(NOW))
        runs = Runtime((sandbox,), (container_of(sandbox),))
        runtime = both(COPY_RUNS, runs if row.runs else made(sandbox))
    return ACTIVE.but(
        contact=reachable(NOW),
        pods=Known((*row.pods, OTHER_POD)),
        runtime=Known(runtime),
        checkpoints=Known((checkpoint(API, stored),)),
    )


def fate(node: Node, seconds: float) -> tuple[dict[type, float], str]:
    """Return when the copy went and when the checkpoint, and why the copy did."""
    when: dict[type, float] = {}
    reason, later = "", 0.0
    while later <= seconds and Remove not in when:
        plan = node.decide(NOW + later)
        node = node.then(plan)
        for action in plan.actions:
            when.setdefault(type(action), later)
            if isinstance(action, Release):
                reason = reason or action.reason
                node = node.but(manifests=Known(()), runtime=Known(Runtime()))
        later += STEP
    return when, reason


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_parents_fate_decides_its_copys(row: Row) -> None:
    """The copy serves until the parent can, or until nobody wants it any more."""
    when, reason = fate(node_of(row), 1200.0 if row.removed_after else 400.0)
    assert when.get(Release) == row.released_after
    assert when.get(Remove) == row.removed_after
    assert reason == row.reason


def test_a_refused_parent_is_given_way_when_its_controller_has_deleted_it() -> None:
    """A DaemonSet's deletes at once what has failed: until then nobody would make the next one."""
    node = node_of(Row("refused", (REFUSED,), stage=1))
    for later in range(0, 1200, 10):
        plan = node.decide(NOW + later)
        assert plan.actions == ()
        node = node.then(plan)
    waits_for = "its controller to take away the parent that was refused"
    assert plan.standings[API].waits_for == waits_for
    reason = "its parent was refused beside the copy"
    for pods, seen in (
        ((OTHER_POD,), "taken away"),
        ((replace(REFUSED, uid="next-uid"), OTHER_POD), "made anew"),
    ):
        (action,) = node.but(pods=Known(pods)).decide(NOW + 1200).actions
        assert isinstance(action, Release)
        assert action.reason == f"{reason} and {seen}"
    assert node.but(pods=Known((NEW, OTHER_POD))).decide(NOW + 1200).actions == ()
    foreign = replace(node.but(pods=Known((OTHER_POD,))).observe(), is_own_cluster=Known(False))
    assert decide(foreign, node.memory, RULES, frozenset(), at(NOW + 1200)).actions == ()


def test_an_empty_list_is_no_reason_for_anything() -> None:
    """A restored or a foreign API server has no pods at all: not scaled to zero."""
    node = node_of(ROWS[0]).but(pods=Known(()))
    assert fate(node, 1200.0) == ({}, "")
