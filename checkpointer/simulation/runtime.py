"""The simulated container runtime: sandboxes, containers, images, ports, all in memory.

The simulated kubelet calls it directly; everybody else over CRI (`cri_server`). What it knows
survives a power cut as containerd's records do: sandboxes not ready, containers exited.
"""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from checkpointer.core.runtime import ContainerState
from checkpointer.simulation.alarms import Alarms
from checkpointer.simulation.container_logs import write_line
from checkpointer.simulation.programs import Program, Programs, host_path
from checkpointer.simulation.runtime_records import (
    KILLED,
    LOST_POWER,
    ContainerConfig,
    ContainerRecord,
    Event,
    SandboxConfig,
    SandboxRecord,
)

Listener = Callable[[Event, ContainerRecord], None]
SandboxListener = Callable[[Event, SandboxRecord], None]


class NoSuchObjectError(Exception):
    """The runtime does not know the sandbox or container."""


PORT_SECONDS = 0.3
"""How long a program takes from its start to its ports; looked at only where they are taken."""


class Runtime:
    """All sandboxes, containers and images, safe for many threads; what it returns is a copy."""

    def __init__(self, programs: Programs, alarms: Alarms) -> None:
        self.images: set[str] = set()
        """Names of the images that are on the node."""
        self.listeners: list[Listener] = []
        self.sandbox_listeners: list[SandboxListener] = []
        self._programs = programs
        self._alarms = alarms
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._sandboxes: dict[str, SandboxRecord] = {}
        self._containers: dict[str, ContainerRecord] = {}
        self._portless: set[str] = set()
        """Containers that run and found their ports taken: they try them in a moment."""

    def sandboxes(self) -> list[SandboxRecord]:
        """Return all sandboxes, newest first."""
        with self._lock:
            return sorted(self._sandboxes.values(), key=lambda one: -one.created_at)

    def containers(self) -> list[ContainerRecord]:
        """Return all containers, newest first."""
        with self._lock:
            return sorted(self._containers.values(), key=lambda one: -one.created_at)

    def sandbox(self, sandbox_id: str) -> SandboxRecord:
        """Return one sandbox."""
        with self._lock:
            if sandbox_id not in self._sandboxes:
                raise NoSuchObjectError(f"sandbox {sandbox_id!r} not found")
            return self._sandboxes[sandbox_id]

    def container(self, container_id: str) -> ContainerRecord:
        """Return one container."""
        with self._lock:
            if container_id not in self._containers:
                raise NoSuchObjectError(f"container {container_id!r} not found")
            return self._containers[container_id]

    def program(self, container: ContainerRecord) -> Program:
        """Return what the container runs."""
        return self._programs.of(container.config.image)

    def is_ready(self, container: ContainerRecord) -> bool:
        """Tell whether the container has run for as long as its program takes to be ready."""
        age = (time.time_ns() - container.started_at) / 1e9
        is_up = container.is_running and container.id not in self._portless
        return is_up and age >= self.program(container).start_seconds

    def run_sandbox(self, config: SandboxConfig) -> SandboxRecord:
        """Make a sandbox, ready at once."""
        with self._lock:
            sandbox = SandboxRecord(_new_id(), config, time.time_ns())
            self._sandboxes[sandbox.id] = sandbox
        self._tell_of_sandbox(Event.CREATED, sandbox)
        self._tell_of_sandbox(Event.STARTED, sandbox)
        return sandbox

    def stop_sandbox(self, sandbox_id: str) -> None:
        """Kill the sandbox's containers and take its network away."""
        for container in self.containers():
            if container.sandbox.id == sandbox_id:
                self.kill(container.id)
        with self._lock:
            sandbox = self._sandboxes.get(sandbox_id)
            if sandbox is None or not sandbox.is_ready:
                return
            stopped = self._sandboxes[sandbox_id] = replace(sandbox, is_ready=False)
        self._tell_of_sandbox(Event.STOPPED, stopped)

    def remove_sandbox(self, sandbox_id: str) -> None:
        """Forget the sandbox and its containers."""
        self.stop_sandbox(sandbox_id)
        for container in self.containers():
            if container.sandbox.id == sandbox_id:
                self.remove_container(container.id)
        with self._lock:
            sandbox = self._sandboxes.pop(sandbox_id, None)
        if sandbox is not None:
            self._tell_of_sandbox(Event.DELETED, sandbox)

    def create_container(self, sandbox_id: str, config: ContainerConfig) -> ContainerRecord:
        """Make a container that does not run yet."""
        with self._lock:
            record = ContainerRecord(_new_id(), self.sandbox(sandbox_id), config, time.time_ns())
            self._containers[record.id] = record
        self._tell(Event.CREATED, record)
        return record

    def start_container(self, container_id: str) -> None:
        """Start the container's program; files that it lacks end it at once, ports soon."""
        with self._lock:
            container = self.container(container_id)
            program = self.program(container)
            can_run = has_files(container, program)
            gets_ports = self._gets_ports(container, program)
            if not gets_ports:
                self._portless.add(container_id)
            started = replace(container, state=ContainerState.RUNNING, started_at=time.time_ns())
            self._containers[container_id] = started
        write_line(started, " ".join(("started", *started.config.command)))
        self._tell(Event.STARTED, started)
        if not can_run:
            self._end(container_id, 1)
        elif not gets_ports:
            self._alarms.after(PORT_SECONDS, lambda: self._try_ports(container_id))
        elif program.runs_seconds == 0:
            self._end(container_id, program.exit_code)
        elif program.runs_seconds is not None:
            self._alarms.after(
                program.runs_seconds, lambda: self._end(container_id, program.exit_code)
            )

    def stop_container(self, container_id: str, grace_seconds: float) -> None:
        """Begin to stop the container: SIGTERM, and SIGKILL when the grace is over."""
        with self._lock:
            container = self.container(container_id)
            if container.state is ContainerState.CREATED:
                grace_seconds = 0
            elif not container.is_running or (container.is_stopping and grace_seconds > 0):
                return
            else:
                self._containers[container_id] = replace(container, is_stopping=True)
            needed = self.program(container).stop_seconds
        if grace_seconds <= 0:
            self._end(container_id, KILLED)
        else:
            code = 0 if needed <= grace_seconds else KILLED
            seconds = min(needed, grace_seconds)
            self._alarms.after(seconds, lambda: self._end(container_id, code))

    def kill(self, container_id: str, exit_code: int = KILLED) -> None:
        """End the container at once, as SIGKILL or the kernel's memory killer would."""
        self._end(container_id, exit_code)

    def wait_stopped(self, container_id: str, seconds: float) -> bool:
        """Wait until the container does not run; False when the time is up first."""
        with self._ended:
            return self._ended.wait_for(
                lambda: (
                    container_id not in self._containers
                    or not self._containers[container_id].is_running
                ),
                seconds,
            )

    def remove_container(self, container_id: str) -> None:
        """Forget the container, killing it if it runs."""
        self.kill(container_id)
        with self._lock:
            container = self._containers.pop(container_id, None)
        if container is not None:
            self._tell(Event.DELETED, container)

    def lose_power(self) -> None:
        """End everything at once; nobody is told, as nobody is left to be told."""
        with self._lock:
            now = time.time_ns()
            for key, sandbox in self._sandboxes.items():
                self._sandboxes[key] = replace(sandbox, is_ready=False)
            for key, container in self._containers.items():
                if container.state is not ContainerState.EXITED:
                    self._containers[key] = replace(
                        container,
                        state=ContainerState.EXITED,
                        finished_at=now,
                        exit_code=LOST_POWER,
                        is_stopping=False,
                    )
            ended = list(self._containers.values())
            self._ended.notify_all()
        for container in ended:
            self._tell(Event.STOPPED, container)

    def _gets_ports(self, container: ContainerRecord, program: Program) -> bool:
        """Tell whether nobody else listens on its ports in the same network, or all share them."""
        for other in self._containers.values():
            if other.id == container.id or not other.is_running or other.id in self._portless:
                continue
            if not set(self.program(other).ports) & set(program.ports):
                continue
            on_host = container.sandbox.config.on_host_network
            same_network = other.sandbox.id == container.sandbox.id or (
                on_host and other.sandbox.config.on_host_network
            )
            if same_network and not (other.config.shares_ports and container.config.shares_ports):
                return False
        return True

    def _try_ports(self, container_id: str) -> None:
        """Let a program that is as far as its ports have them, or die."""
        with self._lock:
            self._portless.discard(container_id)
            container = self._containers.get(container_id)
            if container is None or not container.is_running:
                return
            gets_ports = self._gets_ports(container, self.program(container))
        if not gets_ports:
            self._end(container_id, 1)

    def _end(self, container_id: str, exit_code: int) -> None:
        with self._lock:
            self._portless.discard(container_id)
            container = self._containers.get(container_id)
            if container is None or container.state is ContainerState.EXITED:
                return
            ended = replace(
                container,
                state=ContainerState.EXITED,
                finished_at=time.time_ns(),
                exit_code=exit_code,
                is_stopping=False,
            )
            self._containers[container_id] = ended
            self._ended.notify_all()
        if exit_code != KILLED:
            write_line(ended, f"exit {exit_code}")
        self._tell(Event.STOPPED, ended)

    def _tell(self, event: Event, container: ContainerRecord) -> None:
        for listener in tuple(self.listeners):
            listener(event, container)

    def _tell_of_sandbox(self, event: Event, sandbox: SandboxRecord) -> None:
        for listener in tuple(self.sandbox_listeners):
            listener(event, sandbox)


def has_files(container: ContainerRecord, program: Program) -> bool:
    """Tell whether the container can read all that its program needs."""
    for path in program.needs:
        found = host_path(container.config.mounts, path)
        try:
            if found is None or not Path(found).read_bytes():
                return False
        except OSError:
            return False
    return True


def image_id(image: str) -> str:
    """Return the ID of an image, which the runtime lists in place of its name."""
    return "sha256:" + hashlib.sha256(image.encode()).hexdigest()


def _new_id() -> str:
    return uuid.uuid4().hex + uuid.uuid4().hex
