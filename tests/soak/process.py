"""What the kernel knows of a running process: its memory, its threads, its open descriptors."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from checkpointer.simulation.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Footprint:
    """One moment of a process; memory in KiB."""

    rss: int
    anonymous: int
    threads: int
    descriptors: int


def footprint(pid: int) -> Footprint:
    """Return what a process takes now."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+)", text, re.M)}
    descriptors = sum(descriptors_of(pid).values())
    return Footprint(found["VmRSS"], found["RssAnon"], found["Threads"], descriptors)


def descriptors_of(pid: int) -> Counter[str]:
    """Return how many descriptors are open, by what they lead to; numbers of sockets left out."""
    found: Counter[str] = Counter()
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            continue  # closed in between
        found[re.sub(r":\[\d+\]", "", target)] += 1
    return found


@dataclass(frozen=True, slots=True)
class Counts:
    """What `tests.soak.agent` tells: objects by type, and the bytes that Python has allocated."""

    objects: Counter[str]
    bytes: int
    places: tuple[str, ...]


def ask_counts(pid: int, path: Path) -> Counts:
    """Have the process count, and return it."""
    path.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    wait_until(path.exists, 30, "the agent's counts")
    found = json.loads(path.read_text())
    return Counts(Counter(found["objects"]), found["bytes"], tuple(found["places"]))
