"""The container runtime in virtual time: sandboxes, containers, who holds which port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.runtime import Container, ContainerState, Runtime, Sandbox
from checkpointer.errors import CheckpointerError
from tests.simulation.schedules.workloads import Kind


class NoAnswerError(CheckpointerError):
    """The runtime did not answer."""


@dataclass
class Running:
    """A container's process."""

    kind: Kind
    is_copy: bool
    version: int
    since: float
    is_doomed: bool
    """Whether it is about to die: its port is taken, or it is broken."""
    container: str

    @property
    def is_main(self) -> bool:
        """Tell whether it is the one that holds its kind's ports."""
        return self.container == self.kind.main


class Watch:
    """What `ContainerRuntime.watch` returns."""

    def __init__(self, closed: Callable[[], None]) -> None:
        self.close = closed


class NodeRuntime:
    """One node's containerd; what it lists is the truth, when it answers."""

    def __init__(self, changed: Callable[[], None], tells_events: bool) -> None:
        self.is_up = True
        self.hangs = False
        self.processes: dict[str, Running] = {}
        self._sandboxes: dict[str, Sandbox] = {}
        self._containers: dict[str, Container] = {}
        self._changed, self._tells_events = changed, tells_events
        self._wakes: list[Callable[[], None]] = []
        self._listed: Runtime | None = None
        self._made = 0
        self._attempts: dict[tuple[str, str], int] = {}
        """The newest start of each pod's containers, by its UID and their name: its log's name
        tells it."""
        self.version = 0
        """Another one after each change of what runs."""

    @property
    def answers(self) -> bool:
        return self.is_up and not self.hangs

    def observe(self) -> Fact[Runtime]:
        """Return what `ListPodSandbox` and `ListContainers` say."""
        if not self.answers:
            return Unknown("the runtime does not answer")
        if self._listed is None:
            self._listed = Runtime(
                tuple(self._sandboxes.values()), tuple(self._containers.values())
            )
        return Known(self._listed)

    def watch(self, wake: Callable[[], None]) -> Watch:
        """Call `wake` on every change, if this runtime tells events."""
        if not self._tells_events:
            return Watch(lambda: None)
        self._wakes.append(wake)
        return Watch(lambda: self._wakes.remove(wake))

    def close(self) -> None:
        """Nothing is open."""

    def stop_container(self, container_id: str, grace_seconds: int) -> None:
        """Kill it, as the agent and the kubelet do."""
        self._check()
        self.exit(container_id)

    def remove_container(self, container_id: str) -> None:
        """Forget a dead container."""
        self._check()
        if container_id not in self.processes:
            self._containers.pop(container_id, None)
            self.tell()

    def stop_sandbox(self, sandbox_id: str) -> None:
        self._check()
        for container in list(self._containers.values()):
            if container.sandbox_id == sandbox_id:
                self.exit(container.id)
        if (sandbox := self._sandboxes.get(sandbox_id)) is not None and sandbox.ready:
            self._sandboxes[sandbox_id] = replace(sandbox, ready=False)
            self.tell()

    def make_sandbox(self, sandbox: Sandbox) -> Sandbox:
        self._made += 1
        made = replace(sandbox, id=f"s{self._made}")
        self._sandboxes[made.id] = made
        self.tell()
        return made

    def start(self, sandbox: Sandbox, process: Running, created_at: int) -> Container:
        """Start one of the pod's containers; the dead one of its name before the last is
        forgotten."""
        name = process.container
        known = self.containers_of(sandbox.uid, name)
        dead = [c for c in known if c.state is ContainerState.EXITED]
        for old in dead[:-1]:
            del self._containers[old.id]
        self._made += 1
        attempt = self._attempts.get((sandbox.uid, name), -1) + 1
        self._attempts[sandbox.uid, name] = attempt
        made = Container(
            f"c{self._made}",
            sandbox.id,
            name,
            sandbox.namespace,
            sandbox.name,
            sandbox.uid,
            attempt,
            ContainerState.RUNNING,
            created_at,
        )
        self._containers[made.id] = made
        self.processes[made.id] = process
        self.tell()
        return made

    def exit(self, container_id: str) -> None:
        """Let a container end; nothing happens to one that has."""
        if self.processes.pop(container_id, None) is not None:
            dead = replace(self._containers[container_id], state=ContainerState.EXITED)
            self._containers[container_id] = dead
            self.tell()

    def exit_all(self, kind: Kind, version: int) -> None:
        """Let every main container of this version end."""
        for container_id, process in list(self.processes.items()):
            if process.kind is kind and process.is_main and process.version == version:
                self.exit(container_id)

    def let_live(self, process: Running) -> None:
        """Let a process that was about to die stay: it has got its port."""
        process.is_doomed = False
        self.version += 1

    def lose_power(self) -> None:
        """Everything dies; the records stay."""
        self.processes.clear()
        self.is_up = self.hangs = False
        self._sandboxes = {i: replace(s, ready=False) for i, s in self._sandboxes.items()}
        self._containers = {
            i: replace(c, state=ContainerState.EXITED) for i, c in self._containers.items()
        }
        self._wakes.clear()
        self.tell()

    def forget(self, uid: str) -> None:
        """Remove a pod's dead sandboxes and containers."""
        self._containers = {
            i: c for i, c in self._containers.items() if c.pod_uid != uid or i in self.processes
        }
        self._sandboxes = {i: s for i, s in self._sandboxes.items() if s.uid != uid or s.ready}
        self._attempts = {key: n for key, n in self._attempts.items() if key[0] != uid}
        self.tell()

    def sandbox_of(self, uid: str) -> Sandbox | None:
        """Return the pod's ready sandbox."""
        return next((s for s in self._sandboxes.values() if s.uid == uid and s.ready), None)

    def ready_sandboxes(self) -> Iterator[Sandbox]:
        return (s for s in self._sandboxes.values() if s.ready)

    def containers_of(self, uid: str, name: str) -> list[Container]:
        """Return the pod's containers of this name, dead ones included, oldest first."""
        return [c for c in self._containers.values() if c.pod_uid == uid and c.name == name]

    def mains(self, kind: Kind) -> list[Running]:
        """Return the processes that do this workload's work, or are about to die of it."""
        return [p for p in self.processes.values() if p.kind is kind and p.is_main]

    def is_taken(self, ports: tuple[int, ...]) -> bool:
        """Tell whether a process that stays holds one of these ports of the host."""
        return any(
            port in process.kind.ports
            for process in self.processes.values()
            if process.is_main and not (process.is_doomed or process.kind.shares_a_port)
            for port in ports
        )

    def tell(self) -> None:
        """Something has changed: whoever depends on it is told."""
        self._listed = None
        self.version += 1
        if self.answers:
            for wake in self._wakes:
                wake()
        self._changed()

    def _check(self) -> None:
        if not self.answers:
            raise NoAnswerError("the runtime does not answer")
