"""What can be seen of a simulated node from outside the agent, and the files it must not touch."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from checkpointer.core.workload import Workload
from checkpointer.simulation import pod_status
from checkpointer.simulation.control_plane import NAMESPACE, WORKLOADS
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.self_hosting import IMAGE
from checkpointer.store import layout

_FOREIGN = {
    # A static pod like any other: it has to run through all of this.
    "etcd.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd, namespace: kube-system}\n"
    "spec:\n  hostNetwork: true\n  containers:\n  - {name: etcd, image: registry.k8s.io/etcd}\n",
    # Named as a checkpoint might be, but without our mark.
    "pod-checkpointer-mine.json": json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "mine", "labels": {"k8s-app": "kube-apiserver"}},
            "spec": {"containers": [{"name": "mine", "image": "docker.io/library/mine:1"}]},
        }
    ),
    # What an editor leaves behind; the kubelet tries to read it and refuses.
    "kube-system-kube-apiserver.json~": "{ not JSON",
}


class Scene:
    """One node under observation."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node
        self._foreign: dict[str, tuple[bytes, int, int]] = {}

    def place_foreign_files(self) -> None:
        """Put files of somebody else into the manifest folder and remember them."""
        for name, text in _FOREIGN.items():
            path = self._node.manifest_folder / name
            path.write_text(text)
            self._foreign[name] = _fingerprint(path)

    def has_foreign_files(self) -> bool:
        """Tell whether the files that are not ours are what they were, to the nanosecond."""
        folder = self._node.manifest_folder
        try:
            return all(
                _fingerprint(folder / name) == before for name, before in self._foreign.items()
            )
        except OSError:
            return False

    def has_only_foreign_files(self) -> bool:
        """Tell whether the manifest folder holds no name but those."""
        return self.files() == set(_FOREIGN)

    def files(self) -> set[str]:
        """Return all names in the manifest folder, hidden ones included."""
        return {path.name for path in self._node.manifest_folder.iterdir()}

    def ready_parents(self) -> set[str]:
        """Return the workloads that have a Ready pod, by the API's objects."""
        return {
            name for name in WORKLOADS for pod in self._node.pods(name) if pod_status.is_ready(pod)
        }

    def parent_sandboxes(self) -> set[str]:
        """Return the workloads whose own pod has a sandbox that is ready."""
        uids = {pod["metadata"]["uid"] for pod in self._node.pods()}
        names = {
            sandbox.config.name
            for sandbox in self._node.runtime.sandboxes()
            if sandbox.is_ready and sandbox.config.uid in uids
        }
        return {name for name in WORKLOADS if any(one.startswith(name) for one in names)}

    def are_stored(self) -> bool:
        """Tell whether the store has a current revision with a manifest for each workload."""
        for name in WORKLOADS:
            kind = "DaemonSet" if name == IMAGE else "Deployment"
            workload = Workload(NAMESPACE, kind, name)
            folder = layout.workload_folder(self._node.store_folder, workload)
            try:
                current = int((folder / layout.CURRENT).read_text())
            except (OSError, ValueError):
                return False
            if not (folder / layout.REVISIONS / str(current) / layout.MANIFEST).is_file():
                return False
        return True

    def active_images(self, name: str = "") -> set[str]:
        """Return the images of the manifests that the agent has placed."""
        images = set()
        for file in self._node.manifests() - set(_FOREIGN):
            try:
                manifest = json.loads((self._node.manifest_folder / file).read_text())
            except (OSError, ValueError):
                continue
            images |= {one["image"] for one in manifest["spec"]["containers"]}
        return {image for image in images if name in image}

    def api_answers(self) -> bool:
        """Ask the API server as a client would: a fresh connection, its certificate verified."""
        node = self._node
        context = ssl.create_default_context(cadata=node.authority.certificate.decode())
        try:
            with urllib.request.urlopen(  # noqa: S310 - our own https address
                f"{node.api.url}/readyz", timeout=1.0, context=context
            ) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _fingerprint(path: Path) -> tuple[bytes, int, int]:
    status = path.stat()
    return path.read_bytes(), status.st_mtime_ns, status.st_ino
