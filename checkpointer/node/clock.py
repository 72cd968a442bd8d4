"""Whether the node's clock is kept right: by what the kernel says, whoever keeps it."""

from __future__ import annotations

import ctypes
import os

from checkpointer.core.facts import Fact, Known, Unknown

_TIME_ERROR = 5
"""The return value of adjtimex(2) for a clock that nobody synchronizes."""


def is_synchronized() -> Fact[bool]:
    """Tell whether some NTP client has set the clock and goes on doing so."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "adjtimex"):
        return Unknown("this system has no adjtimex")
    # struct timex, larger than it is anywhere; all zero means: change nothing.
    state = library.adjtimex(ctypes.create_string_buffer(512))
    if state < 0:
        return Unknown(f"adjtimex: {os.strerror(ctypes.get_errno())}")
    return Known(state != _TIME_ERROR)
