"""Whichever system call of a change fails, or the process dies at: before or after, and finished.

Each change is made once in good health to count its calls, then again for every call and every
way in which it may go wrong. With SWEEP=full each call fails with each of the errors; by default
with one, in turn, and of the calls that only read every third does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from checkpointer.store.errors import DiskError
from tests.unit.durability.promises import IS_FULL, Sweep
from tests.unit.durability.scene import CHANGES
from tests.unit.store.faulty import ERRORS, READING, CrashError, Fault

Count = Callable[[str, int], None]

every_change = pytest.mark.parametrize("name", CHANGES)


def errors_at(at: int, call: str) -> tuple[int, ...]:
    """Return the errors that this call fails with, one after the other."""
    if IS_FULL:
        return ERRORS
    if call in READING and at % 3:
        return ()
    return (ERRORS[(at + at // 6) % 6],)  # out of step with the six calls that write a file


@every_change
def test_failing_call_leaves_the_disk_as_before_or_after(
    sweep: Sweep, name: str, count: Count
) -> None:
    """Full disk, bad sector, read-only, forbidden, out of handles, interrupted: at any call.

    The same process tries again in a later cycle, and so does the next one.
    """
    handles = len(os.listdir("/proc/self/fd"))
    tried = 0
    for at, call in enumerate(sweep.calls):
        for error in errors_at(at, call):
            why = f"{os.strerror(error)} at call {at}, {call}"
            process, _ = sweep.start(Fault(at, error=error))
            tried += 1
            try:
                was_done = sweep.change.do(process) is not False
            except DiskError:
                was_done = False
            if (name, call, error) == ("leave", "rmdir", errno.EROFS):
                was_done = False  # a root below a read-only file system is a mount, and may stay
            assert len(os.listdir("/proc/self/fd")) == handles, why
            tree = sweep.node.tree()
            if IS_FULL or call not in READING:
                assert sweep.change.do(process) is not False, why
                assert sweep.change.is_done(process), why
            sweep.judge(tree, why, must_be_done=was_done)
    count("system calls", len(sweep.calls))
    count("of them failed", tried)
    count("states after failures", sweep.judged)


@every_change
def test_death_at_any_call_leaves_the_disk_as_before_or_after(sweep: Sweep, count: Count) -> None:
    """Killed before or after any call that changes something, or in the middle of a write."""
    tried = 0
    last = max(at for at, call in enumerate(sweep.calls) if call not in READING)
    for at, call in enumerate(sweep.calls):
        for how in ("before", "half", "after"):
            if call in READING or (how == "half" and call != "write"):
                continue
            if how == "after" and not IS_FULL and at < last:
                continue  # which is before the next one
            process, calls = sweep.start(Fault(at, crash=how))
            tried += 1
            with pytest.raises(CrashError):
                sweep.change.do(process)
            calls.bury()
            sweep.judge(sweep.node.tree(), f"death {how} call {at}, {call}")
    count("deaths", tried)
    count("states after deaths", sweep.judged)
