"""A parent that serves for a moment and dies, again and again: the last known good takes over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from checkpointer.core.checkpoint import Checkpoint, Record
from checkpointer.core.contact import Contact
from checkpointer.core.facts import Known
from checkpointer.core.plan import Activate, Plan
from checkpointer.core.runtime import Runtime
from tests.unit.core.builders import (
    API,
    AT_REST,
    COPY_RUNS,
    NOW,
    OTHER_POD,
    RULES,
    SAME_KUBELET,
    Node,
    both,
    checkpoint,
    container_of,
    dead,
    lost,
    parent_sandbox,
    pod,
    reachable,
    revision,
    stamp,
)

LIMIT = RULES.parent_crash_limit
TEMPLATE = "new"


def stored(*good: int, **changes: Any) -> Known[tuple[Checkpoint, ...]]:
    record = Record(parents=("parent-uid",), issue=4, good=good)
    newest = revision(2, template=TEMPLATE, **changes)
    return Known((checkpoint(API, newest, revision(1, parent_uid="old-uid"), record=record),))


ROLLED_OUT = AT_REST.but(checkpoints=stored(1), kubelet=Known(SAME_KUBELET)).with_track(
    parent_exits=frozenset()
)
"""Revision 2 is stored of the parent and not known good yet; 1 is."""


def parent(attempt: int, made_at: float, *, is_up: bool, uid: str = "parent-uid") -> Runtime:
    """Return a parent with its newest container, of this restart count."""
    sandbox = parent_sandbox(
        uid, labels={**parent_sandbox().labels, "controller-revision-hash": TEMPLATE}
    )
    container = container_of(
        sandbox, id=f"{uid}-{attempt}", created_at=stamp(made_at), attempt=attempt
    )
    return Runtime((sandbox,), (container if is_up else dead(container, attempt),))


def serves(node: Node, now: float) -> Node:
    """Return it after a look at a parent that is Ready, and contact with it."""
    ready = Known((pod(container_ids=frozenset({"parent-uid-x"})), OTHER_POD))
    seen = node.but(contact=reachable(now - 5.0), pods=ready)
    return seen.then(seen.decide(now))


def lives(
    node: Node,
    count: int,
    life: float = 15.0,
    uid: str = "parent-uid",
    beside: Runtime | None = None,
) -> tuple[Plan, Node]:
    """Let it serve for so long and die, so often; return what is decided at its last death."""
    now, plan = NOW, None
    for attempt in range(count):
        node = serves(node, now + life / 2)
        runtime = parent(attempt, now, is_up=False, uid=uid)
        seen = both(runtime, beside) if beside else runtime
        now += life
        node = node.but(contact=lost(now), runtime=Known(seen))
        plan = node.decide(now)
        node = node.then(plan)
        now += 10.0
    assert plan is not None
    return plan, node


def revisions(plan: Plan) -> list[int]:
    return [action.revision for action in plan.actions if isinstance(action, Activate)]


@pytest.mark.parametrize("life", [3.0, 15.0, 45.0, RULES.good_seconds - 1.0])
def test_the_last_known_good_is_activated_when_it_has_died_so_often(life: float) -> None:
    """Without the usual patience, and this parent is not given way to before it changes."""
    plan, _ = lives(ROLLED_OUT, LIMIT - 1, life)
    assert revisions(plan) == []
    plan, _ = lives(ROLLED_OUT, LIMIT, life)
    assert revisions(plan) == [1]
    way = plan.records[API].hand_over
    assert (way.refused, way.refused_template) == ("parent-uid", TEMPLATE)


def test_being_ready_for_a_moment_clears_nothing() -> None:
    """Contact was good between any two deaths, and the count of one loss at an end."""
    _, node = lives(ROLLED_OUT, LIMIT - 1)
    node = serves(node, NOW + 100.0)
    assert node.memory.tracks[API].parent_crashes == 0
    assert node.memory.tracks[API].short_lives == ("parent-uid", LIMIT - 1)


@pytest.mark.parametrize(
    "node",
    [
        ROLLED_OUT.but(checkpoints=stored(2, 1)),
        ROLLED_OUT.but(checkpoints=stored(2, 1, parent_uid="another")),
        ROLLED_OUT.but(checkpoints=stored()),
        ROLLED_OUT.but(checkpoints=stored(1, stage=1)),
    ],
    ids=["known good", "known good by its template", "nothing known good", "later stage"],
)
def test_what_is_known_good_or_cannot_be_replaced_is_not_given_up(node: Node) -> None:
    """A good API server that dies for want of etcd; the later stage dies for the API's absence."""
    plan, node = lives(node, 5 * LIMIT)
    assert revisions(plan) == []
    assert plan.records == {}
    assert node.memory.tracks[API].short_lives == ("", 0)


def test_a_life_in_which_it_could_have_become_known_good_counts_anew() -> None:
    """Three crashes in a week are no reason."""
    plan, node = lives(ROLLED_OUT, 5 * LIMIT, RULES.good_seconds)
    assert revisions(plan) == []
    assert node.memory.tracks[API].short_lives == ("", 0)


def test_it_is_forgotten_once_the_revision_is_known_good() -> None:
    """What it died of is over then: one more death is the first."""
    _, node = lives(ROLLED_OUT, LIMIT - 1)
    node = node.but(checkpoints=stored(2, 1), contact=lost(NOW + 900))
    node = node.but(runtime=Known(parent(7, NOW + 500, is_up=True)))
    node = node.then(node.decide(NOW + 900))
    assert node.memory.tracks[API].short_lives == ("", 0)


def test_another_pod_counts_anew() -> None:
    """Somebody has rolled out a mended one, or has deleted it."""
    _, node = lives(ROLLED_OUT, LIMIT - 1)
    node = serves(node, NOW + 190)
    assert isinstance(node.checkpoints, Known)
    (old,) = node.checkpoints.value
    record = replace(old.record, parents=("other-uid",))
    new = node.but(
        checkpoints=Known((replace(old, record=record),)),
        pods=Known((pod(uid="other-uid"), OTHER_POD)),
        contact=lost(NOW + 200),
        runtime=Known(parent(0, NOW + 190, is_up=False, uid="other-uid")),
    )
    plan = new.decide(NOW + 200)
    assert revisions(plan) == []
    assert plan.memory.tracks[API].short_lives == ("other-uid", 1)


def test_a_death_beside_a_copy_that_runs_is_none() -> None:
    """Its ports were taken."""
    _, node = lives(ROLLED_OUT, 2 * LIMIT, beside=COPY_RUNS)
    assert node.memory.tracks[API].short_lives == ("", 0)


def test_what_an_agent_finds_at_its_first_look_is_no_short_life() -> None:
    """It may have died with the machine."""
    node = ROLLED_OUT.with_track(parent_exits=None)
    _, node = lives(node, 1)
    assert node.memory.tracks[API].short_lives == ("", 0)


@pytest.mark.parametrize("contact", [lost(NOW + 300), reachable(NOW + 300)])
def test_a_parent_that_runs_is_left_alone_whatever_it_did(contact: Contact) -> None:
    """It serves, or may."""
    _, node = lives(ROLLED_OUT, LIMIT - 1)
    node = node.with_track(short_lives=("parent-uid", LIMIT))
    node = node.but(contact=contact, runtime=Known(parent(9, NOW + 290, is_up=True)))
    assert revisions(node.decide(NOW + 300)) == []
