"""How long it takes to judge pods: sanitizing and the acceptance gate, as for every snapshot.

The pods are the golden ones: real-world shapes as the API returns them, with what the API says
about their config maps and secrets. Reading JSON and asking the API are not in it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from checkpointer.manifest.sanitize import sanitize
from tests.unit.manifest import golden_pods

TYPICAL = "coredns"
PODS_OF_A_FULL_NODE = 250

TYPICAL_BAR_SECONDS = 0.002
FULL_NODE_BAR_SECONDS = 0.5


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Declare this benchmark's own options: none."""


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one typical pod, the slowest of all, and all pods of a full node."""
    cases = {name: golden_pods.load(name) for name in golden_pods.NAMES}

    def judge(name: str) -> None:
        pod, sources, options = cases[name]
        sanitize(pod, golden_pods.ROOT, sources, options)

    def judge_full_node() -> None:
        for index in range(PODS_OF_A_FULL_NODE):
            judge(golden_pods.NAMES[index % len(golden_pods.NAMES)])

    single = {name: _seconds(lambda name=name: judge(name), arguments.runs * 20) for name in cases}
    slowest = max(single, key=lambda name: statistics.median(single[name]))
    return [
        _row(f"a typical pod ({TYPICAL})", single[TYPICAL], TYPICAL_BAR_SECONDS),
        _row(f"the slowest pod ({slowest})", single[slowest], None),
        _row(
            f"{PODS_OF_A_FULL_NODE} pods",
            _seconds(judge_full_node, arguments.runs),
            FULL_NODE_BAR_SECONDS,
        ),
    ]


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table for people."""
    yield "sanitizing and gating, in milliseconds (one warm-up run not counted)"
    yield f"{'':<36} {'runs':>5} {'median':>8} {'min':>8} {'max':>8} {'bar':>6}"
    for row in found:
        times = (f"{row[f'{kind}_seconds'] * 1000:>8.2f}" for kind in ("median", "min", "max"))
        bar = "" if row["bar_seconds"] is None else f"{row['bar_seconds'] * 1000:.0f}"
        yield f"{row['what']:<36} {row['runs']:>5} {' '.join(times)} {bar:>6}"


def _seconds(work: Callable[[], None], runs: int) -> list[float]:
    found = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found[1:]


def _row(what: str, seconds: list[float], bar: float | None) -> dict[str, Any]:
    return {
        "what": what,
        "runs": len(seconds),
        "median_seconds": round(statistics.median(seconds), 6),
        "min_seconds": round(min(seconds), 6),
        "max_seconds": round(max(seconds), 6),
        "bar_seconds": bar,
    }
