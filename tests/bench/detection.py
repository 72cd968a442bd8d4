"""How long from a lost API server to the manifest on disk, while the agent has been at work.

The pod's containers are gone and the agent is told to grant the kubelet no grace, so that what
is measured is the finding out, the decision and the write. The API server's port closes, or it
accepts and says nothing any more (a black hole).
"""

from __future__ import annotations

import argparse
import threading
import time

from checkpointer.simulation.connections import Mode
from tests.bench.case import Case, Sample, fresh_node, running
from tests.bench.contender import Contender
from tests.bench.node import BenchNode, wait_stored
from tests.bench.waiting import wait_until

CLOSED_BAR_SECONDS = 0.5
BLACK_HOLE_BAR_SECONDS = 20.0
DEADLINE_SECONDS = 60.0
CLOSED, BLACK_HOLE = "API's port closed, to manifest", "API a black hole, to manifest"


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Declare this benchmark's own options: none."""


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Return both ways in which an API server goes away; the slow one is measured less often."""
    return [
        Case(CLOSED, measure_closed, arguments.runs),
        Case(BLACK_HOLE, measure_black_hole, 1 if arguments.quick else arguments.runs, 0),
    ]


def measure_closed(contender: Contender) -> list[Sample]:
    """Measure with the port closed and the connections reset."""

    def close(node: BenchNode) -> None:
        threading.Thread(target=node.api.stop).start()  # it waits for its connections to end

    return [Sample(CLOSED, "s", _seconds(contender, close), CLOSED_BAR_SECONDS)]


def measure_black_hole(contender: Contender) -> list[Sample]:
    """Measure with an API server that takes connections and says nothing."""

    def swallow(node: BenchNode) -> None:
        node.api.mode = Mode.BLACK_HOLE

    return [Sample(BLACK_HOLE, "s", _seconds(contender, swallow), BLACK_HOLE_BAR_SECONDS)]


def _seconds(contender: Contender, lose_api: object) -> float:
    assert callable(lose_api)
    with fresh_node() as node:
        node.start_api()
        node.add_pods(1, running=False)
        node.configure(timing={"ready": "0s", "grace": "0s"})
        with running(contender, node) as process:
            wait_stored(node, 1, DEADLINE_SECONDS, process.is_running)
            wait_until(
                lambda: node.api.requests["watch pods"] > 0, DEADLINE_SECONDS, "watch of the pods"
            )
            time.sleep(1.0)  # amid its quiet, not amid its start
            began = time.perf_counter()
            lose_api(node)
            wait_until(
                lambda: node.manifests() >= 1, DEADLINE_SECONDS, "manifest", process.is_running
            )
            return time.perf_counter() - began
