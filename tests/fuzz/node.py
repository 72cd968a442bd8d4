"""A node's folders, and the agent's own cycle on them with answers that a test makes up.

Everything between the answers' bytes and the disk is the real agent: the pods' following, the
CRI messages, the store, the manifest folder, the snapshots, status and metrics.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from checkpointer.agent import Agent
from checkpointer.config import Config, ProbeConfig, SnapshotConfig
from checkpointer.core.contact import Contact, ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.plan import Plan
from checkpointer.core.rules import Rules
from checkpointer.core.runtime import Runtime
from checkpointer.errors import ApiError, CheckpointerError
from checkpointer.manifest.render import mark_of
from checkpointer.node import api as api_module
from checkpointer.node import cri_v1_pb2 as cri
from checkpointer.node.cri import ImageInfo
from checkpointer.node.cri_connection import Method, _parse
from checkpointer.node.cri_messages import runtime_of
from checkpointer.node.manifests import PREFIX
from checkpointer.report.page import page
from checkpointer.simulation import atomic_writer
from checkpointer.simulation.planted import PLANTED, planted
from checkpointer.simulation.tokens import issue
from tests.secrecy import Secrecy

NODE = "node-1"
BOOT = "boot-1"
FOREIGN = {"etcd.yaml": b"kind: Pod\n", f"{PREFIX}lookalike.json": b"{}", ".hidden": b"x"}
ENCODED = base64.b64encode(planted("value").encode()).decode()
_SANDBOXES = Method("RuntimeService", "ListPodSandbox", cri.ListPodSandboxResponse)
_CONTAINERS = Method("RuntimeService", "ListContainers", cri.ListContainersResponse)


def kubeconfig() -> dict[str, Any]:
    """Return a kubeconfig with everything inline; no server answers there."""
    certificate = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----")
    key = base64.b64encode(planted("key").encode()).decode()
    user = {"client-certificate-data": certificate.decode(), "client-key-data": key}
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority-data": certificate.decode()}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {**user, "token": planted("token")}}],
    }


def pod(name: str = "web", uid: str = "uid-web") -> dict[str, Any]:
    """Return a DaemonSet's pod as the API sends it, with every kind of source that is read."""
    environment = [
        {"name": "A", "value": "a"},
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
        {"name": "M", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}},
        {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "L", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ]
    container = {
        "name": "main",
        "image": f"registry.example/{name}:1",
        "command": [name, "--a=$(A)"],
        "env": environment,
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "settings"}}],
        "ports": [{"containerPort": 8443, "hostPort": 8443, "protocol": "TCP"}],
        "resources": {"limits": {"cpu": "100m"}, "requests": {"cpu": "10m", "memory": "1Mi"}},
        "livenessProbe": {"httpGet": {"path": "/", "port": 8443}},
        "volumeMounts": [
            {"name": one, "mountPath": f"/{one}", "readOnly": True}
            for one in ("certs", "token", "host", "data")
        ],
    }
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
    volumes = [
        {"name": "certs", "secret": {"secretName": "login", "defaultMode": 256}},
        {"name": "token", "projected": {"sources": [token], "defaultMode": 420}},
        {"name": "host", "hostPath": {"path": "/etc/ssl", "type": ""}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
    ]
    owner = {"kind": "DaemonSet", "name": name, "uid": "o", "controller": True, "apiVersion": "v1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-abcde",
            "namespace": "kube-system",
            "uid": uid,
            "resourceVersion": "5",
            "labels": {"k8s-app": name, "controller-revision-hash": "x1"},
            "annotations": {
                "checkpointer.alpha.coreos.com/checkpoint": "true",
                "checkpointer.alpha.coreos.com/inline-secrets": "true",
            },
            "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": NODE,
            "hostNetwork": True,
            "serviceAccountName": "default",
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
            "volumes": volumes,
        },
        "status": {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            ],
            "containerStatuses": [
                {"name": "main", "containerID": "containerd://c1", "ready": True, "imageID": "i@1"}
            ],
        },
    }


def pod_list(*pods: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "PodList", "metadata": {"resourceVersion": "9"}, "items": list(pods)}


CORE = "/api/v1/namespaces/kube-system"
OBJECTS: dict[str, dict[str, Any]] = {
    f"{CORE}/secrets/login": {"kind": "Secret", "data": {"password": ENCODED}},
    f"{CORE}/configmaps/settings": {
        "kind": "ConfigMap",
        "data": {"mode": "fast"},
        "binaryData": {"b": "AA=="},
    },
    f"{CORE}/persistentvolumeclaims/data": {
        "metadata": {"name": "data"},
        "spec": {"volumeName": "pv-1"},
        "status": {"phase": "Bound"},
    },
    "/api/v1/persistentvolumes/pv-1": {
        "metadata": {"name": "pv-1"},
        "spec": {"hostPath": {"path": "/srv"}, "claimRef": {"name": "data"}},
    },
    CORE: {"kind": "Namespace", "metadata": {"name": "kube-system", "uid": "uid-cluster"}},
    f"/api/v1/nodes/{NODE}": {
        "metadata": {"name": NODE},
        "status": {
            "nodeInfo": {"kubeletVersion": "v1.36.2"},
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        },
    },
    "/api/v1/nodes?labelSelector=node-role.kubernetes.io%2Fcontrol-plane": {
        "items": [{"metadata": {"name": NODE}}, {"metadata": {"name": "node-2"}}]
    },
    "/api/v1/namespaces/default/endpoints/kubernetes": {
        "subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}]
    },
    f"{CORE}/services/pod-checkpointer": {"metadata": {"name": "pod-checkpointer"}},
}


class Api:
    """Answers as a test says, in place of the HTTP client; `during` runs while the watch is open.

    Where `objects` has nothing, the object does not exist.
    """

    def __init__(self, listed: Any, lines: list[str], objects: Mapping[str, Any]) -> None:
        self.listed, self.watched, self.objects = listed, lines, objects
        self.during: Callable[[], None] = lambda: None
        self.posted: list[Any] = []

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        found = self.listed if path == "/api/v1/pods" else self.objects.get(path)
        if not isinstance(found, dict):  # as node.api has it
            raise ApiError(f"GET {path}: the answer is not an object")
        return found

    def find(self, path: str, on_refusal: object = None) -> Fact[Any]:
        if path not in self.objects:
            return Known(None)
        try:
            return api_module.as_object(path, self.get(path))
        except ApiError as error:
            return Unknown(str(error))

    def post(self, path: str, body: Any) -> Any:
        self.posted.append(body)
        return body

    def lines(self, path: str, query: Mapping[str, str], idle_seconds: float) -> Iterator[str]:
        yield from self.watched
        self.during()
        raise ApiError("GET /api/v1/pods: over")

    def cut(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """Nothing is open."""


class Answers:
    """A runtime that answers with these bytes."""

    endpoint = "unix:///made-up.sock"

    def __init__(self, sandboxes: bytes = b"", containers: bytes = b"") -> None:
        self._sandboxes, self._containers = sandboxes, containers
        self.stopped: list[str] = []

    def observe(self) -> Fact[Runtime]:
        try:
            sandboxes = _parse(self.endpoint, _SANDBOXES, self._sandboxes)
            containers = _parse(self.endpoint, _CONTAINERS, self._containers)
        except CheckpointerError as error:
            return Unknown(str(error))
        return Known(runtime_of(sandboxes.items, containers.containers))

    def has_image(self, image: str) -> Fact[ImageInfo | None]:
        return Known(None)

    def stop_container(self, container_id: str, grace_seconds: int) -> None:
        self.stopped.append(container_id)

    def stop_sandbox(self, sandbox_id: str) -> None:
        self.stopped.append(sandbox_id)

    def watch(self, wake: Callable[[], None]) -> Answers:
        return self

    def close(self) -> None:
        """Nothing is open."""


class FuzzedNode:
    """One node's folders, with files that are not ours, and everything around the agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifests, self.store = folder / "manifests", folder / "store"
        self.kubelet = folder / "kubelet"
        for one in (self.manifests, self.store, self.kubelet / "pod-resources"):
            one.mkdir(parents=True, mode=0o700)
        for name, content in FOREIGN.items():
            (self.manifests / name).write_bytes(content)
        (folder / "outside").mkdir()
        (folder / "outside/secret").write_text(planted("outside"))
        (folder / "boot_id").write_text(f"{BOOT}\n")
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(kubeconfig()))
        (self.kubelet / "pod-resources/kubelet.sock").touch()
        self.render("uid-web")
        self.config = Config(
            node_name=NODE,
            kubeconfig=self.kubeconfig,
            manifest_directory=self.manifests,
            store_directory=self.store,
            kubelet_directory=self.kubelet,
            boot_id_file=folder / "boot_id",
            pod_uid="11111111-1111-4111-8111-111111111111",
            probe=ProbeConfig(jitter_seconds=0.0),
            timing=Rules(ready_seconds=0.0, grace_seconds=0.0, absent_seconds=0.0),
            snapshot=SnapshotConfig(max_material_bytes=100_000),
        )

    def render(self, uid: str) -> None:
        """Write the volumes of a pod as the kubelet does."""
        volumes = self.kubelet / "pods" / uid / "volumes"
        token = issue("kube-system", "default", {}).encode()
        for name, content in {
            "kubernetes.io~secret/certs": {"password": planted("value").encode()},
            "kubernetes.io~projected/token": {"token": token},
        }.items():
            (volumes / name).mkdir(parents=True)
            files = {key: atomic_writer.File(value, 0o600) for key, value in content.items()}
            atomic_writer.write(volumes / name, files)

    def tree(self) -> dict[str, Any]:
        """Return what lies outside the store and is not a manifest of ours."""
        found: dict[str, Any] = {}
        for path in sorted(self.folder.rglob("*")):
            relative = path.relative_to(self.folder)
            if relative.parts[0] == "store" or _is_ours(path, self.manifests):
                continue
            status = path.lstat()
            content: Any = None
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes() if status.st_size < 1 << 20 else status.st_size
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            found[str(relative)] = (status.st_mode, content)
        return found


def _is_ours(path: Path, manifests: Path) -> bool:
    with suppress(OSError):
        status = path.lstat()
        is_readable = stat.S_ISREG(status.st_mode) and status.st_size < 1 << 20
        if path.parent == manifests and path.name.startswith(PREFIX) and is_readable:
            return mark_of(path.read_bytes()) is not None
    return False


class FuzzedAgent(Agent):
    """The real agent; contact is what a test says, and nothing waits."""

    def __init__(self, node: FuzzedNode, api: Api, runtime: Answers) -> None:
        super().__init__(node.config)
        self._prober.close()
        self.api = api
        self._runtime = self._observer.runtime = self._applier.runtime = runtime  # type: ignore[assignment]
        self.plans: list[Plan] = []

    def follow(self, cycles: Callable[[], None]) -> None:
        """Have the pods listed and watched; run cycles when that is as far as it comes."""
        has_run = []

        def run() -> None:
            has_run.append(True)
            cycles()

        self.api.during = run
        with _client(self.api):
            try:
                self._pods._follow()
            except CheckpointerError as error:
                self._pods._lose(error)
            if not has_run:
                cycles()

    def turn(self, state: ContactState, times: int = 1) -> None:
        """Run cycles with contact in this state; a fault of one is a test's failure."""
        answers = state is not ContactState.LOST
        now = self._now().monotonic
        for _ in range(times):
            self._prober.contact = Contact(state, now - 60.0, "", 3, 3, is_answering=answers)
            self.plans.append(self.cycle())

    def told(self) -> list[Any]:
        """Return all that it tells of itself, each in the form in which it goes out."""
        document = self.reporter.status().as_document()
        return [json.dumps(document), page(document), self.reporter.metrics()[0], self.api.posted]

    def end(self) -> None:
        self._stopping = True
        self._close()


@contextmanager
def _client(api: Api) -> Iterator[None]:
    """Have the pods' following make this client; the real one would need a server."""
    real = api_module.ApiClient
    api_module.ApiClient = lambda _: api  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        api_module.ApiClient = real  # type: ignore[misc]


def check(node: FuzzedNode, before: dict[str, Any], told: list[Any]) -> None:
    """Fail when something was changed that is not ours, or a secret was told."""
    assert node.tree() == before
    secrecy = Secrecy()
    for text in told:
        secrecy.see("told", text)
    assert secrecy.take() == ()
    assert PLANTED.isprintable()
