"""The kubelet's rules for static pods: would it take this manifest, run it, and mirror it?

The last gate before a revision is stored, and what the simulated kubelet goes by. It knows
nothing of sanitizing: it reads any manifest as Kubernetes 1.36 would (K/config/common.go,
pkg/apis/core/validation, pkg/api/pod), with the defaults of v1 applied in passing, and adds what
would end a pod for good later: the kubelet's admission as far as a manifest alone can tell, and
the API server's rules for mirror pods. A file is accepted or not as a whole; all findings are
returned. Not checked: affinity terms, topology spread constraints and readiness gates in
detail, windowsOptions, and what only the node knows (its resources, other pods' ports).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from checkpointer.manifest import container_rules, metadata_rules, pod_rules, volume_rules
from checkpointer.manifest.fields import POD
from checkpointer.manifest.formats import is_subdomain
from checkpointer.manifest.gate import Context, Findings
from checkpointer.manifest.shapes import clone, misfits
from checkpointer.manifest.verdict import Finding

LARGEST_BYTES: Final = (10 << 20) - 1
"""Greatest size of a manifest file: one of exactly 10 MiB fails (utils/io:ReadAtMost)."""

_SYSTEM_CLASSES: Final = {
    "system-cluster-critical": 2_000_000_000,
    "system-node-critical": 2_000_001_000,
}
_INITIAL_LABELS: Final = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    }
)
"""Labels of the node that the kubelet makes up without an API (K/kubelet_node_status.go)."""


def refusals(
    manifest: Mapping[str, Any], node_name: str, size_bytes: int | None = None
) -> tuple[Finding, ...]:
    """Return why a kubelet named `node_name` would not run this static pod; empty when it would.

    `size_bytes` is the size of the file, where it is known. Never raises on a bad manifest.
    """
    found = Findings(misfits(manifest, POD, ""))
    if size_bytes is not None and size_bytes > LARGEST_BYTES:
        found.add("", f"the file has {size_bytes} bytes, 10 MiB is too large")
    if not found:
        _check_kind(manifest or {}, found)
    if found:
        return tuple(found)
    metadata = clone(manifest.get("metadata") or {})
    spec = clone(manifest.get("spec") or {})
    volumes = volume_rules.check_volumes(spec, found)
    context = Context.of(spec, volumes)
    container_rules.check_containers(spec, context, found)
    metadata_rules.check_metadata(metadata, spec, found)
    pod_rules.check_spec(spec, found)
    volume_rules.check_references(spec, found)
    _check_name(metadata, node_name, found)
    _check_static(metadata, spec, found)
    _check_admission(spec, found)
    _check_mirror(metadata, spec, found)
    return tuple(found)


def _check_kind(manifest: Mapping[str, Any], found: Findings) -> None:
    """A file holds one v1 Pod, no list (K/config/common.go:tryDecodeSinglePod)."""
    if manifest.get("apiVersion") != "v1":
        found.add("apiVersion", "expected v1")
    if manifest.get("kind") != "Pod":
        found.add("kind", "expected Pod")


def _check_name(metadata: Mapping[str, Any], node_name: str, found: Findings) -> None:
    """The kubelet appends its node's name (K/config/common.go:generatePodName)."""
    full = f"{metadata.get('name', '')}-{node_name.lower()}"
    if not is_subdomain(full):
        found.add(
            "metadata.name",
            f"with the node's name it is {full}: expected a DNS subdomain of at most 253 "
            "characters",
        )


def _check_static(metadata: Mapping[str, Any], spec: Mapping[str, Any], found: Findings) -> None:
    """What the API gives to pods that exist, and a file must not have."""
    if metadata.get("deletionTimestamp"):
        found.add("metadata.deletionTimestamp", "the pod would start its life terminating")
    if "kubernetes.io/config.mirror" in (metadata.get("annotations") or {}):
        found.add(
            "metadata.annotations['kubernetes.io/config.mirror']",
            "the kubelet would take the pod for a mirror pod and never run it",
        )
    if spec.get("ephemeralContainers"):
        found.add("spec.ephemeralContainers", "cannot be set on create")
    if spec.get("schedulingGates"):
        found.add("spec.nodeName", "cannot be set until all schedulingGates have been cleared")


def _check_admission(spec: Mapping[str, Any], found: Findings) -> None:
    """What the kubelet rejects for good when it knows no node object (K/lifecycle/predicate.go)."""
    unknown = sorted(set(spec.get("nodeSelector") or {}) - _INITIAL_LABELS)
    if unknown:
        found.add(
            "spec.nodeSelector",
            f"offline the node has no label {unknown[0]}: rejected (NodeAffinity)",
        )
    affinity = _get(spec.get("affinity"), "nodeAffinity")
    if _get(affinity, "requiredDuringSchedulingIgnoredDuringExecution"):
        found.add(
            "spec.affinity.nodeAffinity",
            "offline the node has not its labels: rejected (NodeAffinity)",
        )
    if spec.get("runtimeClassName"):
        found.add("spec.runtimeClassName", "runtime classes are read from the API at every start")


def _check_mirror(metadata: Mapping[str, Any], spec: Mapping[str, Any], found: Findings) -> None:
    """What makes the API server refuse the mirror pod: the pod runs, but nobody sees it."""
    if metadata.get("resourceVersion"):
        found.add("metadata.resourceVersion", "must not be set on objects to be created")
    if spec.get("overhead") and not spec.get("runtimeClassName"):
        found.add("spec.overhead", "forbidden on the mirror pod without a runtime class")
    _check_priority(spec, found)


def _check_priority(spec: Mapping[str, Any], found: Findings) -> None:
    """Priority and preemption policy must be the class's (admission/priority:admitPod).

    Without a class those are 0 and PreemptLowerPriority, unless the cluster has a default class;
    of other classes only the API server knows the values.
    """
    class_name = spec.get("priorityClassName") or ""
    values = {"": 0, **_SYSTEM_CLASSES}
    priority = spec.get("priority")
    if class_name not in values:
        return
    if priority is not None and priority != values[class_name]:
        of = f"class {class_name}" if class_name else "a pod without a class"
        found.add(
            "spec.priority",
            f"forbidden on the mirror pod: {of} has priority {values[class_name]}",
        )
    if spec.get("preemptionPolicy") not in (None, "", "PreemptLowerPriority"):
        found.add("spec.preemptionPolicy", "forbidden on the mirror pod: differs from the class")


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None
