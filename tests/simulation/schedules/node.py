"""One node: its clocks, its disk, its parts, and what may happen to it."""

from __future__ import annotations

import shutil
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from checkpointer.config import Config, ProbeConfig
from checkpointer.core.contact import ContactRules, ProbeOutcome
from checkpointer.core.plan import Plan
from checkpointer.core.rules import Rules
from checkpointer.core.workload import Workload
from tests.simulation.schedules.agent import PROBE_TIMEOUT_SECONDS, VirtualAgent
from tests.simulation.schedules.cluster import ApiPod, Cluster
from tests.simulation.schedules.disk import NodeDisk
from tests.simulation.schedules.kubelet import NodeKubelet
from tests.simulation.schedules.runtime import NodeRuntime
from tests.simulation.schedules.timeline import WALL_AT_START, Timeline
from tests.simulation.schedules.workloads import Kind

FOREIGN = {
    "etcd.yaml": b"apiVersion: v1\nkind: Pod\n",
    "pod-checkpointer-lookalike.json": b'{"kind":"Pod"}',
    ".hidden": b"x",
    "backup~": b"y",
}

AUTHORITY = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n"

KUBECONFIG = """{
"current-context": "c",
"contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}],
"clusters": [{"name": "c", "cluster": {
  "server": "https://127.0.0.1:6443", "certificate-authority": "ca.crt"}}]
}"""

_ANSWERS = {
    "refused": (ProbeOutcome.FAILED, 0.001),
    "silent": (ProbeOutcome.FAILED, PROBE_TIMEOUT_SECONDS),
    "tls": (ProbeOutcome.FAILED, 0.01),
    "unauthorized": (ProbeOutcome.DENIED, 0.01),
    "forbidden": (ProbeOutcome.DENIED, 0.01),
    "busy": (ProbeOutcome.ANSWERED, 0.01),
    "error": (ProbeOutcome.SERVER_ERROR, 0.01),
    "slow": (ProbeOutcome.ANSWERED, 1.5),
}
FAULTS = tuple(_ANSWERS)
"""What may be wrong between a node and the API."""
TWIN = "twin-"
"""How the UIDs begin of another cluster's pods of our workloads."""
OTHER_UID = "uid-other"
"""The UID of its namespace kube-system."""


class Node:
    """A node of the cluster, on which one agent runs at a time."""

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        timeline: Timeline,
        random: Random,
        folder: Path,
        tells_events: bool = True,
    ) -> None:
        self.name, self.cluster, self.timeline, self.random = name, cluster, timeline, random
        self.folder = folder
        self.manifests, self.store = folder / "manifests", folder / "store"
        shutil.rmtree(folder, ignore_errors=True)
        self.manifests.mkdir(parents=True)
        for foreign, content in FOREIGN.items():
            (self.manifests / foreign).write_bytes(content)
        (folder / "kubeconfig").write_text(KUBECONFIG)
        (folder / "ca.crt").write_text(AUTHORITY)
        self.config = _config(folder, name, tells_events)
        self.jump = 0.0
        """What the wall clock is off by."""
        self.boots = 0
        self.booted_at = 0.0
        self.has_network = True
        self.fault = ""
        """One of FAULTS, between this node and whatever API server; empty when there is none."""
        self.lie = ""
        """What the API's lists are, if not the truth: `empty`, `partial`, or another cluster's:
        `other` with a pod of its own, `twin` with pods of the same workloads, to the agent alone.
        """
        self.lies_to_kubelet = False
        self.bad_copies: set[str] = set()
        self.tampered: set[str] = set()
        """Workloads of which files were damaged: what is promised is less."""
        self.damaged: set[str] = set()
        """Workloads of which revisions were damaged or removed, until they are stored anew."""
        self.foreign = dict(FOREIGN)
        """Files in the manifest folder that are not ours, and what they hold."""
        self._serving: frozenset[str] = frozenset()
        self._serving_of = -1
        """The version of what runs that this is of."""
        self._serving_at: float | None = None
        """The time that this is of; None when time changes nothing."""
        self.wakes: list[float] = []
        self._writes: list[tuple[float, int]] = [(0.0, 0)]
        self.plans: list[tuple[float, Plan]] = []
        self.agent: VirtualAgent | None = None
        self.agent_since = 0.0
        """When this run of the agent began."""
        self.runtime = NodeRuntime(self._runtime_changed, tells_events)
        self.kubelet = NodeKubelet(self)
        self.disk = NodeDisk(self.manifests, self.stamp, self._manifests_changed)
        self._could_use_api = self._served_api = False
        self.answering_since = float("inf")
        """Since when an API server answers this node, if only to refuse it."""
        self._frozen: tuple[ApiPod, ...] = ()
        self._boot()
        cluster.nodes.append(self)
        cluster.on_change.append(self._api_changed)

    # Clocks

    @property
    def now(self) -> float:
        return self.timeline.now

    def monotonic(self) -> float:
        return self.now - self.booted_at + 1.0

    def wall(self) -> float:
        return WALL_AT_START + self.now + self.jump

    def stamp(self) -> int:
        return round(self.wall() * 1e9)

    # What is where

    def kind_of(self, workload: Workload) -> Kind:
        return next(kind for kind in self.cluster.kinds if kind.workload == workload)

    def serving(self) -> frozenset[str]:
        """Return the names of the workloads of which a parent or copy is up and ready here.

        Asked many times in one step: told again until what runs has changed or, while something
        is booting, until time has.
        """
        now, version = self.timeline.now, self.runtime.version
        if self._serving_of != version or self._serving_at not in (None, now):
            found = []
            self._serving_of, self._serving_at = version, None
            for process in self.runtime.processes.values():
                if process.is_doomed or not process.is_main:
                    continue
                if now - process.since >= process.kind.boot_seconds:
                    found.append(process.kind.name)
                else:
                    self._serving_at = now
            self._serving = frozenset(found)
        return self._serving

    def is_serving(self, kind: Kind) -> bool:
        """Tell whether a parent or copy of it is up and ready here."""
        return kind.name in self.serving()

    def copies(self) -> frozenset[str]:
        """Return the names of the workloads of which a manifest is active here."""
        return frozenset(found[1].name for found in self.kubelet.manifests().values())

    def has_copy(self, kind: Kind) -> bool:
        """Tell whether a manifest of this workload is active here."""
        return kind.name in self.copies()

    def serves_api(self) -> bool:
        serves = not self.cluster.api_names.isdisjoint(self.serving())
        return serves and self.cluster.has_store()

    def can_use_api(self) -> bool:
        return self.fault in ("", "slow") and self.cluster.serves(self)

    def has_fault(self) -> bool:
        return bool(self.fault)

    def breaks_silently(self) -> bool:
        """Tell whether an open watch shows nothing of the API's absence."""
        return self.fault == "silent" or not self.has_network

    def probe(self) -> tuple[ProbeOutcome, float]:
        """Return what a probe is answered, and after how many seconds."""
        if not self.has_network and not self.serves_api():
            return _ANSWERS["silent"]
        if not self.cluster.serves(self) and self.fault not in ("silent", "tls"):
            return ProbeOutcome.FAILED, 0.001
        return _ANSWERS[self.fault] if self.fault else (ProbeOutcome.ANSWERED, 0.005)

    def listed(self, for_kubelet: bool) -> Sequence[ApiPod]:
        """Return this node's pods as the API tells of them, truly or not."""
        pods = self.cluster.pods_of(self.name)
        if not self.lie or (for_kubelet and not self.lies_to_kubelet):
            return pods
        if self.lie == "empty":
            return []
        if self.lie == "other":
            return [self._stranger()]
        if self.lie == "twin":
            return pods if for_kubelet else [self._twin(pod) for pod in pods]
        return [pod for pod in pods if pod.kind is not self.cluster.kinds[-1]]

    def cluster_uid(self) -> str:
        """Return the UID of the namespace kube-system, as the API tells it."""
        return OTHER_UID if self.lie in ("other", "twin") else "uid-own"

    def _twin(self, pod: ApiPod) -> ApiPod:
        """Return another cluster's pod of the same workload: Ready for long, of another image."""
        twins = dict.fromkeys(pod.kind.containers, "of-the-twin")
        return ApiPod(
            f"{TWIN}{pod.uid}",
            pod.kind,
            self.name,
            pod.version + 1000,
            ready_at=pod.ready_at and pod.ready_at - 600.0,
            container_ids=twins,
        )

    def _stranger(self) -> ApiPod:
        kind = Kind("stranger")
        return ApiPod("uid-stranger", kind, self.name, 1, is_marked=False)

    # What happens

    def cut_power(self) -> None:
        """Everything on the node dies at once; it comes back by itself."""
        self.kubelet.stop()
        self.stop_agent()
        self.runtime.lose_power()
        self._boot()
        self.timeline.after(self.random.uniform(0.5, 2.0), self.start_runtime)
        self.timeline.after(self.random.uniform(2.0, 4.0), self.kubelet.start)
        self.timeline.after(self.random.uniform(2.5, 7.0), self.start_agent)

    def _boot(self) -> None:
        self.boots += 1
        self.booted_at = self.now
        (self.folder / "boot_id").write_text(f"boot-{self.name}-{self.boots}\n")

    def start_runtime(self) -> None:
        self.runtime.is_up, self.runtime.hangs = True, False
        self.runtime.tell()

    def stop_runtime(self, seconds: float) -> None:
        """Restart the runtime; its containers run on."""
        self.runtime.is_up = False
        self.timeline.after(seconds, self.start_runtime)

    def start_agent(self) -> None:
        if self.agent is None or self.agent.is_dead:
            self.disk.kill_in = None
            self.agent = VirtualAgent(self, self.config, self.disk)
            self.agent_since = self.now
            self.agent.begin()

    def stop_agent(self) -> None:
        if self.agent is not None:
            self.agent.die()

    def agent_died(self) -> None:
        """The process was killed amid a system call; something starts it again."""
        self.stop_agent()
        self.timeline.after(self.random.uniform(1.0, 10.0), self.start_agent)

    def judge(self, plan: Plan) -> None:
        """Take note of a cycle."""
        self.wakes.append(self.now)
        if plan.actions:
            self.plans.append((self.now, plan))

    def note_writes(self) -> None:
        """Take note of the changes of the disk so far."""
        if self._writes[-1][1] != self.disk.changes:
            self._writes.append((self.now, self.disk.changes))

    def writes_in_a_minute(self) -> int:
        """Return how many changes of the disk the last minute saw."""
        first = bisect_left(self._writes, (self.now - 60.0, 0)) - 1
        return self._writes[-1][1] - self._writes[max(first, 0)][1]

    # Who has to know

    def readiness_changed(self) -> None:
        self._runtime_changed()

    def socket_changed(self) -> None:
        if self.agent is not None and not self.agent.is_dead:
            self.agent.told(self.config.kubelet_directory / "pod-resources")

    def look(self) -> None:
        """See whether the API can be used now, and tell those who follow it."""
        if self.probe()[0] in (ProbeOutcome.ANSWERED, ProbeOutcome.DENIED):
            self.answering_since = min(self.answering_since, self.now)
        else:
            self.answering_since = float("inf")
        serves_api = self.serves_api() and self.has_network
        if serves_api or self._served_api:
            self.cluster.served_at[self.name] = self.now
        self._served_api = serves_api
        can_use = self.can_use_api()
        if can_use != self._could_use_api:
            self._could_use_api = can_use
            self._api_changed()
            self.cluster.poke()

    def _runtime_changed(self) -> None:
        self.kubelet.runtime_changed()
        for node in self.cluster.nodes:
            node.look()
        self.cluster.poke()

    def _api_changed(self) -> None:
        self.kubelet.api_changed()
        if self.agent is not None and not self.agent.is_dead:
            self.agent.api_changed()

    def _manifests_changed(self) -> None:
        self.kubelet.folder_changed()
        if self.agent is not None and not self.agent.is_dead:
            self.agent.told(self.manifests)


def _config(folder: Path, name: str, tells_events: bool) -> Config:
    """Return the defaults, but for how often is looked where events tell as well."""
    rules = Rules()
    return Config(
        node_name=name,
        kubeconfig=folder / "kubeconfig",
        manifest_directory=folder / "manifests",
        store_directory=folder / "store",
        kubelet_directory=folder / "kubelet",
        boot_id_file=folder / "boot_id",
        pod_uid="0",  # or else the machine's own mounts are searched for one
        contact=ContactRules(),
        probe=ProbeConfig(jitter_seconds=0.0),
        timing=replace(
            rules,
            watch_seconds=2.0 if tells_events else 0.15,
            lost_watch_seconds=2.0 if tells_events else 1.0,
        ),
    )
