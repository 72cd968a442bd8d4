"""What checkpoints cost, by their number: taking them, a cycle of the loop, memory.

One agent at a time takes snapshots of N Ready pods; then its loop is woken again and again
(`POST /v1/reconcile`) with nothing to do, while the API is there and the pods run. How long a
cycle took is what the agent's own metrics say.
"""

from __future__ import annotations

import argparse
import re
import socket
import time
import urllib.request

from tests.bench.case import Case, Sample, fresh_node, running
from tests.bench.contender import Contender, Process
from tests.bench.node import BenchNode, wait_stored
from tests.bench.waiting import NotDoneError, wait_until

CYCLES = 20
PAUSE_SECONDS = 0.25
"""From one to the next: longer than the agent's own pause, and than a cycle."""
DEADLINE_SECONDS = 240.0
BARS = {1000: 20.0}
MANY = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's own options."""
    parser.add_argument("--pods", type=int, nargs="+", default=[1, 10, 100, 1000], help="growth")


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Return a case for each number of pods."""
    return [
        Case(
            f"{count} checkpoints",
            lambda contender, count=count: measure(contender, count),
            1 if arguments.quick and count >= MANY else arguments.runs,
            0,
        )
        for count in arguments.pods
    ]


def measure(contender: Contender, count: int) -> list[Sample]:
    """Measure one agent with so many pods."""
    with fresh_node() as node:
        node.start_api()
        node.add_pods(count, running=True)
        node.configure(timing={"ready": "0s", "good": "0s"})
        with running(contender, node) as process:
            wait_until(
                lambda: node.stored() >= 1, DEADLINE_SECONDS, "first snapshot", process.is_running
            )
            began, cpu = time.perf_counter(), process.cpu_seconds()
            wait_stored(node, count, DEADLINE_SECONDS, process.is_running)
            seconds, cpu = time.perf_counter() - began, process.cpu_seconds() - cpu
            settle(process)
            wall, busy = _cycles(node, process)
            resident = process.resident_mib()
    samples = []
    if count > 1:
        rate = (count - 1) / max(seconds, 0.001)
        samples.append(Sample(f"snapshots, {count} pods", "1/s", rate))
        samples.append(
            Sample(f"snapshots, {count} pods: CPU of each", "ms", cpu / (count - 1) * 1000)
        )
    return [
        *samples,
        Sample(f"cycle, {count} checkpoints", "ms", wall * 1000, BARS.get(count)),
        Sample(f"cycle, {count} checkpoints: CPU", "ms", busy * 1000),
        Sample(f"memory, {count} checkpoints", "MiB", resident),
    ]


def settle(process: Process, quiet_seconds: float = 2.0) -> None:
    """Wait until the agent does nothing: next to no processor time for so long."""
    for _ in range(60):
        before = process.cpu_seconds()
        time.sleep(quiet_seconds)
        if process.cpu_seconds() - before < 0.02:
            return
    raise NotDoneError("it found no rest")


def _cycles(node: BenchNode, process: Process) -> tuple[float, float]:
    """Return the mean seconds of a cycle by the agent's metrics, and of processor time.

    The latter with all that goes with a cycle that was asked for: the request, and a probe.
    """
    before, cpu = _histogram(node), process.cpu_seconds()
    for _ in range(CYCLES):
        _reconcile(node)
        time.sleep(PAUSE_SECONDS)
    busy = process.cpu_seconds() - cpu
    settle(process)
    after = _histogram(node)
    done = after[1] - before[1]
    if not done:
        raise NotDoneError("its loop did not turn")
    return (after[0] - before[0]) / done, busy / CYCLES


def _reconcile(node: BenchNode) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(node.store_folder / "agent.sock"))
        connection.sendall(b"POST /v1/reconcile HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
        connection.recv(4096)


def _histogram(node: BenchNode) -> tuple[float, float]:
    """Return the sum and the count of the cycles' seconds."""
    url = f"http://127.0.0.1:{node.http_port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
    except OSError as error:
        raise NotDoneError(f"its metrics cannot be had: {error}") from error
    found = [
        re.search(rf"^pod_checkpointer_cycle_seconds_{k} (\S+)", text, re.M)
        for k in ("sum", "count")
    ]
    if None in found:
        raise NotDoneError("its metrics have no pod_checkpointer_cycle_seconds")
    return float(found[0][1]), float(found[1][1])
