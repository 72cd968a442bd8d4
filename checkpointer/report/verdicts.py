"""The last verdict on each workload of this node: what metrics, status and Events go by.

Kept without the manifest, which may hold secret values; what is left of a verdict holds none.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import astuple

from checkpointer.core.workload import Workload
from checkpointer.manifest.verdict import Outcome, Verdict
from checkpointer.values import replace


class Verdicts:
    """Filled by the loop; any other thread may read."""

    def __init__(self) -> None:
        self._last: dict[Workload, Verdict] = {}
        self._changes: Counter[Outcome] = Counter()

    @property
    def last(self) -> Mapping[Workload, Verdict]:
        """Return the last verdict on each workload, without manifests and changes."""
        return self._last.copy()

    @property
    def by_outcome(self) -> Mapping[Outcome, int]:
        """Return how many workloads there are of each outcome: a gauge."""
        counts = Counter(verdict.outcome for verdict in self.last.values())
        return {outcome: counts[outcome] for outcome in Outcome}

    @property
    def changes(self) -> Mapping[Outcome, int]:
        """Return how often a verdict changed to each outcome since the start: a counter."""
        return {outcome: self._changes[outcome] for outcome in Outcome}

    def record(self, verdict: Verdict) -> None:
        """Take over the verdict on a workload."""
        before = self._last.get(verdict.workload)
        if before is None or gist(before) != gist(verdict):
            self._changes[verdict.outcome] += 1
        self._last[verdict.workload] = replace(verdict, manifest=None, changes=(), volumes=())

    def retain(self, workloads: Collection[Workload]) -> None:
        """Forget the workloads that are not among these."""
        for workload in [known for known in self._last if known not in workloads]:
            del self._last[workload]


def gist(verdict: Verdict) -> str:
    """Return what differs when an operator would be told something else."""
    findings = [astuple(finding) for finding in (*verdict.refusals, *verdict.warnings)]
    said = json.dumps([verdict.outcome.name, findings])
    return hashlib.sha256(said.encode()).hexdigest()[:16]
