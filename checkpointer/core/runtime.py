"""What the container runtime shows: pod sandboxes and containers, as the decision sees them.

Only what the CRI's list calls tell: they are the cheap ones, and enough to decide on. The
labels are those of section 5.7 of the kubelet's contract (`io.kubernetes.pod.*`), taken apart
by the adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from checkpointer.values import dataclass


class ContainerState(Enum):
    """State of a container as in CRI v1."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One pod sandbox. `created_at` is in nanoseconds of the Unix epoch, by the node's clock."""

    id: str
    namespace: str
    name: str
    uid: str
    attempt: int
    ready: bool
    created_at: int
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Container:
    """One container; `attempt` is the kubelet's restart count of it."""

    id: str
    sandbox_id: str
    name: str
    namespace: str
    pod_name: str
    pod_uid: str
    attempt: int
    state: ContainerState
    created_at: int
    image: str = ""


@dataclass(frozen=True, slots=True)
class Runtime:
    """All that the runtime lists at one moment, dead ones included."""

    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = ()
