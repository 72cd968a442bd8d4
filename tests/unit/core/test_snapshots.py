"""Snapshots: which parents are due, and when the next one may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.core.checkpoint import Checkpoint, HandOver, Record
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.observation import Pod
from checkpointer.core.plan import Attempt, Release, Snapshot
from checkpointer.core.runtime import Runtime
from checkpointer.core.snapshots import Snapshots, due_snapshots
from checkpointer.core.workload import Workload
from tests.unit.core.builders import (
    ACTIVE,
    API,
    AT_REST,
    DNS,
    EMPTY,
    NOW,
    OTHER_POD,
    PARENT_DIED_IN_PLACE,
    PARENT_RUNS,
    RULES,
    SAME_KUBELET,
    checkpoint,
    denied,
    lost,
    manifest,
    pod,
    reachable,
    recovering,
    revision,
    stamp,
    suspect,
)


def due(
    *pods: Pod,
    ready_since: Mapping[str, float] | None = None,
    attempts: Mapping[str, Attempt] | None = None,
    failed: frozenset[str] = frozenset(),
    whole: tuple[Workload, ...] = (API, DNS),
    now: float = NOW,
) -> Snapshots:
    return due_snapshots(pods, ready_since or {}, attempts or {}, failed, whole, RULES, now)


THE_PARENT = (Snapshot(API, "parent-uid"),)


def test_a_parent_that_has_been_ready_long_enough_is_due() -> None:
    """The status tells since when, so a restart of the agent costs no time."""
    assert due(pod(ready_seconds=10.0)) == Snapshots(
        THE_PARENT,
        {"parent-uid": NOW - 10.0},
        {"parent-uid": Attempt("spec-1", NOW)},
        RULES.tick_seconds,
    )


@pytest.mark.parametrize("seconds", [0.0, 4.0, 9.9])
def test_a_parent_that_has_just_become_ready_waits(seconds: float) -> None:
    """And the cycle comes back when the time is up."""
    found = due(pod(ready_seconds=seconds))
    assert found.actions == ()
    assert found.attempts == {}
    assert found.wake_in == pytest.approx(10.0 - seconds)


@pytest.mark.parametrize(
    "changes",
    [
        {"is_parent": False},
        {"ready": False},
        {"terminating": True},
        {"finished": True},
    ],
)
def test_what_is_no_ready_parent_is_never_due(changes: dict[str, bool]) -> None:
    """Nor is its readiness or its last snapshot remembered."""
    found = due(
        pod(**changes),
        ready_since={"parent-uid": 0.0},
        attempts={"parent-uid": Attempt("old", 0.0)},
    )
    assert found == Snapshots((), {}, {}, RULES.tick_seconds)


def test_readiness_is_counted_from_its_first_sight() -> None:
    """A clock that jumps afterwards changes nothing."""
    first = due(pod(ready_seconds=2.0), now=NOW)
    later = due(pod(ready_seconds=99999.0), ready_since=first.ready_since, now=NOW + 7.9)
    assert later.actions == ()
    assert due(pod(), ready_since=later.ready_since, now=NOW + 8.0).actions == THE_PARENT


def test_a_break_in_readiness_starts_the_time_anew() -> None:
    """A parent that flaps is not a good one."""
    broken = due(pod(ready=False), ready_since={"parent-uid": 0.0})
    assert due(pod(ready_seconds=0.0), ready_since=broken.ready_since).actions == ()


@pytest.mark.parametrize(
    ("signature", "failed", "age", "expected"),
    [
        ("spec-1", False, 0.0, False),
        ("spec-1", False, 599.0, False),
        ("spec-1", False, 600.0, True),
        ("spec-1", True, 0.0, False),
        ("spec-1", True, 59.0, False),
        ("spec-1", True, 60.0, True),
        ("spec-2", False, 0.0, True),
        ("spec-2", True, 0.0, True),
    ],
)
def test_a_snapshot_is_taken_again_when_there_may_be_news(
    signature: str, failed: bool, age: float, expected: bool
) -> None:
    """Spec or material changed at once, a failure after a while, all else rarely."""
    found = due(
        pod(signature=signature),
        attempts={"parent-uid": Attempt("spec-1", NOW - age)},
        failed=frozenset({"parent-uid"} if failed else ()),
    )
    assert found.actions == (THE_PARENT if expected else ())
    expected_attempt = Attempt(signature, NOW) if expected else Attempt("spec-1", NOW - age)
    assert found.attempts == {"parent-uid": expected_attempt}


@pytest.mark.parametrize("failed", [frozenset(), frozenset({"parent-uid"})])
@pytest.mark.parametrize(
    ("age", "expected", "wake_in"), [(0.0, (), 30.0), (45.0, (), 15.0), (60.0, THE_PARENT, 30.0)]
)
def test_what_is_damaged_or_gone_is_taken_again_at_once(
    age: float, expected: tuple[Snapshot, ...], wake_in: float, failed: frozenset[str]
) -> None:
    """But never sooner after the last try than one that failed: a bad disk would be written hot."""
    attempts = {"parent-uid": Attempt("spec-1", NOW - age, revision=1)}
    found = due(pod(), attempts=attempts, failed=failed, whole=(DNS,))
    assert (found.actions, found.wake_in) == (expected, pytest.approx(wake_in))


DAMAGED = [
    Known(()),
    Known((replace(checkpoint(), revisions=()),)),
    Known((replace(checkpoint(), is_current=False),)),
]


@pytest.mark.parametrize("checkpoints", DAMAGED, ids=["gone", "none verifies", "an older one"])
def test_a_checkpoint_that_is_damaged_is_not_left_to_the_resync(
    checkpoints: Fact[tuple[Checkpoint, ...]],
) -> None:
    """Ten minutes without protection, while its parent is there to be read."""
    node = AT_REST.then(AT_REST.decide()).but(checkpoints=checkpoints)
    assert node.decide(NOW + 100.0).actions == THE_PARENT


def test_an_older_revision_is_not_taken_for_the_snapshot_that_was_damaged() -> None:
    """It would become known good by a parent that it was not taken of."""
    node = AT_REST.but(checkpoints=DAMAGED[2])
    plan = node.then(node.decide()).decide(NOW + 1.0)
    assert plan.memory.attempts == {"parent-uid": Attempt("spec-1", NOW)}


def test_of_two_replicas_one_is_the_parent() -> None:
    """Else they would overwrite each other's checkpoint in turn."""
    pods = [pod(DNS, "uid-b"), pod(DNS, "uid-a"), pod(DNS, "uid-c")]
    assert due(*pods).actions == (Snapshot(DNS, "uid-a"),)


def test_a_replica_that_is_not_ready_leaves_its_place_to_the_other() -> None:
    """The smallest UID among those that are good enough."""
    pods = [pod(DNS, "uid-a", ready_seconds=1.0), pod(DNS, "uid-b")]
    found = due(*pods)
    assert found.actions == (Snapshot(DNS, "uid-b"),)
    assert found.wake_in == pytest.approx(9.0)


def test_workloads_are_snapshotted_side_by_side() -> None:
    """Each for itself."""
    assert set(due(pod(), pod(DNS, "dns-uid")).actions) == {
        Snapshot(API, "parent-uid"),
        Snapshot(DNS, "dns-uid"),
    }


def test_a_snapshot_is_planned_once() -> None:
    """The next cycle with the same facts plans nothing, nor does any until the resync."""
    node = AT_REST
    planned = []
    for now in (NOW, NOW, NOW + 0.1, NOW + 300.0, NOW + 599.0, NOW + 600.0):
        plan = node.decide(now)
        planned.append(plan.actions)
        node = node.then(plan)
    assert planned == [THE_PARENT, (), (), (), (), THE_PARENT]


@pytest.mark.parametrize("contact", [suspect(), lost(), recovering(), denied()])
def test_nothing_is_snapshotted_without_contact(contact: object) -> None:
    """What the API said last may be long past."""
    assert AT_REST.but(contact=contact).decide().actions == ()


def test_nothing_is_snapshotted_when_the_pods_are_unknown() -> None:
    """And the attempts are not forgotten over it."""
    node = AT_REST.then(AT_REST.decide())
    plan = node.but(pods=Unknown("the watch broke")).decide(NOW + 1)
    assert plan.actions == ()
    assert plan.memory.attempts == {"parent-uid": Attempt("spec-1", NOW)}


def test_a_parent_without_a_checkpoint_is_snapshotted() -> None:
    """The first one of all."""
    assert AT_REST.but(checkpoints=Known(())).decide().actions == THE_PARENT


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        (Unknown("not asked: nothing depends on it"), THE_PARENT),
        (Known(PARENT_RUNS), THE_PARENT),
        (Known(PARENT_DIED_IN_PLACE), ()),
        (Known(EMPTY), ()),
    ],
)
def test_a_ready_from_before_a_power_cycle_is_no_reason(
    runtime: Fact[Runtime], expected: tuple[Snapshot, ...]
) -> None:
    """Where the runtime was asked, it must show what the status speaks of."""
    assert AT_REST.but(runtime=runtime).decide().actions == expected


@pytest.mark.parametrize(("age", "expected"), [(3.0, ()), (9.9, ()), (10.0, THE_PARENT)])
def test_a_kubelet_that_has_just_started_gets_time_to_correct_the_status(
    age: float, expected: tuple[Snapshot, ...]
) -> None:
    """A Ready counts from the start of the kubelet's run at the earliest."""
    run = replace(SAME_KUBELET, started_at=stamp(NOW - age))
    assert AT_REST.but(kubelet=Known(run)).decide().actions == expected


def test_a_kubelet_from_the_future_delays_no_snapshot_for_long() -> None:
    """The node's clock was set back: the Ready counts from now."""
    run = replace(SAME_KUBELET, started_at=stamp(NOW + 86400))
    plan = AT_REST.but(kubelet=Known(run)).decide()
    assert (plan.actions, plan.wake_in) == ((), RULES.ready_seconds)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.booleans(),
            st.floats(0, 30),
            st.sampled_from(["s1", "s2"]),
        ),
        max_size=6,
    ),
    st.lists(st.floats(0.1, 100), max_size=12),
)
def test_no_workload_is_snapshotted_twice_at_once_nor_without_end(
    parts: list[tuple[str, bool, float, str]], pauses: list[float]
) -> None:
    """At most one snapshot of a workload per cycle, and never without news before the retry."""
    pods = [
        pod(DNS, f"{uid}-{number}", ready=ready, ready_seconds=seconds, signature=signature)
        for number, (uid, ready, seconds, signature) in enumerate(parts)
    ]
    ready_since: Mapping[str, float] = {}
    attempts: Mapping[str, Attempt] = {}
    last: dict[str, float] = {}
    now = NOW
    for pause in pauses:
        now += pause
        found = due(*pods, ready_since=ready_since, attempts=attempts, now=now)
        assert len(found.actions) <= 1
        assert 0 < found.wake_in <= RULES.tick_seconds
        for action in found.actions:
            assert now - last.get(action.uid, float("-inf")) >= RULES.resync_seconds
            last[action.uid] = now
        ready_since, attempts = found.ready_since, found.attempts


def test_no_snapshot_is_taken_of_another_clusters_pods() -> None:
    """Of the same names, Ready for long; but where nobody can tell, the node stays protected."""
    new = AT_REST.but(checkpoints=Known(()))
    assert new.but(is_own_cluster=Known(False)).decide().actions == ()
    assert new.but(is_own_cluster=Unknown("nobody can tell")).decide().actions == THE_PARENT


def test_another_clusters_pods_leave_no_trace_in_a_record() -> None:
    """By the parents in it the runtime's containers are known, by a pod's change its refusal ends;
    of a cluster of which nobody can tell they do, so that the node stays protected."""
    refused = HandOver(boot_id="boot-1", failures=1, refused="parent-uid", refused_template="T1")
    record = Record(parents=("parent-uid",), issue=4, good=(1,), hand_over=refused)
    node = AT_REST.but(checkpoints=Known((checkpoint(API, record=record),)))
    node = node.but(pods=Known((pod(uid="twin-uid", template="T1"), OTHER_POD)))
    assert node.but(is_own_cluster=Known(False)).decide().records == {}
    for own in (Known(True), Unknown("nobody can tell")):
        told = node.but(is_own_cluster=own).decide().records[API]
        assert (told.parents, told.hand_over.refused) == (("twin-uid",), "")


def test_another_clusters_pods_move_nothing_here() -> None:
    """They have our workloads' names: one that ends is none of ours, nor one that is not marked."""
    ending = Known((pod(uid="stranger", terminating=True), OTHER_POD))
    for own, is_leaving in ((Known(False), False), (Known(True), True)):
        plan = AT_REST.but(pods=ending, is_own_cluster=own).decide()
        assert plan.memory.tracks[API].was_leaving is is_leaving
    unmarked = Known((pod(DNS, uid="stranger", is_parent=False, ready=False), OTHER_POD))
    stored = Known((checkpoint(DNS, revision(stage=1, shares_ports=True)),))
    node = ACTIVE.but(
        contact=reachable(),
        checkpoints=stored,
        manifests=Known((manifest(DNS),)),
        pods=unmarked,
    )
    assert node.but(is_own_cluster=Known(False)).decide().actions == ()
    (action,) = node.decide().actions
    assert isinstance(action, Release)
