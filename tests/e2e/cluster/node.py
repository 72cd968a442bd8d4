"""A node with a self-hosted control plane, and what can happen to it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.cluster import control_plane
from tests.e2e.cluster.activations import Activations
from tests.e2e.cluster.agent import MANIFEST_PREFIX, STORE, start_agent
from tests.e2e.cluster.api import Api, ApiError, Object
from tests.e2e.cluster.binaries import Binaries
from tests.e2e.cluster.certificates import Authority
from tests.e2e.cluster.control_plane import (
    FIRST_PORT,
    NAMESPACE,
    PORT,
    WORKLOADS,
    Options,
    ProcessControlPlane,
)
from tests.e2e.cluster.folder_watch import FolderWatch
from tests.e2e.cluster.kubelet import KUBECONFIG, MANIFESTS, NODE, start_kubelet
from tests.e2e.cluster.machine import ADDRESS, Machine
from tests.e2e.cluster.processes import Process
from tests.e2e.cluster.runtime import Containerd, start_etcd
from tests.e2e.cluster.timeline import PatientTimeline, Timeline
from tests.e2e.cluster.waiting import DeadlineError, wait_for

READY_SECONDS = 90.0
RETURN_SECONDS = 240.0
"""A kubelet that was long without an API server asks again only once a minute."""


class Node:
    """The one node of a cluster: etcd, containerd, kubelet and agent; the rest is pods."""

    port = PORT
    """Where the API server is that the node uses."""

    def __init__(self, work: Path, binaries: Binaries, options: Options | None = None) -> None:
        self.binaries = binaries
        self.options = options or Options()
        self.authority = Authority()
        self.machine = Machine(work)
        self.containerd = Containerd(self.machine, binaries)
        self._admin = self.authority.client("admin", "system:masters")
        self._kubelet_client = self.authority.client(f"system:node:{NODE}", "system:nodes")
        self.api = self.api_at(self.port)
        self.runtime: Process | None = None
        self.kubelet: Process | None = None
        self.agent: Process | None = None
        self.kubelet_settings: dict[str, Any] = {}
        self.agent_settings: dict[str, Any] = {}
        self.activations = Activations(self.machine, self.manifests)
        self.api_start_seconds = 0.0
        """How long a plain API server process took to be ready when the cluster was built."""

    @property
    def manifests(self) -> Path:
        return self.machine.disk / MANIFESTS.strip("/")

    @property
    def store(self) -> Path:
        return self.machine.disk / STORE

    def build(self) -> None:
        """Bring up the cluster and move its control plane into pods of its own; no agent yet."""
        self.first_boot()
        for workload in WORKLOADS:
            reference = control_plane.image(workload, self.binaries)
            self.containerd.load_image(reference, self.binaries[workload])
        first = ProcessControlPlane(self.machine, self.binaries, self.authority)
        first_api = self.api_at(FIRST_PORT)
        first.start(first_api)
        self.api_start_seconds = first.api_start_seconds
        self.point_kubelet_to(FIRST_PORT)
        self.start_kubelet()
        control_plane.create_pods(first_api, self.authority, self.binaries, self.options)
        self.wait_until_ready(api=first_api)
        self.stop_kubelet()
        self.point_kubelet_to(PORT)
        first.stop()
        self.start_kubelet()
        self.wait_for_kubelet()
        self.wait_until_ready()

    def first_boot(self) -> None:
        """Switch on a machine that has nothing yet; from here on each activation is judged."""
        self.activations.__enter__()
        self.boot()
        self.containerd.load_pause()
        (self.machine.disk / "etc/kubernetes/ca.crt").write_text(self.authority.pair.certificate)

    def start_kubelet(self) -> None:
        self.kubelet = start_kubelet(self.machine, self.binaries, self.kubelet_settings)

    def stop_kubelet(self) -> None:
        """Kill the kubelet; containers go on without it."""
        if self.kubelet is not None:
            self.kubelet.kill()
            self.kubelet = None

    def restart_kubelet(self) -> None:
        self.stop_kubelet()
        self.start_kubelet()

    def kill_runtime(self) -> None:
        """Kill the container runtime; its containers go on without it."""
        assert self.runtime is not None
        self.runtime.kill()
        self.runtime = None

    def start_runtime(self) -> None:
        self.runtime = self.containerd.start()

    def start_agent(self) -> None:
        self.agent = start_agent(self.machine, self.agent_settings)

    def stop_agent(self) -> None:
        if self.agent is not None:
            self.agent.stop()
            self.agent = None

    def wait_for_checkpoints(self, seconds: float) -> None:
        """Wait until each workload of the control plane has a checkpoint and the masters are known.

        The first API server's address goes with it, and that the next one is the only one is
        believed a minute later.
        """
        masters = self.store / ".state" / "masters.json"
        self.wait("the checkpoints", lambda: self.checkpoints() == set(WORKLOADS), seconds)
        self.wait("the masters to be known", masters.exists, seconds + 120.0)

    def power_cut(self) -> None:
        """Take the power away: every process and all memory is gone, the disk stays."""
        self.machine.switch_off()
        self.runtime = self.kubelet = self.agent = None

    def power_on(
        self,
        with_agent: bool = True,
        forget_containers: bool = False,
        before: Callable[[], None] = lambda: None,
    ) -> float:
        """Boot; return the moment of the kubelet's start, which is also the agent's.

        As after a true power cut the runtime still has the records of dead containers, unless
        they are to be forgotten. `before` is called before the kubelet is started.
        """
        self.boot(forget_containers)
        before()
        self.start_kubelet()
        if with_agent:
            self.start_agent()
        assert self.kubelet is not None
        return self.kubelet.started

    def kill_container(self, name: str) -> None:
        """Kill the one running container of this name; its pod's sandbox stays."""
        self.containerd.kill(name)

    def roll_out(self, workload: str, more_flags: list[str]) -> None:
        """Change a workload's template to these flags beside the usual ones."""
        path, body = control_plane.template_patch(workload, self.binaries, self.options, more_flags)
        self.api.patch(path, body)

    def cut_network(self, refuse: bool = False) -> None:
        """Take the node's way to the API; the control plane itself goes on.

        A black hole, or with `refuse` a reset for every packet. Kubelet and agent use the node's
        address, the control plane's pods the loopback.
        """
        self.machine.network.cut(ADDRESS, self.port, refuse)

    def mend_network(self) -> None:
        self.machine.network.mend()

    def wait_for_agent(self, words: str, seconds: float) -> None:
        """Wait until the agent says this in its log, from now on."""
        assert self.agent is not None
        log = self.agent.log
        told = log.stat().st_size

        def said() -> bool:
            with log.open("rb") as file:
                file.seek(told)
                return words.encode() in file.read()

        self.wait(f"the agent to say {words!r}", said, seconds, interval=0.02)

    def watch_manifests(self) -> FolderWatch:
        return FolderWatch(self.manifests)

    def watch_service(self, path: str = "/readyz") -> Timeline:
        return Timeline(self.api, path)

    def watch_answers(self, path: str) -> PatientTimeline:
        return PatientTimeline(self.api, path)

    def pods(self, api: Api | None = None) -> list[Object]:
        return (api or self.api).items(f"/api/v1/namespaces/{NAMESPACE}/pods")

    def parents(self, api: Api | None = None) -> dict[str, Object]:
        """Return the control plane's pods that come from the API, by workload."""
        return {
            pod["metadata"]["labels"]["app"]: pod
            for pod in self.pods(api)
            if "kubernetes.io/config.mirror" not in pod["metadata"].get("annotations", {})
            and pod["metadata"].get("labels", {}).get("app") in WORKLOADS
            and not pod["metadata"].get("deletionTimestamp")
        }

    def wait_until_ready(self, seconds: float = READY_SECONDS, api: Api | None = None) -> None:
        """Wait until the three parents are Ready."""
        self.wait("the control plane's pods", lambda: self.is_ready(api), seconds, api)

    def is_ready(
        self,
        api: Api | None = None,
        since: float = 0.0,
        restarted: Collection[str] = WORKLOADS,
    ) -> bool:
        """Return whether the parents are Ready; the `restarted` ones started since then (epoch).

        After a power cut the API goes on telling what the kubelet said before, so a parent that
        is Ready in the API need not exist; hence `since`.
        """
        parents = self.parents(api)
        return set(parents) == set(WORKLOADS) and all(
            is_pod_ready(pod) and (name not in restarted or started(pod) >= int(since))
            for name, pod in parents.items()
        )

    def wait_until_returned(
        self,
        since: float,
        restarted: Collection[str] = WORKLOADS,
        seconds: float = RETURN_SECONDS,
    ) -> None:
        """Wait until all parents run again, alone, and the API has no other pods either."""

        def is_back() -> bool:
            return (
                not any(self.manifests.glob(f"{MANIFEST_PREFIX}*"))
                and self.is_ready(since=since, restarted=restarted)
                and len(self.pods()) == len(WORKLOADS)
                and all(len(self.containerd.running(name)) == 1 for name in WORKLOADS)
            )

        self.wait("the parents to return and the copies to go", is_back, seconds)

    def wait_for_kubelet(self, seconds: float = RETURN_SECONDS) -> None:
        """Wait until the kubelet is seen to have reached the API, from now on."""
        now = time.time()
        self.wait("the kubelet to reach the API", lambda: self._lease_renewed() > now, seconds)

    def checkpoints(self) -> set[str]:
        """Return the control plane's workloads that have a checkpoint in the store."""
        stored = [path.parent.name for path in self.store.glob(f"{NAMESPACE}/*/current")]
        return {w for w in WORKLOADS if any(w in name for name in stored)}

    def check_processes(self) -> None:
        """Raise AssertionError if the runtime, the kubelet or the agent ended by itself."""
        for process in (self.runtime, self.kubelet, self.agent):
            if process is not None:
                process.require()

    def describe(self, api: Api | None = None) -> str:
        """Return what the API and the processes say, for the message of a failure."""
        try:
            pods = control_plane.describe(self.pods(api))
        except (OSError, ApiError) as error:
            pods = f"the API does not tell: {error}"
        tails = [f"{p.name} log:\n{p.tail()}" for p in (self.kubelet, self.agent) if p]
        return "\n".join([pods, f"logs: {self.machine.logs}", *tails])

    def remove(self) -> None:
        """Switch off and remove everything but the logs (of containers, too)."""
        self.power_cut()
        self.activations.__exit__(None, None, None)
        pods = self.machine.disk / "var/log/pods"
        if pods.is_dir():
            shutil.copytree(pods, self.machine.logs / "pods", symlinks=True, dirs_exist_ok=True)
        self.machine.remove()

    def boot(self, forget_containers: bool = False) -> None:
        """Switch the machine on, with what is there before the kubelet."""
        self.machine.switch_on()
        start_etcd(self.machine, self.binaries)
        self.start_runtime()
        if forget_containers:
            self.containerd.forget_containers()
            self.kill_runtime()
            self.start_runtime()

    def wait(
        self,
        what: str,
        condition: Callable[[], bool],
        seconds: float,
        api: Api | None = None,
        interval: float = 0.1,
    ) -> None:
        """Wait until the condition holds; the error tells the state of the node."""
        try:
            wait_for(what, condition, seconds, interval)
        except DeadlineError as error:
            raise DeadlineError(f"{error}\n{self.describe(api)}") from None

    def _lease_renewed(self) -> float:
        lease = self.api.get(
            f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE}"
        )
        return datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()

    def admin_kubeconfig(self) -> str:
        """Return a kubeconfig of the cluster's administrator, for use on the machine."""
        return self.authority.kubeconfig(f"https://{ADDRESS}:{self.port}", self._admin)

    def point_kubelet_to(self, port: int) -> None:
        config = self.authority.kubeconfig(f"https://{ADDRESS}:{port}", self._kubelet_client)
        (self.machine.disk / KUBECONFIG.strip("/")).write_text(config)

    def api_at(self, port: int) -> Api:
        """Return a client of the API server at another port, as the cluster's administrator."""
        return Api(self.machine, self.authority, "127.0.0.1", port, self._admin)


def started(pod: Object) -> float:
    """Return when the youngest container of a pod was started (epoch); 0 if one does not run."""
    states = [s["state"].get("running", {}) for s in pod["status"].get("containerStatuses", [])]
    moments = [datetime.fromisoformat(s["startedAt"]).timestamp() if s else 0.0 for s in states]
    return max(moments, default=0.0) if all(moments) else 0.0


def is_pod_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
