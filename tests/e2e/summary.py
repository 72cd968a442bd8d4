"""What was measured, as a table at the end of the run and as JSON for machines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Summary:
    """The measures of all scenarios: scenario -> measure -> value (seconds, or a count)."""

    measures: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def table(self) -> list[str]:
        """Return the lines of a table: one measure each."""
        rows = [
            (scenario, name, _text(value))
            for scenario, values in self.measures.items()
            for name, value in values.items()
        ]
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
        return [
            f"{scenario:<{widths[0]}}  {name:<{widths[1]}}  {value:>{widths[2]}}"
            for scenario, name, value in rows
        ]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.measures, indent=2) + "\n")


class Record:
    """The measures of one scenario."""

    def __init__(self, summary: Summary, scenario: str) -> None:
        self._measures = summary.measures.setdefault(scenario, {})

    def seconds(self, name: str, value: float | None) -> None:
        """Record a time; None when it never came."""
        self._measures[name] = None if value is None else round(float(value), 3)

    def count(self, name: str, value: int) -> None:
        self._measures[name] = value


def _text(value: float | None) -> str:
    if value is None:
        return "never"
    return f"{value:.2f} s" if isinstance(value, float) else str(value)
