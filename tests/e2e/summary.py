"""What was measured, as a table at the end of the run and as JSON for machines."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Value = float | int | None
"""Seconds, a count, or None for what never came."""

SERVING = "start to serving"
ACTIVATION = "start to activation"
DETECTION = "loss to detection"
LOSS = "loss to activation"
GAP = "hand-over gap"
ACTIVATIONS = "copies activated"
FALSE_ACTIVATIONS = "false activations"
COLUMNS = {
    SERVING: "from the kubelet's start to an API server that calls itself ready",
    ACTIVATION: "from the kubelet's start to the manifest of the first copy",
    DETECTION: "from the loss of the API to the agent's word of it",
    LOSS: "from the loss of the API to the manifest of the first copy",
    GAP: "without service after the first answer, until parents are alone again",
    ACTIVATIONS: "manifests of copies that appeared",
    FALSE_ACTIVATIONS: "those of them whose workload had a container that ran; there may be none",
}
"""What every scenario is asked for, as far as it happens in it: column -> what it means."""
COUNTED = (ACTIVATIONS, FALSE_ACTIVATIONS)
"""Columns that are added up; of the others the median and the worst count."""
IN_ALL = "in all"
_NARROW, _SEPARATOR = 11, "  "


@dataclass(slots=True)
class Scenario:
    """What one scenario showed; a column has a value for each time that it came to it."""

    columns: dict[str, list[Value]] = field(default_factory=dict)
    measures: dict[str, Value] = field(default_factory=dict)
    """What only this scenario has: name -> value."""


@dataclass(slots=True)
class Summary:
    """What all scenarios showed, by their names."""

    scenarios: dict[str, Scenario] = field(default_factory=dict)

    def table(self) -> list[str]:
        """Return the lines: scenarios, all together, what columns mean, what else was told."""
        rows = [*self.scenarios.items(), (IN_ALL, self._in_all())]
        width = max(len(name) for name, _ in rows)
        heads = [column.rpartition(" ")[::2] for column in COLUMNS]
        return [
            *(_row("", width, [head[i] for head in heads]) for i in (0, 1)),
            *(_row(name, width, _cells(scenario)) for name, scenario in rows),
            "",
            "Seconds; of several the median (worst). - did not happen in it, never: did not come.",
            *(f"{column}: {meaning}" for column, meaning in COLUMNS.items()),
            "",
            *self._details(),
        ]

    def write(self, path: Path) -> None:
        """Write all values, and what they are together, as JSON."""
        scenarios = {
            name: {"columns": scenario.columns, "measures": scenario.measures}
            for name, scenario in self.scenarios.items()
        }
        told: dict[str, Any] = {"scenarios": scenarios, IN_ALL: {}}
        for column, values in self._in_all().columns.items():
            told[IN_ALL][column] = (
                {"scenarios": len(values), "sum": sum(v or 0 for v in values)}
                if column in COUNTED
                else {"times": len(values), "median": _median(values), "worst": _worst(values)}
            )
        path.write_text(json.dumps(told, indent=2) + "\n")

    def _in_all(self) -> Scenario:
        all_of_them = Scenario()
        for scenario in self.scenarios.values():
            for column, values in scenario.columns.items():
                all_of_them.columns.setdefault(column, []).extend(values)
        return all_of_them

    def _details(self) -> Iterator[str]:
        for name, scenario in self.scenarios.items():
            if scenario.measures:
                yield name
            width = max(map(len, scenario.measures), default=0)
            for measure, value in scenario.measures.items():
                yield f"  {measure:<{width}}  {_text(value):>9}"


class Record:
    """Where one scenario puts what it measures."""

    def __init__(self, summary: Summary, scenario: str) -> None:
        self._summary, self._scenario = summary, scenario

    def column(self, column: str, value: Value) -> None:
        """Add a value to one of COLUMNS; None when it never came."""
        self._here().columns.setdefault(column, []).append(_rounded(value))

    def seconds(self, name: str, value: float | None) -> None:
        """Record a time that only this scenario has; None when it never came."""
        self._here().measures[name] = _rounded(None if value is None else float(value))

    def count(self, name: str, value: int) -> None:
        """Record a number that only this scenario has."""
        self._here().measures[name] = value

    def _here(self) -> Scenario:
        return self._summary.scenarios.setdefault(self._scenario, Scenario())


def _cells(scenario: Scenario) -> list[str]:
    return [_cell(column, scenario.columns.get(column, [])) for column in COLUMNS]


def _cell(column: str, values: Sequence[Value]) -> str:
    if not values:
        return "-"
    if column in COUNTED:
        return str(sum(value or 0 for value in values))
    median = _brief(_median(values))
    return median if len(values) == 1 else f"{median} ({_brief(_worst(values))})"


def _row(name: str, width: int, cells: Sequence[str]) -> str:
    return _SEPARATOR.join([f"{name:<{width}}", *(f"{cell:>{_NARROW}}" for cell in cells)]).rstrip()


def _median(values: Sequence[Value]) -> Value:
    """Return the median, in which what never came is later than all else; None if it is that."""
    median = statistics.median(float("inf") if value is None else value for value in values)
    return None if median == float("inf") else _rounded(median)


def _worst(values: Sequence[Value]) -> Value:
    return None if None in values else max(value for value in values if value is not None)


def _rounded(value: Value) -> Value:
    return round(value, 3) if isinstance(value, float) else value


def _brief(value: Value) -> str:
    if value is None:
        return "never"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _text(value: Value) -> str:
    if value is None:
        return "never"
    return f"{value:.2f} s" if isinstance(value, float) else str(value)
