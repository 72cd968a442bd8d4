"""What the simulated runtime knows: sandboxes and containers, as asked for and as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from checkpointer.core.runtime import ContainerState
from checkpointer.values import dataclass

KILLED = 137
LOST_POWER = 255


class Event(Enum):
    """What can happen to a container, as CRI tells it."""

    CREATED = "created"
    STARTED = "started"
    STOPPED = "stopped"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What the kubelet asks for when it makes a pod's sandbox."""

    name: str
    namespace: str
    uid: str
    attempt: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    ip: str = ""
    on_host_network: bool = False


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What the kubelet asks for when it makes a container."""

    name: str
    image: str
    attempt: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, str] = field(default_factory=dict)
    """Host paths by the path inside the container."""
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    log_path: str = ""

    @property
    def shares_ports(self) -> bool:
        """Tell whether it listens with SO_REUSEPORT."""
        return any(word.startswith("--permit-port-sharing") for word in self.command)


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """A pod sandbox; times are nanoseconds of the Unix epoch."""

    id: str
    config: SandboxConfig
    created_at: int
    is_ready: bool = True


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container; times are nanoseconds of the Unix epoch, 0 for not yet."""

    id: str
    sandbox: SandboxRecord
    config: ContainerConfig
    created_at: int
    state: ContainerState = ContainerState.CREATED
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    is_stopping: bool = False

    @property
    def is_running(self) -> bool:
        """Tell whether it runs."""
        return self.state is ContainerState.RUNNING

    @property
    def reason(self) -> str:
        """Return the reason for its end, as containerd words it."""
        if self.state is not ContainerState.EXITED:
            return ""
        if self.exit_code == LOST_POWER:
            return "Unknown"
        return "Error" if self.exit_code else "Completed"
