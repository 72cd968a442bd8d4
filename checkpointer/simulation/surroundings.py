"""What all pods of one simulated kubelet have in common, and how long things take there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from checkpointer.simulation.backoff import Backoff
from checkpointer.simulation.downward import Lookup
from checkpointer.simulation.runtime import Runtime
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take, in seconds; measured on a real 1.36 node where they matter."""

    list_seconds: float = 0.1
    """From the API server's first answer until the kubelet has its pods."""
    sandbox_seconds: float = 0.3
    """From a pod's volumes to its sandbox."""
    container_seconds: float = 0.2
    """From a pod's sandbox to its first container."""
    notice_seconds: float = 0.5
    """From a container's end until it is noticed: the kubelet lists them every second."""
    backoff_seconds: float = 10.0
    backoff_limit_seconds: float = 300.0
    recheck_seconds: float = 10.0
    """How often a static pod that waits for its name looks whether it is free."""
    mirror_seconds: float = 1.0
    """From the API server's first answer until missing mirror pods are made."""
    relist_seconds: float = 20.0
    tick_seconds: float = 0.05


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all pods of one kubelet have in common."""

    runtime: Runtime
    backoff: Backoff
    lookup: Lookup
    folder: Path
    """<kubelet folder>/pods"""
    pace: Pace
    address: str
    can_pull: Callable[[], bool] = lambda: True
