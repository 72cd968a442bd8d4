"""What makes a drawn object valid where one field depends on another.

Each function changes the freshly drawn object that it is given, and returns it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count
from typing import Any

from tests.unit.manifest.valid_values import one

_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_ONLY_RUNNING = ("lifecycle", *_PROBES)
_HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")
POD_RESOURCES = one(
    {"requests": {"cpu": "100"}, "limits": {"cpu": "100", "memory": "100Gi"}},
    {"requests": {"memory": "100Gi"}},
)
"""A pod's own resources: more than its containers ask for together."""


def mend_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Let one owner at most be the controller."""
    for owner in metadata.get("ownerReferences", ())[1:]:
        owner.pop("controller", None)
    return metadata


def mend_security(context: dict[str, Any]) -> dict[str, Any]:
    """Let no privileged container be kept from what it has."""
    if context.get("privileged"):
        context.pop("allowPrivilegeEscalation", None)
    return context


def mend_sysctls(context: dict[str, Any]) -> dict[str, Any]:
    """Name no sysctl twice."""
    if "sysctls" in context:
        context["sysctls"] = list({found["name"]: found for found in context["sysctls"]}.values())
    return context


def mend_projected(source: dict[str, Any]) -> dict[str, Any]:
    """Give every file of the downward API a path of its own."""
    numbers = count()
    for projection in source.get("sources", ()):
        for item in projection.get("downwardAPI", {}).get("items", ()):
            item["path"] = f"dir/{next(numbers)}"
    return source


def mend_container(container: dict[str, Any]) -> dict[str, Any]:
    """Settle probes, and mounts with each other and with the container's privileges."""
    for name in _PROBES:
        probe = container.get(name, {})
        probe.pop("terminationGracePeriodSeconds" if name == "readinessProbe" else "", None)
        if name != "readinessProbe" and "successThreshold" in probe:
            probe["successThreshold"] = 1
    if "restartPolicyRules" in container:
        container.setdefault("restartPolicy", "Always")
    privileged = container.get("securityContext", {}).get("privileged")
    for index, mount in enumerate(container.get("volumeMounts", ())):
        mount["mountPath"] = f"/mnt/{index}"
        if "subPath" in mount:
            mount.pop("subPathExpr", None)
        if mount.get("mountPropagation") == "Bidirectional" and not privileged:
            mount["mountPropagation"] = "HostToContainer"
        if mount.get("mountPropagation", "None") != "None" or not mount.get("readOnly"):
            mount.pop("recursiveReadOnly", None)
    return container


def mend_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """Settle what depends on the host's namespaces, on classes, and on other containers."""
    if spec.get("hostUsers") is False:
        for name in _HOST_NAMESPACES:
            spec.pop(name, None)
    if spec.get("hostPID"):
        spec.pop("shareProcessNamespace", None)
    if spec.get("hostNetwork") or spec.get("setHostnameAsFQDN"):
        spec.pop("hostnameOverride", None)
    if spec.get("dnsPolicy") == "None":
        spec.setdefault("dnsConfig", {}).setdefault("nameservers", ["10.0.0.10"])
    if spec.get("priorityClassName") in _CLASSES:
        spec["priority"] = _CLASSES[spec["priorityClassName"]]
        spec["preemptionPolicy"] = "PreemptLowerPriority"
    _mend_pod_sysctls(spec)
    spec["containers"] = spec["containers"] or [{"image": "a"}]
    for index, volume in enumerate(spec.get("volumes", ())):
        volume["name"] = f"v{index}"
    for container in spec.get("initContainers", ()):
        if container.get("restartPolicy") != "Always":
            for name in _ONLY_RUNNING:
                container.pop(name, None)
    ports = count(8000)
    for index, container in enumerate(_containers(spec)):
        container["name"] = f"c{index}"
        _mend_ports(container, ports)
        _mend_in_pod(container, spec)
    return spec


def _mend_pod_sysctls(spec: dict[str, Any]) -> None:
    context = spec.get("securityContext", {})
    if "sysctls" in context:
        context["sysctls"] = [
            found
            for found in context["sysctls"]
            if not spec.get("hostNetwork" if found["name"].startswith("net.") else "hostIPC")
        ]


def _mend_ports(container: dict[str, Any], numbers: Iterator[int]) -> None:
    for port, name in zip(container.get("ports", ()), ("http", "metrics"), strict=False):
        port["containerPort"] = next(numbers)
        if "name" in port:
            port["name"] = name
        if "hostPort" in port:
            port["hostPort"] = port["containerPort"]


def _mend_in_pod(container: dict[str, Any], spec: dict[str, Any]) -> None:
    """Settle what of a container depends on its pod."""
    volumes = spec.get("volumes")
    mounts = container.get("volumeMounts", ())
    if mounts and not volumes:
        del container["volumeMounts"]
    for index, mount in enumerate(mounts):
        mount["name"] = f"v{index % len(volumes or mounts)}"
    if spec.get("hostUsers") is not False:
        container.get("securityContext", {}).pop("procMount", None)
    lifecycle = container.get("lifecycle", {})
    if "os" not in spec:
        lifecycle.pop("stopSignal", None)
    for name in ("postStart", "preStop"):
        sleep = lifecycle.get(name, {}).get("sleep", {})
        if "seconds" in sleep:
            grace = spec.get("terminationGracePeriodSeconds", 30)
            sleep["seconds"] = min(sleep["seconds"], grace)


def mend_pod(pod: dict[str, Any]) -> dict[str, Any]:
    """Give the pod a service account where it mounts a token of one."""
    spec = pod["spec"]
    sources = chain.from_iterable(
        volume["projected"].get("sources", ())
        for volume in spec.get("volumes", ())
        if "projected" in volume
    )
    if any("serviceAccountToken" in source for source in sources):
        spec.setdefault("serviceAccountName", "web")
    return pod


def _containers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return chain(spec["containers"], spec.get("initContainers", ()))
