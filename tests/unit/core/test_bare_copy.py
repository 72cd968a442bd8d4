"""A copy of which the kubelet makes no container: one that is known good takes its place."""

from __future__ import annotations

from typing import Any

import pytest

from checkpointer.core.checkpoint import Checkpoint, Record
from checkpointer.core.facts import Known
from checkpointer.core.keeping import BARE_SECONDS
from checkpointer.core.plan import Activate, Plan
from checkpointer.core.runtime import Runtime
from tests.unit.core.builders import (
    ACTIVE,
    API,
    EMPTY,
    NOW,
    PARENT_RUNS,
    Node,
    both,
    checkpoint,
    container_of,
    copy_sandbox,
    dead,
    manifest,
    reachable,
    recovering,
    revision,
)

SANDBOX = Runtime((copy_sandbox(),), ())
CRASHED = Runtime((copy_sandbox(),), (dead(container_of(copy_sandbox()), 1),))


def stored(*good: int, **changes: Any) -> Known[tuple[Checkpoint, ...]]:
    record = Record(parents=("parent-uid",), issue=4, good=good)
    newest = revision(3, **changes)
    return Known((checkpoint(API, newest, revision(2), revision(1), record=record),))


BARE = ACTIVE.but(
    manifests=Known((manifest(revision=3),)), checkpoints=stored(1), runtime=Known(SANDBOX)
)
"""Revision 3 is active; its pod has a sandbox, which is all that it ever gets."""


def seen_for(node: Node, seconds: float, start: float = NOW) -> tuple[Node, list[int], Plan]:
    """Look every 10 s until so many have passed; return the revisions activated then, and the
    plan."""
    now = start
    while now < start + seconds:
        plan = node.decide(now)
        assert plan.actions == ()
        node = node.then(plan)
        now += 10.0
    plan = node.decide(start + seconds)
    return node.then(plan), [a.revision for a in plan.actions if isinstance(a, Activate)], plan


@pytest.mark.parametrize(
    ("node", "seconds", "expected"),
    [
        (BARE, BARE_SECONDS - 0.1, []),
        (BARE, BARE_SECONDS, [1]),
        (BARE.but(checkpoints=stored(3, 2, 1)), BARE_SECONDS, [2]),
        (BARE.but(checkpoints=stored()), 3600.0, []),
        (BARE.but(checkpoints=stored(3)), 3600.0, []),
        (BARE.but(checkpoints=stored(1, has_init=True)), 3600.0, []),
        (BARE.but(contact=reachable()), 3600.0, []),
        (BARE.but(contact=recovering()), 3600.0, []),
        (BARE.but(runtime=Known(both(SANDBOX, PARENT_RUNS))), 3600.0, []),
        (BARE.but(runtime=Known(CRASHED)), 3600.0, []),
    ],
)
def test_it_is_replaced_after_two_minutes_if_another_one_is_known_good(
    node: Node, seconds: float, expected: list[int]
) -> None:
    """Its image is gone and the API too, so nobody brings it; a pull may take the two minutes."""
    _, revisions, plan = seen_for(node, seconds)
    assert revisions == expected
    if expected:
        assert plan.records[API].failed == (3,)
        assert [a.reason for a in plan.actions if isinstance(a, Activate)] == [
            "revision 3 has lacked a container for 120 s"
        ]


@pytest.mark.parametrize(
    ("amid", "after"),
    [
        ({"contact": recovering()}, {}),
        ({"runtime": Known(CRASHED)}, {}),
        ({"runtime": Known(EMPTY)}, {}),
        (
            {"manifests": Known((manifest(revision=3, issue=5, uid="another"),))},
            {
                "manifests": Known((manifest(revision=3, issue=5, uid="another"),)),
                "runtime": Known(Runtime((copy_sandbox(uid="another"),), ())),
            },
        ),
    ],
)
def test_its_two_minutes_begin_anew(amid: dict[str, Any], after: dict[str, Any]) -> None:
    """With an answer of the API, a container, a sandbox that goes, another pod to the kubelet."""
    node, _, _ = seen_for(BARE, 110.0)
    before = node
    node, _, _ = seen_for(node.but(**amid), 0.0, NOW + 115.0)
    again = before.but(memory=node.memory, **after)
    _, revisions, _ = seen_for(again, BARE_SECONDS - 0.1, NOW + 120.0)
    assert revisions == []
    _, revisions, _ = seen_for(again, BARE_SECONDS, NOW + 120.0)
    assert revisions == [1]
