"""Actions that are due later, carried out by one thread: starts, stops and back-offs take time."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections.abc import Callable

Action = Callable[[], None]


class Alarms:
    """A queue of actions by the time they are due."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        """Tracebacks of actions that failed: none, if all is well."""
        self._changed = threading.Condition()
        self._queue: list[tuple[float, int, Action]] = []
        self._count = itertools.count()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)
        self._thread.start()

    def after(self, seconds: float, action: Action) -> None:
        """Carry out the action so many seconds from now."""
        with self._changed:
            heapq.heappush(self._queue, (time.monotonic() + seconds, next(self._count), action))
            self._changed.notify_all()

    def close(self) -> None:
        """Forget what is due and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(5)

    def _run(self) -> None:
        while (action := self._next()) is not None:
            try:
                action()
            except Exception:
                self.errors.append(traceback.format_exc())

    def _next(self) -> Action | None:
        """Wait for the next action that is due; None at the end."""
        with self._changed:
            while not self._is_closed:
                if not self._queue:
                    self._changed.wait()
                    continue
                seconds = self._queue[0][0] - time.monotonic()
                if seconds <= 0:
                    return heapq.heappop(self._queue)[2]
                self._changed.wait(seconds)
        return None
