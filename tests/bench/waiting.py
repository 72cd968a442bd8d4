"""Waiting for what a contender does, until it is done, the contender ends, or it takes too long."""

from __future__ import annotations

import time
from collections.abc import Callable


class NotDoneError(Exception):
    """The contender did not do what was to be measured; the text says what and what it said."""


def wait_until(
    is_done: Callable[[], bool],
    seconds: float,
    what: str,
    is_running: Callable[[], bool] = lambda: True,
    pause_seconds: float = 0.001,
) -> float:
    """Wait; return the seconds it took. Raises NotDoneError."""
    began = time.perf_counter()
    while not is_done():
        if not is_running():
            raise NotDoneError(f"it ended before {what}")
        if time.perf_counter() - began > seconds:
            raise NotDoneError(f"no {what} within {seconds:.0f} s")
        time.sleep(pause_seconds)
    return time.perf_counter() - began
