"""Real system calls of which one goes wrong: it fails, or the process dies at it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from checkpointer.store.system_calls import SystemCalls

READING = frozenset({"read", "list_directory", "close"})
"""Calls that change nothing on disk (open may); crashes around them are nothing new."""

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EINTR)

OnDone = Callable[[str, tuple[Any, ...], Any], None]
"""Told of each call that was done: its name, its arguments and what it returned."""


class CrashError(BaseException):
    """The process is gone: no handler of the code under test may clean up after it."""


@dataclass
class Fault:
    """What happens at the n-th call (from 0): an error, or death before or after it."""

    at: int
    error: int | None = None
    crash: str = ""
    """`before`, `after`, or `half` for a write of which half is done."""
    short_writes: bool = False


@dataclass
class FaultyCalls(SystemCalls):
    """Real system calls that are counted and of which one goes wrong."""

    fault: Fault = field(default_factory=lambda: Fault(-1))
    names: list[str] = field(default_factory=list)
    handles: set[int] = field(default_factory=set)
    is_dead: bool = False
    is_armed: bool = True
    """Whether calls are counted, and may go wrong."""
    on_done: OnDone = lambda *_: None

    def _call(self, name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.is_dead:
            raise CrashError
        if not self.is_armed:
            return self._do(name, call, args, kwargs)
        number = len(self.names)
        self.names.append(name)
        if name == "write" and self.fault.short_writes:
            args = (args[0], args[1][:3])
        if number == self.fault.at:
            return self._go_wrong(name, call, args, kwargs)
        return self._do(name, call, args, kwargs)

    def _go_wrong(self, name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.fault.error is not None:
            if name == "close":
                self._do(name, call, args, kwargs)
            raise OSError(self.fault.error, os.strerror(self.fault.error))
        if self.fault.crash == "half" and name == "write":
            self._do(name, call, (args[0], args[1][: len(args[1]) // 2]), kwargs)
        if self.fault.crash == "after":
            with suppress(OSError):
                self._do(name, call, args, kwargs)
        self.is_dead = True
        raise CrashError

    def _do(self, name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        if name == "open":
            self.handles.add(result)
        if name == "close":
            self.handles.discard(args[0])
        self.on_done(name, args, result)
        return result

    @contextmanager
    def disarmed(self) -> Iterator[None]:
        """Let nothing go wrong meanwhile."""
        before, self.is_armed = self.is_armed, False
        try:
            yield
        finally:
            self.is_armed = before

    def bury(self) -> None:
        """Close what the dead process had open, as the kernel does."""
        for handle in self.handles:
            os.close(handle)
        self.handles.clear()


def _counted(name: str) -> Callable[..., Any]:
    real = getattr(SystemCalls, name)

    def call(self: FaultyCalls, *args: Any, **kwargs: Any) -> Any:
        return self._call(name, lambda *a, **k: real(self, *a, **k), args, kwargs)

    return call


for _name in [name for name in vars(SystemCalls) if not name.startswith("_")]:
    setattr(FaultyCalls, _name, _counted(_name))
