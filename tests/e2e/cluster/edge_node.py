"""A node whose control plane is elsewhere, and the ordinary workloads that run on such a node."""

from __future__ import annotations

import functools
import http.client
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.cluster.agent import MANIFEST_PREFIX
from tests.e2e.cluster.api import Api, ApiError, Object
from tests.e2e.cluster.binaries import Binaries
from tests.e2e.cluster.containers import running
from tests.e2e.cluster.control_plane import CHECKPOINT_ANNOTATION, FIRST_PORT, ProcessControlPlane
from tests.e2e.cluster.machine import ADDRESS, Machine
from tests.e2e.cluster.node import Node, is_pod_ready, started
from tests.e2e.cluster.waiting import wait_for

BUSYBOX = "e2e.invalid/busybox:1"


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """A small web server that tells what it mounts: a config map, a secret, and its environment.

    On its pod's network, with a port of the host where `host_port` says so; on the host's network
    with `own_port`.
    """

    name: str
    namespace: str = "edge"
    kind: str = "DaemonSet"
    host_port: int = 0
    own_port: int = 0
    annotated: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, object] = field(default_factory=dict)
    """More of the pod's spec, over what is here."""
    container: Mapping[str, object] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """Return where it serves on the host, or 0."""
        return self.host_port or self.own_port

    @property
    def path(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/{self.kind.lower()}s/{self.name}"

    def objects(self) -> Iterator[tuple[str, Object]]:
        """Yield what to create, with the collection to create it in."""
        core = f"/api/v1/namespaces/{self.namespace}"
        metadata = {"name": self.name}
        yield f"{core}/configmaps", {"metadata": metadata, "data": self._data("motd", "colour")}
        yield f"{core}/secrets", {"metadata": metadata, "stringData": self._data("key")}
        labels = {"app": self.name, **self.labels}
        annotations = {CHECKPOINT_ANNOTATION: "true"} if self.annotated else {}
        template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": self._pod()}
        spec = {"selector": {"matchLabels": {"app": self.name}}, "template": template}
        yield self.path.rpartition("/")[0], {"metadata": metadata, "spec": spec}

    def told(self) -> dict[str, str]:
        """Return what it serves, by path."""
        paths = {"config/motd": "motd", "secret/key": "key", "colour": "colour"}
        return {f"/{path}": self._data(key)[key] for path, key in paths.items()}

    def _data(self, *keys: str) -> dict[str, str]:
        return {key: f"{key} of {self.name}" for key in keys}

    def _pod(self) -> Object:
        colour = {"configMapKeyRef": {"name": self.name, "key": "colour"}}
        www = {"name": "www", "mountPath": "/www"}
        port = self.own_port or 8080
        check: Object = {"port": port, "path": "/config/motd"}
        ports: Object = {}
        if self.host_port:
            ports = {"ports": [{"containerPort": port, "hostPort": self.host_port}]}
        return {
            "terminationGracePeriodSeconds": 1,
            "hostNetwork": bool(self.own_port),
            "initContainers": [
                {
                    "name": "init",
                    "image": BUSYBOX,
                    "command": ["/busybox", "sh", "-c", 'echo -n "$COLOUR" >/www/colour'],
                    "env": [{"name": "COLOUR", "valueFrom": colour}],
                    "volumeMounts": [www],
                }
            ],
            "containers": [
                {
                    "name": self.name,
                    "image": BUSYBOX,
                    "command": ["/busybox", "httpd", "-f", "-p", str(port), "-h", "/www"],
                    "readinessProbe": {"httpGet": check, "periodSeconds": 1},
                    "volumeMounts": [
                        www,
                        {"name": "config", "mountPath": "/www/config"},
                        {"name": "secret", "mountPath": "/www/secret"},
                    ],
                    **ports,
                    **self.container,
                }
            ],
            "volumes": [
                {"name": "www", "emptyDir": {}},
                {"name": "config", "configMap": {"name": self.name}},
                {"name": "secret", "secret": {"secretName": self.name, "defaultMode": 0o400}},
            ],
            **self.spec,
        }


class Web:
    """What one of the workloads serves, on a port of the host."""

    def __init__(self, machine: Machine, port: int) -> None:
        self._machine, self._port = machine, port

    def request(self, method: str, path: str, *, seconds: float = 1.0) -> tuple[int, str]:
        """Return status and text of one request on a connection of its own."""
        connection = http.client.HTTPConnection(ADDRESS, self._port)
        connection.sock = self._machine.network.connect((ADDRESS, self._port), seconds)
        try:
            connection.request(method, path, headers={"Connection": "close"})
            with connection.getresponse() as response:
                return response.status, response.read().decode()
        finally:
            connection.close()


class EdgeNode(Node):
    """A node like any other: its control plane does not come back because the node does."""

    port = FIRST_PORT

    def __init__(self, work: Path, binaries: Binaries) -> None:
        super().__init__(work, binaries)
        self._control_plane = ProcessControlPlane(self.machine, binaries, self.authority)

    def build(self) -> None:
        """Bring up the node and the control plane that it belongs to; no agent yet."""
        self.first_boot()
        found = shutil.which("busybox")
        assert found is not None
        self.containerd.load_image(BUSYBOX, Path(found))
        self.point_kubelet_to(self.port)
        self.start_api_server()
        self.start_controllers()
        self.start_kubelet()
        self.wait_for_kubelet(60)

    def start_api_server(self) -> None:
        """Have the API there, for the first time or again after a power cut of this node."""
        self._control_plane.start_api_server(self.api)

    def start_controllers(self) -> None:
        """Have controller manager and scheduler there, as well."""
        self._control_plane.start_controllers()

    def power_cut(self) -> None:
        super().power_cut()
        self._control_plane.forget()

    def check_processes(self) -> None:
        super().check_processes()
        self._control_plane.require()

    def create(self, *workloads: Workload) -> None:
        """Create workloads, and their namespaces with what the control plane puts there."""
        for namespace in {w.namespace for w in workloads}:
            path = f"/api/v1/namespaces/{namespace}"
            if not self._has(path):
                self.api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
            for needed in ("serviceaccounts/default", "configmaps/kube-root-ca.crt"):
                wait_for(needed, functools.partial(self._has, f"{path}/{needed}"), 60)
        for workload in workloads:
            for path, body in workload.objects():
                self.api.create(path, body)

    def pods(self, api: Api | None = None) -> list[Object]:
        return (api or self.api).items("/api/v1/pods")

    def pod_of(self, workload: Workload) -> Object | None:
        """Return the one pod of a workload that comes from the API and stays, if there is one."""
        path = f"/api/v1/namespaces/{workload.namespace}/pods?labelSelector=app%3D{workload.name}"
        pods = [
            pod
            for pod in self.api.items(path)
            if "kubernetes.io/config.mirror" not in pod["metadata"].get("annotations", {})
            and not pod["metadata"].get("deletionTimestamp")
            and pod["status"].get("phase") not in ("Failed", "Succeeded")
        ]
        return pods[0] if len(pods) == 1 else None

    def is_up(self, workload: Workload, since: float = 0.0) -> bool:
        """Return whether its pod is Ready, in containers that were started since then (epoch)."""
        pod = self.pod_of(workload)
        return pod is not None and is_pod_ready(pod) and started(pod) >= int(since)

    def runs(self, workload: Workload) -> int:
        """Return how many containers of a workload run, of its pod and of copies."""
        return sum(
            c.name == workload.name and c.namespace == workload.namespace
            for c in running(self.machine.root)
        )

    def serves(self, workload: Workload) -> bool:
        """Return whether it runs and, where it has a port of the host, serves what it should."""
        if not self.runs(workload):
            return False
        web = Web(self.machine, workload.port)
        try:
            return not workload.port or all(
                web.request("GET", path) == (200, text) for path, text in workload.told().items()
            )
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error

    def has_checkpoint(self, workload: Workload) -> bool:
        folder = f"{workload.namespace}/{workload.kind.lower()}.{workload.name}"
        return (self.store / folder / "current").exists()

    def active(self) -> list[str]:
        """Return the agent's manifests that lie in the kubelet's folder."""
        return sorted(path.name for path in self.manifests.glob(f"{MANIFEST_PREFIX}*"))

    def _has(self, path: str) -> bool:
        try:
            return bool(self.api.get(path))
        except ApiError as error:
            if error.code == 404:
                return False
            raise
