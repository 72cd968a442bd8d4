"""What the agent costs while nothing happens: that is nearly always.

Ten pods with their checkpoints, the API there, all settings at their defaults but two that only
shorten the way to rest. The parked twin is a second instance that waits for the first one's lock.
"""

from __future__ import annotations

import argparse
import time

from checkpointer.store.lock import InstanceLock
from tests.bench.case import Case, Sample, fresh_node, running
from tests.bench.contender import Contender
from tests.bench.growth import settle
from tests.bench.node import wait_stored

CHECKPOINTS = 10
SETTLE_SECONDS = 35.0
"""For what comes late: the first tick of 30 s still keeps which revisions are known good."""

REST = "at rest"
BARS = {"CPU": 0.05, "resident": 64.0, "API requests": 6.0, "written to disk": 0.0}
PARKED_BAR_MIB = 16.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's own options."""
    parser.add_argument(
        "--rest-seconds", type=float, default=None, help="default: 600, 60 with --quick"
    )
    parser.add_argument("--rest-runs", type=int, default=1, help="how often (default: 1)")


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Return the agent at rest and its parked twin."""
    seconds = arguments.rest_seconds or (60.0 if arguments.quick else 600.0)
    return [
        Case(REST, lambda c: measure(c, seconds), arguments.rest_runs, 0),
        Case("parked twin", measure_parked, arguments.runs, 0),
    ]


def measure(contender: Contender, seconds: float) -> list[Sample]:
    """Measure an agent that has nothing to do for so many seconds."""
    with fresh_node() as node:
        node.start_api()
        node.add_pods(CHECKPOINTS, running=True)
        node.configure(timing={"ready": "1s", "good": "2s"})
        with running(contender, node) as process:
            wait_stored(node, CHECKPOINTS, 60.0, process.is_running)
            time.sleep(SETTLE_SECONDS)
            settle(process)
            cpu, switches = process.cpu_seconds(), process.switches()
            requests, written = node.api.requests, process.written_bytes()
            time.sleep(seconds)
            cpu, switches = process.cpu_seconds() - cpu, process.switches() - switches
            requests, written = node.api.requests - requests, process.written_bytes() - written
            resident, private = process.resident_mib(), process.private_mib()
    minutes = seconds / 60.0
    return [
        _sample("CPU", "% core", cpu / seconds * 100.0),
        _sample("resident", "MiB", resident),
        _sample("resident, not shared with others", "MiB", private),
        _sample("context switches", "1/min", switches / minutes),
        _sample("API requests", "1/min", requests.total() / minutes),
        *(_sample(f"API: {k}", "1/min", n / minutes) for k, n in sorted(requests.items())),
        _sample("written to disk", "kB", written / 1000.0),
    ]


def measure_parked(contender: Contender) -> list[Sample]:
    """Measure an instance that waits for the lock."""
    with fresh_node() as node:
        node.configure(http={})  # as on a real node: an address that is given has to be parsed
        lock = InstanceLock(node.lock_file)
        lock.try_acquire()
        try:
            with running(contender, node) as process:
                time.sleep(1.0)
                settle(process, 0.5)
                samples = [
                    Sample("parked twin, resident", "MiB", process.resident_mib(), PARKED_BAR_MIB),
                    Sample("parked twin, not shared", "MiB", process.private_mib()),
                ]
        finally:
            lock.release()
    return samples


def _sample(what: str, unit: str, value: float) -> Sample:
    return Sample(f"{REST}, {what}", unit, value, BARS.get(what))
