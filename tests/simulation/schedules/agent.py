"""The real agent in virtual time: its cycle, decision and applying, with its adapters' edges cut.

The store and the manifest folder are the real ones. What waits, listens or talks is not: the
probe, the pods' watch, the runtime, the kubelet's socket, the folder watch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from checkpointer.agent import (
    FIRST_FAULT_PAUSE_SECONDS,
    SHORTEST_PAUSE_SECONDS,
    Agent,
)
from checkpointer.apply import Applier
from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint, Revision
from checkpointer.core.contact import (
    Contact,
    ContactRules,
    ProbeOutcome,
    ProbeResult,
    after_probe,
    initial_contact,
    next_probe_in,
)
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.moment import Moment
from checkpointer.core.plan import Plan
from checkpointer.core.turns import Masters
from checkpointer.core.workload import identifying_labels, template_of, workload_of
from checkpointer.errors import ApiError
from checkpointer.kept_memory import KeptMemory
from checkpointer.manifest.render import mark_of
from checkpointer.node.cluster import ClusterPin
from checkpointer.node.manifests import ManifestFolder
from checkpointer.node.masters import ENDPOINTS, NODES
from checkpointer.node.probe import REFUSED
from checkpointer.observe import Observer, PodReader, RawPod
from checkpointer.settings import selection
from checkpointer.store.revisions import NewRevision, Store
from tests.simulation.schedules.cluster import StoredLease
from tests.simulation.schedules.disk import AgentKilledError, NodeDisk

if TYPE_CHECKING:
    from tests.simulation.schedules.node import Node

PROBE_TIMEOUT_SECONDS = 2.0
KEEP_REVISIONS = 3


class Prober:
    """The probe's thread in virtual time; the machine behind it is the real one."""

    def __init__(self, node: Node, rules: ContactRules, wake: Callable[[], None]) -> None:
        self._node, self._rules, self._wake = node, rules, wake
        self.contact = initial_contact(node.monotonic())
        self._is_closed, self._is_asking = False, False
        self._round = 0

    def start(self) -> None:
        self.kick()

    def kick(self) -> None:
        """Probe now, unless a probe is under way."""
        if not self._is_asking and not self._is_closed:
            self._round += 1
            self._node.timeline.after(0.0, self._asker())

    def ask(self, endpoint: str, timeout_seconds: float) -> ProbeResult:
        """Probe another master's API server, which is called by its node's name."""
        other = next(n for n in self._node.cluster.nodes if n.name == urlsplit(endpoint).hostname)
        if not self._node.has_network or not other.has_network:
            return ProbeResult(ProbeOutcome.FAILED, "timeout")
        if not other.serves_api():
            return ProbeResult(ProbeOutcome.FAILED, REFUSED)
        return ProbeResult(ProbeOutcome.ANSWERED, "HTTP 200")

    def close(self) -> None:
        self._is_closed = True

    def _asker(self) -> Callable[[], None]:
        number = self._round

        def ask() -> None:
            if not self._is_closed and not self._is_asking and number == self._round:
                self._ask()

        return ask

    def _ask(self) -> None:
        self._is_asking = True
        outcome, seconds = self._node.probe()
        result = ProbeResult(outcome, outcome.value)
        self._node.timeline.after(seconds, lambda: self._judge(result))

    def _judge(self, result: ProbeResult) -> None:
        self._is_asking = False
        if self._is_closed:
            return
        before, now = self.contact, self._node.monotonic()
        self.contact = after_probe(before, [result], self._rules, now)
        if (before.state, before.is_answering) != (self.contact.state, self.contact.is_answering):
            self._wake()
        self._round += 1
        self._node.timeline.after(next_probe_in(self.contact, self._rules), self._asker())


class Pods:
    """The pods' watch in virtual time: lists when the API can be used, tells every change."""

    def __init__(self, node: Node, wake: Callable[[], None], on_break: Callable[[], None]) -> None:
        self._node, self._wake, self._on_break = node, wake, on_break
        self.pods: Fact[tuple[RawPod, ...]] = Unknown("the API has not been asked yet")
        self.was_asked = False
        self.client = object()
        self._is_started = self._is_closed = self._is_due = False
        self._failures = 0

    def find(self, path: str) -> Fact[Mapping[str, Any] | None]:
        """Return the namespace that tells the cluster's identity, where the API servers are, or
        this node; nothing else can be read."""
        if path == "/api/v1/namespaces/kube-system":
            return Known({"metadata": {"uid": self._node.cluster_uid()}})
        if not self._node.can_use_api() or not isinstance(self.pods, Known):
            return Unknown("the API does not answer")
        if path == ENDPOINTS:
            return Known(self._node.cluster.endpoints())
        if path == f"{NODES}/{self._node.name}":
            return Known({"status": {"addresses": [{"address": self._node.name}]}})
        return Unknown("not simulated")

    def get(self, path: str) -> Mapping[str, Any]:
        """Return the masters' lease; nothing else can be read."""
        return self._etcd().read()

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._etcd().create(body)

    def put(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._etcd().update(body)

    def delete_pod(self, namespace: str, name: str, uid: str) -> None:
        if not self._node.can_use_api():
            raise ApiError("the API does not answer")
        if (pod := self._node.cluster.pods.get(uid)) is not None:
            self._node.cluster.delete(pod)

    def _etcd(self) -> StoredLease:
        if not self._node.can_use_api() or not isinstance(self.pods, Known):
            raise ApiError("the API does not answer")
        return self._node.cluster.lease

    def start(self) -> None:
        self._is_started = True
        self._follow(0.2)

    def retry_now(self) -> None:
        self._failures = 0
        self._follow(0.05)

    def drop(self, reason: str) -> None:
        self.pods = Unknown(reason)

    def interrupt(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        self._is_closed = True

    def changed(self) -> None:
        """Note that the API's pods have changed, or whether it serves."""
        if not self._is_started or self._is_closed:
            return
        if isinstance(self.pods, Known) and not self._node.can_use_api():
            if not self._node.breaks_silently():
                self._lose()
                self._on_break()
            return
        self._follow(0.1)

    def _follow(self, seconds: float) -> None:
        if self._is_started and not self._is_due:
            self._is_due = True
            self._node.timeline.after(seconds, self._ask)

    def _ask(self) -> None:
        self._is_due = False
        if self._is_closed:
            return
        if not self._node.can_use_api():
            if not isinstance(self.pods, Known):
                self._lose()
            return
        self._failures = 0
        pods = tuple(pod.raw() for pod in self._node.listed(for_kubelet=False))
        if self.pods != Known(pods) or not self.was_asked:
            self.pods, self.was_asked = Known(pods), True
            self._wake()

    def _lose(self) -> None:
        self.pods, self.was_asked = Unknown("the API does not answer"), True
        self._failures += 1
        self._wake()
        if self._node.has_fault():
            self._follow(min(0.5 * 2.0 ** min(self._failures, 6), 30.0))


class FolderWatch:
    """The folder watch: told by the node, which knows what is changed."""

    def __init__(self) -> None:
        self._watched: list[tuple[Path, Callable[[Path], None]]] = []
        self._begun = 0

    def add(self, path: Path, on_change: Callable[[Path], None], recursive: bool = False) -> None:
        self._watched.append((path, on_change))

    def ensure(self) -> None:
        """Begin what has not begun; what happened before counts as a change."""
        begun, self._begun = self._begun, len(self._watched)
        for path, on_change in self._watched[begun:]:
            on_change(path)

    def is_blind_to(self, path: Path) -> bool:
        return False

    def close(self) -> None:
        self._watched = []

    def tell(self, path: Path) -> None:
        """Call back whoever watches this path."""
        for watched, on_change in self._watched[: self._begun]:
            if watched == path or watched in path.parents:
                on_change(path)


class Wake:
    """What the loop waits for: here, when its next cycle comes."""

    def __init__(self, due: Callable[[], None]) -> None:
        self.set = due

    def clear(self) -> None:
        """Every cycle looks at everything."""


@dataclass
class Snapshooter:
    """Stores a revision when the parent's version has changed; the sanitizing is left out."""

    store: Store
    node: Node
    runtime: object = None

    def take(
        self,
        pod: Mapping[str, Any],
        checkpoint: Checkpoint | None,
        active_revision: Fact[int | None],
        created_at: float,
    ) -> Revision | None:
        workload = workload_of(pod)
        kind = self.node.kind_of(workload)
        image = pod["spec"]["containers"][0]["image"]
        newest = checkpoint.revisions[0] if checkpoint and checkpoint.revisions else None
        if newest is not None and checkpoint and checkpoint.is_current and newest.digest == image:
            return None
        labels = identifying_labels(pod["metadata"]["labels"])
        revision = Revision(
            0,
            image,
            pod["metadata"]["uid"],
            pod["metadata"]["name"],
            tuple(sorted(labels.items())),
            kind.containers,
            kind.stage,
            not kind.ports,
            created_at,
            kind.ports,
            kind.on_host_network,
            template_of(pod["metadata"]["labels"]),
        )
        spec = {"containers": pod["spec"]["containers"]}
        manifest = {"kind": "Pod", "metadata": {"labels": labels}, "spec": spec}
        stored = self.store.add(NewRevision(workload, revision, lambda _: manifest))
        keep = [r.number for r in checkpoint.revisions] if checkpoint else []
        kept = {stored.number, *keep[: KEEP_REVISIONS - 1]}
        if isinstance(active_revision, Known):
            self.store.prune(workload, kept | {active_revision.value or 0})
        return stored


class VirtualAgent(Agent):
    """One run of the agent on one node; `die` ends it as a kill does."""

    def __init__(self, node: Node, config: Config, disk: NodeDisk) -> None:
        super().__init__(config, prober=Prober(node, config.contact, self._contact_changed))
        self._node, self._disk = node, disk
        self.is_dead = False
        self._wake = Wake(self._woken)
        self._pods = Pods(node, self._wake.set, self._prober.kick)
        self._store = Store(config.store_directory, disk)
        self._folder = ManifestFolder(config.manifest_directory, mark_of, disk)
        self._kubelet = node.kubelet
        reader = PodReader(selection(config.selection), node.kubelet)
        self._observer = Observer(reader, node.kubelet, self._folder, self._store)
        self._applier = Applier(self._store, self._folder, node.name)
        self._applier.delete_pod = self._pods.delete_pod
        self._turns = self._make_turns()
        self._kept = KeptMemory(self._store)
        self._cluster = ClusterPin(config.kubeconfig, self._pods, self._store)
        self._runtime = node.runtime
        self._observer.runtime = self._applier.runtime = node.runtime
        self._watch = FolderWatch()
        self._due = float("inf")
        self._earliest = 0.0
        self._planned = 0

    def begin(self) -> None:
        """Start it, as `run` does."""
        self._prober.start()
        self._guarded(self._prepare)
        self._due_at(self._node.now)

    def die(self) -> None:
        """End the process: its threads and watches go with it."""
        if not self.is_dead:
            self.is_dead = True
            self._prober.close()
            self._pods.close()
            self._watch.close()
            if self._events is not None:
                self._events.close()

    @property
    def contact(self) -> Contact:
        return self._prober.contact

    @property
    def masters(self) -> Fact[Masters]:
        return self._turns.masters

    @property
    def faults(self) -> int:
        """Return how many cycles in a row have failed."""
        return self._faults

    @property
    def store(self) -> Store:
        return self._store

    def api_changed(self) -> None:
        self._pods.changed()

    def told(self, path: Path) -> None:
        """Note that something in a folder was changed."""
        self._watch.tell(path)

    def _now(self) -> Moment:
        return Moment(self._boot_id, self._node.monotonic(), self._node.wall())

    def _equip_snapshots(self) -> None:
        if self._applier.snapshooter is None and isinstance(self._pods.pods, Known):
            self._applier.snapshooter = Snapshooter(self._store, self._node)

    def _woken(self) -> None:
        self._due_at(max(self._node.now, self._earliest))

    def _due_at(self, when: float) -> None:
        if when < self._due:
            self._due = when
            self._planned += 1
            number = self._planned
            self._node.timeline.at(when, lambda: self._turn(number))

    def _turn(self, number: int) -> None:
        if self.is_dead or number != self._planned:
            return
        self._due = float("inf")
        self._earliest = self._node.now + SHORTEST_PAUSE_SECONDS
        plan: list[Plan | None] = []
        if not self._guarded(lambda: plan.append(self._cycle_safely())):
            return
        if plan[0] is None:
            pause = FIRST_FAULT_PAUSE_SECONDS * 2.0 ** min(self._faults - 1, 16)
            self._earliest = self._node.now + min(pause, self._config.timing.tick_seconds)
            self._due = float("inf")
            self._due_at(self._earliest)
            return
        self._due_at(max(self._earliest, self._node.now + plan[0].wake_in))

    def cycle(self) -> Plan:
        plan = super().cycle()
        self._node.judge(plan)
        return plan

    def _guarded(self, step: Callable[[], object]) -> bool:
        """Return False when the process died in it."""
        try:
            step()
        except AgentKilledError:
            self._node.agent_died()
            return False
        return True
