"""Waiting for a fact to become true, with a deadline: no sleeping for luck."""

from __future__ import annotations

import time
from collections.abc import Callable

_LOOK_SECONDS = 0.02


class TimedOutError(Exception):
    """What was waited for did not happen in time; the message says what and for how long."""


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until the condition holds; return how many seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimedOutError(f"not seen within {seconds:g} s: {what}")
        time.sleep(_LOOK_SECONDS)
    return time.monotonic() - began
