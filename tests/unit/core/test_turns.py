"""Turns: at any moment at most one master begins, and each one's turn comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.core.contact import Contact
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.lease import Turn
from checkpointer.core.plan import Release
from checkpointer.core.turns import (
    ALONE_SECONDS,
    OPEN_SECONDS,
    SETTLED_SECONDS,
    SLOT_SECONDS,
    Masters,
    has_company,
    wait_for_turn,
)
from tests.unit.core.builders import (
    ACTIVE,
    API,
    COPY_RUNS,
    NOW,
    both,
    lost,
    made,
    parent_sandbox,
    reachable,
    stamp,
)

NAMES = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=5, unique=True)
WALL = st.floats(1.6e9, 2.0e9)


def wait(names: list[str], own: str, wall: float) -> float:
    return wait_for_turn(Known(Masters(tuple(names), own)), own, wall)


@given(NAMES, WALL, st.floats(-OPEN_SECONDS + 0.1, OPEN_SECONDS - 0.1))
def test_no_two_masters_begin_within_half_a_slot(
    names: list[str], wall: float, skew: float
) -> None:
    """However their clocks differ, as long as it is by less than that."""
    may = [name for name in names if wait(names, name, wall) == 0.0]
    assert len(may) <= 1
    for name in may:
        others = [n for n in names if n != name and wait(names, n, wall + skew) == 0.0]
        assert others == []


@given(NAMES, WALL)
def test_each_ones_turn_comes_when_it_is_foretold(names: list[str], wall: float) -> None:
    """Within one round, in whatever order the API lists the names."""
    for name in names:
        left = wait(names, name, wall)
        assert 0.0 <= left <= len(names) * SLOT_SECONDS
        assert wait(list(reversed(names)), name, wall + left + 0.001) == 0.0


def test_a_single_master_never_waits() -> None:
    """There is nobody to wait for."""
    assert all(wait(["only"], "only", 1.7e9 + second) == 0.0 for second in range(300))


@pytest.mark.parametrize("node", ["node-1", "node-2", "node-3"])
def test_masters_that_are_not_known_spread_by_their_names(node: str) -> None:
    """Each finds a slot of its own, or shares it with few."""
    waits = [wait_for_turn(Unknown("not read"), node, 1.7e9 + second) for second in range(120)]
    assert waits.count(0.0) == OPEN_SECONDS


def test_what_is_no_master_never_waits() -> None:
    """An edge node's copy is nobody's API server."""
    assert all(wait(["a", "b"], "edge", 1.7e9 + second) == 0.0 for second in range(120))


@pytest.mark.parametrize(
    ("others", "contact", "expected"),
    [
        (Known(True), lost(100.0), True),
        (Known(False), lost(100.0), False),
        (Known(False), reachable(100.1), False),
        (Known(False), reachable(100.0), True),
        (Unknown("no addresses"), lost(100.0), False),
        (Unknown("no addresses"), reachable(100.0 + ALONE_SECONDS - SETTLED_SECONDS + 0.1), False),
        (Unknown("no addresses"), reachable(100.0 + ALONE_SECONDS - SETTLED_SECONDS), True),
        (None, reachable(100.0), False),
    ],
)
def test_an_api_server_is_not_taken_from_a_cluster_that_has_no_other(
    others: Fact[bool] | None, contact: Contact, expected: bool
) -> None:
    """The other masters may still be booting; one that stays alone waits for some minutes."""
    assert has_company(others, contact, 100.0 + ALONE_SECONDS) is expected


def test_a_master_asks_for_the_others_when_its_moment_has_come() -> None:
    """And then makes way at once; until one of them answers its copy serves."""
    seen = ACTIVE.but(
        runtime=Known(both(COPY_RUNS, made(parent_sandbox(created_at=stamp(NOW))))),
        masters=Known(Masters(("node-0", "node-1"), "node-1")),
        others_answer=None,
    )
    plans = [seen.decide(1000.0 + second) for second in range(60)]
    asking = [plan for plan in plans if plan.turn is Turn.WANTED]
    assert len(asking) == OPEN_SECONDS
    assert {plan.standings[API].waits_for for plan in asking} == {
        "another master's API server to answer"
    }
    at = 1000.0 + plans.index(asking[0])
    assert seen.but(others_answer=Known(False)).decide(at).actions == ()
    (action,) = seen.but(others_answer=Known(True)).decide(at).actions
    assert isinstance(action, Release)
