"""The kubelet in virtual time, by the rules of a real one of Kubernetes 1.36.

It knows its API pods only once it has listed them in its current run; before that it starts
nothing of theirs, and stops nothing: a manifest that goes is not followed. What its admission
refuses stays refused until it starts again or the pod has another UID. A pod's sandbox is made
after its secrets have been fetched; a container that ends is started again after a backoff of
its own, in the same sandbox, whatever the pod's other one does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.observation import KubeletRun
from checkpointer.core.runtime import Container, Sandbox
from checkpointer.manifest.mounted import MountedVolume
from checkpointer.manifest.render import mark_of
from tests.simulation.schedules.cluster import ApiPod
from tests.simulation.schedules.runtime import Running
from tests.simulation.schedules.worker import Program, Worker
from tests.simulation.schedules.workloads import NAMESPACE, Kind

if TYPE_CHECKING:
    from tests.simulation.schedules.node import Node

RELIST_SECONDS = 20.0
FIRST_BACKOFF_SECONDS = 10.0
LONGEST_BACKOFF_SECONDS = 300.0
BACKOFF_FORGOTTEN_SECONDS = 600.0


@dataclass
class NodeKubelet:
    """One node's kubelet."""

    node: Node
    is_up: bool = False
    run_number: int = 0
    started_at: int = 0
    knows_pods: bool = False
    refusals: int = 0
    """How many more copies its admission refuses."""
    workers: dict[str, Worker] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    folder: dict[str, tuple[str, Kind, int, dict[str, str]]] | None = None
    """What lies in the manifest folder, by UID; None when somebody has changed it."""
    _is_listing: bool = False
    _is_folder_noted: bool = False
    _epoch: int = 0

    def run(self, boot_id: str) -> Fact[KubeletRun]:
        """Return what its socket's file tells."""
        if self.run_number == 0:
            return Unknown("the kubelet has no socket")
        return Known(KubeletRun(f"{boot_id}/{self.run_number}", self.started_at, self.is_up))

    def volume_marks(self, uid: str) -> str:
        """Return what changes with the rendered volumes: nothing does."""
        return ""

    def content_mark(self, uid: str, volumes: Iterable[MountedVolume]) -> Fact[str]:
        """Return what changes with their content: there are none."""
        return Known("")

    def start(self) -> None:
        if self.is_up:
            return
        self.is_up, self.knows_pods = True, False
        self.run_number += 1
        self.started_at = self.node.stamp()
        self.workers, self.refused = {}, set()
        self._is_listing = self._is_folder_noted = False
        self._after(0.3, self._read_folder)
        self._after(RELIST_SECONDS, self._relist)
        self.api_changed()
        self.node.socket_changed()

    def bootstrap(self) -> None:
        """Take the API's first pods as they are, with no API to ask: the installer's work."""
        self.knows_pods = True
        for pod in self.node.cluster.pods_of(self.node.name):
            worker = Worker(pod.uid, pod.name, pod.kind, pod.version, pod, pod.labels)
            self.workers[pod.uid] = worker
            self._make_sandbox(worker, has_secrets=True)

    def stop(self) -> None:
        """End the kubelet alone; what it started runs on."""
        if self.is_up:
            self.is_up = False
            self.workers = {}
            self._epoch += 1  # what was planned is void

    def _after(self, seconds: float, what: Callable[[], None]) -> None:
        epoch = self._epoch

        def do() -> None:
            if self.is_up and self._epoch == epoch:
                what()

        self.node.timeline.after(seconds, do)

    def _after_for(self, worker: Worker, seconds: float, what: Callable[[Worker], None]) -> None:
        """Plan the next step of a worker; whatever was planned for it before is void."""
        worker.events += 1
        number = worker.events

        def do() -> None:
            if worker.events == number and self.workers.get(worker.uid) is worker:
                what(worker)

        self._after(seconds, do)

    def _plan(
        self,
        worker: Worker,
        program: Program,
        seconds: float,
        what: Callable[[Worker, Program], None],
    ) -> None:
        """Plan the next step of one container; whatever was planned for it before is void."""
        program.events += 1
        number = program.events

        def do() -> None:
            is_current = self.workers.get(worker.uid) is worker and program.events == number
            if is_current and not worker.is_terminating:
                what(worker, program)

        self._after(seconds, do)

    def _random(self, least: float, most: float) -> float:
        return self.node.random.uniform(least, most)

    # The API's pods

    def api_changed(self) -> None:
        """Note that the API serves now, or that it does not, or that its pods have changed."""
        if self.is_up and not self._is_listing and self.node.can_use_api():
            self._is_listing = True
            self._after(self._random(0.1, 0.4), self._list)

    def _list(self) -> None:
        self._is_listing = False
        if not self.node.can_use_api():
            return
        is_first, self.knows_pods = not self.knows_pods, True
        wanted = {pod.uid: pod for pod in self.node.listed(for_kubelet=True)}
        for uid, pod in wanted.items():
            if uid not in self.workers and not pod.is_failed:
                self._admit_api(pod)
        for worker in list(self.workers.values()):
            if worker.pod is not None:
                if worker.uid not in wanted or worker.pod.is_terminating:
                    self._terminate(worker)
                elif worker.is_waiting:
                    worker.is_waiting = False
                    self._after_for(worker, self._random(0.1, 0.4), self._make_sandbox)
                else:
                    self._report(worker)
        if is_first:
            self._read_folder()
            self._after(2.0, self._kill_orphans)

    def _admit_api(self, pod: ApiPod) -> None:
        if pod.is_terminating and self.node.runtime.sandbox_of(pod.uid) is None:
            self.node.cluster.finish(pod)
            return
        if pod.kind.is_declared and any(
            w.kind is pod.kind and w.pod is None and not w.is_terminating
            for w in self.workers.values()
        ):
            pod.is_failed = True
            self.node.cluster.changed(pod)
            return
        self._begin(Worker(pod.uid, pod.name, pod.kind, pod.version, pod, pod.labels))

    def _kill_orphans(self) -> None:
        for sandbox in list(self.node.runtime.ready_sandboxes()):
            if sandbox.uid not in self.workers and self.node.runtime.answers:
                self.node.runtime.stop_sandbox(sandbox.id)
                self.node.runtime.forget(sandbox.uid)

    # Static pods

    def folder_changed(self) -> None:
        """Note an inotify event."""
        self.folder = None
        if self.is_up and not self._is_folder_noted:
            self._is_folder_noted = True
            self._after(self._random(0.05, 0.3), self._read_folder)

    def _relist(self) -> None:
        self._read_folder()
        self._after(RELIST_SECONDS, self._relist)

    def _read_folder(self) -> None:
        self._is_folder_noted = False
        found = self.manifests()
        for worker in list(self.workers.values()):
            if worker.pod is None and worker.uid not in found and self.knows_pods:
                self._terminate(worker)
        for uid, (name, kind, version, labels) in found.items():
            if uid not in self.workers and uid not in self.refused:
                self._admit_static(Worker(uid, name, kind, version, None, labels))

    def manifests(self) -> dict[str, tuple[str, Kind, int, dict[str, str]]]:
        """Return name, workload, version and labels of the static pods in the folder, by UID."""
        if self.folder is None:
            self.folder = self._read_manifests()
        return self.folder

    def _read_manifests(self) -> dict[str, tuple[str, Kind, int, dict[str, str]]]:
        found = {}
        for name in os.listdir(self.node.manifests):
            if name.startswith("."):
                continue
            content = (self.node.manifests / name).read_bytes()
            mark = mark_of(content)
            if mark is None:
                continue
            pod = json.loads(content)
            kind = self.node.kind_of(mark.workload)
            version = int(pod["spec"]["containers"][0]["image"].partition(":")[2])
            metadata = pod["metadata"]
            full_name = f"{metadata['name']}-{self.node.name}"
            found[metadata["uid"]] = (full_name, kind, version, metadata["labels"])
        return found

    def _admit_static(self, worker: Worker) -> None:
        twin = any(w.kind is worker.kind and w.pod is not None for w in self.workers.values())
        if self.refusals or (worker.kind.is_declared and twin):
            self.refusals = max(0, self.refusals - 1)
            self.refused.add(worker.uid)
            return
        self._begin(worker)

    # A pod's life

    def _begin(self, worker: Worker) -> None:
        self.workers[worker.uid] = worker
        self._after_for(worker, self._random(0.1, 0.4), self._make_sandbox)

    def _make_sandbox(self, worker: Worker, has_secrets: bool = False) -> None:
        runtime = self.node.runtime
        if not runtime.answers:
            self._after_for(worker, 2.0, self._make_sandbox)
            return
        if runtime.sandbox_of(worker.uid) is not None:
            self._start_all(worker)
            return
        worker.has_secrets |= worker.pod is None or has_secrets or self.node.can_use_api()
        if not worker.has_secrets:
            worker.is_waiting = True
            return
        self._add_sandbox(worker)
        self._after_for(worker, self._random(0.15, 0.3), self._start_all)

    def _add_sandbox(self, worker: Worker) -> None:
        self.node.runtime.make_sandbox(
            Sandbox(
                "",
                NAMESPACE,
                worker.name,
                worker.uid,
                0,
                True,
                self.node.stamp(),
                worker.labels,
                {"kubernetes.io/config.source": worker.source},
            )
        )

    def _start_all(self, worker: Worker) -> None:
        """Start what does not run and is not in its backoff, one after the other."""
        seconds = 0.0
        for program in worker.programs:
            running = self._running(worker, program)
            if running is not None:
                program.since = self.node.runtime.processes[running.id].since
                self._report(worker)
                self._watch_readiness(worker, program)
            elif not program.in_backoff:
                if seconds:
                    self._plan(worker, program, seconds, self._restart)
                else:
                    self._start(worker, program)
                seconds = self._random(0.05, 0.2) if worker.kind.beside else 0.0

    def _restart(self, worker: Worker, program: Program) -> None:
        """Start one whose backoff has passed: in the pod's sandbox, or in a new one."""
        program.in_backoff = False
        if self.node.runtime.answers and self.node.runtime.sandbox_of(worker.uid) is not None:
            self._start(worker, program)
        else:
            self._make_sandbox(worker)

    def _start(self, worker: Worker, program: Program) -> None:
        node, runtime = self.node, self.node.runtime
        sandbox = runtime.sandbox_of(worker.uid)
        if not runtime.answers or sandbox is None:
            self._plan(worker, program, 1.0, self._restart)
            return
        if self._running(worker, program) is not None:
            return
        if worker.pod is None and not self._is_in_folder(worker):
            return  # no longer synced, and with its sources not ready not stopped either
        if runtime.containers_of(worker.uid, program.name):
            program.failures += 1  # only a dead one that the runtime knows makes it count
        is_main = program.name == worker.kind.main
        is_taken = is_main and runtime.is_taken(worker.kind.ports)
        is_broken = is_main and self._is_broken(worker)
        program.events += 1
        program.in_backoff = False
        program.since, worker.has_secrets = node.now, True
        process = Running(
            worker.kind,
            worker.pod is None,
            worker.version,
            node.now,
            is_taken or is_broken,
            program.name,
        )
        made = runtime.start(sandbox, process, node.stamp())
        if process.is_doomed:
            seconds = self._random(0.3, 0.8) if is_taken else self._random(1.0, 3.0)
            node.timeline.after(seconds, lambda: self._try_port(made.id, process, is_broken))
        lives = node.cluster.lives.get((worker.kind.name, worker.version))
        if is_main and lives is not None:
            node.timeline.after(lives, lambda: runtime.exit(made.id))
        self._watch_readiness(worker, program)
        node.timeline.after(worker.kind.boot_seconds + 0.001, node.readiness_changed)

    def _is_broken(self, worker: Worker) -> bool:
        if worker.pod is None and worker.kind.name in self.node.bad_copies:
            return True
        return (worker.kind.name, worker.version) in self.node.cluster.broken

    def _try_port(self, container_id: str, process: Running, is_broken: bool) -> None:
        """Let a program that is as far as its port have it, or die."""
        if is_broken or self.node.runtime.is_taken(process.kind.ports):
            self.node.runtime.exit(container_id)
        else:
            self.node.runtime.let_live(process)

    def runtime_changed(self) -> None:
        """Note containers that have ended: each is started again after its backoff."""
        if not self.is_up or not self.node.runtime.answers:
            return
        for worker in self.workers.values():
            for program in worker.programs:
                self._look_at(worker, program)

    def _look_at(self, worker: Worker, program: Program) -> None:
        if worker.is_terminating:
            return
        if program.since and self._running(worker, program) is None:
            self._ended(worker, program)
        elif program.in_backoff and self._is_forgotten(worker, program):
            program.in_backoff = False
            looked_between = self.node.random.random() < 0.1
            step = self._make_empty_sandbox if looked_between else self._restart
            self._plan(worker, program, self._random(0.2, 1.2), step)

    def _make_empty_sandbox(self, worker: Worker, program: Program) -> None:
        """Make its sandbox as a kubelet does that saw its dead just before they were forgotten."""
        if self.node.runtime.answers and self.node.runtime.sandbox_of(worker.uid) is None:
            self._add_sandbox(worker)
        program.in_backoff = True
        self._plan(worker, program, self._backoff_of(program), self._restart)

    def _is_forgotten(self, worker: Worker, program: Program) -> bool:
        """Tell whether its sandbox has ended and no dead container is known: it has no backoff."""
        runtime = self.node.runtime
        return not (
            runtime.sandbox_of(worker.uid) or runtime.containers_of(worker.uid, program.name)
        )

    def _ended(self, worker: Worker, program: Program) -> None:
        lived, program.since = self.node.now - program.since, 0.0
        if lived >= BACKOFF_FORGOTTEN_SECONDS:
            program.failures = min(program.failures, 1)
        seconds = self._backoff_of(program)
        program.in_backoff = True
        self._plan(worker, program, seconds + self._random(0.2, 1.2), self._restart)
        self._report(worker)

    def _backoff_of(self, program: Program) -> float:
        backoff = FIRST_BACKOFF_SECONDS * 2.0 ** min(max(program.failures - 1, 0), 10)
        return min(backoff, LONGEST_BACKOFF_SECONDS) if program.failures else 0.0

    def _running(self, worker: Worker, program: Program) -> Container | None:
        processes = self.node.runtime.processes
        found = self.node.runtime.containers_of(worker.uid, program.name)
        return next((c for c in found if c.id in processes), None)

    def _watch_readiness(self, worker: Worker, program: Program) -> None:
        """Look at its probe when it should have passed: it may be the copy that answers it."""
        number = program.events

        def look() -> None:
            if self.workers.get(worker.uid) is worker and program.events == number:
                self._report(worker)

        quick = min(worker.kind.boot_seconds, 0.5)
        self._after(quick, look)
        self._after(worker.kind.boot_seconds + 0.2, look)

    def _report(self, worker: Worker) -> None:
        """Write the pod's status into the API, if that serves."""
        pod = worker.pod
        if pod is None or not self.knows_pods or not self.node.can_use_api():
            return
        running = [self._running(worker, program) for program in worker.programs]
        main = running[0]
        ready = main is not None and all(running) and self._passes_probe(worker, main)
        known = [self.node.runtime.containers_of(worker.uid, p.name) for p in worker.programs]
        shown = {of_name[-1].name: of_name[-1].id for of_name in known if of_name}
        if (pod.ready_at is not None) != ready or pod.container_ids != shown:
            pod.container_ids = shown
            if not ready:
                pod.ready_at = None
            elif pod.ready_at is None:
                pod.ready_at = self.node.wall()
            self.node.cluster.changed(pod)

    def _passes_probe(self, worker: Worker, running: Container) -> bool:
        process = self.node.runtime.processes[running.id]
        if not process.is_doomed:
            return self.node.now - process.since >= worker.kind.boot_seconds
        others = self.node.runtime.mains(worker.kind)
        return worker.kind.on_host_network and any(not p.is_doomed for p in others)

    def _is_in_folder(self, worker: Worker) -> bool:
        return worker.uid in self.manifests()

    def _terminate(self, worker: Worker) -> None:
        if not worker.is_terminating:
            worker.is_terminating = True
            self._after_for(worker, self._random(0.5, 3.0), self._end)

    def _end(self, worker: Worker) -> None:
        runtime = self.node.runtime
        if not runtime.answers:
            self._after_for(worker, 2.0, self._end)
            return
        sandbox = runtime.sandbox_of(worker.uid)
        if sandbox is not None:
            runtime.stop_sandbox(sandbox.id)
        runtime.forget(worker.uid)
        self.workers.pop(worker.uid, None)
        if worker.pod is not None and worker.pod.is_terminating:
            self._finish(worker.pod)
        self.api_changed()  # it may be wanted again since

    def _finish(self, pod: ApiPod) -> None:
        if self.node.can_use_api():
            self.node.cluster.finish(pod)
