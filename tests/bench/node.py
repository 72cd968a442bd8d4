"""A node to measure an agent on: real folders, HTTPS, a CRI socket; no simulated kubelet.

It does nothing by itself, so that what is measured is the agent and not its surroundings: pods
are Ready and stay so, their volumes are rendered once.
"""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any, Self

import yaml

from checkpointer.simulation import control_plane, mirrors, pod_defaults
from checkpointer.simulation.alarms import Alarms
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.atomic_writer import File, write
from checkpointer.simulation.certificates import Authority, write_kubeconfig
from checkpointer.simulation.cluster import Cluster, Object, timestamp
from checkpointer.simulation.connections import free_port
from checkpointer.simulation.cri_server import CriServer
from checkpointer.simulation.programs import Programs
from checkpointer.simulation.runtime import Runtime
from checkpointer.simulation.runtime_records import ContainerConfig, SandboxConfig
from tests.bench.waiting import wait_until

NAME = "node1"
IMAGE = "registry.example/main:1"


class BenchNode:
    """The surroundings of one agent in a folder with a short path; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.manifest_folder = folder / "manifests"
        self.store_folder = folder / "store"
        self.kubelet_folder = folder / "kubelet"
        self.lock_file = folder / "run/lock/lock"
        self.config_file = folder / "config.yaml"
        self.http_port = free_port()
        self.cluster = Cluster()
        self._authority = Authority()
        self.api = ApiServer(self.cluster, self._authority, folder / "api")
        self._alarms = Alarms()
        self.runtime = Runtime(Programs({}), self._alarms)
        self.runtime.images.add(IMAGE)
        self.cri = CriServer(self.runtime, folder / "run/cri.sock")
        self._kubelet = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        for name in ("manifests", "kubelet/pod-resources", "run"):
            (self.folder / name).mkdir(parents=True, mode=0o700)
        client = self._authority.client(f"system:node:{NAME}", "system:nodes")
        write_kubeconfig(self.kubeconfig, self.api.url, self._authority.certificate, client)
        (self.folder / "boot_id").write_text("boot\n")
        mirrors.register_node(self.cluster, NAME, "127.0.0.1")
        self.cluster.apply("endpoints", control_plane.endpoints("127.0.0.1"))
        self.cri.open()
        self._kubelet.bind(str(self.kubelet_folder / "pod-resources/kubelet.sock"))
        self._kubelet.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._kubelet.shutdown(socket.SHUT_RDWR)
        self._kubelet.close()
        self.api.stop()
        self.cri.close()
        self._alarms.close()

    def start_api(self) -> None:
        """Have the API answer; before that it refuses connections."""
        self.api.start(self._authority.serving("127.0.0.1", "localhost"))

    def configure(self, **groups: Any) -> None:
        """Write the agent's configuration: its places on this node, else its own defaults."""
        settings = {
            "apiVersion": "checkpointer.alpha.coreos.com/v1alpha1",
            "kind": "CheckpointerConfiguration",
            "nodeName": NAME,
            "kubeconfig": str(self.kubeconfig),
            "manifestDirectory": str(self.manifest_folder),
            "storeDirectory": str(self.store_folder),
            "kubeletDirectory": str(self.kubelet_folder),
            "runtimeEndpoint": self.cri.endpoint,
            "lockFile": str(self.lock_file),
            "bootIDFile": str(self.folder / "boot_id"),
            "http": {"address": f"127.0.0.1:{self.http_port}"},
        }
        self.config_file.write_text(yaml.safe_dump(settings | groups))

    def places(self) -> dict[str, str]:
        """Return what a contender's command may ask for by name, in braces."""
        return {
            "folder": str(self.folder),
            "config": str(self.config_file),
            "node": NAME,
            "kubeconfig": str(self.kubeconfig),
            "manifests": str(self.manifest_folder),
            "store": str(self.store_folder),
            "kubelet": str(self.kubelet_folder),
            "runtime": self.cri.endpoint,
            "lock": str(self.lock_file),
        }

    def manifests(self) -> int:
        """Return how many manifests the kubelet would read."""
        return sum(not path.name.startswith(".") for path in self.manifest_folder.iterdir())

    def stored(self) -> int:
        """Return how many workloads have a checkpoint in the store."""
        return sum(1 for _ in self.store_folder.glob("*/*/current"))

    def add_pods(self, count: int, *, running: bool) -> None:
        """Have so many Ready pods of as many DaemonSets, each with a secret of three files.

        With `running` their containers run; without, they have died since the API was told.
        """
        for number in range(count):
            self._add_pod(f"workload-{number}", running)

    def _add_pod(self, name: str, running: bool) -> None:
        wanted = self.cluster.create("daemonsets", control_plane.controller(name, _spec()))
        template = wanted["spec"]["template"]
        owner = {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "name": name,
            "uid": wanted["metadata"]["uid"],
            "controller": True,
        }
        pod = pod_defaults.created_pod(
            {**template["metadata"], "ownerReferences": [owner], "generateName": f"{name}-"}
            | {"namespace": control_plane.NAMESPACE},
            {**template["spec"], "nodeName": NAME},
        )
        made = self.cluster.create("pods", pod)
        metadata = made["metadata"]
        volume = self.kubelet_folder / "pods" / metadata["uid"] / "volumes/kubernetes.io~secret"
        volume = volume / "certs"
        volume.mkdir(parents=True)
        volume.chmod(0o1777)
        write(volume, {f"file-{n}": File(bytes(2048)) for n in range(3)})
        container = "0" * 64
        if running:
            container = self._run(metadata["namespace"], metadata["name"], metadata["uid"])

        def report(stored: Object) -> None:
            stored["status"] = _status(container)

        self.cluster.update("pods", metadata["namespace"], metadata["name"], report)

    def _run(self, namespace: str, name: str, uid: str) -> str:
        labels = {
            "io.kubernetes.pod.name": name,
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.pod.uid": uid,
        }
        sandbox = self.runtime.run_sandbox(SandboxConfig(name, namespace, uid, labels=labels))
        labels = labels | {"io.kubernetes.container.name": "main"}
        made = self.runtime.create_container(
            sandbox.id, ContainerConfig("main", IMAGE, labels=labels)
        )
        self.runtime.start_container(made.id)
        return made.id

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._kubelet.accept()
            except OSError:
                return
            connection.close()


def wait_stored(node: BenchNode, count: int, seconds: float, is_running: Any) -> None:
    """Wait until the agent has stored a checkpoint of each of so many workloads."""
    wait_until(lambda: node.stored() >= count, seconds, f"{count} stored checkpoints", is_running)


def _spec() -> Object:
    return {
        "hostNetwork": True,
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists"}],
        "containers": [
            {
                "name": "main",
                "image": IMAGE,
                "volumeMounts": [{"name": "certs", "mountPath": "/certs", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "certs", "secret": {"secretName": "certs", "defaultMode": 420}}],
    }


def _status(container: str) -> Object:
    since = timestamp(time.time() + 1.0)  # not before the kubelet's start, to the full second
    ready = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "qosClass": "BestEffort",
        "hostIP": "127.0.0.1",
        "startTime": since,
        "conditions": [{"type": t, "status": "True", "lastTransitionTime": since} for t in ready],
        "containerStatuses": [
            {
                "name": "main",
                "image": IMAGE,
                "imageID": "sha256:" + "0" * 64,
                "containerID": f"containerd://{container}",
                "restartCount": 0,
                "ready": True,
                "started": True,
                "state": {"running": {"startedAt": since}},
                "lastState": {},
            }
        ],
    }
