"""The simulated cluster's objects: what etcd holds, with resource versions and watches.

It outlives every API server, as etcd does. The API server hands it out over HTTPS; the
simulated kubelet and controllers use it in this process, but only while an API server would
have let them.
"""

from __future__ import annotations

import copy
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from checkpointer.values import dataclass

Object = dict[str, Any]
"""A Kubernetes object as the API's JSON has it."""

_HISTORY = 4096


@dataclass(frozen=True, slots=True)
class Resource:
    """How a kind of object is called and where the API has it."""

    name: str
    kind: str
    api_version: str = "v1"
    is_namespaced: bool = True


RESOURCES: dict[str, Resource] = {
    resource.name: resource
    for resource in (
        Resource("pods", "Pod"),
        Resource("secrets", "Secret"),
        Resource("configmaps", "ConfigMap"),
        Resource("services", "Service"),
        Resource("endpoints", "Endpoints"),
        Resource("serviceaccounts", "ServiceAccount"),
        Resource("persistentvolumeclaims", "PersistentVolumeClaim"),
        Resource("persistentvolumes", "PersistentVolume", is_namespaced=False),
        Resource("nodes", "Node", is_namespaced=False),
        Resource("namespaces", "Namespace", is_namespaced=False),
        Resource("events", "Event"),
        Resource("leases", "Lease", "coordination.k8s.io/v1"),
        Resource("daemonsets", "DaemonSet", "apps/v1"),
        Resource("deployments", "Deployment", "apps/v1"),
        Resource("replicasets", "ReplicaSet", "apps/v1"),
        Resource("statefulsets", "StatefulSet", "apps/v1"),
        Resource("jobs", "Job", "batch/v1"),
    )
}


class AlreadyExistsError(Exception):
    """An object of that name is there."""


class NotFoundError(Exception):
    """No object of that name is there."""


class ConflictError(Exception):
    """The object has another resource version or UID than the writer believed."""


class ExpiredError(Exception):
    """The history no longer reaches back to the resource version asked for (410 Gone)."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history. `before` is None for a creation, `after` for a deletion."""

    revision: int
    resource: str
    before: Object | None
    after: Object | None

    @property
    def namespace(self) -> str:
        """Return the object's namespace, empty when it has none."""
        return str(((self.after or self.before) or {})["metadata"].get("namespace", ""))


class Cluster:
    """All objects, safe for many threads; what goes in and out is copied."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._history: deque[Change] = deque(maxlen=_HISTORY)
        self._revision = 1
        self._compacted = 0
        for name in ("default", "kube-system", "kube-node-lease"):
            self.create("namespaces", {"metadata": {"name": name}})

    @property
    def revision(self) -> int:
        """Return the resource version of the newest change."""
        with self._changed:
            return self._revision

    def create(self, resource: str, obj: Object) -> Object:
        """Store a new object with name, UID and times filled in, and return it."""
        described = RESOURCES[resource]
        obj = copy.deepcopy(obj)
        metadata = obj.setdefault("metadata", {})
        if described.is_namespaced:
            metadata.setdefault("namespace", "default")
        if "name" not in metadata:
            metadata["name"] = metadata["generateName"] + random_suffix()
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = timestamp()
        obj["apiVersion"], obj["kind"] = (
            obj.get("apiVersion", described.api_version),
            described.kind,
        )
        key = (resource, metadata.get("namespace", ""), metadata["name"])
        with self._changed:
            if key in self._objects:
                raise AlreadyExistsError(f"{resource} {metadata['name']!r} already exists")
            self._store(key, obj)
            return copy.deepcopy(obj)

    def apply(self, resource: str, obj: Object) -> Object:
        """Create the object or replace its content, keeping its identity."""
        metadata = obj["metadata"]
        namespace = metadata.get("namespace", "default" if _is_namespaced(resource) else "")

        def replace(stored: Object) -> None:
            kept = {key: stored[key] for key in ("apiVersion", "kind", "metadata")}
            stored.clear()
            stored.update({**kept, **copy.deepcopy(obj)})
            stored["metadata"] = {**kept["metadata"], **stored["metadata"]}

        try:
            return self.update(resource, namespace, metadata["name"], replace)
        except NotFoundError:
            return self.create(resource, obj)

    def update(
        self, resource: str, namespace: str, name: str, change: Callable[[Object], None]
    ) -> Object:
        """Let `change` edit the object in place; nothing is recorded when it changed nothing."""
        with self._changed:
            key = (resource, namespace, name)
            if key not in self._objects:
                raise NotFoundError(f"{resource} {name!r} not found")
            edited = copy.deepcopy(self._objects[key])
            change(edited)
            if edited != self._objects[key]:
                self._store(key, edited)
            return copy.deepcopy(edited)

    def delete(self, resource: str, namespace: str, name: str, uid: str | None = None) -> Object:
        """Remove the object at once, if it has the UID given, and return what it was."""
        with self._changed:
            key = (resource, namespace, name)
            if key not in self._objects:
                raise NotFoundError(f"{resource} {name!r} not found")
            before = self._objects[key]
            if uid is not None and before["metadata"]["uid"] != uid:
                raise ConflictError(f"{resource} {name!r} has another UID than {uid}")
            del self._objects[key]
            last = copy.deepcopy(before)
            self._revision += 1
            last["metadata"]["resourceVersion"] = str(self._revision)
            self._record(Change(self._revision, resource, last, None))
            return copy.deepcopy(last)

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return the object, or None."""
        with self._changed:
            return copy.deepcopy(self._objects.get((resource, namespace, name)))

    def objects(self, resource: str, namespace: str | None = None) -> list[Object]:
        """Return the objects of one kind, by namespace and name."""
        return self.snapshot(resource, namespace)[0]

    def snapshot(self, resource: str, namespace: str | None = None) -> tuple[list[Object], int]:
        """Return the objects of one kind and the resource version they are from."""
        with self._changed:
            found = [
                copy.deepcopy(obj)
                for key, obj in sorted(self._objects.items(), key=lambda item: item[0])
                if key[0] == resource and (namespace is None or key[1] == namespace)
            ]
            return found, self._revision

    def changes_since(self, revision: int) -> Iterable[Change]:
        """Return the changes after the revision, oldest first; do not edit them."""
        with self._changed:
            if revision < self._compacted:
                raise ExpiredError(f"too old resource version: {revision} ({self._compacted})")
            return [change for change in self._history if change.revision > revision]

    def wait(
        self, revision: int, seconds: float, interrupted: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait for a change after the revision; False when the time is up or it was interrupted.

        Who makes `interrupted` true calls `wake`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._revision > revision or interrupted(), seconds)
            return self._revision > revision

    def wake(self) -> None:
        """Have every waiter look at what else it depends on."""
        with self._changed:
            self._changed.notify_all()

    def compact(self) -> None:
        """Forget the history: whoever asks for an older resource version gets 410 Gone."""
        with self._changed:
            self._revision += 1
            self._compacted = self._revision
            self._history.clear()
            self._changed.notify_all()

    def _store(self, key: tuple[str, str, str], obj: Object) -> None:
        before = self._objects.get(key)
        self._revision += 1
        obj["metadata"]["resourceVersion"] = str(self._revision)
        self._objects[key] = obj
        self._record(Change(self._revision, key[0], before, obj))

    def _record(self, change: Change) -> None:
        if len(self._history) == _HISTORY:
            self._compacted = self._history[0].revision
        self._history.append(change)
        self._changed.notify_all()


def timestamp(seconds: float | None = None) -> str:
    """Return the time (now, if none is given) as Kubernetes writes it."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def random_suffix(length: int = 5) -> str:
    """Return a suffix as the API generates it for `generateName`."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    return "".join(alphabet[byte % len(alphabet)] for byte in uuid.uuid4().bytes[:length])


def _is_namespaced(resource: str) -> bool:
    return RESOURCES[resource].is_namespaced
