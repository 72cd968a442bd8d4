"""Rules for containers (validation.go:validateContainers, validateInitContainers).

Part of the acceptance gate. Container rules that Kubernetes 1.36 has and older kubelets have
not (restartPolicy of plain containers, names of environment variables that are no identifiers)
are read as in 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from checkpointer.manifest.formats import (
    climbs,
    is_label,
    is_port_name,
    is_port_number,
    is_relaxed_env_name,
)
from checkpointer.manifest.gate import Context, Findings
from checkpointer.manifest.handler_rules import PROBES, check_handlers
from checkpointer.manifest.reference_rules import check_field_ref, check_resource_field_ref
from checkpointer.manifest.resource_rules import check_resources
from checkpointer.manifest.security_rules import check_security_context

_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_ENV_FIELDS: Final = frozenset(
    {
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.host",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    }
)
_ENV_SOURCES: Final = (
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
)


def check_containers(spec: Mapping[str, Any], context: Context, found: Findings) -> None:
    """Check all containers: each by itself, then names and host ports across them."""
    containers = spec.get("containers") or []
    found.forbid(not containers, "spec.containers", "required")
    names: set[str] = set()
    host_ports: set[tuple[Any, ...]] = set()
    for index, container in enumerate(containers):
        path = f"spec.containers[{index}]"
        _check_container(container, path, context, found)
        _check_name(container, names, path, found)
        check_handlers(container, path, context, found)
        _check_host_ports(container, path, context, host_ports, found)
        _check_restart_policy(container, path, found)
    for index, container in enumerate(spec.get("initContainers") or ()):
        path = f"spec.initContainers[{index}]"
        _check_container(container, path, context, found)
        _check_name(container, names, path, found)
        _check_host_ports(container, path, context, set(), found)
        _check_restart_policy(container, path, found)
        if container.get("restartPolicy") == "Always":
            check_handlers(container, path, context, found)
        else:
            for field in ("lifecycle", *PROBES):
                found.forbid(
                    container.get(field) is not None,
                    f"{path}.{field}",
                    "may not be set for init containers without restartPolicy=Always",
                )


def _check_name(container: Mapping[str, Any], names: set[str], path: str, found: Findings) -> None:
    name = container.get("name") or ""
    found.forbid(name in names, f"{path}.name", "duplicate")
    names.add(name)


def _check_container(
    container: Mapping[str, Any], path: str, context: Context, found: Findings
) -> None:
    found.forbid(not is_label(container.get("name") or ""), f"{path}.name", "expected a DNS label")
    image = container.get("image") or ""
    if not image:
        found.add(f"{path}.image", "required")
    elif image != image.strip():
        found.add(f"{path}.image", "must not have leading or trailing whitespace")
    found.forbid(
        (container.get("imagePullPolicy") or "Always") not in ("Always", "IfNotPresent", "Never"),
        f"{path}.imagePullPolicy",
        "expected Always, IfNotPresent or Never",
    )
    policy = container.get("terminationMessagePolicy") or "File"
    found.forbid(
        policy not in ("File", "FallbackToLogsOnError"),
        f"{path}.terminationMessagePolicy",
        "expected File or FallbackToLogsOnError",
    )
    _check_ports(container, path, found)
    _check_env(container, path, found)
    _check_mounts(container, path, context, found)
    _check_devices(container, path, context, found)
    check_resources(container.get("resources") or {}, f"{path}.resources", found)
    check_security_context(container, f"{path}.securityContext", context.host_users, found)


def _check_restart_policy(container: Mapping[str, Any], path: str, found: Findings) -> None:
    """Check a container's own policy, as with ContainerRestartRules (on since 1.35)."""
    policy = container.get("restartPolicy")
    found.forbid(
        policy is not None and policy not in ("Always", "OnFailure", "Never"),
        f"{path}.restartPolicy",
        "expected Always, OnFailure or Never",
    )
    found.forbid(
        policy is None and container.get("restartPolicyRules"),
        f"{path}.restartPolicy",
        "required when restartPolicyRules is set",
    )


def _check_ports(container: Mapping[str, Any], path: str, found: Findings) -> None:
    names: set[str] = set()
    for index, port in enumerate(container.get("ports") or ()):
        place = f"{path}.ports[{index}]"
        name = port.get("name") or ""
        if name and not is_port_name(name):
            found.add(f"{place}.name", "expected a port name")
        elif name and name in names:
            found.add(f"{place}.name", "duplicate")
        names.add(name)
        found.forbid(
            not is_port_number(port.get("containerPort") or 0),
            f"{place}.containerPort",
            "must be between 1 and 65535",
        )
        found.forbid(
            port.get("hostPort") and not is_port_number(port["hostPort"]),
            f"{place}.hostPort",
            "must be between 1 and 65535",
        )
        found.forbid(
            (port.get("protocol") or "TCP") not in _PROTOCOLS,
            f"{place}.protocol",
            "expected TCP, UDP or SCTP",
        )


def _check_host_ports(
    container: Mapping[str, Any],
    path: str,
    context: Context,
    taken: set[tuple[Any, ...]],
    found: Findings,
) -> None:
    """Check host ports; on the host's network each defaults to the container port."""
    for index, port in enumerate(container.get("ports") or ()):
        place = f"{path}.ports[{index}].hostPort"
        number = port.get("hostPort") or 0
        if context.host_network:
            number = number or port.get("containerPort") or 0
            found.forbid(
                number != port.get("containerPort"),
                place,
                "must match containerPort when hostNetwork is true",
            )
        if not number:
            continue
        key = (port.get("protocol") or "TCP", port.get("hostIP") or "", number)
        found.forbid(key in taken, place, "duplicate")
        taken.add(key)


def _check_env(container: Mapping[str, Any], path: str, found: Findings) -> None:
    for index, entry in enumerate(container.get("env") or ()):
        place = f"{path}.env[{index}]"
        found.forbid(
            not is_relaxed_env_name(entry.get("name") or ""),
            f"{place}.name",
            "expected the name of a variable",
        )
        source = entry.get("valueFrom")
        if source is None:
            continue
        given = [field for field in _ENV_SOURCES if source.get(field) is not None]
        if not given:
            found.add(f"{place}.valueFrom", "must specify a source")
        elif entry.get("value"):
            found.add(f"{place}.valueFrom", "may not be specified when value is not empty")
        elif len(given) > 1:
            found.add(f"{place}.valueFrom", "may not have more than one source")
        if source.get("fieldRef") is not None:
            check_field_ref(source["fieldRef"], _ENV_FIELDS, f"{place}.valueFrom.fieldRef", found)
        if source.get("resourceFieldRef") is not None:
            check_resource_field_ref(
                source["resourceFieldRef"], f"{place}.valueFrom.resourceFieldRef", found
            )


def _check_mounts(
    container: Mapping[str, Any], path: str, context: Context, found: Findings
) -> None:
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        place = f"{path}.volumeMounts[{index}]"
        found.forbid(
            mount.get("name") not in context.volumes, f"{place}.name", "no volume of this name"
        )
        target = mount.get("mountPath") or ""
        if not target:
            found.add(f"{place}.mountPath", "required")
        elif target in paths:
            found.add(f"{place}.mountPath", "must be unique")
        paths.add(target)
        for field in ("subPath", "subPathExpr"):
            below = mount.get(field) or ""
            found.forbid(
                below.startswith("/") or climbs(below),
                f"{place}.{field}",
                "must be a relative path without '..'",
            )
        found.forbid(
            mount.get("subPath") and mount.get("subPathExpr"),
            f"{place}.subPathExpr",
            "subPathExpr and subPath are mutually exclusive",
        )
        _check_propagation(mount, container, place, found)


def _check_propagation(
    mount: Mapping[str, Any], container: Mapping[str, Any], path: str, found: Findings
) -> None:
    propagation = mount.get("mountPropagation") or "None"
    privileged = (container.get("securityContext") or {}).get("privileged")
    if propagation not in ("None", "HostToContainer", "Bidirectional"):
        found.add(f"{path}.mountPropagation", "not supported")
    elif propagation == "Bidirectional" and not privileged:
        found.add(f"{path}.mountPropagation", "Bidirectional only for privileged containers")
    recursive = mount.get("recursiveReadOnly") or "Disabled"
    if recursive not in ("Disabled", "Enabled", "IfPossible"):
        found.add(f"{path}.recursiveReadOnly", "not supported")
    elif recursive != "Disabled" and (not mount.get("readOnly") or propagation != "None"):
        found.add(f"{path}.recursiveReadOnly", "needs readOnly, and no mount propagation")


def _check_devices(
    container: Mapping[str, Any], path: str, context: Context, found: Findings
) -> None:
    for index, device in enumerate(container.get("volumeDevices") or ()):
        volume = context.volumes.get(device.get("name") or "")
        place = f"{path}.volumeDevices[{index}]"
        if volume is None:
            found.add(f"{place}.name", "no volume of this name")
        elif not (volume.get("persistentVolumeClaim") or volume.get("ephemeral")):
            found.add(f"{place}.name", "only a claim can be a raw block device")
