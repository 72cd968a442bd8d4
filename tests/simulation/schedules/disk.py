"""The node's disk: real files in memory, and system calls that fail or at which the agent dies."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checkpointer.store.system_calls import SystemCalls

_CHANGES = frozenset(
    name
    for name in vars(SystemCalls)
    if not name.startswith("_") and name not in ("read", "close", "list_directory", "open")
)
_FAULTS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "broken": errno.EIO}
_TAKES_ROOM = frozenset({"write", "mkdir", "symlink"})


class AgentKilledError(BaseException):
    """The agent's process is gone: no handler of the code under test may clean up after it."""


class NodeDisk(SystemCalls):
    """System calls of one agent's process on one node's disk."""

    def __init__(self, manifests: Path, stamp: Callable[[], int], changed: Callable[[], None]):
        self.fault = ""
        """`full`, `read-only` or `broken`; empty in good health."""
        self.kill_in: int | None = None
        """After how many more changes the process dies: before the change when even."""
        self.changes = 0
        self._manifests, self._stamp, self._changed = str(manifests), stamp, changed

    def open(self, path: str, flags: int, mode: int = 0o777, dir_fd: int | None = None) -> int:
        if self.fault == "broken" or (self.fault and flags & os.O_CREAT):
            raise OSError(_FAULTS[self.fault], os.strerror(_FAULTS[self.fault]))
        return super().open(path, flags, mode, dir_fd)

    def fsync(self, handle: int) -> None:
        """Count as a change; files in memory need none."""
        self._change("fsync", lambda *_: None, (handle,))

    def _change(self, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if self.fault and (self.fault != "full" or name in _TAKES_ROOM):
            raise OSError(_FAULTS[self.fault], os.strerror(_FAULTS[self.fault]))
        self.changes += 1
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in <= 0:
                if self.kill_in % 2:
                    call(*args)
                    self._after(name, args)
                self.kill_in = None
                raise AgentKilledError
        result = call(*args)
        self._after(name, args)
        return result

    def _after(self, name: str, args: tuple[Any, ...]) -> None:
        if name not in ("rename", "unlink"):
            return
        path = args[-1]
        if os.path.dirname(path) != self._manifests:
            return
        if name == "rename":
            os.utime(path, ns=(self._stamp(), self._stamp()))
        self._changed()


def _changing(name: str) -> Callable[..., Any]:
    real = getattr(SystemCalls, name)

    def call(self: NodeDisk, *args: Any) -> Any:
        return self._change(name, lambda *given: real(self, *given), args)

    return call


for _name in _CHANGES - {"fsync"}:
    setattr(NodeDisk, _name, _changing(_name))
