"""Creations, changes and deletions through the simulated API server, as far as nodes need them."""

from __future__ import annotations

import copy
from http import HTTPStatus

from checkpointer.simulation.authorizer import Attributes
from checkpointer.simulation.cluster import Cluster, ConflictError, NotFoundError, Object, timestamp

MIRROR = "kubernetes.io/config.mirror"


def write(cluster: Cluster, wanted: Attributes, body: Object) -> tuple[HTTPStatus, Object]:
    """Carry it out and return the answer's status and body."""
    match wanted.verb:
        case "create" if wanted.subresource == "eviction":
            return HTTPStatus.CREATED, delete_pod(cluster, wanted.namespace, wanted.name)
        case "create":
            body = {**body, "metadata": {**body.get("metadata", {})}}
            if wanted.namespace:
                body["metadata"]["namespace"] = wanted.namespace
            return HTTPStatus.CREATED, cluster.create(wanted.resource, body)
        case "update" | "patch":
            return HTTPStatus.OK, _change(cluster, wanted, body)
        case _:
            return HTTPStatus.OK, _delete(cluster, wanted, body)


def delete_pod(
    cluster: Cluster, namespace: str, name: str, grace: int | None = None, uid: str | None = None
) -> Object:
    """Delete a pod as the API does: mark it, and leave its end to the kubelet of its node."""
    pod = cluster.get("pods", namespace, name)
    if pod is None:
        raise NotFoundError(f'pods "{name}" not found')
    if uid is not None and pod["metadata"]["uid"] != uid:
        raise ConflictError(f"the UID in the precondition ({uid}) is not the pod's")
    if grace is None:
        grace = int(pod["spec"].get("terminationGracePeriodSeconds") or 30)
    is_mirror = MIRROR in (pod["metadata"].get("annotations") or {})
    if grace == 0 or is_mirror or not pod["spec"].get("nodeName"):
        return cluster.delete("pods", namespace, name)

    def mark(stored: Object) -> None:
        stored["metadata"].setdefault("deletionTimestamp", timestamp())
        stored["metadata"]["deletionGracePeriodSeconds"] = grace

    return cluster.update("pods", namespace, name, mark)


def _delete(cluster: Cluster, wanted: Attributes, body: Object) -> Object:
    uid = (body.get("preconditions") or {}).get("uid")
    if wanted.resource == "pods":
        grace = body.get("gracePeriodSeconds")
        return delete_pod(cluster, wanted.namespace, wanted.name, grace, uid)
    return cluster.delete(wanted.resource, wanted.namespace, wanted.name, uid)


def _change(cluster: Cluster, wanted: Attributes, body: Object) -> Object:
    """Replace or merge; a subresource changes nothing but the part that has its name."""

    def change(stored: Object) -> None:
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version is not None and version != stored["metadata"]["resourceVersion"]:
            raise ConflictError(f"{wanted.resource} {wanted.name!r} has been modified")
        if wanted.subresource == "status":
            status = stored.get("status") or {}
            stored["status"] = merge(status, body.get("status") or {})
            if wanted.resource == "nodes" and wanted.verb == "patch":
                stored["status"]["conditions"] = _by_type(status, body.get("status") or {})
        elif wanted.verb == "patch":
            merged = merge(stored, body)
            stored.clear()
            stored.update(merged)
        else:
            kept = stored["metadata"]
            stored.clear()
            stored.update(copy.deepcopy(body))
            for key in ("uid", "creationTimestamp", "resourceVersion"):
                stored["metadata"][key] = kept[key]

    return cluster.update(wanted.resource, wanted.namespace, wanted.name, change)


def _by_type(stored: Object, patch: Object) -> list[Object]:
    """Merge conditions as a strategic merge patch does: by their type."""
    found = {one["type"]: one for one in stored.get("conditions") or ()}
    for one in patch.get("conditions") or ():
        if one.get("$patch") == "delete":
            found.pop(one["type"], None)
        else:
            found[one["type"]] = merge(found.get(one["type"], {}), one)
    return list(found.values())


def merge(target: Object, patch: Object) -> Object:
    """Apply a JSON merge patch (RFC 7386)."""
    merged = dict(target)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            inside = merged.get(key)
            merged[key] = merge(inside if isinstance(inside, dict) else {}, value)
        else:
            merged[key] = value
    return merged
