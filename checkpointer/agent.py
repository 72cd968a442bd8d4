"""The loop: observe, decide, apply, one sentence; nothing else.

It is woken by events (contact changes, the pods' watch, container events, the folders) and has a
slow tick as a safety net. What is heavy to import comes after the first decision: at boot with
the API away, a second spent on the Kubernetes client is a second without an API server.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from checkpointer.apply import Applier
from checkpointer.config import Config
from checkpointer.core.contact import ContactState
from checkpointer.core.decide import decide, needs_runtime
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.lease import Turn
from checkpointer.core.moment import Moment
from checkpointer.core.observation import Observation
from checkpointer.core.plan import Memory, Plan, Snapshot
from checkpointer.core.sentence import sentence
from checkpointer.errors import CheckpointerError
from checkpointer.kept_memory import KeptMemory
from checkpointer.manifest.render import mark_of
from checkpointer.master_turns import MasterTurns
from checkpointer.node.cluster import ClusterPin
from checkpointer.node.folders import FolderWatch
from checkpointer.node.installation import Installation, read_pod_uid
from checkpointer.node.kubeconfig import read_kubeconfig
from checkpointer.node.kubelet import Kubelet, read_boot_id
from checkpointer.node.patient_manifests import PatientManifestFolder
from checkpointer.node.pods import NodePods
from checkpointer.node.probe import Prober, prober_of
from checkpointer.observe import Observer, PodReader, RawPod
from checkpointer.report.problems import Problems
from checkpointer.report.reporter import Reporter, read_clocks
from checkpointer.settings import check, selection, snapshot_settings
from checkpointer.store.revisions import Store
from checkpointer.values import replace

if TYPE_CHECKING:
    from checkpointer.node.cri import ContainerRuntime
    from checkpointer.node.cri_events import Watch

log = logging.getLogger(__name__)

SHORTEST_PAUSE_SECONDS = 0.05
"""Between two cycles, however many events come in: the agent never loops hot."""

FIRST_FAULT_PAUSE_SECONDS = 0.25
"""After a cycle that failed; doubles up to the tick, whatever events come in."""

EVENTS_CLOSE_SECONDS = 1.0
"""How long an agent that ends by itself, with --once, waits for its last Events to be posted."""

LOOK_SECONDS = 0.05
"""How long the runtime may take while somebody waits for the status, who does not wait for long."""

LEFT_SECONDS = 60.0
"""How long an agent that has left waits to be ended by the kubelet, which could start it anew."""


class Wake:
    """What the loop waits for. Setting it is safe in a signal handler.

    A threading.Event is not: its lock may be held by the very thread that the signal interrupts.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """End the wait of now, or the next one. From any thread."""
        if self._queue.empty():
            self._queue.put(None)

    def clear(self) -> None:
        """Forget what was set so far: whoever calls this looks at everything afterwards."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def wait(self, seconds: float) -> None:
        """Wait until it is set, at most for so long."""
        with contextlib.suppress(queue.Empty):
            self._queue.get(timeout=seconds)


class Agent:
    """One node's agent. `run` returns when `stop` was called, between two cycles."""

    def __init__(self, config: Config, dry_run: bool = False, prober: Prober | None = None) -> None:
        """Make it of its settings; `prober` is theirs, and may be at work already."""
        self._config, self._dry_run = config, dry_run
        self._node_name = config.node_name or socket.gethostname().lower()
        self._wake = Wake()
        self._stopping = False
        self._prober = prober or prober_of(config)
        self._prober.on_change = self._contact_changed
        self._pods = NodePods(config.kubeconfig, self._node_name, self._wake.set, self._prober.kick)
        self._pods_started = False
        self._watching = False
        self._store = Store(config.store_directory)
        self._folder = PatientManifestFolder(
            config.manifest_directory, mark_of, on_late=self._wake.set
        )
        self._kubelet = Kubelet(config.kubelet_directory, config.snapshot.max_material_bytes)
        self._observer = Observer(
            PodReader(selection(config.selection), self._kubelet),
            self._kubelet,
            self._folder,
            self._store,
            Installation(config.pod_uid or read_pod_uid(), config.kubeconfig, self._pods.find),
        )
        self._applier = Applier(self._store, self._folder, self._node_name, dry_run)
        self._runtime: ContainerRuntime | None = None
        self._cluster = ClusterPin(config.kubeconfig, self._pods, self._store, dry_run)
        self._events: Watch | None = None
        self._watch = FolderWatch()
        check(config)
        self._was_answering = False
        self._judged = ContactState.SUSPECT
        """The state of contact that the last decision was made on."""
        self._is_settled = False
        """Whether the last decision was made on contact that was judged, and its pods."""
        self._kept = KeptMemory(self._store)
        self._memory = Memory()
        self._problems = Problems()
        self.reporter = Reporter(
            config,
            self._store,
            self._pods,
            self._node_name,
            lambda: self._prober.contact,
            self._look_now,
        )
        """For whoever asks about the agent, from any thread."""
        self.verdicts = self.reporter.verdicts
        self._applier.delete_pod = self._pods.delete_pod
        self._applier.is_overtaken = lambda: self._prober.contact.state is not self._judged
        self._rules = replace(config.timing, replace_parents=config.hand_over.replace_parent)
        self._applier.on_done = self.reporter.recorder.done
        self._applier.on_failed = self.reporter.recorder.failed
        self._prober.on_result = self.reporter.tally.probed
        self._told: tuple[object, ...] = ()
        self._faults = 0
        """Cycles in a row that failed."""
        self._is_carried = True
        """Whether the last plan was made on what the API knows and all of it could be applied."""
        self._boot_id = ""
        self._turns = self._make_turns()

    def _make_turns(self) -> MasterTurns:
        return MasterTurns(
            self._config,
            self._node_name,
            self._store,
            self._pods,
            self._prober,
            lambda: self._now().monotonic,
            self._dry_run,
        )

    def _look_now(self) -> None:
        self._prober.kick()
        self._wake.set()

    def stop(self) -> None:
        """End the loop after the cycle that is under way. Safe in a signal handler."""
        self._stopping = True
        self._pods.interrupt()
        self._wake.set()

    def run(self, once: bool = False) -> bool:
        """Run until `stop`, or with `once` until one cycle has been decided on settled contact.

        Return whether the last cycle could be carried through.
        """
        self._prober.start()
        try:
            self._prepare()
            if not once and not self._dry_run:
                self.reporter.start()
            while not self._stopping:
                self._wake.clear()
                plan = self._cycle_safely()
                if self._applier.is_giving_way or self._applier.has_left:
                    self._end()
                    break
                if once and (plan is None or self._is_settled):
                    break
                self._pause(plan)
        finally:
            self._close()
        if once and self._judged is ContactState.DENIED:
            log.error(
                "nothing was snapshotted, activated or removed: contact is denied (%s); "
                "`checkpointer doctor` says what to mend",
                self._prober.contact.reason,
            )
            return False
        return self._faults == 0 and self._is_carried

    @property
    def has_left(self) -> bool:
        """Tell whether all of ours is gone from the node, for good."""
        return self._applier.has_left

    def cycle(self) -> Plan:
        """Observe, decide, apply, and tell what was done."""
        now = self._now()
        contact, was_asked = self._prober.contact, self._pods.was_asked
        if contact.state in (ContactState.LOST, ContactState.DENIED):
            pods: Fact[tuple[RawPod, ...]] = Unknown(f"contact is {contact.state.value}")
        else:
            pods = self._pods.pods
        self._find_runtime()
        self._equip_snapshots()
        seen = self._observer.observe(contact, pods, now, self._applier.has_failed)
        asks_runtime = needs_runtime(
            contact, seen.manifests, seen.checkpoints, self._observer.itself
        )
        # Amid an outage no time is lost on what is known; whoever seems to be alone asks again.
        if not asks_runtime or self._turns.seem_to_be_one:
            self._turns.read(contact.state, now)
        is_own = self._cluster.answer
        if contact.state is ContactState.REACHABLE and isinstance(pods, Known):
            is_missing = any(track.absent_seconds for track in self._memory.tracks.values())
            here = seen.pods.value if isinstance(seen.pods, Known) else ()
            parents = frozenset(p.uid for p in here if p.is_parent and p.ready)
            is_own = self._cluster.look(contact.since, now.monotonic, is_missing, parents)
        seen = self._turns.told(replace(seen, is_own_cluster=is_own), now)
        self._follow_events(asks_runtime)
        failed = frozenset(self._applier.failed_snapshots)
        before = self._memory.kubelet_seen
        asked = self.reporter.requests.newest
        memory = self._memory if asked is None else replace(self._memory, attempts={})
        plan = decide(seen, memory, self._rules, failed, now, self._node_name)
        if plan.turn is Turn.WANTED and not self._dry_run:
            seen = self._turns.ask(seen, now)
            plan = decide(seen, memory, self._rules, failed, now, self._node_name)
        self._judged = contact.state
        self._tell(plan, seen)
        self._tell_problems(seen, was_asked, now)
        self.reporter.recorder.begin(seen, now)
        done = self._applier.apply(plan, seen, pods, now)
        if isinstance(seen.pods, Known) and not seen.has_untold_pods:
            self.verdicts.retain({pod.workload for pod in seen.pods.value if pod.is_parent})
        is_blind = contact.state is ContactState.REACHABLE and isinstance(seen.pods, Unknown)
        self._is_carried = done and not is_blind
        plan = self._turns.follow(plan, seen, now, asks_runtime)
        self._remember(plan.memory)
        problems = (
            *self._observer.problems,
            *self._kept.problems,
            *self._cluster.problems,
        )
        self.reporter.end(seen, plan, now, problems, self._applier.failed_snapshots)
        self.reporter.answer(asked, seen, plan, self._applier.failed_snapshots)
        if plan.memory.kubelet_seen != before:
            self._prober.kick()  # does the new kubelet have contact?
        self._is_settled = contact.state is not ContactState.SUSPECT and (
            contact.state is not ContactState.REACHABLE or was_asked
        )
        return plan if done else replace(plan, wake_in=min(plan.wake_in, 1.0))

    def _cycle_safely(self) -> Plan | None:
        try:
            plan = self.cycle()
            self._after_first_decision()
        except Exception:  # a fault in one cycle must not end the watch over the node
            log.exception("the cycle failed; the next one follows")
            self._faults += 1
            self.reporter.tally.failed_cycles += 1
            return None
        self._faults = 0
        return plan

    def _end(self) -> None:
        """Be done: at once for the parked instance, or when the kubelet ends this one."""
        if self._applier.has_left:
            self.reporter.left()
            self._sleep(LEFT_SECONDS)

    def _pause(self, plan: Plan | None) -> None:
        """Wait until something happens or is due; after a fault wait whatever happens."""
        if plan is not None:
            self._sleep(SHORTEST_PAUSE_SECONDS)
            if not self._stopping:
                self._wake.wait(max(0.0, plan.wake_in - SHORTEST_PAUSE_SECONDS))
            return
        pause = FIRST_FAULT_PAUSE_SECONDS * 2.0 ** min(self._faults - 1, 16)
        self._sleep(min(pause, self._config.timing.tick_seconds))

    def _sleep(self, seconds: float) -> None:
        """Sleep for so long or until the agent is to stop: a signal does not end time.sleep."""
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, SHORTEST_PAUSE_SECONDS))

    def _prepare(self) -> None:
        self._turns.recall()
        boot_id = read_boot_id(self._config.boot_id_file)
        if isinstance(boot_id, Unknown):
            log.warning("%s", boot_id.reason)
        else:
            self._boot_id = boot_id.value
        self._memory = self._kept.recalled(boot_id, lambda: self._kubelet.run(self._boot_id))
        self._observer.itself = self._memory.own.workload

    def _after_first_decision(self) -> None:
        """Start what is heavy, once a decision has been made on contact that was judged.

        The Kubernetes client waits for the API's first answer: while an API server of ours
        starts, its import would take the processor from it.
        """
        is_judged = self._judged is not ContactState.SUSPECT
        if is_judged:
            self.reporter.serve()
        if is_judged and not self._pods_started and not self._prober.contact.is_gone:
            self._pods_started = True
            self._pods.start()
        if self._watching:
            self._watch.ensure()
            if self._watch.is_blind_to(self._config.store_directory):
                self._store.invalidate()
            return
        if self._judged is ContactState.SUSPECT:
            return
        self._watching = True
        if not self._dry_run:
            self._clean()
        self._watch.add(self._config.manifest_directory, self._folder_changed)
        sockets = self._config.kubelet_directory / "pod-resources"
        self._watch.add(sockets, self._folder_changed)
        self._watch.add(self._config.store_directory, self._store_changed, recursive=True)
        self._watch.ensure()

    def _clean(self) -> None:
        try:
            self._folder.clean()
        except CheckpointerError as error:
            log.warning("%s", error)
        for problem in self._store.clean():
            log.warning("%s", problem)

    def _store_changed(self, path: Path) -> None:
        if self._store.invalidate_path(path):
            self._wake.set()

    def _folder_changed(self, _: Path) -> None:
        self._wake.set()

    def _contact_changed(self) -> None:
        """Give the watch up when contact is lost, and resume it at the first answer.

        In the prober's thread: the loop may be waiting for an answer that will not come.
        """
        contact = self._prober.contact
        if contact.state is ContactState.LOST and not contact.is_answering:
            self._pods.drop("contact is lost")
        elif contact.is_answering and not self._was_answering:
            self._pods.retry_now()
        self._was_answering = contact.is_answering
        self._wake.set()

    def _find_runtime(self) -> None:
        if self._runtime is not None:
            return
        # Not before: while this is imported the first probes are on their way.
        from checkpointer.node.cri import ContainerRuntime, find_runtime

        endpoint = self._config.runtime_endpoint
        runtime = ContainerRuntime(endpoint) if endpoint else find_runtime()
        if runtime is not None:
            self._runtime = runtime
            self.reporter.look = ContainerRuntime(runtime.endpoint, LOOK_SECONDS).observe
            self._observer.runtime = self._applier.runtime = self._runtime
            if self._applier.snapshooter is not None:
                self._applier.snapshooter.runtime = self._runtime

    def _follow_events(self, wanted: bool) -> None:
        """Follow the runtime's events while a decision depends on the runtime."""
        if not wanted and self._events is not None:
            self._events.close()
            self._events = None
        elif wanted and self._events is None and self._runtime is not None:
            self._events = self._runtime.watch(self._wake.set)

    def _tell(self, plan: Plan, seen: Observation) -> None:
        """Log the sentence when what it says has changed.

        Looking at pods again is no change: a snapshot that stored anything is told of by itself.
        """
        actions = [a for a in plan.actions if self._dry_run or not isinstance(a, Snapshot)]
        told = (
            seen.contact.state,
            tuple((type(action), action.workload) for action in actions),
            tuple((workload, standing.state) for workload, standing in plan.standings.items()),
        )
        if told != self._told:
            self._told = told
            own = seen.itself.workload if seen.itself is not None else None
            said = sentence(seen, actions, plan.standings, own)
            log.info("%s%s", "dry run: " if self._dry_run else "", said)

    def _tell_problems(self, seen: Observation, was_asked: bool, now: Moment) -> None:
        pods = ""
        if (
            isinstance(seen.pods, Unknown)
            and seen.contact.state is ContactState.REACHABLE
            and was_asked
        ):
            pods = f"this node's pods are not known: {seen.pods.reason}"
        self._problems.tell_passing(pods, now.monotonic)
        problems = (
            *self._observer.problems,
            *self._kept.problems,
            *self.reporter.problems,
            *self._cluster.problems,
        )
        self._problems.tell(problems)

    def _remember(self, memory: Memory) -> None:
        is_kept = not self._dry_run and not self._applier.has_left
        self._memory = self._kept.kept(self._memory, memory) if is_kept else memory

    def _equip_snapshots(self) -> None:
        """Let snapshots be taken as soon as there is a client to read the API with."""
        if self._applier.snapshooter is not None or self._pods.client is None:
            return
        from checkpointer.snapshot import Snapshooter

        try:
            server = self._config.endpoints[0] if self._config.endpoints else None
            server = server or read_kubeconfig(self._config.kubeconfig).server
        except CheckpointerError as error:
            log.warning("%s", error)
            return
        self._applier.snapshooter = Snapshooter(
            self._store,
            self._kubelet,
            self._pods,
            snapshot_settings(self._config, self._node_name, server),
            self.reporter.judged,
        )
        self._applier.snapshooter.runtime = self._runtime

    def _now(self) -> Moment:
        return read_clocks(self._boot_id)

    def _close(self) -> None:
        self._prober.close()
        self.reporter.close(0.0 if self._stopping else EVENTS_CLOSE_SECONDS)
        self._pods.close()
        self._watch.close()
        if self._events is not None:
            self._events.close()
        if self._runtime is not None:
            self._runtime.close()
