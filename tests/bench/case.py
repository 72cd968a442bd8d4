"""What the benchmarks are made of: cases that are run several times, and samples in rows."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.contender import Contender, Process
from tests.bench.node import BenchNode
from tests.bench.waiting import NotDoneError


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of one run; `bar` is what is promised: the median is to be at most that."""

    what: str
    unit: str
    value: float
    bar: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """Something to be measured of each contender, `runs` times after so many warm-up runs."""

    name: str
    measure: Callable[[Contender], Sequence[Sample]]
    runs: int
    warm_ups: int = 1
    only_this: bool = False
    """Whether it measures this checkout's own code, and no other contender's process."""


Row = dict[str, Any]


def measured(case: Case, contenders: Sequence[Contender]) -> list[Row]:
    """Run a case, turn by turn; return a row for each of its numbers and contenders.

    A contender that could not do it once is not asked again, and its row says why.
    """
    chosen = contenders[:1] if case.only_this else contenders
    samples: dict[tuple[str, str], list[Sample]] = {}
    failures: dict[str, str] = {}
    for turn in range(case.warm_ups + case.runs):
        for contender in chosen:
            if contender.name in failures:
                continue
            try:
                found = case.measure(contender)
            except NotDoneError as error:
                failures[contender.name] = str(error)
                continue
            if turn >= case.warm_ups:
                for sample in found:
                    samples.setdefault((sample.what, contender.name), []).append(sample)
    rows = [_row(name, found) for (_, name), found in samples.items()]
    rows.sort(key=lambda row: list(dict.fromkeys(w for w, _ in samples)).index(row["what"]))
    return rows + [
        {"what": case.name, "contender": name, "runs": 0, "failure": text}
        for name, text in failures.items()
    ]


def _row(contender: str, samples: list[Sample]) -> Row:
    values = [sample.value for sample in samples]
    return {
        "what": samples[0].what,
        "unit": samples[0].unit,
        "contender": contender,
        "runs": len(values),
        "median": round(statistics.median(values), 6),
        "min": round(min(values), 6),
        "max": round(max(values), 6),
        "bar": samples[0].bar,
    }


def table(rows: list[Row]) -> Iterator[str]:
    """Yield the lines of a table for people."""
    yield (
        f"{'':<46} {'unit':>6} {'agent':>7} {'runs':>4}"
        f" {'median':>9} {'min':>9} {'max':>9} {'bar':>6}"
    )
    for row in rows:
        if "failure" in row:
            yield f"{row['what']:<46} {'':>6} {row['contender']:>7}    -  {row['failure']}"
            continue
        numbers = " ".join(f"{row[key]:>9.3f}" for key in ("median", "min", "max"))
        bar = "" if row["bar"] is None else f"{row['bar']:g}"
        over = "  over" if row["bar"] is not None and row["median"] > row["bar"] else ""
        yield (
            f"{row['what']:<46} {row['unit']:>6} {row['contender']:>7} {row['runs']:>4}"
            f" {numbers} {bar:>6}{over}"
        )


@contextmanager
def fresh_node() -> Iterator[BenchNode]:
    """Make a node that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, BenchNode(Path(folder)) as node:
        yield node


@contextmanager
def running(contender: Contender, node: BenchNode) -> Iterator[Process]:
    """Run a contender; with what it said last, when it did not do its part."""
    process = None
    try:
        with contender.running(node) as process:
            yield process
    except NotDoneError as error:
        said = process.last_words if process is not None else ""
        raise NotDoneError(f"{error}; it said: {said}" if said else str(error)) from None


def progress(text: str) -> None:
    """Tell whoever waits what is under way."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
