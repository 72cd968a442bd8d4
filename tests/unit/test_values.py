"""Values: what `frozen` still means at run time."""

from __future__ import annotations

from dataclasses import field, fields

import pytest

from checkpointer.values import dataclass, replace


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


@dataclass(frozen=True)
class Only:
    one: tuple[int, ...] = ()


def test_a_copy_differs_in_what_is_named_alone() -> None:
    point = Point(1, y=2)
    assert replace(point, x=5).y == 2
    assert (point.x, replace(point, x=5), replace(point) is point) == (1, Point(5), False)
    assert (replace(Only()), replace(Only(), one=(3,))) == (Only(), Only((3,)))


def test_a_copy_has_no_field_that_its_class_has_not() -> None:
    with pytest.raises(KeyError, match="z"):
        replace(Point(1), z=5)  # type: ignore[call-arg]


def test_what_is_not_frozen_has_no_hash() -> None:
    """It may change, so it cannot be a key."""
    assert Counter.__hash__ is None
