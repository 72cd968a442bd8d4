"""When the API served: asked every tenth of a second, on a fresh connection each time."""

from __future__ import annotations

import http.client
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from tests.e2e.cluster.background import Background

INTERVAL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """One question; times are on the monotonic clock."""

    asked: float
    answered: float
    ready: bool
    said: str
    """The HTTP status, or the kind of error that came instead."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without service, from the last good answer before to the first one after."""

    start: float
    seconds: float


class Server(Protocol):
    """Something that answers over HTTP."""

    def request(self, method: str, path: str, *, seconds: float) -> tuple[int, str]: ...


class Timeline(Background):
    """Samples /readyz, or another path, from entering the context to leaving it."""

    def __init__(self, api: Server, path: str = "/readyz") -> None:
        self._api, self._path = api, path
        self._samples: list[Sample] = []
        super().__init__()

    @property
    def samples(self) -> list[Sample]:
        return list(self._samples)

    def first_answer(self, after: float) -> float | None:
        """Return the seconds from `after` to the first good answer, or None."""
        good = (s.answered for s in self._samples if s.ready and s.asked >= after)
        return next((moment - after for moment in good), None)

    def gaps(self, after: float = 0.0, before: float = math.inf) -> list[Gap]:
        """Return the times without service after the first good answer that follows `after`."""
        gaps = []
        last_good: Sample | None = None
        last_asked = 0.0
        missed = False
        for sample in self.samples:
            if not after <= sample.asked < before:
                continue
            last_asked = sample.asked
            if not sample.ready:
                missed = last_good is not None
                continue
            if missed and last_good is not None:
                gaps.append(Gap(last_good.answered, sample.answered - last_good.answered))
            last_good, missed = sample, False
        if missed and last_good is not None:
            gaps.append(Gap(last_good.answered, last_asked - last_good.answered))
        return gaps

    def longest_gap(self, after: float = 0.0) -> float:
        return max((gap.seconds for gap in self.gaps(after)), default=0.0)

    def seconds_not_serving(self, after: float = 0.0, before: float = math.inf) -> float:
        """Return how long the API did not serve since its first answer that follows `after`."""
        return sum((gap.seconds for gap in self.gaps(after, before)), 0.0)

    def seconds_dark(self, after: float, before: float = math.inf) -> float:
        """Return how long the API did not serve since `after`, whether or not it did then."""
        until = self.first_answer(after)
        if until is None:
            return self.samples[-1].answered - after
        return until + self.seconds_not_serving(after, before)

    def failures(self, after: float = 0.0) -> Counter[str]:
        """Return what was said instead of 200, how often, since the first good answer."""
        first = next((s.asked for s in self.samples if s.ready and s.asked >= after), math.inf)
        return Counter(s.said for s in self.samples if s.asked > first and not s.ready)

    def _work(self) -> None:
        while not self._over.is_set():
            asked = time.monotonic()
            said = self._ask()
            self._samples.append(Sample(asked, time.monotonic(), said == "200", said))
            self._over.wait(max(0.0, asked + INTERVAL_SECONDS - time.monotonic()))

    def _ask(self) -> str:
        try:
            return str(self._api.request("GET", self._path, seconds=1.0)[0])
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
