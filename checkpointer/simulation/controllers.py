"""The simulated DaemonSet and Deployment controllers and scheduler of a cluster with one node.

They act while an API server runs somewhere: on a self-hosted node that is the node's own, on an
edge node one far away, whether the node can reach it or not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import traceback

from checkpointer.simulation import pod_defaults, pod_status
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.api_writes import delete_pod
from checkpointer.simulation.cluster import AlreadyExistsError, NotFoundError, Object

_FIRST_RETRY_SECONDS = 1.0
"""The DaemonSet controller's back-off before it replaces a failed pod; it doubles each time."""
_TERMINAL = ("Failed", "Succeeded")


class Controllers:
    """One thread that keeps the pods wanted by DaemonSets and Deployments on the node."""

    def __init__(self, api: ApiServer, node_name: str, start_seconds: float = 0.5) -> None:
        self.errors: list[str] = []
        """Tracebacks of faults of the simulation itself: none, if all is well."""
        self._api = api
        self._cluster = api.cluster
        self._node_name = node_name
        self._start_seconds = start_seconds
        self._failures: dict[str, int] = {}
        self._retry_at: dict[str, float] = {}
        self._is_stopped = False
        self._running_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="controllers", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._is_stopped = True
        self._cluster.wake()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._is_stopped:
            revision = self._cluster.revision
            try:
                if self._have_contact():
                    self._tick()
            except Exception:
                self.errors.append(traceback.format_exc())
            self._cluster.wait(revision, 0.2, lambda: self._is_stopped)

    def _have_contact(self) -> bool:
        """Tell whether the API server has run for long enough to be watched again."""
        if not self._api.is_running:
            self._running_since = None
            return False
        now = time.monotonic()
        if self._running_since is None:
            self._running_since = now
        return now - self._running_since >= self._start_seconds

    def _tick(self) -> None:
        for daemon_set in self._cluster.objects("daemonsets"):
            self._keep_daemon(daemon_set)
        for deployment in self._cluster.objects("deployments"):
            self._keep_deployment(deployment)
        self._collect_garbage()

    def _keep_daemon(self, daemon_set: Object) -> None:
        """One pod; a failed one is replaced, one of another template is deleted first."""
        wanted = template_hash(daemon_set)
        pods = self._owned(daemon_set)
        for pod in pods:
            if _is_leaving(pod):
                continue
            metadata = pod["metadata"]
            if (pod.get("status") or {}).get("phase") in _TERMINAL:
                if self._may_replace(daemon_set["metadata"]["uid"], metadata["uid"]):
                    self._delete(pod)
            elif metadata["labels"].get("controller-revision-hash") != wanted:
                self._delete(pod)
        if not pods:
            labels = {"controller-revision-hash": wanted, "pod-template-generation": "1"}
            self._create(daemon_set, "DaemonSet", daemon_set["metadata"]["name"], labels)

    def _keep_deployment(self, deployment: Object) -> None:
        """So many pods of the newest template; old ones go when a new one is Ready."""
        wanted = template_hash(deployment)
        name = f"{deployment['metadata']['name']}-{wanted}"
        replica_set = self._replica_set(deployment, name, wanted)
        pods = [
            pod
            for pod in self._cluster.objects("pods", deployment["metadata"]["namespace"])
            if not _is_leaving(pod)
            and (pod.get("status") or {}).get("phase") not in _TERMINAL
            and _root(pod) == (deployment["metadata"]["name"], "ReplicaSet")
        ]
        current = [one for one in pods if one["metadata"]["labels"]["pod-template-hash"] == wanted]
        replicas = int(deployment["spec"].get("replicas", 1))
        for _ in range(replicas - len(current)):
            self._create(replica_set, "ReplicaSet", name, {"pod-template-hash": wanted}, deployment)
        for surplus in current[replicas:]:
            self._delete(surplus)
        if replicas == 0 or sum(pod_status.is_ready(one) for one in current) >= replicas:
            for old in pods:
                if old["metadata"]["labels"]["pod-template-hash"] != wanted:
                    self._delete(old)

    def _replica_set(self, deployment: Object, name: str, wanted: str) -> Object:
        namespace = deployment["metadata"]["namespace"]
        replica_set: Object = {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {"pod-template-hash": wanted},
                "ownerReferences": [_owner(deployment, "Deployment")],
            },
            "spec": {"replicas": deployment["spec"].get("replicas", 1)},
        }
        with contextlib.suppress(AlreadyExistsError):
            return self._cluster.create("replicasets", replica_set)
        return self._cluster.get("replicasets", namespace, name) or replica_set

    def _create(
        self,
        owner: Object,
        kind: str,
        name: str,
        labels: dict[str, str],
        template_of: Object | None = None,
    ) -> None:
        template = (template_of or owner)["spec"]["template"]
        metadata = template.get("metadata") or {}
        pod_defaults.create_pod(
            self._cluster,
            {
                "generateName": f"{name}-",
                "namespace": owner["metadata"]["namespace"],
                "labels": {**(metadata.get("labels") or {}), **labels},
                "annotations": dict(metadata.get("annotations") or {}),
                "ownerReferences": [_owner(owner, kind)],
            },
            # The scheduler's part is done here as well: there is but one node.
            {**template["spec"], "nodeName": self._node_name},
        )

    def _may_replace(self, owner: str, failed: str) -> bool:
        """Tell whether the back-off for a failed pod is over."""
        now = time.monotonic()
        if failed not in self._retry_at:
            count = self._failures.get(owner, 0)
            self._failures[owner] = count + 1
            self._retry_at[failed] = now + (_FIRST_RETRY_SECONDS * 2**count if count else 0.0)
        return now >= self._retry_at[failed]

    def _owned(self, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]
        return [
            pod
            for pod in self._cluster.objects("pods", owner["metadata"]["namespace"])
            if any(one["uid"] == uid for one in pod["metadata"].get("ownerReferences") or ())
        ]

    def _collect_garbage(self) -> None:
        """Delete pods and ReplicaSets whose controller is gone."""
        uids = {
            one["metadata"]["uid"]
            for resource in ("daemonsets", "deployments", "replicasets", "nodes", "jobs")
            for one in self._cluster.objects(resource)
        }
        for resource in ("replicasets", "pods"):
            for obj in self._cluster.objects(resource):
                owners = obj["metadata"].get("ownerReferences") or ()
                if owners and not any(one["uid"] in uids for one in owners):
                    self._delete(obj, resource)

    def _delete(self, obj: Object, resource: str = "pods") -> None:
        metadata = obj["metadata"]
        with contextlib.suppress(NotFoundError):
            if resource == "pods":
                delete_pod(self._cluster, metadata["namespace"], metadata["name"])
            else:
                self._cluster.delete(resource, metadata["namespace"], metadata["name"])


def template_hash(controller: Object) -> str:
    """Return a hash of the pod template, as `pod-template-hash` has it."""
    text = json.dumps(controller["spec"]["template"], sort_keys=True)
    digest = hashlib.sha256(text.encode()).digest()
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    return "".join(alphabet[byte % len(alphabet)] for byte in digest[:10])


def _owner(owner: Object, kind: str) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _root(pod: Object) -> tuple[str, str]:
    """Return the name of the pod's Deployment and the kind of its owner."""
    owners = pod["metadata"].get("ownerReferences") or [{"name": "", "kind": ""}]
    suffix = "-" + (pod["metadata"].get("labels") or {}).get("pod-template-hash", "")
    return owners[0]["name"].removesuffix(suffix), owners[0]["kind"]


def _is_leaving(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))
