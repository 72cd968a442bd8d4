"""Who a pod is across restarts: its workload.

Pod names and UIDs change with every rollout; a checkpoint belongs to what stays: the namespace
and the controller, or the pod itself when nobody controls it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

TEMPLATE_LABELS = ("pod-template-hash", "controller-revision-hash", "pod-template-generation")
"""Labels that controllers add and that differ between two pods of one workload."""

_ALWAYS_RESTART = frozenset(
    ("DaemonSet", "Deployment", "ReplicaSet", "ReplicationController", "StatefulSet")
)
"""Kinds whose pods' restart policy is Always (pkg/apis/apps and core, validation.go)."""

_NAME_SUFFIX = r"[a-z0-9]{5}"
_LONGEST_STEM = 58
"""Of a generated name, before its five characters: longer ones are cut."""


class Workload(NamedTuple):
    """Namespace, controller kind and controller name; kind `Pod` for a pod without a controller.

    A tuple, since a cycle looks each one up a dozen times: it is compared and hashed as such.
    """

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.kind.lower()}/{self.name}"

    @property
    def always_restarts(self) -> bool:
        """Tell whether its controller's API takes no restart policy but Always."""
        return self.kind in _ALWAYS_RESTART

    @property
    def is_api_server(self) -> bool:
        """Tell whether it serves the API, by the names that belong to stage 0 without a setting."""
        return f"-{self.name}".endswith("-kube-apiserver")

    @property
    def digest(self) -> str:
        """Return 16 hex characters that name this workload in labels and file names."""
        return _digest(self)

    @property
    def has_controller(self) -> bool:
        """Tell whether somebody makes its pod again when that is gone."""
        return self.kind != "Pod"

    def may_own(self, pod_namespace: str, pod_name: str) -> bool:
        """Tell whether the name is one that this workload's controller would give to a pod.

        The form of generated names is that of apiserver's names.SimpleNameGenerator: the
        owner's name and a dash, cut to 58 characters, then five more; a Deployment puts its
        template hash between.
        """
        if pod_namespace != self.namespace:
            return False
        if not self.has_controller:
            return pod_name == self.name
        if self.kind == "StatefulSet":
            return re.fullmatch(re.escape(self.name) + "-[0-9]+", pod_name) is not None
        stem, suffix = pod_name[:-5], pod_name[-5:]
        if not re.fullmatch(_NAME_SUFFIX, suffix):
            return False
        is_cut = len(stem) == _LONGEST_STEM
        if is_cut and f"{self.name}-".startswith(stem):
            return True
        middle = ""
        if self.kind == "Deployment":
            middle = r"[a-z0-9]{0,10}-?" if is_cut else r"[a-z0-9]{1,10}-"
        return re.fullmatch(re.escape(f"{self.name}-") + middle, stem) is not None


@lru_cache(maxsize=4096)
def _digest(workload: Workload) -> str:
    import hashlib  # not for `status`, which with an agent there asks for no digest

    return hashlib.sha256("\0".join(workload).encode()).hexdigest()[:16]


def workload_of(pod: Mapping[str, Any]) -> Workload:
    """Return the workload of a v1 Pod as the API returns it.

    A ReplicaSet's pod counts as its Deployment's when the ReplicaSet's name ends in the pod's
    `pod-template-hash`, as the Deployment controller names them.
    """
    metadata = pod["metadata"]
    namespace = metadata.get("namespace", "default")
    owner = controller_of(pod)
    if owner is None:
        return Workload(namespace, "Pod", metadata["name"])
    kind, name = owner["kind"], owner["name"]
    template_hash = (metadata.get("labels") or {}).get("pod-template-hash")
    if kind == "ReplicaSet" and template_hash and name.endswith(f"-{template_hash}"):
        return Workload(namespace, "Deployment", name[: -len(template_hash) - 1])
    return Workload(namespace, kind, name)


def controller_of(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the owner reference with `controller: true`, or None."""
    for owner in pod["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return dict(owner)
    return None


def template_of(labels: Mapping[str, str]) -> str:
    """Return what the controller calls the pod template that a pod was made of, or nothing.

    A DaemonSet's, StatefulSet's or Deployment's: two pods of one template have the same spec.
    """
    found = (labels.get(key) for key in ("controller-revision-hash", "pod-template-hash"))
    return next((value for value in found if value), "")


def identifying_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels without those that differ between two pods of one workload."""
    return {key: value for key, value in labels.items() if key not in TEMPLATE_LABELS}
