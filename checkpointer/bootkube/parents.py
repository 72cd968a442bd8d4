"""From a checkpoint of the bootkube checkpointer back to the pod that it was taken of.

It keeps the parent's name, namespace and labels, puts the parent's UID into an owner reference,
and turns secret and configMap volumes into host paths. What it threw away (the controller,
annotations, scheduling) is not needed for a copy, or told by the labels of the controller.
"""

from __future__ import annotations

import copy
import posixpath
import re
from collections.abc import Mapping
from typing import Any, Final

from checkpointer.manifest.select import CHECKPOINT
from checkpointer.values import dataclass

_GENERATED: Final = re.compile(r"(.+)-[a-z0-9]{5}")
_ORDINAL: Final = re.compile(r"(.+)-[0-9]+")
_SOURCES: Final = {"secret": "secretName", "configMap": "name"}


@dataclass(frozen=True, slots=True)
class OldVolume:
    """One of its volumes: where in its folders the files lie."""

    name: str
    kind: str
    """`secret` or `configMap`."""
    source: str
    """The secret's or config map's name, which is the folder's."""


def parent_of(
    old: Mapping[str, Any], roots: Mapping[str, str]
) -> tuple[dict[str, Any], tuple[OldVolume, ...]]:
    """Return the pod as the API had it, as far as it can be told, and its volumes with files.

    `roots` are the folders of secrets and configMaps, by `secret` and `configMap`.
    """
    metadata, spec = old["metadata"], copy.deepcopy(dict(old["spec"]))
    labels = metadata.get("labels") or {}
    restored: dict[str, Any] = {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "uid": _parent_uid(metadata),
        "labels": dict(labels),
        "annotations": {CHECKPOINT: "true"},
    }
    owner = controller_by_labels(metadata["name"], labels)
    if owner is not None:
        kind, name = owner
        restored["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "", "controller": True}
        ]
    found = []
    for volume in spec.get("volumes") or ():
        path = (volume.get("hostPath") or {}).get("path", "")
        kept = _old_volume(volume.get("name", ""), path, metadata, roots)
        if kept is not None:
            del volume["hostPath"]
            volume[kept.kind] = {_SOURCES[kept.kind]: kept.source}
            found.append(kept)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": restored, "spec": spec}, tuple(found)


def controller_by_labels(name: str, labels: Mapping[str, str]) -> tuple[str, str] | None:
    """Return kind and name of a pod's controller as its labels and name tell; None without one.

    The labels are those that the controllers of apps/v1 give to their pods.
    """
    template_hash = labels.get("pod-template-hash")
    generated = _GENERATED.fullmatch(name)
    if template_hash:
        is_usual = generated is not None and generated[1].endswith(f"-{template_hash}")
        return ("ReplicaSet", generated[1]) if generated is not None and is_usual else None
    if "statefulset.kubernetes.io/pod-name" in labels:
        ordinal = _ORDINAL.fullmatch(name)
        return ("StatefulSet", ordinal[1]) if ordinal else None
    if "controller-revision-hash" in labels or "pod-template-generation" in labels:
        return ("DaemonSet", generated[1]) if generated else None
    return None


def _parent_uid(metadata: Mapping[str, Any]) -> str:
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("name") == metadata["name"] and isinstance(owner.get("uid"), str):
            return str(owner["uid"])
    return ""


def _old_volume(
    name: str, path: str, metadata: Mapping[str, Any], roots: Mapping[str, str]
) -> OldVolume | None:
    """Return the volume if the path is exactly <root>/<namespace>/<pod>/<source>."""
    for kind, root in roots.items():
        folder = posixpath.join(root, metadata["namespace"], metadata["name"])
        parent, source = posixpath.split(path)
        if parent == folder and source not in ("", ".", ".."):
            return OldVolume(name, kind, source)
    return None
