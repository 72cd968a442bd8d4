"""How long it takes to judge pods: sanitizing and the acceptance gate, as for every snapshot.

The pods are the golden ones: real-world shapes as the API returns them, with what the API says
about their config maps and secrets. Reading JSON and asking the API are not in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from checkpointer.manifest.sanitize import sanitize
from tests.bench.case import Case, Sample
from tests.bench.contender import Contender
from tests.unit.manifest import golden_pods

TYPICAL = "coredns"
PODS_OF_A_FULL_NODE = 250

TYPICAL_BAR_SECONDS = 0.002
FULL_NODE_BAR_SECONDS = 0.5


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Declare this benchmark's own options: none."""


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Return one typical pod, the slowest of all, and all pods of a full node."""
    pods = {name: golden_pods.load(name) for name in golden_pods.NAMES}

    def judge(name: str) -> None:
        pod, sources, options = pods[name]
        sanitize(pod, golden_pods.ROOT, sources, options)

    def judge_full_node() -> None:
        for index in range(PODS_OF_A_FULL_NODE):
            judge(golden_pods.NAMES[index % len(golden_pods.NAMES)])

    once = {name: min(_seconds(lambda name=name: judge(name)) for _ in range(5)) for name in pods}
    slowest = max(once, key=lambda name: once[name])
    runs = arguments.runs * 20
    return [
        _case(f"a typical pod ({TYPICAL})", lambda: judge(TYPICAL), runs, TYPICAL_BAR_SECONDS),
        _case(f"the slowest pod ({slowest})", lambda: judge(slowest), runs, None),
        _case(
            f"{PODS_OF_A_FULL_NODE} pods", judge_full_node, arguments.runs, FULL_NODE_BAR_SECONDS
        ),
    ]


def _case(what: str, work: Callable[[], None], runs: int, bar: float | None) -> Case:
    name = f"judging {what}"
    bar = None if bar is None else bar * 1000

    def measure(_: Contender) -> list[Sample]:
        return [Sample(name, "ms", _seconds(work) * 1000, bar)]

    return Case(name, measure, runs, only_this=True)


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
