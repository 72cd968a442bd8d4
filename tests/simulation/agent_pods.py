"""The agent as the pods that it is deployed in: a real process for each container of its image."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from checkpointer.core.runtime import ContainerState
from checkpointer.simulation.node import SimulatedNode, is_static
from checkpointer.simulation.runtime_records import KILLED, LOST_POWER, ContainerRecord, Event

NAME = "pod-checkpointer"
BROKEN = "agent:broken"
"""An image whose program fails as soon as it is its turn to work."""

_FAILS = """
import sys
from checkpointer.store.lock import InstanceLock
InstanceLock(sys.argv[1]).acquire()
sys.exit(3)
"""


def spec(image: str) -> dict[str, Any]:
    """Return the agent's pod; only what matters to the simulated kubelet."""
    return {
        "hostNetwork": True,
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 5,
        "containers": [{"name": NAME, "image": image}],
    }


class AgentPods:
    """Starts and ends processes as the runtime does containers, and tells it when one ended."""

    def __init__(self, node: SimulatedNode) -> None:
        self.log = node.folder / "agents.log"
        self.log.touch()
        self._node = node
        self._lock = threading.Lock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        node.runtime.listeners.append(self._on_event)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def working(self) -> ContainerRecord | None:
        """Return the container whose process works: it has opened more than the lock."""
        for container in self._node.running(NAME):
            process = self._processes.get(container.id)
            if process is not None and _works(process.pid):
                return container
        return None

    def kill_working(self) -> bool:
        """End the instance that works as the kernel's memory killer would."""
        container = self.working()
        if container is None:
            return False
        self._processes[container.id].kill()
        return True

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            for process in self._processes.values():
                process.kill()
        for thread in self._threads:
            thread.join(10)

    def _on_event(self, event: Event, container: ContainerRecord) -> None:
        if container.config.name != NAME:
            return
        with self._lock:
            if event is Event.STARTED and not self._is_closed:
                self._start(container)
            elif event is Event.STOPPED and container.id in self._processes:
                process = self._processes[container.id]
                hard = container.exit_code in (KILLED, LOST_POWER)
                process.kill() if hard else process.terminate()

    def _start(self, container: ContainerRecord) -> None:
        node = self._node
        arguments = ["-m", "checkpointer", "run", "--config", str(node.agent_config_file)]
        arguments += ["--set", f"podUID={container.sandbox.config.uid}"]
        if container.config.image == BROKEN:
            arguments = ["-c", _FAILS, str(node.folder / "run/checkpointer.lock")]
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={k: v for k, v in os.environ.items() if not k.startswith("CHECKPOINTER_")},
            )
        self._processes[container.id] = process
        thread = threading.Thread(target=self._wait, args=(container.id, process), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _wait(self, container_id: str, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        runtime = self._node.runtime
        known = {one.id: one for one in runtime.containers()}
        if container_id in known and known[container_id].state is ContainerState.RUNNING:
            runtime.kill(container_id, exit_code=abs(status))


def _works(pid: int) -> bool:
    """Tell whether the process has gone past the lock: then it has the agent's threads."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def own_manifests(node: SimulatedNode) -> list[Path]:
    """Return the agent's own manifests in the kubelet's folder."""
    return [path for path in node.manifest_folder.iterdir() if NAME in path.name[len(NAME) :]]


def is_copy(container: ContainerRecord | None) -> bool:
    return container is not None and is_static(container)
