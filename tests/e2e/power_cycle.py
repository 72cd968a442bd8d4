"""One power cut of a node with its control plane, and what came of it."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.cluster.control_plane import API_SERVER
from tests.e2e.cluster.folder_watch import FolderWatch
from tests.e2e.cluster.timeline import Timeline
from tests.e2e.summary import ACTIVATION, GAP, SERVING, Record

CYCLES = int(os.environ.get("E2E_CYCLES", "3"))
"""How many of them a scenario has in a row."""


@dataclass(frozen=True, slots=True)
class PowerCycle:
    """Seconds are those since the kubelet's start; None is what never came."""

    start: float
    """The kubelet's start, on the monotonic clock."""
    service: Timeline
    folder: FolderWatch

    @property
    def activation(self) -> float | None:
        return self._moment(appeared=True)

    @property
    def release(self) -> float | None:
        return self._moment(appeared=False)

    @property
    def serving(self) -> float | None:
        return self.service.first_answer(self.start)

    @property
    def for_good(self) -> float | None:
        """When the API served and went no more: by its parent, once the copy has made way."""
        return self.service.served_for_good(self.start)

    @property
    def gap(self) -> float:
        """How long the API did not serve after its first answer."""
        return self.service.seconds_not_serving(self.start)

    @property
    def dark(self) -> float:
        """How long the API did not serve in all."""
        return self.service.seconds_dark(self.start)

    def tell(self, record: Record) -> None:
        """Put it into the columns of the table."""
        record.column(ACTIVATION, self.activation)
        record.column(SERVING, self.serving)
        record.column(GAP, self.gap)

    def _moment(self, *, appeared: bool) -> float | None:
        moment = self.folder.first(API_SERVER, appeared)
        return None if moment is None else moment - self.start


def tell_of_many(record: Record, cycles: Sequence[PowerCycle]) -> None:
    """Record what is told of power cycles in a row beside the columns of the table."""
    dark = [cycle.dark for cycle in cycles]
    for_good = [math.inf if c.for_good is None else c.for_good for c in cycles]
    record.count("cycles", len(cycles))
    record.seconds("kubelet's start to serving for good, median", statistics.median(for_good))
    record.seconds("kubelet's start to serving for good, worst", max(for_good))
    record.seconds("not serving in all, median", statistics.median(dark))
    record.seconds("not serving in all, worst", max(dark))
