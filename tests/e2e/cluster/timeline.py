"""When the API served: asked every tenth of a second, on a fresh connection each time."""

from __future__ import annotations

import http.client
import math
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from tests.e2e.cluster.background import Background

INTERVAL_SECONDS = 0.1
PATIENCE_SECONDS = 10.0
"""How long the kubelet waits for an answer to its heartbeat: a quarter of a lease of 40 s."""
COME_AGAIN_SECONDS = 1.0
"""What an API server that is ending tells in Retry-After (WithWaitGroup)."""
_TOLD_TO_COME_AGAIN = ("429", "503")
_ENDED_UNANSWERED = ("RemoteDisconnected", "ConnectionResetError")


@dataclass(frozen=True, slots=True)
class Sample:
    """One question; times are on the monotonic clock."""

    asked: float
    answered: float
    ready: bool
    said: str
    """The HTTP status, or the kind of error that came instead."""
    first: str = ""
    """What was said before that, where it was asked again."""


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

    def served_for_good(self, after: float) -> float | None:
        """Return the seconds from `after` to the first of the good answers that end it, or None."""
        found = None
        for sample in self.samples:
            if sample.asked >= after:
                found = (found or sample.answered) if sample.ready else None
        return None if found is None else found - after

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
        return Counter(s.said for s in self._since_first_good(after) if not s.ready)

    def answered(self, after: float = 0.0) -> int:
        """Return how many good answers there were since the first one that follows `after`."""
        return sum(s.ready for s in self._since_first_good(after))

    def slowest_answer(self, after: float = 0.0) -> float:
        """Return the longest wait for a good answer, since the first one that follows `after`."""
        return max(
            (s.answered - s.asked for s in self._since_first_good(after) if s.ready), default=0.0
        )

    def _since_first_good(self, after: float) -> list[Sample]:
        first = next((s.asked for s in self.samples if s.ready and s.asked >= after), math.inf)
        return [s for s in self.samples if s.asked > first]

    def _work(self) -> None:
        while not self._over.is_set():
            asked = time.monotonic()
            said = self._ask(seconds=1.0)
            self._samples.append(Sample(asked, time.monotonic(), said == "200", said))
            self._over.wait(max(0.0, asked + INTERVAL_SECONDS - time.monotonic()))

    def _ask(self, seconds: float) -> str:
        try:
            return str(self._api.request("GET", self._path, seconds=seconds)[0])
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__


class PatientTimeline(Timeline):
    """What a client sees that waits for each answer and asks again where it should, once.

    As client-go does with a read: when it is told to come again, and when a connection ended
    without an answer. It asks every tenth of a second, whatever the questions before wait for; the
    samples lie in the order of their answers.
    """

    def asked_again(self, after: float = 0.0) -> Counter[str]:
        """Return what was said first where a second question followed, since the first answer."""
        return Counter(s.first for s in self._since_first_good(after) if s.first)

    def _work(self) -> None:
        with ThreadPoolExecutor(round(PATIENCE_SECONDS / INTERVAL_SECONDS)) as askers:
            while not self._over.wait(INTERVAL_SECONDS):
                askers.submit(self._ask_patiently, time.monotonic())

    def _ask_patiently(self, asked: float) -> None:
        said, first = self._ask(PATIENCE_SECONDS), ""
        if said in _TOLD_TO_COME_AGAIN or said in _ENDED_UNANSWERED:
            self._over.wait(COME_AGAIN_SECONDS if said in _TOLD_TO_COME_AGAIN else 0.0)
            said, first = self._ask(PATIENCE_SECONDS), said
        self._samples.append(Sample(asked, time.monotonic(), said == "200", said, first))
