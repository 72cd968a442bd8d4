"""A node as the bootkube checkpointer leaves it: its manifests and files, written as it does.

The manifests are what its serializer gives for a self-hosted control plane (kube-system, a
DaemonSet of API servers, a Deployment of schedulers), with its own checkpoint, always active.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checkpointer.bootkube.files import Places
from checkpointer.bootkube.takeover import Settings, Takeover
from checkpointer.config import Config
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.runtime import Container, ContainerState, Runtime, Sandbox
from checkpointer.core.workload import Workload
from checkpointer.node.kubelet import Kubelet
from checkpointer.settings import selection, snapshot_settings
from checkpointer.store.durable import Disk
from checkpointer.store.revisions import Store

API_SERVER = Workload("kube-system", "DaemonSet", "kube-apiserver")
SCHEDULER = Workload("kube-system", "Deployment", "kube-scheduler")
NODE = "node-1"
MARK = "checkpointer.alpha.coreos.com/checkpoint-of"
TLS = {"apiserver.crt": "certificate", "apiserver.key": "private key", "ca.crt": "authority"}


def api_server(root: Path | str, name: str = "kube-apiserver-x7k2p", **spec: Any) -> dict[str, Any]:
    """Return the checkpoint of an API server, as pod.go:sanitizeCheckpointPod makes it."""
    secrets = f"{root}/etc/kubernetes/checkpoint-secrets/kube-system/{name}/kube-apiserver"
    maps = f"{root}/etc/kubernetes/checkpoint-configmaps/kube-system/{name}/audit-policy"
    labels = {
        "controller-revision-hash": "6c8f4d9d7b",
        "k8s-app": "kube-apiserver",
        "pod-template-generation": "1",
        "tier": "control-plane",
    }
    container = {
        "name": "kube-apiserver",
        "image": "k8s.gcr.io/hyperkube:v1.16.3",
        "command": ["/hyperkube", "kube-apiserver", "--secure-port=6443"],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"containerPort": 6443, "hostPort": 6443, "protocol": "TCP"}],
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
        "volumeMounts": [
            {"name": "ssl-certs-host", "mountPath": "/etc/ssl/certs", "readOnly": True},
            {"name": "secrets", "mountPath": "/etc/kubernetes/secrets", "readOnly": True},
            {"name": "audit", "mountPath": "/etc/kubernetes/audit"},
        ],
    }
    return pod(
        name,
        labels,
        "7c0b1a9e-2f1d-4b4a-8a55-9a3f6c1d2e3f",
        containers=[container],
        hostNetwork=True,
        nodeName=NODE,
        tolerations=[{"effect": "NoSchedule", "key": "node-role.kubernetes.io/master"}],
        priorityClassName="system-node-critical",
        priority=2000001000,
        volumes=[
            {"name": "ssl-certs-host", "hostPath": {"path": "/usr/share/ca-certificates"}},
            {"name": "secrets", "hostPath": {"path": secrets}},
            {"name": "audit", "hostPath": {"path": maps}},
        ],
        **spec,
    )


def scheduler(name: str = "kube-scheduler-7d5b9c6f4d-q8w2z") -> dict[str, Any]:
    """Return the checkpoint of a scheduler: with its token's projection, which is no use to it."""
    labels = {"k8s-app": "kube-scheduler", "pod-template-hash": "7d5b9c6f4d"}
    container = {
        "name": "kube-scheduler",
        "image": "k8s.gcr.io/hyperkube:v1.16.3",
        "command": ["/hyperkube", "kube-scheduler"],
        "volumeMounts": [
            {
                "name": "kube-api-access-9xk2l",
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                "readOnly": True,
            }
        ],
    }
    token = {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    projected = {"defaultMode": 420, "sources": [token]}
    return pod(
        name,
        labels,
        "11111111-2222-4333-8444-555555555555",
        containers=[container],
        securityContext={"runAsUser": 65534, "runAsNonRoot": True},
        volumes=[{"name": "kube-api-access-9xk2l", "projected": projected}],
    )


def itself(root: Path, name: str = "pod-checkpointer-m4n8v") -> dict[str, Any]:
    """Return its checkpoint of itself."""
    path = f"{root}/etc/kubernetes/checkpoint-secrets/kube-system/{name}/pod-checkpointer-token"
    container = {
        "name": "pod-checkpointer",
        "image": "quay.io/coreos/pod-checkpointer:83e25e5968391b9eb342042c435d1b3eeddb2be1",
        "command": ["/checkpoint", "--lock-file=/var/run/lock/pod-checkpointer.lock"],
    }
    labels = {"k8s-app": "pod-checkpointer", "controller-revision-hash": "5f6d7c8b9"}
    return pod(
        name,
        labels,
        "99999999-2222-4333-8444-555555555555",
        containers=[container],
        hostNetwork=True,
        volumes=[{"name": "token", "hostPath": {"path": path}}],
    )


def pod(name: str, labels: dict[str, str], parent_uid: str, **spec: Any) -> dict[str, Any]:
    owner = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": name,
        "uid": parent_uid,
        "controller": True,
    }
    metadata = {
        "name": name,
        "namespace": "kube-system",
        "creationTimestamp": None,
        "labels": labels,
        "annotations": {MARK: name},
        "ownerReferences": [owner],
    }
    usual = {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "securityContext": {}}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": metadata,
        "spec": {**usual, **spec},
        "status": {},
    }


@dataclass
class FakeRuntime:
    """A runtime whose containers end when they are stopped."""

    sandboxes: list[Sandbox] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    is_silent: bool = False
    stopped: list[tuple[str, int]] = field(default_factory=list)
    is_stubborn: bool = False

    def observe(self) -> Fact[Runtime]:
        if self.is_silent:
            return Unknown("no answer")
        return Known(Runtime(tuple(self.sandboxes), tuple(self.containers)))

    def stop_container(self, container_id: str, grace_seconds: int) -> None:
        self.stopped.append((container_id, grace_seconds))
        if not self.is_stubborn:
            self.containers = [c for c in self.containers if c.id != container_id]

    def run(self, old: dict[str, Any], *, is_copy: bool) -> str:
        """Have the pod, or its copy, run; return the container's id."""
        metadata = old["metadata"]
        source = {"kubernetes.io/config.source": "file" if is_copy else "api"}
        name = metadata["name"]
        sandbox = Sandbox(
            id=f"sandbox-{len(self.sandboxes)}",
            namespace="kube-system",
            name=f"{name}-{NODE}" if is_copy else name,
            uid="copy" if is_copy else metadata["ownerReferences"][0]["uid"],
            attempt=0,
            ready=True,
            created_at=0,
            labels=metadata["labels"],
            annotations={**(metadata["annotations"] if is_copy else {}), **source},
        )
        container = Container(
            id=f"container-{len(self.sandboxes)}",
            sandbox_id=sandbox.id,
            name=old["spec"]["containers"][0]["name"],
            namespace="kube-system",
            pod_name=sandbox.name,
            pod_uid=sandbox.uid,
            attempt=0,
            state=ContainerState.RUNNING,
            created_at=0,
        )
        self.sandboxes.append(sandbox)
        self.containers.append(container)
        return container.id


class OldNode:
    """The folders below one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        kubernetes = root / "etc/kubernetes"
        self.places = Places(
            kubernetes / "manifests",
            kubernetes / "inactive-manifests",
            kubernetes / "checkpoint-secrets",
            kubernetes / "checkpoint-configmaps",
            root / "run/pod-checkpointer.lock",
        )
        self.kubelet_folder = root / "var/lib/kubelet"
        self.store_folder = kubernetes / "checkpointer"
        for folder in (self.places.active, self.places.inactive, self.places.lock.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def store(self) -> Store:
        return Store(self.store_folder)

    def keep(self, old: dict[str, Any], *, active: bool = False) -> None:
        """Write the manifest as process.go does: kept, and active beside it."""
        metadata = old["metadata"]
        name = f"{metadata['namespace']}-{metadata['name']}.json"
        for folder in [self.places.inactive] + [self.places.active] * active:
            folder.mkdir(mode=0o700, exist_ok=True)
            path = folder / name
            path.write_text(json.dumps(old, separators=(",", ":")) + "\n")
            path.chmod(0o644)

    def keep_api_server(self, *, active: bool = False, **changes: Any) -> dict[str, Any]:
        """Write the API server's checkpoint with its files."""
        old = api_server(self.root, **changes)
        name = old["metadata"]["name"]
        self.write(self.places.secrets / "kube-system" / name / "kube-apiserver", TLS)
        policy = {"policy.yaml": "rules: []"}
        self.write(self.places.config_maps / "kube-system" / name / "audit-policy", policy)
        self.keep(old, active=active)
        return old

    def keep_itself(self) -> dict[str, Any]:
        old = itself(self.root)
        path = self.places.secrets / "kube-system" / old["metadata"]["name"]
        self.write(path / "pod-checkpointer-token", {"token": "t", "ca.crt": "c"})
        self.keep(old, active=True)
        return old

    def write(self, folder: Path, files: dict[str, str]) -> None:
        """Write material as secret.go does."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content)
            (folder / name).chmod(0o600)

    def takeover(self, disk: Disk | None = None, **config: Any) -> Takeover:
        settings = Config(**config)
        return Takeover(
            Settings(
                self.places,
                selection(settings.selection),
                snapshot_settings(settings, NODE, "https://10.0.0.1:6443"),
            ),
            self.store,
            Kubelet(self.kubelet_folder),
            disk,
        )

    def import_all(self) -> None:
        takeover = self.takeover()
        for candidate in takeover.candidates():
            if candidate.state == "to import":
                takeover.import_one(candidate)

    def files(self) -> set[str]:
        """Return all files that are not of our store, relative to the root."""
        found = {p for p in self.root.rglob("*") if not p.is_dir() or p.is_symlink()}
        ours = {p for p in found if self.store_folder in p.parents}
        return {str(p.relative_to(self.root)) for p in found - ours}

    def revisions(self) -> dict[Workload, list[int]]:
        stored = self.store.read()
        assert isinstance(stored, Known)
        return {c.workload: [r.number for r in c.revisions] for c in stored.value.checkpoints}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have the old checkpointer hold its lock."""
        handle = os.open(self.places.lock, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.close(handle)
