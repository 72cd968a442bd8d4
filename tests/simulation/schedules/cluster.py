"""The cluster: which pods the API knows, who makes new ones, whether the API serves at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

from checkpointer.errors import ApiError
from tests.simulation.schedules.timeline import WALL_AT_START, Timeline
from tests.simulation.schedules.workloads import NAMESPACE, Kind

if TYPE_CHECKING:
    from tests.simulation.schedules.node import Node


@dataclass(eq=False)
class ApiPod:
    """One pod that the API binds to a node."""

    uid: str
    kind: Kind
    node: str
    version: int
    resource_version: int = 1
    is_terminating: bool = False
    is_failed: bool = False
    is_marked: bool = True
    ready_at: float | None = None
    """By the node's clock, as the kubelet wrote it."""
    container_ids: dict[str, str] = field(default_factory=dict)
    """By the containers' names, as the kubelet wrote them."""
    _raw: tuple[int, dict[str, Any]] | None = None

    @property
    def name(self) -> str:
        return f"{self.kind.name}-{self.uid[-5:]}"

    @property
    def labels(self) -> dict[str, str]:
        return {"k8s-app": self.kind.name, "controller-revision-hash": f"v{self.version}"}

    def raw(self) -> dict[str, Any]:
        """Return it as the API sends it."""
        if self._raw is None or self._raw[0] != self.resource_version:
            self._raw = (self.resource_version, self._made())
        return self._raw[1]

    def _made(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "name": self.name,
            "namespace": NAMESPACE,
            "uid": self.uid,
            "resourceVersion": str(self.resource_version),
            "labels": self.labels,
            "annotations": (
                {"checkpointer.alpha.coreos.com/checkpoint": "true"} if self.is_marked else {}
            ),
            "ownerReferences": [{"kind": "DaemonSet", "name": self.kind.name, "controller": True}],
        }
        if self.is_terminating:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        ready: dict[str, Any] = {"type": "Ready", "status": "False"}
        if self.ready_at is not None:
            when = datetime.fromtimestamp(int(self.ready_at), UTC).isoformat()
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": when}
        return {
            "metadata": metadata,
            "spec": {
                "hostNetwork": self.kind.on_host_network,
                "containers": [
                    {"name": name, "image": f"image:{self.version}"}
                    for name in self.kind.containers
                ],
            },
            "status": {
                "phase": "Failed" if self.is_failed else "Running",
                "conditions": [ready],
                "containerStatuses": [self._status(name) for name in self.kind.containers],
            },
        }

    def _status(self, name: str) -> dict[str, str]:
        found = self.container_ids.get(name)
        return {"name": name, "containerID": f"containerd://{found}" if found else ""}


@dataclass
class StoredLease:
    """The one lease that masters take turns by, as etcd keeps it."""

    body: dict[str, Any] | None = None
    writes: int = 0

    @property
    def holder(self) -> str:
        return self.body["spec"].get("holderIdentity", "") if self.body else ""

    def read(self) -> dict[str, Any]:
        if self.body is None:
            raise ApiError("there is none", 404, says_not_found=True)
        return self.body

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if self.body is not None:
            raise ApiError("there is one", 409)
        return self._write(body)

    def update(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if body["metadata"]["resourceVersion"] != self.read()["metadata"]["resourceVersion"]:
            raise ApiError("it was changed", 409)
        return self._write(body)

    def _write(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.writes += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.writes)}
        self.body = {**body, "metadata": metadata}
        return self.body


ELSEWHERE = "10.0.0.1"
"""Where the API serves that no node of ours does."""
NAMED_SECONDS = 15.0
"""For how long the endpoints name an API server that is gone."""
FOUNDED_SECONDS = 60.0
"""When every API server has served once: the endpoints name all of them until then."""


@dataclass
class Cluster:
    """The truth about what is wanted where, and what the API says of it."""

    timeline: Timeline
    random: Random
    kinds: tuple[Kind, ...]
    is_self_hosted: bool
    nodes: list[Node] = field(default_factory=list)
    pods: dict[str, ApiPod] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    """The version of each workload's pod template."""
    broken: set[tuple[str, int]] = field(default_factory=set)
    """Workload names and versions whose program dies."""
    lives: dict[tuple[str, int], float] = field(default_factory=dict)
    """How long the program of such a workload and version serves before it dies of itself."""
    kills: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often a container of such a workload and version was killed from outside."""
    unwanted: set[tuple[str, str]] = field(default_factory=set)
    """Workload and node names: removed there on purpose."""
    is_up: bool = True
    """Whether the API serves, where it runs elsewhere."""
    identity: str = "cluster-1"
    lease: StoredLease = field(default_factory=StoredLease)
    served_at: dict[str, float] = field(default_factory=dict)
    """When each node's API server was last seen to serve; all of them at first."""
    _named: tuple[list[str], float] = ([], 0.0)
    """What the endpoints said last, and since when they do."""
    on_change: list[Callable[[], None]] = field(default_factory=list)
    api_names: frozenset[str] = frozenset()
    """The workloads that serve the API."""
    store_names: frozenset[str] = frozenset()
    """Those that API servers need most of."""
    way_names: frozenset[str] = frozenset()
    """Those by which nodes reach it."""
    _pods_of: dict[str, tuple[ApiPod, ...]] = field(default_factory=dict)
    _made: int = 0
    _is_poked: bool = False

    @property
    def faulty(self) -> set[tuple[str, int]]:
        """Workload names and versions that nobody need rely on.

        With those that follow another one and died twice soon after their start, for nobody can
        tell them from those that do so by themselves. A third death may be a lost race for a port.
        """
        if not self.kills and not self.lives:
            return self.broken
        killed = {one for one, count in self.kills.items() if count > 1 and one[1] > 1}
        return self.broken | self.lives.keys() | killed

    def __post_init__(self) -> None:
        self.api_names = frozenset(kind.name for kind in self.kinds if kind.is_api)
        self.store_names = frozenset(kind.name for kind in self.kinds if kind.is_store)
        self.way_names = frozenset(kind.name for kind in self.kinds if kind.is_way)

    def start(self) -> None:
        """Make the first pods of every workload on every node."""
        for node in self.nodes:
            for kind in self.kinds:
                self.versions.setdefault(kind.name, 1)
                self._make(kind, node.name)

    def serves(self, node: Node) -> bool:
        """Tell whether an API server answers to this node, its own links aside."""
        if not self.is_self_hosted:
            return self.is_up and node.has_network and self.way_names <= node.serving()
        if node.serves_api():
            return True
        return node.has_network and any(
            other.has_network and other.serves_api() for other in self.nodes if other is not node
        )

    def endpoints(self) -> dict[str, Any]:
        """Return where the API servers are, as the API tells: those that are away are missing."""
        now = self.timeline.now
        named = [] if self.is_self_hosted else [ELSEWHERE]
        for node in self.nodes:
            is_there = node.serves_api() and node.has_network
            served_at = now if is_there else self.served_at.get(node.name, FOUNDED_SECONDS)
            if self.is_self_hosted and now - served_at <= NAMED_SECONDS:
                named.append(node.name)
        before, since = self._named
        if before and named != before:
            since = now
        self._named = named, since
        made = datetime.fromtimestamp(WALL_AT_START, UTC).isoformat()
        changed = datetime.fromtimestamp(WALL_AT_START + since, UTC).isoformat()
        metadata = {"creationTimestamp": made, "managedFields": [{"time": changed}]}
        addresses = [{"ip": name} for name in named]
        subsets = [{"addresses": addresses, "ports": [{"port": 6443}]}]
        return {"metadata": metadata, "subsets": subsets}

    def has_store(self) -> bool:
        """Tell whether more than half of what the API keeps its objects in is there."""
        if not self.store_names:
            return True
        there = sum(n.has_network and self.store_names <= n.serving() for n in self.nodes)
        return 2 * there > len(self.nodes)

    def is_wanted(self, kind: Kind, node: str) -> bool:
        return (kind.name, node) not in self.unwanted

    def pods_of(self, node: str) -> Sequence[ApiPod]:
        """Return this node's pods: asked often, so kept until one comes or goes."""
        if node not in self._pods_of:
            self._pods_of[node] = tuple(pod for pod in self.pods.values() if pod.node == node)
        return self._pods_of[node]

    def changed(self, pod: ApiPod) -> None:
        """Note that a pod was changed, and tell whoever watches."""
        pod.resource_version += 1
        self.tell()

    def tell(self) -> None:
        for told in self.on_change:
            told()
        self.poke()

    def delete(self, pod: ApiPod) -> None:
        """Ask for a pod's end; the kubelet ends it and then it is gone."""
        if not pod.is_terminating:
            pod.is_terminating = True
            self.changed(pod)

    def finish(self, pod: ApiPod) -> None:
        """Take a pod out of the API."""
        if self.pods.pop(pod.uid, None) is not None:
            self._pods_of.clear()
            self.tell()

    def poke(self) -> None:
        """Let the controllers look, soon."""
        if not self._is_poked:
            self._is_poked = True
            self.timeline.after(self.random.uniform(0.5, 2.0), self._control)

    def controllers_run(self) -> bool:
        """Tell whether there is anybody to make pods."""
        if not self.is_self_hosted:
            return self.is_up
        return any(
            node.is_serving(kind) and node.can_use_api()
            for node in self.nodes
            for kind in self.kinds
            if kind.is_controller
        )

    def _control(self) -> None:
        self._is_poked = False
        run = self.controllers_run()
        for kind in self.kinds:
            # Nobody makes a controller-manager anew but another one, or an operator.
            if not run and not (kind.is_controller and self._api_is_used()):
                continue
            for node in self.nodes:
                self._control_one(kind, node.name)
            self._roll(kind)

    def _control_one(self, kind: Kind, node: str) -> None:
        pods = [pod for pod in self.pods_of(node) if pod.kind is kind]
        for pod in pods:
            if pod.is_failed:
                self.finish(pod)
            elif not self.is_wanted(kind, node):
                self.delete(pod)
        if self.is_wanted(kind, node) and all(pod.is_failed for pod in pods):
            self._make(kind, node)
            self.tell()

    def _roll(self, kind: Kind) -> None:
        """Replace one pod of an old version: deleted first, as a DaemonSet's update does."""
        pods = [pod for pod in self.pods.values() if pod.kind is kind]
        old = [pod for pod in pods if pod.version != self.versions[kind.name]]
        if old and not any(p.is_terminating or p.ready_at is None for p in pods if p not in old):
            self.delete(old[0])

    def _api_is_used(self) -> bool:
        return any(node.can_use_api() for node in self.nodes)

    def _make(self, kind: Kind, node: str) -> None:
        self._made += 1
        pod = ApiPod(f"uid-{self._made:05d}", kind, node, self.versions[kind.name])
        self.pods[pod.uid] = pod
        self._pods_of.clear()
