"""The kube-apiserver as a pod of the node: the API answers while one of its containers runs.

The server shows the certificate that the running container mounts. A copy that lacks the
material of its parent brings no API back.
"""

from __future__ import annotations

import threading
from pathlib import Path

from checkpointer.simulation.alarms import Alarms
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.certificates import KeyPair
from checkpointer.simulation.programs import Program, base_name, host_path
from checkpointer.simulation.runtime import PORT_SECONDS, Runtime
from checkpointer.simulation.runtime_records import ContainerRecord, Event

IMAGE = "kube-apiserver"
SECRETS = "/etc/kubernetes/secrets"


class SelfHosting:
    """Starts and stops the API server with its containers."""

    def __init__(self, api: ApiServer, runtime: Runtime, alarms: Alarms) -> None:
        self.is_pivoted = False
        """Whether a container of the node has taken over from the API server of the installer."""
        self._api = api
        self._runtime = runtime
        self._alarms = alarms
        self._lock = threading.Lock()
        self._serving: str | None = None
        runtime.listeners.append(self._on_event)

    def program(self, start_seconds: float) -> Program:
        """Return what the image does."""
        return Program(
            ports=(self._api.port,),
            needs=tuple(f"{SECRETS}/{name}" for name in ("ca.crt", "tls.crt", "tls.key")),
            start_seconds=start_seconds,
            stop_seconds=1.0,
        )

    def _on_event(self, event: Event, container: ContainerRecord) -> None:
        if base_name(container.config.image) != IMAGE:
            return
        if event is Event.STARTED:
            seconds = self._runtime.program(container).start_seconds
            for late in (0.0, PORT_SECONDS):  # it may have had to wait for its port
                self._alarms.after(seconds + late + 0.001, self._follow)
        elif event is Event.STOPPED:
            self._follow()

    def _follow(self) -> None:
        """Have the API served by a container that is ready, or by nobody."""
        with self._lock:
            ready = [
                one
                for one in self._runtime.containers()
                if base_name(one.config.image) == IMAGE and self._runtime.is_ready(one)
            ]
            if self._serving not in {one.id for one in ready}:
                if self._serving is not None:
                    self._api.stop()
                    self._serving = None
                if ready:
                    self._serving = ready[0].id
                    self._api.start(_key_pair(ready[0]))
                    self.is_pivoted = True


def _key_pair(container: ContainerRecord) -> KeyPair:
    """Return the certificate that the container sees."""
    mounts = container.config.mounts
    certificate, key = (host_path(mounts, f"{SECRETS}/tls.{part}") for part in ("crt", "key"))
    return KeyPair(Path(certificate or "").read_bytes(), Path(key or "").read_bytes())
