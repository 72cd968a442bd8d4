"""Run schedules: `python -m tests.simulation.schedules --seed 1 --schedules 100000`."""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.simulation.schedules.world import (
    Schedule,
    World,
    describe,
    masters_cut,
    schedule_of,
    shrink,
    with_plugin,
)

DRAWS: dict[str, Callable[[int], Schedule]] = {
    "all": schedule_of,
    "masters": masters_cut,
    "plugin": with_plugin,
}
"""What a seed may stand for."""

GARBAGE_THRESHOLD = 50_000
"""Few of the many objects that a step makes are in cycles: looking for those seldom is enough."""


@contextmanager
def fast_folder() -> Iterator[Path]:
    """Give a folder in memory, where the disk costs least."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="pod-checkpointer-schedules-", dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def run_seeds(
    seeds: range, draw: str = "all"
) -> tuple[int, float, float, list[tuple[int, str]], Counter[str]]:
    """Run these seeds; return steps, processor and virtual seconds, failures, events by name."""
    logging.disable(logging.CRITICAL)
    gc.freeze()  # what is imported by now is never garbage
    gc.set_threshold(GARBAGE_THRESHOLD)
    began, steps, virtual = time.process_time(), 0, 0.0
    failures: list[tuple[int, str]] = []
    events: Counter[str] = Counter()
    with fast_folder() as folder:
        for seed in seeds:
            schedule = DRAWS[draw](seed)
            outcome = World(schedule, folder).run()
            steps += outcome.steps
            virtual += outcome.virtual_seconds
            events.update(event.name for event in schedule.events)
            if outcome.broken is not None:
                failures.append((seed, str(outcome.broken)))
    return steps, time.process_time() - began, virtual, failures, events


def explain(seed: int, draw: str = "all") -> list[str]:
    """Return a failing seed's smallest schedule, and how to run it again."""
    with fast_folder() as folder:
        schedule = DRAWS[draw](seed)
        broken = World(schedule, folder).run().broken
        if broken is None:
            return [f"seed {seed}: every promise holds"]
        small = shrink(schedule, broken, folder)
        return [
            f"seed {seed}: {broken}",
            f"  cluster {small.layout.name}, of {len(schedule.events)} events these suffice:",
            *(f"  {line}" for line in describe(small.events, small.layout)),
            f"  again: make simulate SEED={seed} SCHEDULES=1"
            + (f" SIMULATE_ARGS='--draw {draw}'" if draw != "all" else ""),
        ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.schedules")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draw", choices=sorted(DRAWS), default="all", help="of what schedules")
    parser.add_argument("--schedules", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--explain", type=int, default=3, help="how many failures to shrink")
    options = parser.parse_args(arguments)
    size = max(1, min(200, options.schedules // options.jobs))
    last = options.seed + options.schedules
    chunks = [range(at, min(at + size, last)) for at in range(options.seed, last, size)]
    began = time.monotonic()
    steps, processor, virtual = 0, 0.0, 0.0
    failures: list[tuple[int, str]] = []
    events: Counter[str] = Counter()
    with multiprocessing.Pool(options.jobs) as pool:
        for result in pool.imap_unordered(partial(run_seeds, draw=options.draw), chunks):
            steps, processor, virtual = (
                steps + result[0],
                processor + result[1],
                virtual + result[2],
            )
            failures += result[3]
            events += result[4]
    seconds = time.monotonic() - began
    print(
        f"{options.schedules} schedules, {steps} steps, {virtual / 86400:.1f} days of nodes' time "
        f"in {seconds:.0f} s: {steps / max(processor, 1e-9):.0f} steps per second of a core"
    )
    print("events: " + ", ".join(f"{name} {n}" for name, n in sorted(events.items())))
    if not failures:
        print("every promise held")
        return 0
    logging.disable(logging.CRITICAL)
    for promise, count in Counter(text.partition(":")[0] for _, text in failures).items():
        print(f"broken in {count} schedules: {promise}")
    for seed, _ in sorted(failures)[: options.explain]:
        print("\n".join(explain(seed, options.draw)))
    return 1


if __name__ == "__main__":
    sys.exit(main())
