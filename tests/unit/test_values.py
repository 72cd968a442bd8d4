"""Values: what `frozen` still means at run time."""

from __future__ import annotations

from dataclasses import field, fields, replace

from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = field(default=0, compare=False)


@dataclass(slots=True)
class Counter:
    n: int = 0


def test_a_value_is_compared_and_hashed_by_its_fields() -> None:
    assert Point(1, y=2) == Point(1, y=3) != Point(2, y=2)
    assert len({Point(1, y=2), Point(1, y=3), Point(2)}) == 2


def test_a_value_is_a_dataclass() -> None:
    assert [f.name for f in fields(Point)] == ["x", "y"]
    assert replace(Point(1), y=5).y == 5
    assert not hasattr(Point(1), "__dict__")


def test_what_is_not_frozen_has_no_hash() -> None:
    """It may change, so it cannot be a key."""
    assert Counter.__hash__ is None
