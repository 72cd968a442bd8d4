"""What the end-to-end run tells at its end: a wrong figure there would be believed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.summary import (
    ACTIVATION,
    ACTIVATIONS,
    COLUMNS,
    DETECTION,
    FALSE_ACTIVATIONS,
    SERVING,
    Record,
    Summary,
    Value,
)


def summary_of(scenarios: dict[str, dict[str, list[Value]]]) -> Summary:
    summary = Summary()
    for name, columns in scenarios.items():
        for column, values in columns.items():
            for value in values:
                Record(summary, name).column(column, value)
    return summary


def cells(summary: Summary, row: str) -> dict[str, str]:
    """Return the cells of one row, by column."""
    (line,) = [line for line in summary.table() if line.startswith(f"{row} ")]
    found = line.removeprefix(row).strip().replace(" (", "(").split()
    return dict(zip(COLUMNS, found, strict=True))


@pytest.mark.parametrize(
    ("values", "cell"),
    [
        ([1.234], "1.23"),
        ([12.34], "12.3"),
        ([0.0], "0.00"),
        ([None], "never"),
        ([3.0, 1.0, 2.0], "2.00(3.00)"),
        ([1.0, 2.0, None], "2.00(never)"),
        ([1.0, None, None], "never(never)"),
    ],
)
def test_a_column_of_times_has_the_median_and_the_worst(values: list[Value], cell: str) -> None:
    """What never came is worse than any time, and no median is made without it."""
    summary = summary_of({"one": {SERVING: values}})
    assert cells(summary, "one")[SERVING] == cell
    assert cells(summary, "in all")[SERVING] == cell


def test_what_all_scenarios_showed_is_together_at_the_end() -> None:
    """Times of all runs count alike, counts are added up, what did not happen is a dash."""
    summary = summary_of(
        {
            "one": {SERVING: [1.0, 2.0], ACTIVATIONS: [3], FALSE_ACTIVATIONS: [1]},
            "another": {SERVING: [9.0], ACTIVATIONS: [0], FALSE_ACTIVATIONS: [0]},
        }
    )
    told = cells(summary, "in all")
    assert (told[SERVING], told[ACTIVATION]) == ("2.00(9.00)", "-")
    assert (told[ACTIVATIONS], told[FALSE_ACTIVATIONS]) == ("3", "1")
    assert cells(summary, "another")[FALSE_ACTIVATIONS] == "0"


def test_each_column_stands_below_its_head() -> None:
    """The ends of heads and cells are in line, whatever the scenarios are called."""
    columns: dict[str, list[Value]] = {column: [1] for column in COLUMNS}
    name = "a scenario[with a long name]"
    above, heads, row, *_ = summary_of({name: columns}).table()
    assert ends(heads) == ends(row.replace(name, " " * len(name)))
    assert set(ends(heads)) <= set(ends(above))


def ends(line: str) -> list[int]:
    return [word.end() for word in re.finditer(r"\S+", line)]


def test_every_value_is_in_the_file(tmp_path: Path) -> None:
    """For machines: the values of each scenario, and what they are together."""
    summary = summary_of({"one": {DETECTION: [0.5, None], FALSE_ACTIVATIONS: [0]}})
    record = Record(summary, "one")
    record.seconds("upgrade", 1.23456)
    record.seconds("uninstall", None)
    record.count("workloads", 18)
    summary.write(tmp_path / "summary.json")
    assert json.loads((tmp_path / "summary.json").read_text()) == {
        "scenarios": {
            "one": {
                "columns": {DETECTION: [0.5, None], FALSE_ACTIVATIONS: [0]},
                "measures": {"upgrade": 1.235, "uninstall": None, "workloads": 18},
            }
        },
        "in all": {
            DETECTION: {"times": 2, "median": None, "worst": None},
            FALSE_ACTIVATIONS: {"scenarios": 1, "sum": 0},
        },
    }
    assert "  uninstall      never" in summary.table()
