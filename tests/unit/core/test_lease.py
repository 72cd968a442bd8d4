"""The masters' lease: who may take it, what holds, and what is asked of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checkpointer.core.checkpoint import HandOver
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.lease import (
    FAILED_SECONDS,
    FAILING_GAP_SECONDS,
    TRY_AGAIN_SECONDS,
    Asking,
    Claim,
    Lease,
    Turn,
    claim,
    failed,
    is_due,
    may_take,
    seen,
    try_again_in,
    under_way_since,
)
from checkpointer.core.plan import Release
from checkpointer.core.standing import Standing
from checkpointer.core.turns import Masters
from tests.unit.core.builders import (
    ACTIVE,
    API,
    COPY_RUNS,
    NOW,
    OTHER_POD,
    PARENT_RUNS,
    Node,
    both,
    checkpoint,
    made,
    parent_sandbox,
    pod,
    reachable,
    revision,
    stamp,
)

OTHERS = Lease("node-2", "7", 60.0, since=100.0)


@pytest.mark.parametrize(
    ("lease", "now", "may"),
    [
        (None, 100.0, True),
        (replace(OTHERS, holder=""), 100.0, True),
        (replace(OTHERS, holder="node-1"), 100.0, True),
        (OTHERS, 159.9, False),
        (OTHERS, 160.0, True),
        (replace(OTHERS, seconds=20.0), 120.0, True),
        (replace(OTHERS, seconds=3600.0), 159.9, False),
        (replace(OTHERS, seconds=3600.0), 160.0, True),
    ],
)
def test_a_lease_is_free_when_nobody_else_holds_it(
    lease: Lease | None, now: float, may: bool
) -> None:
    """A crashed holder blocks nobody for more than a minute, whatever it has written."""
    assert may_take(lease, "node-1", now) is may


def test_a_lease_ages_from_the_first_look_at_it_as_it_is() -> None:
    """No clock of another node counts; a renewal begins its time anew."""
    first = seen(None, "node-2", "7", 60.0, 100.0)
    assert first == OTHERS
    assert seen(first, "node-2", "7", 60.0, 130.0) is first
    assert seen(first, "node-2", "8", 60.0, 130.0) == Lease("node-2", "8", 60.0, 130.0)


@pytest.mark.parametrize(
    ("asking", "expected"),
    [
        (Asking(), Claim.OPEN),
        (Asking(taken_at=95.0), Claim.OPEN),
        (Asking(taken_at=95.1), Claim.OURS),
        (Asking(failing_since=0.0, failed_at=0.0), Claim.OPEN),
        (Asking(given_up_at=100.0), Claim.UNUSED),
        (Asking(given_up_at=100.1 - FAILED_SECONDS), Claim.UNUSED),
        (Asking(given_up_at=100.0 - FAILED_SECONDS), Claim.OPEN),
    ],
)
def test_what_a_lease_allows(asking: Asking, expected: Claim) -> None:
    """A hand-over begins on a fresh one; one that cannot be had for a minute is done without."""
    assert claim(asking, 100.0) is expected


def failing(*times: float) -> list[Claim]:
    """Return what the lease allows after each of these failures."""
    asking, claims = Asking(), []
    for now in times:
        asking = failed(replace(asking, asked_at=now), now)
        claims.append(claim(asking, now))
    return claims


def test_a_lease_is_done_without_after_a_minute_of_failures() -> None:
    """Of asking all the while: a single refusal, however long ago, is none."""
    every_ten = [100.0 + 10.0 * turn for turn in range(7)]
    assert failing(*every_ten) == [Claim.OPEN] * 6 + [Claim.UNUSED]
    assert failing(100.0, 100.0 + FAILING_GAP_SECONDS, 160.0)[-1] is Claim.UNUSED
    assert failing(100.0, 130.1 + FAILING_GAP_SECONDS, 190.0) == [Claim.OPEN] * 3
    once = failed(Asking(asked_at=33.0), 33.0)
    assert {claim(once, 33.0 + later) for later in range(1000)} == {Claim.OPEN}


def test_failing_begins_anew_when_the_lease_was_tried_again_in_vain() -> None:
    """So that the time slots count again, a minute later."""
    asking = Asking(asked_at=160.0, failing_since=100.0, failed_at=160.0, given_up_at=160.0)
    late = 160.0 + FAILED_SECONDS
    assert failed(asking, late).failing_since == late
    assert claim(failed(asking, late), late) is Claim.OPEN


def test_a_lease_that_could_not_be_taken_is_asked_for_again() -> None:
    """Whether or not a hand-over waits for it at the moment; not once it is done without."""
    once = failed(Asking(asked_at=100.0), 100.0)
    assert try_again_in(once, 104.0) == TRY_AGAIN_SECONDS - 4.0
    assert try_again_in(once, 300.0) == 0.0
    assert try_again_in(Asking(asked_at=100.0), 300.0) is None
    assert try_again_in(replace(once, given_up_at=299.0), 300.0) is None


def test_a_lease_that_another_holds_is_looked_at_once_a_second() -> None:
    """A moment that lasts must not make the agent ask in every cycle."""
    assert is_due(Asking(), 100.0)
    assert not is_due(Asking(asked_at=100.0), 100.9)
    assert is_due(Asking(asked_at=100.0), 101.0)


SEEN = ACTIVE.but(
    contact=reachable(NOW),
    runtime=Known(both(COPY_RUNS, made(parent_sandbox(created_at=stamp(NOW))))),
    masters=Known(Masters(("node-0", "node-1"), "node-1", ("https://node-0:6443",))),
)
"""Its parent's container is made: the moment to make way."""
WAITS = Standing("active", "its turn among the masters")


def turn_and_actions(node: Node, claimed: Claim, now: float = NOW) -> tuple[Turn, list[type]]:
    plan = node.but(claim=claimed).decide(now)
    return plan.turn, [type(action) for action in plan.actions]


def test_a_master_hands_over_on_the_lease_whatever_its_time_slot() -> None:
    """It is asked for at the very moment, and kept while the hand-over is under way."""
    for second in range(60):
        assert turn_and_actions(SEEN, Claim.OPEN, NOW + second) == (Turn.WANTED, [])
        assert turn_and_actions(SEEN, Claim.OURS, NOW + second) == (Turn.KEPT, [Release])
    plan = SEEN.but(claim=Claim.OPEN).decide()
    assert plan.standings[API] == WAITS
    assert plan.wake_in <= 1.0


def test_a_hand_over_keeps_the_lease_until_it_is_over() -> None:
    """The parent's Ready ends it, and whoever is next need not wait for the lease's end."""
    plan = SEEN.but(claim=Claim.OURS).decide()
    node = SEEN.then(plan).but(manifests=Known(()), claim=Claim.OPEN)
    assert node.decide(NOW + 5).turn is Turn.KEPT
    up = node.but(
        contact=reachable(NOW + 4),
        runtime=Known(PARENT_RUNS),
        pods=Known((pod(), OTHER_POD)),
    )
    assert up.decide(NOW + 6).turn is Turn.NONE


def test_a_hand_over_is_under_way_until_it_has_ended_whatever_its_deadline() -> None:
    """The parent may take longer than that, and the lease is held on for it."""
    plan = SEEN.but(claim=Claim.OURS).decide()
    (begun,) = plan.records.values()
    node = SEEN.then(plan)
    assert under_way_since(SEEN.checkpoints, {}, begun.hand_over.boot_id) is None
    assert under_way_since(SEEN.checkpoints, plan.records, begun.hand_over.boot_id) == NOW
    assert under_way_since(node.checkpoints, {}, begun.hand_over.boot_id) == NOW
    assert under_way_since(node.checkpoints, {}, "the next boot") is None
    ended = {API: replace(begun, hand_over=HandOver())}
    assert under_way_since(node.checkpoints, ended, begun.hand_over.boot_id) is None
    later = Known((checkpoint(API, revision(stage=1), record=begun),))
    assert under_way_since(later, {}, begun.hand_over.boot_id) is None


@pytest.mark.parametrize(
    "node",
    [
        SEEN.but(runtime=Known(COPY_RUNS)),
        SEEN.but(masters=Known(Masters(("node-1",), "node-1"))),
        SEEN.but(masters=Known(Masters(("node-0", "node-2"), "node-1"))),
        SEEN.but(checkpoints=Known((checkpoint(API, revision(stage=1)),))),
    ],
)
def test_the_lease_is_not_asked_for_without_need(node: Node) -> None:
    """No parent in sight, a single master, no master at all, or nothing of stage 0."""
    assert node.but(claim=Claim.OPEN).decide().turn is not Turn.WANTED


def test_masters_that_are_not_known_take_the_lease() -> None:
    """There may be others."""
    node = SEEN.but(masters=Unknown("not read"))
    assert turn_and_actions(node, Claim.OPEN) == (Turn.WANTED, [])


@pytest.mark.parametrize("claimed", [Claim.OPEN, Claim.UNUSED])
def test_a_refused_parent_of_stage_0_waits_for_its_turn_too(claimed: Claim) -> None:
    """Its copy goes as any other's does."""
    refused = pod(ready=False, is_parent=False, finished=True)
    node = SEEN.but(runtime=Known(COPY_RUNS), pods=Known((refused, OTHER_POD)))
    plans = [node.but(claim=claimed).decide(NOW + 60 + second) for second in range(60)]
    waiting = [plan for plan in plans if plan.standings[API] == WAITS]
    assert len(waiting) == (60 if claimed is Claim.OPEN else 45)
    assert turn_and_actions(node, Claim.OURS, NOW + 60)[1] == [Release]
