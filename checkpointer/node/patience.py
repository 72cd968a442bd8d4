"""Asking what may never answer, such as a folder on a dead mount: with an end to the waiting.

A system call on a network file system whose server is gone, or on a FUSE whose program hangs,
does not come back, and no signal interrupts it. So it is made in a thread that can be left
behind. Nothing more is asked until that one has come back: at most one thread is stuck.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from checkpointer.store.errors import CannotTellError, StoreError
from checkpointer.store.system_calls import SystemCalls

T = TypeVar("T")

SECONDS = 5.0
"""How long a look may take."""

CHANGE_SECONDS = 60.0
"""How long a change may take: at boot, with all the node's pods starting, an fsync alone may take
many seconds, and a change that is given up is not made. A dead mount is met by a look before."""


class SilentError(StoreError):
    """A folder has not answered in time; what was begun there may still happen."""


class _Call(Generic[T]):
    """One call in a thread of its own, which does not keep the process alive."""

    def __init__(self, do: Callable[[], T]) -> None:
        self._do = do
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._lock, self._is_over = threading.Lock(), False
        self._on_late: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def has_answered(self, seconds: float) -> bool:
        """Wait at most so long; tell whether it has come back."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def give_up(self, on_late: Callable[[], None]) -> None:
        """Have `on_late` called when it comes back after all."""
        with self._lock:
            self._on_late = on_late
            if self._is_over:
                on_late()

    def result(self) -> T:
        """Return or raise what it did."""
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._do())
        except BaseException as error:  # it is the asker's, in whose thread it is raised
            self._error = error
        with self._lock:
            self._is_over = True
            self._on_late()


class Patience:
    """Asks `what`, one question at a time, and waits `seconds`. For one thread at a time.

    `on_late` is called, from another thread, when a question that was given up has come back.
    """

    def __init__(
        self,
        what: object,
        seconds: float = SECONDS,
        on_late: Callable[[], None] = lambda: None,
    ) -> None:
        self._what, self._seconds, self._on_late = what, seconds, on_late
        self._given_up: _Call[Any] | None = None

    def ask(self, do: Callable[[], T], seconds: float | None = None) -> T:
        """Return what `do` does, within so many seconds if not the usual.

        Raises SilentError, without waiting while an earlier question hangs, CannotTellError when
        the node is out of threads, and what `do` raises.
        """
        if not self._is_free():
            raise SilentError(self._told())
        try:
            call = _Call(do)
        except RuntimeError as error:
            raise CannotTellError(f"cannot ask {self._what}: {error}") from error
        if not call.has_answered(self._seconds if seconds is None else seconds):
            self._given_up = call
            call.give_up(self._on_late)
            raise SilentError(self._told())
        return call.result()

    def check(self) -> None:
        """Raise OSError if the question under way has been given up: it is to change no more."""
        if self._given_up is not None:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def _is_free(self) -> bool:
        if self._given_up is not None and self._given_up.has_answered(0.0):
            self._given_up = None
        return self._given_up is None

    def _told(self) -> str:
        return (
            f"{self._what} has not answered in time: it may be on a dead mount "
            "(try `stat` on it), or its disk hangs"
        )


def check_answers(folder: Path, seconds: float | None = None) -> None:
    """Return when a folder has answered, if only that it is not there. Raises SilentError.

    For a command, before it goes on to what has no end to its waiting.
    """

    def look() -> None:
        with suppress(OSError):
            os.listdir(folder)

    Patience(folder, SECONDS if seconds is None else seconds).ask(look)


class RevocableCalls(SystemCalls):
    """What makes a change count is not done any more once its question has been given up.

    It was decided on what was known then; what holds when the folder answers again is decided
    anew.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience

    def rename(self, source: str, target: str) -> None:
        self._patience.check()
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self._patience.check()
        super().unlink(path)
