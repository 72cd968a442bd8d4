"""Whether a pod of the API's can be read: all that a decision rests on, before it is looked at.

The API server sends nothing else than pods that fit its own schema; what stands between may. One
pod that does not fit must neither stop the decisions on the others nor look like an absent one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from checkpointer.core.workload import Workload, workload_of
from checkpointer.manifest.shapes import Each, Kind, Row, Table, misfits

_OWNER: Final = Table(
    "OwnerReference",
    {"kind": Row(Kind.TEXT), "name": Row(Kind.TEXT), "controller": Row(Kind.BOOL)},
)
_METADATA: Final = Table(
    "ObjectMeta",
    {
        "annotations": Row(Kind.MAP),
        "deletionTimestamp": Row(Kind.TEXT),
        "labels": Row(Kind.MAP),
        "name": Row(Kind.TEXT),
        "namespace": Row(Kind.TEXT),
        "ownerReferences": Row(Each(_OWNER)),
        "resourceVersion": Row(Kind.TEXT),
        "uid": Row(Kind.TEXT),
    },
)
_CONTAINERS: Final = Each(Table("Container", {"image": Row(Kind.TEXT)}))
_CONDITION: Final = Table(
    "PodCondition", {key: Row(Kind.TEXT) for key in ("type", "status", "lastTransitionTime")}
)
STATUS: Final = Table(
    "PodStatus",
    {
        "conditions": Row(Each(_CONDITION)),
        "containerStatuses": Row(Each(Table("ContainerStatus", {"containerID": Row(Kind.TEXT)}))),
        "phase": Row(Kind.TEXT),
    },
)
_POD: Final = Table(
    "Pod",
    {
        "metadata": Row(_METADATA),
        "spec": Row(
            Table(
                "PodSpec",
                {
                    "containers": Row(_CONTAINERS),
                    "initContainers": Row(_CONTAINERS),
                    "serviceAccount": Row(Kind.TEXT),
                    "serviceAccountName": Row(Kind.TEXT),
                },
            )
        ),
        "status": Row(STATUS),
    },
)
"""What selecting, telling readiness and naming the workload read; `sanitize` looks at the rest."""

_NEEDED: Final = ("namespace", "name", "uid")


def fault_of(raw: Any) -> str:
    """Return what keeps a v1 Pod from being read, as `path: expectation`; empty if nothing does.

    It names no value: that may be a secret.
    """
    found = misfits(raw, _POD, "")
    if found:
        return f"{found[0].path or 'the pod'}: {found[0].reason}"
    for path in ("metadata", "spec"):
        if raw is None or raw.get(path) is None:
            return f"{path}: expected an object, found none"
    missing = [key for key in _NEEDED if not raw["metadata"].get(key)]
    if missing:
        return f"metadata.{missing[0]}: expected a string, found none"
    for index, owner in enumerate(raw["metadata"].get("ownerReferences") or ()):
        if owner.get("controller") and not (owner.get("kind") and owner.get("name")):
            return f"metadata.ownerReferences[{index}]: expected a kind and a name"
    return ""


def uid_of(raw: Any) -> str:
    """Return a pod's UID; empty when it has none that can be read."""
    return _text(raw, "uid")


def shown(raw: Any) -> str:
    """Return how to name a pod that may not be readable, for people."""
    namespace, name = _text(raw, "namespace"), _text(raw, "name")
    if namespace and name:
        return f"{namespace}/{name}"
    uid = uid_of(raw)
    return name or (f"with UID {uid}" if uid else "without a name")


def workload_anyway(raw: Any) -> Workload | None:
    """Return whose an unreadable pod is, where that much can be read; else None."""
    metadata = raw.get("metadata") if isinstance(raw, Mapping) else None
    who = {key: _text(raw, key) for key in ("namespace", "name")}
    if not isinstance(metadata, Mapping) or not all(who.values()):
        return None
    parts = {key: metadata.get(key) for key in ("labels", "ownerReferences")}
    candidate = {"metadata": {**who, "uid": "x", **parts}, "spec": {}}
    return None if fault_of(candidate) else workload_of(candidate)


def _text(raw: Any, key: str) -> str:
    metadata = raw.get("metadata") if isinstance(raw, dict) else None
    value = metadata.get(key) if isinstance(metadata, dict) else None
    return value if isinstance(value, str) else ""
