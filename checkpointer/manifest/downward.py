"""The downward API: which fields the copy would see differently, and what the parent saw.

A copy has another name, another UID, no service account and not all labels and annotations.
Software derives identities from these (leader election, node names of clusters), so the copy is
told what its parent was told; the rest is left to the kubelet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from checkpointer.manifest import PREFIX
from checkpointer.manifest.identity import KUBELET_ANNOTATIONS, Identity


def substitute(field_path: str, identity: Identity) -> str | None:
    """Return the parent's value of a field, or None where the copy's is the same.

    Covers all that pkg/fieldpath and podFieldSelectorRuntimeValue resolve for one value.
    """
    if field_path == "metadata.name":
        return identity.name
    if field_path == "metadata.uid":
        return identity.uid
    if field_path == "spec.serviceAccountName":
        return identity.service_account or None
    path, key = split_subscript(field_path)
    if key is None:
        return None
    if path == "metadata.labels":
        return _substitute_key(key, identity.labels, identity.copy_labels)
    if path == "metadata.annotations":
        if key == "kubernetes.io/config.source":
            return "api"
        return _substitute_key(key, identity.annotations, identity.copy_annotations)
    return None


def told_without_address(field_path: str, is_on_host: bool) -> str | None:
    """Return what comes of a field for a kubelet that does not know its own address, or None.

    With --cloud-provider=external and no --node-ip it waits for the API to tell it
    (K/nodestatus/setters.go:NodeAddress). A status.hostIP is then an error
    (pkg/util/node:GetNodeHostIPs); the pod's own address is empty on the host's network.
    """
    if field_path in ("status.hostIP", "status.hostIPs"):
        return "the container does not start"
    if is_on_host and field_path in ("status.podIP", "status.podIPs"):
        return "the variable is empty"
    return None


def split_subscript(field_path: str) -> tuple[str, str | None]:
    """Split `metadata.labels['key']`, as pkg/fieldpath:SplitMaybeSubscriptedPath does."""
    if not field_path.endswith("']"):
        return field_path, None
    path, bracket, key = field_path[:-2].partition("['")
    return (path, key) if bracket and path else (field_path, None)


def is_same_for_copy(items: Iterable[Mapping[str, Any]], identity: Identity) -> bool:
    """Tell whether the copy's kubelet would render these downward API files alike.

    All labels or all annotations never are: the copy carries marks of its own.
    """
    for item in items:
        field_path = (item.get("fieldRef") or {}).get("fieldPath", "")
        if field_path in ("metadata.labels", "metadata.annotations"):
            return False
        if substitute(field_path, identity) is not None:
            return False
    return True


def _substitute_key(key: str, parent: Mapping[str, str], copy: Mapping[str, str]) -> str | None:
    value = parent.get(key, "")
    if key.startswith(PREFIX) or key in KUBELET_ANNOTATIONS:
        return value
    return None if copy.get(key, "") == value else value
