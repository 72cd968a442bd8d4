"""A simulated kubelet: real folders, a real manifest folder, the rules of a real 1.36.

One thread looks at its sources and does what is due. Everything it knows is in memory: a
kubelet that is stopped and started again knows what its folders, the runtime and the API tell.
The rules come from ../shared/kubelet-facts.md; the numbers in comments are its sections.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import field
from pathlib import Path

from checkpointer.simulation import admission, mirrors, pod_status
from checkpointer.simulation.admission import Rejection
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.backoff import Backoff
from checkpointer.simulation.cluster import ConflictError, NotFoundError, Object
from checkpointer.simulation.downward import NotMountedError
from checkpointer.simulation.pod_worker import PodWorker, Stage
from checkpointer.simulation.runtime import Runtime
from checkpointer.simulation.runtime_records import ContainerRecord, Event
from checkpointer.simulation.static_pods import StaticPods, full_name
from checkpointer.simulation.surroundings import Pace, Surroundings
from checkpointer.values import dataclass

_ORPHAN_GRACE_SECONDS = 1.0
_TERMINAL = ("Failed", "Succeeded")


@dataclass(frozen=True, slots=True)
class KubeletConfig:
    """Where a kubelet finds things and how quick it is."""

    node_name: str
    folder: Path
    manifest_folder: Path
    address: str = "127.0.0.1"
    pace: Pace = field(default_factory=Pace)


class Kubelet:
    """One run of a kubelet, from `start` to `stop`; another run is another instance."""

    def __init__(
        self,
        config: KubeletConfig,
        api: ApiServer,
        runtime: Runtime,
        can_pull: Callable[[], bool] = lambda: True,
    ) -> None:
        self.config = config
        self.rejected: dict[str, Rejection] = {}
        """Pods that admission refused, by UID: final."""
        self.errors: list[str] = []
        """Tracebacks of faults of the simulation itself: none, if all is well."""
        self.rounds = 0
        """How often it has looked at everything."""
        self.sources_ready = False
        """Whether every source has answered since the start (5.0); stays true."""
        self._api = api
        self._runtime = runtime
        self._can_pull = can_pull
        pace = config.pace
        self._backoff = Backoff(pace.backoff_seconds, pace.backoff_limit_seconds)
        self._static = StaticPods(
            config.manifest_folder, config.node_name, relist_seconds=pace.relist_seconds
        )
        self._workers: dict[str, PodWorker] = {}
        self._api_pods: dict[str, Object] = {}
        self._api_revision = 0
        self._seen: dict[tuple[str, str, str], Object | None] = {}
        self._answered_at: float | None = None
        self._wake = threading.Event()
        self._is_stopped = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    @property
    def refused(self) -> dict[str, str]:
        """Return why files of the manifest folder are no pods, by file name."""
        return dict(self._static.refused)

    def start(self) -> None:
        """Begin; what tells a kubelet's start is made anew (pod-resources/kubelet.sock)."""
        (self.config.folder / "pods").mkdir(mode=0o750, parents=True, exist_ok=True)
        self._socket = _fresh_socket(self.config.folder / "pod-resources" / "kubelet.sock")
        self._runtime.listeners.append(self._on_event)
        self._thread.start()

    def stop(self) -> None:
        """End at once, leaving containers, folders and the socket as they are."""
        self._is_stopped = True
        self._wake.set()
        self._thread.join(10)
        with contextlib.suppress(ValueError):
            self._runtime.listeners.remove(self._on_event)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def renew_tokens(self) -> None:
        """Have every projected token replaced, as happens at 80% of its life."""
        with self._lock:
            for worker in self._workers.values():
                worker.volumes.renew_tokens()

    def _on_event(self, _event: Event, _container: ContainerRecord) -> None:
        self._wake.set()

    def _run(self) -> None:
        while not self._is_stopped:
            try:
                with self._lock:
                    self._tick()
            except Exception:
                self.errors.append(traceback.format_exc())
            self.rounds += 1
            self._wake.wait(self.config.pace.tick_seconds)
            self._wake.clear()

    def _tick(self) -> None:
        self._ask_api()
        static = self._static.read()
        self._take_over(static, is_static=True)
        self._take_over(self._api_pods, is_static=False)
        self._drop_missing(static)
        self._start_waiting()
        for worker in tuple(self._workers.values()):
            worker.sync()
            if worker.stage is Stage.ENDED:
                self._finish(worker)
        if self.sources_ready:
            self._kill_orphans()
        if self._answered_for(0):
            self._report()
            if self._answered_for(self.config.pace.mirror_seconds):
                mirrors.reconcile(self._api.cluster, self.config.node_name, self._static_pods())

    def _ask_api(self) -> None:
        """Take the API's pods; while it does not answer, those of before stand."""
        if not self._api.answers_node:
            self._answered_at = None
            return
        now = time.monotonic()
        if self._answered_at is None:
            self._answered_at = now
        if not self._answered_for(self.config.pace.list_seconds):
            return
        if self.sources_ready and self._api.cluster.revision == self._api_revision:
            return
        pods, self._api_revision = self._api.cluster.snapshot("pods")
        self._api_pods = {
            pod["metadata"]["uid"]: pod
            for pod in pods
            if pod["spec"].get("nodeName") == self.config.node_name and not mirrors.is_mirror(pod)
        }
        if not self.sources_ready:
            mirrors.register_node(self._api.cluster, self.config.node_name, self.config.address)
            self.sources_ready = True

    def _answered_for(self, seconds: float) -> bool:
        """Tell whether the API has answered for so long without a break."""
        return self._answered_at is not None and time.monotonic() - self._answered_at >= seconds

    def _take_over(self, pods: dict[str, Object], *, is_static: bool) -> None:
        for uid, pod in tuple(pods.items()):
            worker = self._workers.get(uid)
            is_leaving = bool(pod["metadata"].get("deletionTimestamp"))
            if worker is None and uid not in self.rejected:
                if (pod.get("status") or {}).get("phase") not in _TERMINAL:
                    worker = self._admit(pod, is_static=is_static)
            elif worker is not None:
                worker.pod = pod
                if worker.stage is Stage.ABANDONED:
                    worker.stage = Stage.SYNCING
            if is_leaving and worker is not None:
                worker.terminate(pod["metadata"].get("deletionGracePeriodSeconds"))
            elif is_leaving and not is_static:
                self._delete_from_api(pod)

    def _admit(self, pod: Object, *, is_static: bool) -> PodWorker | None:
        """Make a worker for a pod that is new to this kubelet, or reject it for good (2.5)."""
        active = [one.pod for one in self._workers.values() if self._is_active(one)]
        uid = pod["metadata"]["uid"]
        if reason := admission.rejection(pod, active, self._labels()):
            self.rejected[uid] = reason
            return None
        worker = PodWorker(pod, is_static, self._surroundings())
        if is_static and self._holder(full_name(pod)) is not None:
            worker.stage = Stage.WAITING
            worker.check_due = time.monotonic() + self.config.pace.recheck_seconds
        self._workers[uid] = worker
        return worker

    def _is_active(self, worker: PodWorker) -> bool:
        """A static pod whose file is gone does not count; an API pod counts until its end."""
        if worker.is_static:
            return worker.stage in (Stage.SYNCING, Stage.WAITING)
        return worker.stage is not Stage.ENDED

    def _holder(self, name: str) -> PodWorker | None:
        """Return the static pod that has the full name: one at a time (4.1)."""
        for worker in self._workers.values():
            is_started = worker.is_static and worker.stage is not Stage.WAITING
            if is_started and full_name(worker.pod) == name:
                return worker
        return None

    def _start_waiting(self) -> None:
        for worker in self._workers.values():
            if worker.stage is Stage.WAITING and time.monotonic() >= worker.check_due:
                worker.check_due = time.monotonic() + self.config.pace.recheck_seconds
                if self._holder(full_name(worker.pod)) is None:
                    worker.stage = Stage.SYNCING

    def _drop_missing(self, static: dict[str, Object]) -> None:
        """End what no source has any more, but only once all sources have answered (4.2)."""
        for uid, worker in tuple(self._workers.items()):
            if uid in static or uid in self._api_pods:
                continue
            if worker.stage is Stage.WAITING:
                del self._workers[uid]
            elif self.sources_ready:
                worker.terminate(None if worker.is_static else _ORPHAN_GRACE_SECONDS)
            elif worker.stage is Stage.SYNCING:
                worker.stage = Stage.ABANDONED
        if self.sources_ready:
            for uid in set(self.rejected) - set(static) - set(self._api_pods):
                del self.rejected[uid]

    def _finish(self, worker: PodWorker) -> None:
        if worker.is_static or not worker.pod["metadata"].get("deletionTimestamp"):
            del self._workers[worker.uid]
        elif self._answered_for(0):
            self._delete_from_api(worker.pod)
            del self._workers[worker.uid]

    def _kill_orphans(self) -> None:
        """Stop what runs and belongs to no source (4.3)."""
        for sandbox in self._runtime.sandboxes():
            if sandbox.config.uid in self._workers:
                continue
            mine = [one for one in self._runtime.containers() if one.sandbox.id == sandbox.id]
            running = [one for one in mine if one.is_running]
            for container in running:
                self._runtime.stop_container(container.id, _ORPHAN_GRACE_SECONDS)
            if not running:
                self._runtime.remove_sandbox(sandbox.id)

    def _report(self) -> None:
        """Write the status of the API's own pods."""
        for uid, pod in self._api_pods.items():
            worker = self._workers.get(uid)
            if uid in self.rejected:
                if (pod.get("status") or {}).get("phase") not in _TERMINAL:
                    rejected = self.rejected[uid]
                    self._write(pod, pod_status.failed(rejected.reason, rejected.message))
            elif worker is not None and worker.stage is not Stage.ENDED:
                self._write(pod, pod_status.status_of(worker, pod.get("status") or {}))

    def _write(self, pod: Object, status: Object) -> None:
        def change(stored: Object) -> None:
            if stored["metadata"]["uid"] == pod["metadata"]["uid"]:
                stored["status"] = status

        metadata = pod["metadata"]
        if status != pod.get("status"):
            with contextlib.suppress(NotFoundError):
                pod["status"] = self._api.cluster.update(
                    "pods", metadata["namespace"], metadata["name"], change
                ).get("status", {})

    def _delete_from_api(self, pod: Object) -> None:
        metadata = pod["metadata"]
        if self._answered_for(0):
            with contextlib.suppress(NotFoundError, ConflictError):
                self._api.cluster.delete(
                    "pods", metadata["namespace"], metadata["name"], metadata["uid"]
                )
            self._api_pods.pop(metadata["uid"], None)

    def _static_pods(self) -> list[PodWorker]:
        return [one for one in self._workers.values() if one.is_static]

    def _labels(self) -> dict[str, str]:
        """Return the node's labels: without an API since boot only those it gives itself."""
        own = mirrors.node_labels(self.config.node_name)
        if not self.sources_ready:
            return own
        node = self._api.cluster.get("nodes", "", self.config.node_name)
        return (node or {}).get("metadata", {}).get("labels") or own

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            runtime=self._runtime,
            backoff=self._backoff,
            lookup=self._lookup,
            folder=self.config.folder / "pods",
            pace=self.config.pace,
            address=self.config.address,
            can_pull=self._can_pull,
        )

    def _lookup(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return an API object; what was seen once stays known while the API is away.

        The kubelet watches each secret and configMap of its pods and serves them from memory.
        """
        key = (resource, namespace, name)
        if self._answered_for(0) and self._api.answers_node:
            self._seen[key] = self._api.cluster.get(*key)
        elif key not in self._seen:
            raise NotMountedError(f"{resource} {name!r}: the API server cannot be reached")
        return self._seen[key]


def _fresh_socket(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(4096)
    return listener
