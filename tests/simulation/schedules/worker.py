"""What a kubelet in virtual time remembers of the pods that it runs, and of their containers."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.schedules.cluster import ApiPod
from tests.simulation.schedules.workloads import Kind


@dataclass(eq=False)
class Program:
    """One container of a pod that the kubelet runs."""

    name: str
    failures: int = 0
    in_backoff: bool = False
    since: float = 0.0
    """When it was started; 0 while it does not run."""
    events: int = 0
    """Makes what was planned for it void."""


@dataclass(eq=False)
class Worker:
    """One pod that the kubelet runs."""

    uid: str
    name: str
    kind: Kind
    version: int
    pod: ApiPod | None
    """None for a static pod."""
    labels: dict[str, str]
    is_terminating: bool = False
    is_waiting: bool = False
    """For the API, from which its secrets come."""
    has_secrets: bool = False
    """Whether this kubelet has them."""
    events: int = 0
    """Makes what was planned for the pod void."""
    programs: tuple[Program, ...] = ()

    def __post_init__(self) -> None:
        self.programs = tuple(Program(name) for name in self.kind.containers)

    @property
    def source(self) -> str:
        return "api" if self.pod else "file"
