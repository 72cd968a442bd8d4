"""Turns: at any moment at most one master begins, and each one's turn comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.core.facts import Known, Unknown
from checkpointer.core.turns import OPEN_SECONDS, SLOT_SECONDS, Masters, wait_for_turn

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
