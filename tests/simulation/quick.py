"""A quick simulated node for tests, and how long its waits may last at most."""

from __future__ import annotations

from checkpointer.simulation.surroundings import Pace

LONG = 60.0
"""Seconds that nothing here takes, however busy the machine is."""
PACE = Pace(
    list_seconds=0.02,
    sandbox_seconds=0.05,
    container_seconds=0.05,
    notice_seconds=0.05,
    backoff_seconds=0.3,
    backoff_limit_seconds=1.0,
    recheck_seconds=0.2,
    mirror_seconds=0.1,
    relist_seconds=0.5,
    tick_seconds=0.02,
)
