"""Who may do what: the Node authorizer's rules for kubelet credentials, all for masters.

Section 7.3 of the kubelet's contract. The agent lives on the kubelet's own kubeconfig, so a
simulation that allowed more would prove nothing. Service accounts stand for one whose cluster
role lets it read; what they may not is decided by real RBAC, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from checkpointer.simulation.cluster import Cluster, Object
from checkpointer.values import dataclass

_NODE_PREFIX = "system:node:"
_WRITES_EVENTS = ("create", "update", "patch")


@dataclass(frozen=True, slots=True)
class User:
    """Who asks, as the client certificate or the token says."""

    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is asked for."""

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    """The field selector's equalities."""


def is_allowed(cluster: Cluster, user: User, wanted: Attributes) -> bool:
    """Tell whether the user may do it."""
    if "system:masters" in user.groups:
        return True
    if "system:nodes" in user.groups and user.name.startswith(_NODE_PREFIX):
        return _is_allowed_to_node(cluster, user.name.removeprefix(_NODE_PREFIX), wanted)
    return wanted.verb in ("get", "list", "watch") or wanted.resource in ("events", "leases")


def _is_allowed_to_node(cluster: Cluster, node: str, wanted: Attributes) -> bool:
    match wanted.resource:
        case "pods":
            return _may_touch_pods(cluster, node, wanted)
        case "secrets" | "configmaps" | "persistentvolumeclaims" | "persistentvolumes":
            return _may_read_material(cluster, node, wanted)
        case "serviceaccounts":
            return wanted.verb == "get" or (wanted.verb, wanted.subresource) == ("create", "token")
        case "events":
            return wanted.verb in _WRITES_EVENTS
        case "nodes":
            return node in (wanted.name, wanted.fields.get("metadata.name", ""))
        case "leases":
            is_own = wanted.name == node or wanted.verb == "create"
            return wanted.namespace == "kube-node-lease" and is_own
        case "services":
            return wanted.verb in ("get", "list", "watch")
        case "endpoints":
            return wanted.verb == "get"
    return False


def _may_touch_pods(cluster: Cluster, node: str, wanted: Attributes) -> bool:
    if wanted.verb in ("list", "watch"):
        return wanted.fields.get("spec.nodeName") == node
    if wanted.verb == "create" and not wanted.subresource:
        return True
    pod = cluster.get("pods", wanted.namespace, wanted.name)
    if pod is None:
        # A pod that is gone has no edge to the node: reading it is forbidden, not "not found".
        return wanted.verb == "delete"
    if pod["spec"].get("nodeName") != node:
        return False
    if wanted.subresource == "status":
        return wanted.verb in ("update", "patch", "get")
    if wanted.subresource == "eviction":
        return wanted.verb == "create"
    return not wanted.subresource and wanted.verb in ("get", "delete")


def _may_read_material(cluster: Cluster, node: str, wanted: Attributes) -> bool:
    """Allow one named object that a pod bound to this node refers to."""
    name = wanted.name or wanted.fields.get("metadata.name", "")
    if wanted.verb not in ("get", "list", "watch") or not name:
        return False
    if wanted.resource.startswith("persistentvolume"):
        return wanted.verb == "get"
    return any(
        name in references(pod, wanted.resource)
        for pod in cluster.objects("pods", wanted.namespace)
        if pod["spec"].get("nodeName") == node
        and "kubernetes.io/config.mirror" not in (pod["metadata"].get("annotations") or {})
    )


def references(pod: Object, resource: str) -> set[str]:
    """Return the names of the secrets or configMaps that the pod's volumes and environment name."""
    is_secret = resource == "secrets"
    source, key = ("secret", "secretName") if is_secret else ("configMap", "name")
    names: set[str] = set()
    for volume in pod["spec"].get("volumes") or ():
        if source in volume:
            names.add(volume[source].get(key, ""))
        for projected in (volume.get("projected") or {}).get("sources") or ():
            names.add((projected.get(source) or {}).get("name", ""))
    if is_secret:
        names |= {secret.get("name", "") for secret in pod["spec"].get("imagePullSecrets") or ()}
    for container in (pod["spec"].get("initContainers") or []) + pod["spec"]["containers"]:
        for variable in container.get("env") or ():
            value = (variable.get("valueFrom") or {}).get(f"{source}KeyRef") or {}
            names.add(value.get("name", ""))
        for group in container.get("envFrom") or ():
            names.add((group.get(f"{source}Ref") or {}).get("name", ""))
    return names - {""}
