"""What was measured, as a table at the end of the run and as JSON for machines."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path

Value = float | int | None
"""Seconds, a count, or None for what never came."""

SERVING = "kubelet's start to API serving"
DETECTION = "detection of a lost API"
ACTIVATION = "kubelet's start to activation"
GAP = "gap at the hand-over"
FALSE_ACTIVATIONS = "false activations"


@dataclass(slots=True)
class Summary:
    """The measures of all scenarios: scenario -> measure -> value."""

    measures: dict[str, dict[str, Value]] = field(default_factory=dict)
    totals: dict[str, list[Value]] = field(default_factory=dict)
    """What is told of all scenarios together: measure -> its values."""

    def table(self) -> list[str]:
        """Return the lines of a table: one measure each, those of all scenarios together last."""
        rows = [
            (scenario, name, _text(value))
            for scenario, values in self._with_totals().items()
            for name, value in values.items()
        ]
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
        return [
            f"{scenario:<{widths[0]}}  {name:<{widths[1]}}  {value:>{widths[2]}}"
            for scenario, name, value in rows
        ]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self._with_totals(), indent=2) + "\n")

    def _with_totals(self) -> dict[str, dict[str, Value]]:
        totals: dict[str, Value] = {}
        for name, values in sorted(self.totals.items()):
            came = [value for value in values if value is not None]
            if all(isinstance(value, int) for value in values):
                totals[f"{name}, in {len(values)} scenarios"] = sum(came)
                continue
            totals[f"{name}, median of {len(values)}"] = statistics.median(came) if came else None
            totals[f"{name}, worst"] = max(came) if len(came) == len(values) else None
        return {**self.measures, **({"in all": totals} if totals else {})}


class Record:
    """The measures of one scenario."""

    def __init__(self, summary: Summary, scenario: str) -> None:
        self._summary, self._scenario = summary, scenario

    def seconds(self, name: str, value: float | None) -> None:
        """Record a time; None when it never came."""
        self._put(name, None if value is None else round(float(value), 3))

    def count(self, name: str, value: int) -> None:
        self._put(name, value)

    def in_all(self, name: str, value: Value) -> None:
        """Count a value among those that the end of the table tells of all scenarios."""
        self._summary.totals.setdefault(name, []).append(value)

    def _put(self, name: str, value: Value) -> None:
        self._summary.measures.setdefault(self._scenario, {})[name] = value


def _text(value: Value) -> str:
    if value is None:
        return "never"
    return f"{value:.2f} s" if isinstance(value, float) else str(value)
