"""One pod of the simulated kubelet: from its volumes to its containers, and to its end.

A worker is called again and again (`sync`) and does what is due; it never waits. The steps and
their order are those of pkg/kubelet/kubelet.go:SyncPod and kuberuntime_manager.go.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from checkpointer.core.runtime import ContainerState
from checkpointer.simulation import downward, volumes
from checkpointer.simulation.cluster import Object
from checkpointer.simulation.downward import NotMountedError
from checkpointer.simulation.runtime_records import (
    ContainerConfig,
    ContainerRecord,
    SandboxConfig,
    SandboxRecord,
)
from checkpointer.simulation.surroundings import Surroundings
from checkpointer.simulation.volumes import Volumes


class Stage(Enum):
    """How far a pod is."""

    WAITING = "another static pod of its name has not ended"
    SYNCING = "it is kept running"
    ABANDONED = "its source is gone, but sources are not ready: nobody looks after it"
    TERMINATING = "it is being stopped"
    ENDED = "nothing of it is left"


@dataclass(slots=True)
class PodWorker:
    """What the kubelet knows of one pod, by UID."""

    pod: Object
    is_static: bool
    around: Surroundings
    stage: Stage = Stage.SYNCING
    waiting: dict[str, str] = field(default_factory=dict)
    """Reason for waiting, by container."""
    check_due: float = 0.0
    grace_seconds: float = 30.0
    volumes: Volumes = field(init=False)
    _sandbox_due: float | None = None
    _container_due: float | None = None
    _mounted: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.volumes = Volumes(self.around.folder / self.uid, self.around.lookup)

    @property
    def uid(self) -> str:
        """Return the pod's UID, under which everything of it is found."""
        return str(self.pod["metadata"]["uid"])

    @property
    def on_host_network(self) -> bool:
        """Tell whether it shares the host's network."""
        return bool(self.pod["spec"].get("hostNetwork"))

    @property
    def ip(self) -> str:
        """Return the pod's address."""
        if self.on_host_network:
            return self.around.address
        return f"10.88.0.{int(hashlib.sha256(self.uid.encode()).hexdigest(), 16) % 250 + 2}"

    def sandbox(self) -> SandboxRecord | None:
        """Return the newest sandbox of the pod."""
        found = (one for one in self.around.runtime.sandboxes() if one.config.uid == self.uid)
        return next(found, None)

    def containers(self, name: str) -> list[ContainerRecord]:
        """Return the pod's containers of that name, newest first."""
        return [
            one
            for one in self.around.runtime.containers()
            if one.sandbox.config.uid == self.uid and one.config.name == name
        ]

    def sync(self) -> None:
        """Do what is due now."""
        match self.stage:
            case Stage.SYNCING:
                self._run()
            case Stage.TERMINATING:
                self._end()

    def terminate(self, grace_seconds: float | None = None) -> None:
        """Begin to end the pod, within its own grace if none is given."""
        if self.stage in (Stage.TERMINATING, Stage.ENDED):
            return
        if grace_seconds is None:
            grace_seconds = float(self.pod["spec"].get("terminationGracePeriodSeconds") or 30)
        self.grace_seconds = max(1.0, grace_seconds)
        self.stage = Stage.TERMINATING

    def _run(self) -> None:
        spec = self.pod["spec"]
        try:
            self._mounted = self.volumes.mount(self.pod)
        except (NotMountedError, OSError) as error:
            self._wait_for_all(f"ContainerCreating: {error}")
            return
        if spec.get("runtimeClassName"):
            self._wait_for_all("ContainerCreating: RuntimeClass is not simulated")
            return
        sandbox = self.sandbox()
        if sandbox is None or not sandbox.is_ready:
            if self._is_done(spec["containers"]):
                return
            self._wait_for_all("ContainerCreating")
            sandbox = self._make_sandbox(sandbox)
        if sandbox is None or not self._is_due():
            return
        for container in spec.get("initContainers") or ():
            if not self._has_initialized(sandbox, container):
                return
        for container in spec["containers"]:
            self._keep_running(sandbox, container)

    def _wait_for_all(self, reason: str) -> None:
        for container in self.pod["spec"]["containers"]:
            self.waiting[container["name"]] = reason

    def _is_done(self, containers: list[Object]) -> bool:
        """Tell whether every container has ended and none is to be started again."""
        newest = [self.containers(container["name"])[:1] for container in containers]
        return all(one and not self._is_restarted(one[0]) for one in newest)

    def _is_restarted(self, ended: ContainerRecord) -> bool:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        return policy == "Always" or (policy == "OnFailure" and ended.exit_code != 0)

    def _make_sandbox(self, before: SandboxRecord | None) -> SandboxRecord | None:
        now = time.monotonic()
        if self._sandbox_due is None:
            self._sandbox_due = now + self.around.pace.sandbox_seconds
        if now < self._sandbox_due:
            return None
        self._sandbox_due = None
        self._container_due = now + self.around.pace.container_seconds
        metadata = self.pod["metadata"]
        config = SandboxConfig(
            name=metadata["name"],
            namespace=metadata["namespace"],
            uid=self.uid,
            attempt=before.config.attempt + 1 if before else 0,
            labels=metadata.get("labels") or {},
            annotations=metadata.get("annotations") or {},
            ip=self.ip,
            on_host_network=self.on_host_network,
        )
        return self.around.runtime.run_sandbox(config)

    def _is_due(self) -> bool:
        """Tell whether the sandbox is old enough for its first container."""
        return self._container_due is None or time.monotonic() >= self._container_due

    def _has_initialized(self, sandbox: SandboxRecord, container: Object) -> bool:
        """Run an init container to its end; one that restarts always need only run."""
        here = [one for one in self.containers(container["name"]) if one.sandbox.id == sandbox.id]
        if container.get("restartPolicy") == "Always":
            self._keep_running(sandbox, container)
            return bool(here and here[0].is_running)
        if here and here[0].state is ContainerState.EXITED and here[0].exit_code == 0:
            return True
        self._keep_running(sandbox, container)
        started = self.containers(container["name"])[:1]
        if (
            started
            and started[0].is_running
            and not self.around.runtime.program(started[0]).runs_seconds
        ):
            # An image that just runs would keep its pod from ever starting.
            self.around.runtime.kill(started[0].id, exit_code=0)
        return False

    def _keep_running(self, sandbox: SandboxRecord, container: Object) -> None:
        name = container["name"]
        before = next(iter(self.containers(name)), None)
        if before is not None and before.is_running and before.sandbox.id == sandbox.id:
            if before.config.image != container["image"]:
                # The hash that the kubelet compares covers the name and the image only.
                self.around.runtime.stop_container(before.id, 2.0)
            self.waiting.pop(name, None)
            return
        if before is not None and before.state is ContainerState.EXITED:
            if time.time() - before.finished_at / 1e9 < self.around.pace.notice_seconds:
                return
            if not self._is_restarted(before):
                self.waiting.pop(name, None)
                return
            if not self._may_restart(name, before):
                return
        try:
            self._start(sandbox, container, before)
        except NotMountedError as error:
            self.waiting[name] = f"CreateContainerConfigError: {error}"

    def _may_restart(self, name: str, before: ContainerRecord) -> bool:
        key, ended_at, now = (self.uid, name), before.finished_at / 1e9, time.time()
        if self.around.backoff.remaining(key, ended_at, now) > 0:
            self.waiting[name] = "CrashLoopBackOff"
            return False
        self.around.backoff.count(key, ended_at, now)
        return True

    def _start(
        self, sandbox: SandboxRecord, container: Object, before: ContainerRecord | None
    ) -> None:
        name, runtime = container["name"], self.around.runtime
        self._pull(container)
        variables = downward.environment(
            self.pod,
            container,
            self.around.lookup,
            host_ip=self.around.address,
            pod_ip=self.ip,
        )
        attempt = before.config.attempt + 1 if before else self._logs_of(name)
        metadata = self.pod["metadata"]
        config = ContainerConfig(
            name=name,
            image=container["image"],
            attempt=attempt,
            labels={
                "io.kubernetes.container.name": name,
                "io.kubernetes.pod.name": metadata["name"],
                "io.kubernetes.pod.namespace": metadata["namespace"],
                "io.kubernetes.pod.uid": self.uid,
            },
            annotations={
                "io.kubernetes.container.hash": _fnv32a(name + container["image"]),
                "io.kubernetes.container.restartCount": str(attempt),
                "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
                "io.kubernetes.container.terminationMessagePolicy": "File",
                "io.kubernetes.pod.terminationGracePeriod": str(
                    self.pod["spec"].get("terminationGracePeriodSeconds") or 30
                ),
            },
            mounts=volumes.mounts(container, self._mounted),
            environment=variables,
            command=(*(container.get("command") or ()), *(container.get("args") or ())),
            log_path=str(self._log_folder / name / f"{attempt}.log"),
        )
        self.waiting.pop(name, None)
        runtime.start_container(runtime.create_container(sandbox.id, config).id)

    def _logs_of(self, name: str) -> int:
        """Return the attempt that follows that of the container's newest log, as the kubelet does
        where the runtime has forgotten its dead (kuberuntime_container.go)."""
        logs = (self._log_folder / name).glob("*.log")
        return max((int(log.stem) for log in logs), default=-1) + 1

    @property
    def _log_folder(self) -> Path:
        metadata = self.pod["metadata"]
        name = f"{metadata['namespace']}_{metadata['name']}_{self.uid}"
        return self.around.folder.parent / "pod-logs" / name

    def _pull(self, container: Object) -> None:
        """Have the image on the node, as imagePullPolicy says."""
        image, policy = container["image"], container.get("imagePullPolicy", "IfNotPresent")
        images = self.around.runtime.images
        if image in images and policy != "Always":
            return
        if policy == "Never":
            raise NotMountedError(f"ErrImageNeverPull: {image}")
        if not self.around.can_pull():
            raise NotMountedError(f"ErrImagePull: {image}: no route to the registry")
        images.add(image)

    def _end(self) -> None:
        runtime = self.around.runtime
        mine = [one for one in runtime.containers() if one.sandbox.config.uid == self.uid]
        running = [one for one in mine if one.is_running]
        for container in running:
            runtime.stop_container(container.id, self.grace_seconds)
        if running:
            return
        for sandbox in runtime.sandboxes():
            if sandbox.config.uid == self.uid:
                runtime.remove_sandbox(sandbox.id)
        self.volumes.remove()
        self.stage = Stage.ENDED


def _fnv32a(text: str) -> str:
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return f"{value:x}"
