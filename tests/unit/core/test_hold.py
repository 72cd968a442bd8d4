"""For how long a hold counts: what was asked for, whatever the wall clock does."""

from __future__ import annotations

import math

import pytest

from checkpointer.core.hold import RELEASED, Hold
from checkpointer.core.moment import Moment

HOUR = 3600.0
DAY = 24 * HOUR
SINCE = 1.8e9
HOLD = Hold(RELEASED, SINCE, "root", "", until=SINCE + 2 * HOUR, boot_id="boot-1", began=500.0)


@pytest.mark.parametrize("wall", [0.0, SINCE - 400 * DAY, SINCE + 600, SINCE + 3 * HOUR, 4e9])
def test_a_hold_counts_its_time_whatever_the_clock_jumps(wall: float) -> None:
    """Within the boot it was made in, by the monotonic clock alone."""
    assert HOLD.seconds_left(Moment("boot-1", 500.0, wall)) == 2 * HOUR
    assert HOLD.seconds_left(Moment("boot-1", 500.0 + HOUR, wall)) == HOUR
    assert HOLD.is_in_force(Moment("boot-1", 499.0 + 2 * HOUR, wall))
    assert not HOLD.is_in_force(Moment("boot-1", 500.0 + 2 * HOUR, wall))


def test_a_look_from_just_before_it_was_made_gives_no_more_than_was_asked_for() -> None:
    """The clocks are read first, and the store after that."""
    assert HOLD.seconds_left(Moment("boot-1", 499.9, SINCE - 0.1)) == 2 * HOUR


@pytest.mark.parametrize(
    ("uptime", "wall", "left"),
    [
        (60.0, SINCE + HOUR, HOUR),
        (60.0, SINCE + 3 * HOUR, -HOUR),
        (60.0, 0.0, 2 * HOUR - 60),
        (60.0, SINCE - 400 * DAY, 2 * HOUR - 60),
        (HOUR, SINCE + 600, HOUR),
        (3 * DAY, 3 * DAY, 2 * HOUR - 3 * DAY),
    ],
    ids=["on time", "over", "1970", "far ahead", "clock too late", "1970, days later"],
)
def test_after_a_reboot_the_clock_tells_or_else_the_uptime(
    uptime: float, wall: float, left: float
) -> None:
    """Made before this boot, it is at least as old as this boot is."""
    assert HOLD.seconds_left(Moment("boot-2", uptime, wall)) == left


@pytest.mark.parametrize(
    ("wall", "left"),
    [
        (SINCE + HOUR, HOUR),
        (0.0, 2 * HOUR),
        (SINCE - 400 * DAY, 2 * HOUR),
        (4e9, SINCE - 4e9 + 7200),
    ],
)
def test_without_a_boot_the_clock_tells(wall: float, left: float) -> None:
    """An old file has none, or nobody can tell which boot this is; never more than asked for."""
    old = Hold(RELEASED, SINCE, "root", "", until=SINCE + 2 * HOUR)
    assert old.seconds_left(Moment("boot-2", 90 * DAY, wall)) == left
    assert HOLD.seconds_left(Moment("", 90 * DAY, wall)) == left


def test_a_hold_without_an_end_counts_for_ever() -> None:
    """In any boot, by any clock."""
    hold = Hold(RELEASED, SINCE, "root", boot_id="boot-1", began=500.0)
    assert hold.seconds_left(Moment("boot-2", 90 * DAY, 4e9)) == math.inf
