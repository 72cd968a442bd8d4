"""Which pods are parents, in which stage they belong, and which ports they hold.

A static pod bypasses admission: an annotation on a pod must not buy one by itself. So a pod is
selected only if the node's configuration allows its namespace, whoever annotated it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from checkpointer.core.facts import Fact, Known
from checkpointer.core.occupancy import WORKLOAD_LABEL
from checkpointer.core.workload import Workload, workload_of
from checkpointer.manifest import PREFIX
from checkpointer.manifest.render import CHECKPOINT_OF
from checkpointer.manifest.sources import BoundClaim
from checkpointer.values import dataclass

CHECKPOINT: Final = f"{PREFIX}checkpoint"
"""The annotation by which a pod asks to be checkpointed; the historic one."""
STAGE: Final = f"{PREFIX}stage"
HAND_OVER: Final = f"{PREFIX}hand-over"
"""The annotation by which a pod asks that its copy be ended with the pod's own grace, not killed:
`graceful`."""
INLINE_SECRETS: Final = f"{PREFIX}inline-secrets"
"""The annotation by which a pod opts in to secret values in its copy's environment."""

_MIRROR: Final = "kubernetes.io/config.mirror"
_SOURCE: Final = "kubernetes.io/config.source"
PORT_SHARING: Final = re.compile(r"--permit-port-sharing(=true)?")
"""The flag by which Kubernetes' own servers listen with SO_REUSEPORT."""
_JOB_KINDS: Final = frozenset({"Job", "CronJob"})


@dataclass(frozen=True, slots=True)
class Requirement:
    """One matchExpression of a label selector; operator In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels meet it; NotIn also holds where the label is absent, as in the API.

        An unknown operator meets nothing.
        """
        if self.operator == "In":
            return labels.get(self.key) in self.values and self.key in labels
        if self.operator == "NotIn":
            return self.key not in labels or labels[self.key] not in self.values
        if self.operator == "Exists":
            return self.key in labels
        return self.operator == "DoesNotExist" and self.key not in labels


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A label selector of the API: all of it must match. The empty one matches everything."""

    match_labels: tuple[tuple[str, str], ...] = ()
    match_expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a pod with these labels is meant."""
        return all(labels.get(key) == value for key, value in self.match_labels) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pods this node's configuration lets become parents.

    A pod must ask (annotation) or be asked for (one of the selectors), and every list of what
    is allowed must allow it. Names are exact; `*` alone in a list allows every one.
    """

    annotation: bool = True
    selectors: tuple[LabelSelector, ...] = ()
    namespaces: tuple[str, ...] = ("kube-system",)
    service_accounts: tuple[str, ...] = ("*",)
    """`namespace:name`, or a name alone for any namespace."""
    owner_kinds: tuple[str, ...] = ("*",)
    """Kind of the workload's controller; `Pod` for pods without one."""
    images: tuple[str, ...] = ("*",)
    """Exact image references, or prefixes that end in `*`; every container's must be allowed."""


@dataclass(frozen=True, slots=True)
class StageRule:
    """Puts workloads into a stage. An empty part matches everything; `*` ends or begins names."""

    stage: int
    namespaces: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    selector: LabelSelector = LabelSelector()

    def matches(self, workload: Workload, labels: Mapping[str, str]) -> bool:
        """Tell whether this rule speaks of the workload."""
        return (
            (not self.namespaces or workload.namespace in self.namespaces)
            and (not self.names or any(_fits(workload.name, name) for name in self.names))
            and self.selector.matches(labels)
        )


DEFAULT_STAGE_RULES: Final = (
    StageRule(
        stage=0,
        namespaces=("kube-system",),
        names=tuple(
            pattern
            for name in (
                "kube-apiserver",
                "etcd",
                "kube-vip",
                "kube-vip-ds",
                "haproxy",
                "keepalived",
            )
            for pattern in (name, f"*-{name}")
        ),
    ),
)
"""What brings contact with the API back: the API server, its store, and the way to it."""


def is_meant(pod: Mapping[str, Any], selection: Selection) -> bool:
    """Tell whether the pod asks to be checkpointed, or the configuration asks for it."""
    metadata = pod["metadata"]
    if selection.annotation and (metadata.get("annotations") or {}).get(CHECKPOINT) == "true":
        return True
    labels = metadata.get("labels") or {}
    return any(selector.matches(labels) for selector in selection.selectors)


def is_own(pod: Mapping[str, Any], workload: Workload, own: Workload | None) -> bool:
    """Tell whether a pod of this workload is the agent's, which need not ask and may decline."""
    annotations = pod["metadata"].get("annotations") or {}
    return workload == own and CHECKPOINT not in annotations


def exclusion(pod: Mapping[str, Any], selection: Selection) -> str | None:
    """Return why a pod cannot be a parent although it is meant to be one, or None if it can."""
    return _exclusion_by_nature(pod) or _exclusion_by_configuration(pod, selection)


def _exclusion_by_nature(pod: Mapping[str, Any]) -> str | None:
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    owners = metadata.get("ownerReferences") or ()
    if WORKLOAD_LABEL in (metadata.get("labels") or {}) or CHECKPOINT_OF in annotations:
        return "it is one of our own checkpoints"
    if (
        _MIRROR in annotations
        or annotations.get(_SOURCE, "api") != "api"
        or any(owner.get("kind") == "Node" for owner in owners)
    ):
        return "it is a static pod: the kubelet starts it without the API anyway"
    if metadata.get("deletionTimestamp"):
        return "it is terminating"
    phase = (pod.get("status") or {}).get("phase")
    if phase in ("Succeeded", "Failed"):
        return f"it has finished ({phase})"
    if any(owner.get("kind") in _JOB_KINDS for owner in owners):
        return "it belongs to a Job: it runs to its end, once"
    return None


def _exclusion_by_configuration(pod: Mapping[str, Any], selection: Selection) -> str | None:
    workload = workload_of(pod)
    spec = pod.get("spec") or {}
    if not _allows(selection.namespaces, workload.namespace):
        return f"this node's configuration does not allow namespace {workload.namespace}"
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    accounts = selection.service_accounts
    if not (_allows(accounts, account) or f"{workload.namespace}:{account}" in accounts):
        return f"this node's configuration does not allow service account {account}"
    if not _allows(selection.owner_kinds, workload.kind):
        return f"this node's configuration does not allow workloads of kind {workload.kind}"
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            image = container.get("image", "")
            if not any(_fits(image, pattern) for pattern in selection.images):
                return f"this node's configuration does not allow image {image}"
    return None


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Tell whether the pod's condition Ready is true."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in conditions
    )


def opts_in_to_inlining(pod: Mapping[str, Any]) -> bool:
    """Tell whether the pod's annotation allows secret values in the manifest of its copy."""
    return (pod["metadata"].get("annotations") or {}).get(INLINE_SECRETS) == "true"


def stage_of(pod: Mapping[str, Any], rules: tuple[StageRule, ...] = DEFAULT_STAGE_RULES) -> int:
    """Return 0 for what restores contact with the API, 1 for the rest.

    The pod's annotation decides, then the first rule that matches.
    """
    metadata = pod["metadata"]
    wish = (metadata.get("annotations") or {}).get(STAGE)
    if wish in ("0", "1"):
        return int(wish)
    workload, labels = workload_of(pod), metadata.get("labels") or {}
    return next((rule.stage for rule in rules if rule.matches(workload, labels)), 1)


def host_ports(pod: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the node's ports that the pod declares, sorted.

    On the host's network those are the container ports (SetDefaults_PodSpec: defaultHostNetwork-
    Ports). Init containers that are no sidecars are done when the pod runs.
    """
    spec = pod.get("spec") or {}
    found: set[int] = set()
    sidecars = [
        container
        for container in spec.get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    ]
    for container in (*sidecars, *(spec.get("containers") or ())):
        for port in container.get("ports") or ():
            number = port.get("hostPort") or (spec.get("hostNetwork") and port.get("containerPort"))
            if number:
                found.add(number)
    return tuple(sorted(found))


def shares_ports(pod: Mapping[str, Any], claims: Mapping[str, Fact[BoundClaim | None]]) -> bool:
    """Tell whether parent and copy can be expected to run side by side.

    They can without host network and host ports; and on the host's network where the program is
    told to share its ports, as kube-apiserver may be. What is seen then decides. They cannot
    where both would write to a claim that is not for many writers (`claims` by name).
    """
    if _writes_alone(pod, claims):
        return False
    if on_host_network(pod):
        return any(PORT_SHARING.fullmatch(word) for word in _command_lines(pod))
    return not host_ports(pod)


def _writes_alone(pod: Mapping[str, Any], claims: Mapping[str, Fact[BoundClaim | None]]) -> bool:
    """Tell whether the pod mounts a claim for writing that is not ReadWriteMany.

    ReadWriteOnce allows two pods on one node, and a rollout of a Deployment makes use of it; but
    who asks for it expects one writer, and a copy is a second one that nobody asked for. A claim
    that is not known is taken for one.
    """
    spec = pod.get("spec") or {}
    written = {
        mount.get("name")
        for kind in ("initContainers", "containers")
        for container in spec.get(kind) or ()
        for mount in container.get("volumeMounts") or ()
        if not mount.get("readOnly")
    }
    for volume in spec.get("volumes") or ():
        source = volume.get("persistentVolumeClaim")
        if not source or source.get("readOnly") or volume.get("name") not in written:
            continue
        fact = claims.get(source.get("claimName") or "")
        claim = fact.value.claim if isinstance(fact, Known) and fact.value is not None else {}
        modes = (claim.get("spec") or {}).get("accessModes") or ()
        if "ReadWriteMany" not in modes and set(modes) != {"ReadOnlyMany"}:
            return True
    return False


def on_host_network(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod is on the host's network."""
    return bool((pod.get("spec") or {}).get("hostNetwork"))


def _command_lines(pod: Mapping[str, Any]) -> Iterator[str]:
    for container in (pod.get("spec") or {}).get("containers") or ():
        yield from (*(container.get("command") or ()), *(container.get("args") or ()))


def is_graceful(pod: Mapping[str, Any]) -> bool:
    """Tell whether the pod's copy must not be killed when the parent comes back."""
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    return annotations.get(HAND_OVER) == "graceful"


def _allows(allowed: tuple[str, ...], name: str) -> bool:
    return "*" in allowed or name in allowed


def _fits(name: str, pattern: str) -> bool:
    """Tell whether a name is the pattern, or has its end or beginning beside its one `*`."""
    if pattern.startswith("*"):
        return name.endswith(pattern[1:])
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


__all__ = [
    "CHECKPOINT",
    "DEFAULT_STAGE_RULES",
    "HAND_OVER",
    "INLINE_SECRETS",
    "STAGE",
    "LabelSelector",
    "Requirement",
    "Selection",
    "StageRule",
    "exclusion",
    "host_ports",
    "is_graceful",
    "is_meant",
    "is_own",
    "is_ready",
    "on_host_network",
    "opts_in_to_inlining",
    "shares_ports",
    "stage_of",
]
