"""A parent deep in its backoff is deleted, where that is allowed, so that it is made anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checkpointer.core.checkpoint import Record, Replaced
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.observation import KubeletRun
from checkpointer.core.plan import Release, ReplaceParent
from checkpointer.core.runtime import Runtime
from checkpointer.core.workload import Workload
from tests.unit.core.builders import (
    ACTIVE,
    API,
    COPY_RUNS,
    NOW,
    OTHER_POD,
    RULES,
    SAME_KUBELET,
    Node,
    both,
    checkpoint,
    container_of,
    copy_sandbox,
    dead,
    lost,
    made,
    manifest,
    parent_sandbox,
    pod,
    reachable,
    stamp,
    suspect,
)

ALLOWED = replace(RULES, replace_parents=True)
CRASHED = replace(dead(container_of(parent_sandbox()), 5), created_at=stamp(NOW - 1))
DEEP = ACTIVE.but(
    contact=reachable(NOW - 60),
    pods=Known((pod(ready=False), OTHER_POD)),
    runtime=Known(both(COPY_RUNS, Runtime((parent_sandbox(),), (CRASHED,)))),
    rules=ALLOWED,
    kubelet=Known(SAME_KUBELET),
)
"""The parent died a second ago, and its next start is 160 s after that."""
DELETED = ReplaceParent(
    API,
    "kube-apiserver-x7k2p",
    "parent-uid",
    "its next start is 159 s away; its controller makes it anew",
)


def with_record(**changes: object) -> Known:
    return Known((checkpoint(record=Record(parents=("parent-uid",), issue=4, **changes)),))


def test_a_parent_deep_in_its_backoff_is_deleted_once() -> None:
    """The record names it first, so that a new run of the agent leaves it alone."""
    plan = DEEP.decide()
    assert plan.actions == (DELETED,)
    assert plan.records[API].replaced == Replaced("parent-uid", "boot-1", NOW)
    assert DEEP.then(plan).decide(NOW + 1).actions == ()
    assert DEEP.but(checkpoints=DEEP.then(plan).checkpoints).decide(NOW + 1).actions == ()


def test_a_parent_whose_sidecar_runs_is_deleted_too() -> None:
    """Its app is as deep in its backoff, and it cannot be started anew in its place."""
    sidecar = container_of(parent_sandbox(), "proxy")
    node = DEEP.but(
        runtime=Known(both(COPY_RUNS, Runtime((parent_sandbox(),), (CRASHED, sidecar))))
    )
    assert node.decide().actions == (DELETED,)


def test_a_parent_that_could_not_be_deleted_is_given_way_all_the_same() -> None:
    """No right to it, say: what is still there after a while is started anew."""
    node = DEEP.then(DEEP.decide())
    assert node.decide(NOW + 59).actions == ()
    assert [type(action) for action in node.decide(NOW + 60).actions] == [Release]


@pytest.mark.parametrize(
    ("attempt", "after", "backoff"),
    [(5, 3600, 160), (4, 3600, 80), (4, 69, 40), (9, 69, 40), (9, 3600, 300), (9, 150, 160)],
)
def test_a_restart_count_from_before_the_kubelet_started_is_no_backoff(
    attempt: int, after: float, backoff: float
) -> None:
    """The kubelet counts from nothing, the pod's status goes on: there was no time for more."""
    last = replace(CRASHED, attempt=attempt, created_at=stamp(NOW))
    node = DEEP.but(
        kubelet=Known(KubeletRun("run-2", stamp(NOW - after), True)),
        runtime=Known(both(COPY_RUNS, Runtime((parent_sandbox(created_at=0),), (last,)))),
    )
    (action,) = node.decide().actions
    assert isinstance(action, ReplaceParent)
    assert action.reason.startswith(f"its next start is {backoff} s away")


STATEFUL = Workload("kube-system", "StatefulSet", "kube-apiserver")


@pytest.mark.parametrize(
    "node",
    [
        DEEP.but(rules=RULES),
        DEEP.but(contact=suspect()),
        DEEP.but(contact=lost()),
        DEEP.but(pods=Unknown("the watch broke")),
        DEEP.but(pods=Known((OTHER_POD,))),
        DEEP.but(pods=Known((pod(ready=False, terminating=True), OTHER_POD))),
        DEEP.but(pods=Known((pod(uid="another", ready=False), OTHER_POD))),
        DEEP.but(pods=Known((pod(ready=False, is_parent=False), OTHER_POD))),
        DEEP.but(checkpoints=with_record(replaced=Replaced("parent-uid"))),
        DEEP.but(checkpoints=with_record(replaced=Replaced("older", "boot-1", NOW - 599))),
        DEEP.but(
            checkpoints=Known((checkpoint(STATEFUL),)),
            manifests=Known((manifest(STATEFUL),)),
            pods=Known((pod(STATEFUL, ready=False), OTHER_POD)),
            runtime=Known(
                Runtime(
                    (copy_sandbox(STATEFUL), parent_sandbox()),
                    (container_of(copy_sandbox(STATEFUL)), CRASHED),
                )
            ),
        ),
    ],
    ids=[
        "not allowed",
        "contact suspect",
        "contact lost",
        "pods not known",
        "gone already",
        "on its way out",
        "another pod",
        "not selected",
        "deleted before",
        "too soon after the last one",
        "its controller may put it elsewhere",
    ],
)
def test_nothing_is_deleted_without_leave_and_need(node: Node) -> None:
    """Each of these alone forbids it."""
    assert not any(isinstance(action, ReplaceParent) for action in node.decide().actions)


@pytest.mark.parametrize(
    "last",
    [Replaced("older", "boot-1", NOW - 600), Replaced("older", "boot-0", NOW - 1)],
)
def test_the_next_one_may_go_after_ten_minutes_or_a_reboot(last: Replaced) -> None:
    """A pod that keeps crashing is not deleted again and again."""
    assert DEEP.but(checkpoints=with_record(replaced=last)).decide().actions == (DELETED,)


def test_a_parent_whose_start_is_near_is_not_deleted() -> None:
    """A new pod would not be quicker: it is started anew."""
    assert DEEP.decide(NOW + 129).actions == (
        replace(DELETED, reason=DELETED.reason.replace("159", "30")),
    )
    assert [type(action) for action in DEEP.decide(NOW + 129.1).actions] == [Release]


def test_the_copy_makes_way_when_the_new_pods_container_is_made() -> None:
    """It has no backoff: its first start finds the port free."""
    plan = DEEP.decide()
    node = DEEP.then(plan).but(
        pods=Known((pod(uid="new-uid", ready=False), OTHER_POD)),
        runtime=Known(both(COPY_RUNS, made(parent_sandbox("new-uid", created_at=stamp(NOW))))),
    )
    plan = node.decide(NOW + 6)
    (action,) = plan.actions
    assert isinstance(action, Release)
    assert plan.records[API].hand_over.to == "new-uid"


def test_what_the_agent_took_away_is_not_unwanted() -> None:
    """With no controller-manager no new pod comes; the copy must not go for that."""
    plan = DEEP.decide()
    node = DEEP.then(plan).but(pods=Known((OTHER_POD,)), runtime=Known(COPY_RUNS))
    for later in range(10, 1000, 10):
        plan = node.decide(NOW + later)
        assert plan.actions == ()
        node = node.then(plan)
    node = node.but(pods=Known((pod(uid="new-uid", ready=False), OTHER_POD)))
    node = node.then(node.decide(NOW + 1000)).but(pods=Known((OTHER_POD,)))
    assert node.memory.tracks[API].absent_seconds == 0.0
    for later in range(1010, 1500, 10):
        node = node.then(node.decide(NOW + later))
    assert node.memory.tracks[API].absent_seconds > 300.0, "its successor was there and went"
