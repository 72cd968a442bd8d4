"""Mirror pods, and the node's own object: what the kubelet keeps in the API (section 3)."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable

from checkpointer.simulation import pod_status
from checkpointer.simulation.api_writes import MIRROR
from checkpointer.simulation.cluster import AlreadyExistsError, Cluster, NotFoundError, Object
from checkpointer.simulation.pod_worker import PodWorker, Stage
from checkpointer.simulation.static_pods import HASH


def is_mirror(pod: Object) -> bool:
    """Tell whether the API's pod stands for a static one."""
    return MIRROR in (pod["metadata"].get("annotations") or {})


def node_labels(node_name: str) -> dict[str, str]:
    """Return the labels that a kubelet gives its node without asking anybody."""
    return {
        "kubernetes.io/hostname": node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    }


def register_node(cluster: Cluster, node_name: str, address: str) -> None:
    """Create the node's object, or leave it as it is."""
    node: Object = {
        "metadata": {"name": node_name, "labels": node_labels(node_name)},
        "spec": {},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": node_name},
            ],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }
    with contextlib.suppress(AlreadyExistsError):
        cluster.create("nodes", node)


def reconcile(cluster: Cluster, node_name: str, workers: Iterable[PodWorker]) -> None:
    """Make, refresh and remove mirror pods until they tell of the static pods there are."""
    static = {
        (one.pod["metadata"]["namespace"], one.pod["metadata"]["name"]): one
        for one in workers
        if one.stage in (Stage.SYNCING, Stage.TERMINATING)
    }
    present: set[tuple[str, str]] = set()
    for pod in cluster.objects("pods"):
        if pod["spec"].get("nodeName") != node_name or not is_mirror(pod):
            continue
        metadata = pod["metadata"]
        key = (metadata["namespace"], metadata["name"])
        worker = static.get(key)
        if worker is None or metadata["annotations"][MIRROR] != _hash(worker):
            with contextlib.suppress(NotFoundError):
                cluster.delete("pods", *key)
        else:
            present.add(key)
            _refresh(cluster, key, worker)
    for key, worker in static.items():
        if key not in present and worker.stage is Stage.SYNCING:
            with contextlib.suppress(AlreadyExistsError):
                cluster.create("pods", _mirror(cluster, node_name, worker))


def _hash(worker: PodWorker) -> str:
    return str(worker.pod["metadata"]["annotations"][HASH])


def _refresh(cluster: Cluster, key: tuple[str, str], worker: PodWorker) -> None:
    def change(stored: Object) -> None:
        stored["status"] = pod_status.status_of(worker, stored.get("status") or {})

    with contextlib.suppress(NotFoundError):
        cluster.update("pods", *key, change)


def _mirror(cluster: Cluster, node_name: str, worker: PodWorker) -> Object:
    node = cluster.get("nodes", "", node_name)
    pod = copy.deepcopy(worker.pod)
    metadata = pod["metadata"]
    metadata.pop("uid", None)
    metadata["annotations"] = {**metadata["annotations"], MIRROR: _hash(worker)}
    metadata["ownerReferences"] = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "name": node_name,
            "uid": node["metadata"]["uid"] if node else "",
            "controller": True,
        }
    ]
    return pod
