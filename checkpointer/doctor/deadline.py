"""Asking with a deadline: what has not answered by then is Unknown, and nobody waits for it.

Not every look can be given a timeout: a name that is looked up, a folder on a dead network
file system. Each one has a thread of its own that does not keep the process alive.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from checkpointer.core.facts import Fact, Unknown

T = TypeVar("T")

log = logging.getLogger(__name__)


class Asked(Generic[T]):
    """A question under way."""

    def __init__(self, name: str, ask: Callable[[], Fact[T]], seconds: float) -> None:
        """Begin to ask; the answer is waited for at most so long from now on."""
        self._name, self._ask, self._seconds = name, ask, seconds
        self._end = time.monotonic() + seconds
        self._answer: Fact[T] | None = None
        self._thread = threading.Thread(target=self._run, name="doctor", daemon=True)
        self._thread.start()

    def answer(self) -> Fact[T]:
        """Return the answer, or Unknown when there is none in time."""
        self._thread.join(max(0.0, self._end - time.monotonic()))
        return self._answer or Unknown(f"{self._name}: no answer within {self._seconds:g} s")

    def _run(self) -> None:
        try:
            self._answer = self._ask()
        except Exception as error:  # one look that fails must not take the others with it
            log.debug("%s", self._name, exc_info=True)
            self._answer = Unknown(f"{self._name}: {type(error).__name__}")
