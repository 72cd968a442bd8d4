"""What is counted while the agent runs: cheap to add to, read by the metrics when they are asked
for. The metrics library is imported no earlier than that."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter

from checkpointer.core.contact import ProbeOutcome, ProbeResult
from checkpointer.report.happenings import Happening, Kind

PROBE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
CYCLE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0)
HAND_OVER_BUCKETS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)


class Histogram:
    """Counts values in buckets by their upper bounds, as Prometheus does. Any thread may use it."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """Count one value."""
        with self._lock:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Return the cumulative counts by upper bound, `+Inf` last, and the sum of the values."""
        with self._lock:
            counts, total = tuple(self._counts), self._sum
        bounds = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        cumulative = [float(sum(counts[: index + 1])) for index in range(len(counts))]
        return list(zip(bounds, cumulative, strict=True)), total


class Tally:
    """The agent's counters since its start."""

    def __init__(self) -> None:
        self.probes = {outcome: Histogram(PROBE_BUCKETS) for outcome in ProbeOutcome}
        self.cycles = Histogram(CYCLE_BUCKETS)
        self.hand_overs = Histogram(HAND_OVER_BUCKETS)
        self.failed_cycles = 0
        self._happenings: Counter[Kind] = Counter()

    @property
    def happenings(self) -> dict[Kind, int]:
        """Return how often each kind has happened."""
        return {kind: self._happenings[kind] for kind in Kind}

    def probed(self, result: ProbeResult, seconds: float) -> None:
        """Count one endpoint's answer. From the probe's threads."""
        self.probes[result.outcome].add(seconds)

    def happened(self, happening: Happening) -> None:
        """Count what happened."""
        self._happenings[happening.kind] += 1
        if happening.kind is Kind.HANDED_OVER and happening.seconds is not None:
            self.hand_overs.add(happening.seconds)
