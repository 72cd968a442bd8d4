"""From a parent to a manifest that the kubelet starts without an API server, or a refusal.

The pod is copied by the tables of `fields`, then what they call rewritten and substituted is
done, then the kubelet's own rules (`acceptance`) are the last gate. The input is never changed,
equal input gives equal bytes, and whatever is wrong with a pod becomes a refusal, never an
exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from checkpointer.core.workload import Workload, workload_of
from checkpointer.manifest import acceptance, containers
from checkpointer.manifest.environment import EnvironmentMaker
from checkpointer.manifest.fields import METADATA, POD, POD_SPEC
from checkpointer.manifest.identity import Identity, identify, keep_hostname, warn_of_networks
from checkpointer.manifest.legible import STATUS
from checkpointer.manifest.render import canonical, pod_name
from checkpointer.manifest.shapes import clone, misfits, take
from checkpointer.manifest.sources import BoundClaim, Options, References, Sources, references
from checkpointer.manifest.verdict import Finding, Ledger, Outcome, Verdict
from checkpointer.manifest.volumes import VolumeMaker

__all__ = ["BoundClaim", "Options", "References", "Sources", "references", "sanitize"]

_NO_UID: Final = "00000000"
"""Stands for the part of the name that `render` fills in, so that the gate sees its length."""

_MARK_BYTES: Final = 4096
"""More than `render` adds to a manifest."""

_NO_PRIORITY: Final = {
    "priority": 0,
    "priorityClassName": "",
    "preemptionPolicy": "PreemptLowerPriority",
}
"""What a pod without a priority class has; the kubelet and the mirror pod get it anyway."""


def sanitize(
    pod: Mapping[str, Any], material_root: str, sources: Sources, options: Options
) -> Verdict:
    """Return the verdict on a v1 Pod as the API returns it; never raises on a bad pod.

    `material_root` is the absolute folder that holds (or will hold) one folder per volume.
    """
    broken = faults_of(pod)
    if broken:
        return Verdict(Outcome.REFUSED, _name_anyway(pod), None, refusals=broken)
    ledger = Ledger()
    metadata = {key: value for key, value in pod["metadata"].items() if value not in (None, "")}
    parent_spec = clone(pod["spec"])
    workload = workload_of({"metadata": metadata})
    take(metadata, METADATA, "metadata", ledger)
    identity = identify(metadata, parent_spec, options, ledger)
    spec = take(parent_spec, POD_SPEC, "spec", ledger)
    volumes = VolumeMaker(material_root, identity, sources, options, ledger)
    volumes.settle(spec)
    environment = EnvironmentMaker(identity, sources, options, ledger, parent_spec)
    _settle_containers(spec, environment, options, ledger)
    _settle_spec(spec, identity, options, ledger)
    containers.warn_of_credentials(parent_spec, options, ledger)
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(workload, identity, options.node_name),
        "spec": spec,
    }
    if not ledger.refusals:
        size = len(canonical(manifest)) + _MARK_BYTES
        ledger.refusals.extend(acceptance.refusals(manifest, options.node_name, size))
    return _conclude(workload, manifest, volumes, ledger)


def _conclude(
    workload: Workload, manifest: dict[str, Any], volumes: VolumeMaker, ledger: Ledger
) -> Verdict:
    if ledger.refusals:
        outcome = Outcome.REFUSED
    else:
        outcome = Outcome.WITH_WARNINGS if ledger.warnings else Outcome.CHECKPOINTABLE
    return Verdict(
        outcome,
        workload,
        None if ledger.refusals else manifest,
        tuple(volumes.material),
        tuple(ledger.changes),
        tuple(ledger.warnings),
        tuple(ledger.refusals),
        tuple(ledger.obstacles),
    )


def faults_of(pod: Any) -> tuple[Finding, ...]:
    """Return why this is no pod at all: wrong forms, or nothing to go by."""
    found = misfits(pod, POD, "")
    if found:
        return tuple(found)
    pod = pod or {}
    found = misfits(pod.get("status"), STATUS, "status")
    if found:  # nothing of it is in a copy, but selecting the pod reads it
        return tuple(found)
    if (pod.get("kind") or "Pod") != "Pod" or (pod.get("apiVersion") or "v1") != "v1":
        return (Finding("kind", "expected a Pod of apiVersion v1"),)
    if not (pod.get("metadata") or {}).get("name"):
        return (Finding("metadata.name", "expected the name of a pod"),)
    if not (pod.get("spec") or {}).get("containers"):
        return (Finding("spec.containers", "expected at least one container"),)
    if any(
        owner.get("controller") and not (owner.get("kind") and owner.get("name"))
        for owner in pod["metadata"].get("ownerReferences") or ()
    ):
        return (Finding("metadata.ownerReferences", "expected the controller's kind and name"),)
    return ()


def _name_anyway(pod: Any) -> Workload:
    """Return the workload of something that is no proper pod, as far as it can be told."""
    metadata = pod.get("metadata") if isinstance(pod, Mapping) else None
    if not isinstance(metadata, Mapping):
        metadata = {}
    namespace, name = metadata.get("namespace"), metadata.get("name")
    return Workload(
        namespace if isinstance(namespace, str) and namespace else "default",
        "Pod",
        name if isinstance(name, str) else "",
    )


def _settle_containers(
    spec: dict[str, Any], environment: EnvironmentMaker, options: Options, ledger: Ledger
) -> None:
    has_links = spec.get("enableServiceLinks", True)
    for path, container, is_init in containers.containers_of(spec):
        environment.inline(container, path)
        containers.settle_image(container, path, options, ledger)
        containers.settle_restarts(container, path, is_init, ledger)
        if spec.get("hostNetwork"):
            containers.drop_ports(container, path, ledger)
        else:
            containers.warn_of_host_ports(container, path, ledger)
        containers.warn_of_devices(container, path, ledger)
        containers.warn_of_service_links(container, path, has_links, ledger)
        if options.request_policy == "none":
            containers.settle_requests(container, path, ledger)


def _settle_spec(
    spec: dict[str, Any], identity: Identity, options: Options, ledger: Ledger
) -> None:
    keep_hostname(spec, identity, ledger)
    warn_of_networks(spec, identity, ledger)
    _settle_priority(spec, ledger)
    if spec.get("automountServiceAccountToken") is not False:
        spec["automountServiceAccountToken"] = False
        ledger.change(
            "spec.automountServiceAccountToken", "rewritten", "a static pod has no service account"
        )
    if spec.get("tolerations") != [{"operator": "Exists"}]:
        spec["tolerations"] = [{"operator": "Exists"}]
        ledger.change("spec.tolerations", "rewritten", "no taint may end a copy")
    if spec.get("restartPolicy", "Always") != "Always":
        ledger.change("spec.restartPolicy", "rewritten", "a checkpoint stays up")
        ledger.warn("spec.restartPolicy", "in the copy a finished container is started again")
    spec["restartPolicy"] = "Always"
    if options.request_policy == "none":
        containers.settle_requests(spec, "spec", ledger)
    if (spec.get("os") or {}).get("name", "linux") != "linux":
        ledger.refuse("spec.os.name", "this agent makes checkpoints of Linux pods only")
    if spec.get("hostUsers") is False:
        ledger.warn(
            "spec.hostUsers",
            "in a user namespace the material, a host path, needs a file system that supports "
            "ID-mapped mounts",
        )
    if options.service_host is None and identity.service_account:
        ledger.warn(
            "spec.containers",
            "KUBERNETES_SERVICE_HOST is not set in the copy: no API endpoint is configured",
            "configure an endpoint that works without kube-proxy",
        )


def _settle_priority(spec: dict[str, Any], ledger: Ledger) -> None:
    """Keep priority, class and preemption policy together, or none of them.

    The API server refuses a mirror pod in which they disagree
    (plugin/pkg/admission/priority/admission.go:admitPod).
    """
    if spec.get("priorityClassName") and "priority" in spec:
        return
    for name, default in _NO_PRIORITY.items():
        if spec.pop(name, default) != default:
            ledger.change(f"spec.{name}", "dropped", "the pod has no complete priority class")


def _metadata(workload: Workload, identity: Identity, node_name: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": pod_name(workload, node_name, _NO_UID),
        "namespace": workload.namespace,
    }
    if identity.copy_labels:
        metadata["labels"] = dict(identity.copy_labels)
    if identity.copy_annotations:
        metadata["annotations"] = dict(identity.copy_annotations)
    return metadata
