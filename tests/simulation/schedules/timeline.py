"""Virtual time: what is due happens in order, and in between nothing does."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

WALL_AT_START = 1_800_000_000.0
"""What the clocks say at a schedule's start, in seconds of the Unix epoch."""


class Timeline:
    """Seconds since the schedule's start. Equal times happen in the order of their planning."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def at(self, when: float, what: Callable[[], object]) -> None:
        """Plan something for a moment; one that is past means now."""
        heapq.heappush(self._due, (max(when, self.now), next(self._order), what))

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        """Plan something for so many seconds from now."""
        self.at(self.now + seconds, what)

    def run(self, until: float, after_each: Callable[[], object]) -> None:
        """Let the time pass; `after_each` is called when a step is done."""
        while self._due and self._due[0][0] <= until:
            self.now, _, what = heapq.heappop(self._due)
            what()
            self.steps += 1
            after_each()
        self.now = until
