"""Promotion: which Ready pod makes which revision a known good one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checkpointer.core.checkpoint import Record
from checkpointer.core.facts import Known
from checkpointer.core.observation import Pod
from checkpointer.core.plan import Snapshot
from tests.unit.core.builders import (
    API,
    AT_REST,
    NOW,
    OTHER_POD,
    RULES,
    Node,
    checkpoint,
    pod,
    revision,
    suspect,
)

OLD = pod(uid="b-old")
NEW = pod(uid="a-new", signature="spec-2", ready_seconds=20.0)


def node(*pods: Pod) -> Node:
    """Return a node at rest with these pods and nothing stored yet."""
    return AT_REST.but(pods=Known((OTHER_POD, *pods)), checkpoints=Known(()))


def cycle(before: Node, now: float, stores: int = 0) -> Node:
    """Decide once and return the node afterwards; a snapshot stores that revision, if any."""
    plan = before.decide(now)
    after = before.then(plan)
    if not stores:
        return after
    assert any(isinstance(action, Snapshot) for action in plan.actions)
    assert isinstance(after.checkpoints, Known)
    record = after.checkpoints.value[0].record if after.checkpoints.value else Record()
    revisions = [revision(number) for number in range(stores, 0, -1)]
    return after.but(checkpoints=Known((checkpoint(API, *revisions, record=record),)))


def good(seen: Node) -> tuple[int, ...]:
    assert isinstance(seen.checkpoints, Known)
    return seen.checkpoints.value[0].record.good


def test_a_parent_that_stays_ready_promotes_its_revision() -> None:
    """After the whole time, and not before."""
    seen = cycle(node(OLD), NOW, stores=1)
    seen = cycle(seen, NOW + 1)
    seen = cycle(seen, NOW + RULES.good_seconds - 0.1)
    assert good(seen) == ()
    assert good(cycle(seen, NOW + RULES.good_seconds)) == (1,)


def rollout() -> Node:
    """Return a node with revision 1 known good, on which a new pod's revision 2 is just stored."""
    seen = cycle(node(OLD), NOW, stores=1)
    seen = cycle(seen, NOW + RULES.good_seconds)
    assert good(seen) == (1,)
    return cycle(seen.but(pods=Known((OTHER_POD, OLD, NEW))), NOW + 200, stores=2)


def test_an_older_pod_does_not_promote_what_was_taken_of_the_new_one() -> None:
    """It has been Ready for an hour, with another revision."""
    seen = cycle(rollout(), NOW + 201)
    assert good(seen) == (1,)
    assert good(cycle(seen, NOW + 200 + RULES.good_seconds)) == (2, 1), "its own pod does"


@pytest.mark.parametrize("changes", [{"ready": False}, {"terminating": True}, {"finished": True}])
def test_an_older_pod_does_not_promote_it_when_the_new_one_has_failed(
    changes: dict[str, bool],
) -> None:
    """The new pod crashes, which is what the last known good is kept for."""
    crashed = rollout().but(pods=Known((OTHER_POD, OLD, replace(NEW, **changes))))
    for seconds in (201.0, 202.0, 300.0):
        crashed = cycle(crashed, NOW + seconds)
        assert good(crashed) == (1,)


def test_a_snapshot_that_failed_promotes_nothing() -> None:
    """What is stored is not what that pod consists of; it may be once another one succeeds."""
    seen = cycle(rollout(), NOW + 201)
    changed = replace(OLD, signature="spec-3")
    seen = seen.but(pods=Known((OTHER_POD, changed)), failed_snapshots=frozenset({OLD.uid}))
    for seconds in (202.0, 203.0, 255.0):
        seen = cycle(seen, NOW + seconds)
    assert good(cycle(seen, NOW + 261)) == (1,)


def test_a_pod_that_was_found_equal_promotes_it_too() -> None:
    """The pod that a revision was taken of is gone; the one after it consists of the same."""
    seen = rollout().but(pods=Known((OTHER_POD, replace(NEW, uid="c-next"))))
    seen = cycle(seen, NOW + 210)
    seen = cycle(seen, NOW + 211)
    assert good(cycle(seen, NOW + 210 + RULES.good_seconds)) == (2, 1)


def test_nothing_is_promoted_without_contact() -> None:
    """What the API said last may be long past."""
    seen = cycle(cycle(node(OLD), NOW, stores=1), NOW + 1)
    assert good(cycle(seen.but(contact=suspect()), NOW + 100)) == ()


def test_nothing_is_promoted_on_the_word_of_another_cluster() -> None:
    """What its pods prove is nothing of ours; back with ours, the time begins anew."""
    seen = cycle(node(OLD), NOW, stores=1)
    seen = cycle(seen.but(is_own_cluster=Known(False)), NOW + RULES.good_seconds)
    assert good(seen) == ()
    seen = cycle(seen.but(is_own_cluster=Known(True)), NOW + RULES.good_seconds + 1)
    assert good(seen) == ()
    assert good(cycle(seen, NOW + 2 * RULES.good_seconds + 1)) == (1,)
