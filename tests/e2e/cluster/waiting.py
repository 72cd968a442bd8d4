"""Waiting for something to become true, with a deadline and a reason when it does not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = float(os.environ.get("E2E_PATIENCE", "1"))
"""How much longer a deadline is on a machine that does other work."""


class DeadlineError(AssertionError):
    """What was waited for did not come in time."""


def wait_for(
    what: str, condition: Callable[[], T | None], seconds: float, interval: float = 0.1
) -> T:
    """Return the first true value of `condition`; DeadlineError after `seconds` and patience.

    An OSError of the condition (no connection yet, no file yet) counts as "not yet" and is told
    in the error.
    """
    deadline = time.monotonic() + seconds * PATIENCE
    last: object = None
    while True:
        try:
            value = condition()
        except OSError as error:
            last = error
        else:
            if value:
                return value
            last = value
        if time.monotonic() >= deadline:
            raise DeadlineError(f"{what}: not within {seconds * PATIENCE:g}s (last: {last!r})")
        time.sleep(interval)


def hold(seconds: float, check: Callable[[], object] | None = None) -> None:
    """Let time pass in which nothing is to happen; `check` raises when something does."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if check is not None:
            check()
        time.sleep(min(left, 0.5))
