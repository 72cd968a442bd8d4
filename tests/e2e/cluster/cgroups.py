"""A control group for a machine's pods, in every hierarchy, and its removal."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

from tests.e2e.cluster.waiting import wait_for

ROOT = Path("/sys/fs/cgroup")
PREFIX = "checkpointer-e2e-"
_NUMBERS = itertools.count(1)


def make(name: str = "") -> str:
    """Make the group of this name, or a new one named after this process; return its name.

    Two machines in one group would take each other's pods for orphans. Groups of runs that were
    killed before they could tidy up are removed on the way.
    """
    for hierarchy in _hierarchies():
        for group in hierarchy.glob(PREFIX + "*"):
            if not _is_alive(group.name):
                _remove_tree(group)
    name = name or f"{PREFIX}{os.getpid()}-{next(_NUMBERS)}"
    for hierarchy in _hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)
    return name


def remove(name: str) -> None:
    """Remove the group with all below it; what ran in it has to be dead or dying."""

    def is_gone() -> bool:
        for hierarchy in _hierarchies():
            _remove_tree(hierarchy / name)
        return not any((h / name).exists() for h in _hierarchies())

    wait_for(f"control groups {name} to be empty", is_gone, 15)


def _hierarchies() -> list[Path]:
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return [p for p in ROOT.iterdir() if p.is_dir() and not p.is_symlink()]


def _remove_tree(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            continue  # a process in it is still dying: the caller looks again


def _is_alive(name: str) -> bool:
    owner = re.fullmatch(re.escape(PREFIX) + r"(\d+)-\d+", name)
    return owner is not None and Path(f"/proc/{owner[1]}").exists()
