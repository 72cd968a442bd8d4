"""The downward API and the environment of containers, as the kubelet fills them in."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

from checkpointer.simulation.cluster import Object

Lookup = Callable[[str, str, str], Object | None]
"""Returns an API object by resource, namespace and name; None when the API says there is none."""


class NotMountedError(Exception):
    """Something that a pod needs before it can start is not there, or cannot be asked for."""


def field_value(pod: Object, path: str, *, host_ip: str = "", pod_ip: str = "") -> str:
    """Return the value of a `fieldRef` (pkg/fieldpath and kubelet_pods.go)."""
    metadata, spec = pod["metadata"], pod["spec"]
    if subscript := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        pairs = metadata.get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{name}="{value}"' for name, value in sorted(pairs.items()))
    values = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", "default"),
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": host_ip,
        "status.hostIPs": host_ip,
        "status.podIP": pod_ip,
        "status.podIPs": pod_ip,
    }
    if path not in values:
        raise NotMountedError(f"unsupported fieldPath {path!r}")
    return str(values[path])


def environment(
    pod: Object, container: Object, lookup: Lookup, *, host_ip: str = "", pod_ip: str = ""
) -> dict[str, str]:
    """Return the container's environment; NotMountedError when a wanted source is missing."""
    namespace = pod["metadata"].get("namespace", "default")
    found: dict[str, str] = {}
    for group in container.get("envFrom") or ():
        for resource, key in (("configmaps", "configMapRef"), ("secrets", "secretRef")):
            if key in group:
                source = group[key]
                obj = _object(lookup, resource, namespace, source)
                for name, value in texts(obj).items():
                    found[group.get("prefix", "") + name] = value
    for variable in container.get("env") or ():
        value_from = variable.get("valueFrom")
        if value_from is None:
            found[variable["name"]] = _expand(str(variable.get("value", "")), found)
        elif "fieldRef" in value_from:
            found[variable["name"]] = field_value(
                pod, value_from["fieldRef"]["fieldPath"], host_ip=host_ip, pod_ip=pod_ip
            )
        else:
            looked_up = _key_value(lookup, namespace, value_from)
            if looked_up is not None:
                found[variable["name"]] = looked_up
    return found


def texts(obj: Object | None) -> dict[str, str]:
    """Return the values of a Secret or ConfigMap as text."""
    data = (obj or {}).get("data") or {}
    if (obj or {}).get("kind") == "Secret":
        return {name: base64.b64decode(value).decode() for name, value in data.items()}
    return {name: str(value) for name, value in data.items()}


def _object(lookup: Lookup, resource: str, namespace: str, source: Object) -> Object | None:
    obj = lookup(resource, namespace, source.get("name", ""))
    if obj is None and not source.get("optional"):
        raise NotMountedError(f'{resource.removesuffix("s")} "{source.get("name")}" not found')
    return obj


def _key_value(lookup: Lookup, namespace: str, value_from: Object) -> str | None:
    for resource, name in (("configmaps", "configMapKeyRef"), ("secrets", "secretKeyRef")):
        if name in value_from:
            source = value_from[name]
            values = texts(_object(lookup, resource, namespace, source))
            if source["key"] not in values and not source.get("optional"):
                raise NotMountedError(f"couldn't find key {source['key']} in {source['name']}")
            return values.get(source["key"])
    return ""


def _expand(value: str, known: dict[str, str]) -> str:
    """Replace `$(NAME)` by what is known; `$$` stays one `$`, an unknown name stays as it is."""
    return re.sub(
        r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)",
        lambda match: "$" if match[1] is None else known.get(match[1], match[0]),
        value,
    )
