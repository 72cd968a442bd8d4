"""Rules for a pod's metadata: apimachinery/pkg/api/validation/objectmeta.go, and annotations.

Part of the acceptance gate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from checkpointer.manifest.formats import (
    climbs,
    is_label,
    is_label_value,
    is_qualified_name,
    is_subdomain,
)
from checkpointer.manifest.gate import Findings

_LARGEST_ANNOTATIONS: Final = 256 << 10
_APP_ARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP: Final = "container.seccomp.security.alpha.kubernetes.io/"
_SECCOMP_POD: Final = "seccomp.security.alpha.kubernetes.io/pod"
_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_OWNER_FIELDS: Final = ("apiVersion", "kind", "name", "uid")

# What the legacy annotations call the types of the fields.
_APP_ARMOR_VALUES: Final = {"Unconfined": ("unconfined",), "RuntimeDefault": ("runtime/default",)}
_SECCOMP_VALUES: Final = {
    "Unconfined": ("unconfined",),
    "RuntimeDefault": ("runtime/default", "docker/default"),
}


def check_metadata(metadata: Mapping[str, Any], spec: Mapping[str, Any], found: Findings) -> None:
    """Check names, labels, annotations and owners."""
    name = metadata.get("name") or ""
    if not name:
        found.add("metadata.name", "name or generateName is required")
    elif not is_subdomain(name):
        found.add("metadata.name", "expected a DNS subdomain")
    found.forbid(
        not is_label(metadata.get("namespace") or "default"),
        "metadata.namespace",
        "expected a DNS label",
    )
    for key, value in (metadata.get("labels") or {}).items():
        found.forbid(
            not is_qualified_name(key), f"metadata.labels['{key}']", "expected a qualified name"
        )
        found.forbid(
            not is_label_value(value or ""), f"metadata.labels['{key}']", "expected a label value"
        )
    _check_owners(metadata.get("ownerReferences") or (), found)
    _check_finalizers(metadata.get("finalizers"), found)
    annotations = {key: value or "" for key, value in (metadata.get("annotations") or {}).items()}
    _check_annotations(annotations, spec, found)


def _check_owners(owners: Iterable[Mapping[str, Any]], found: Findings) -> None:
    controllers = 0
    for index, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{index}]"
        for field in _OWNER_FIELDS:
            found.forbid(not owner.get(field), f"{path}.{field}", "must not be empty")
        controllers += owner.get("controller") is True
    found.forbid(
        controllers > 1,
        "metadata.ownerReferences",
        "only one reference can have controller set to true",
    )


def _check_finalizers(finalizers: Any, found: Findings) -> None:
    for index, name in enumerate(finalizers if isinstance(finalizers, list) else ()):
        found.forbid(
            not (isinstance(name, str) and is_qualified_name(name)),
            f"metadata.finalizers[{index}]",
            "expected a qualified name",
        )


def _check_annotations(
    annotations: Mapping[str, str], spec: Mapping[str, Any], found: Findings
) -> None:
    size = 0
    for key, value in annotations.items():
        size += len(key.encode(errors="replace")) + len(value.encode(errors="replace"))
        found.forbid(not is_qualified_name(key.lower()), _path(key), "expected a qualified name")
    found.forbid(
        size > _LARGEST_ANNOTATIONS, "metadata.annotations", "must have at most 262144 bytes"
    )
    cost = annotations.get(_DELETION_COST)
    found.forbid(
        cost is not None and not _is_int32(cost), _path(_DELETION_COST), "must be a 32bit integer"
    )
    _check_profiles(annotations, spec, found)


def _check_profiles(
    annotations: Mapping[str, str], spec: Mapping[str, Any], found: Findings
) -> None:
    """Check the legacy seccomp and AppArmor annotations, and that fields agree with them."""
    containers = dict(_containers(spec))
    for key, value in annotations.items():
        if key.startswith(_APP_ARMOR):
            found.forbid(
                key.removeprefix(_APP_ARMOR) not in containers, _path(key), "container not found"
            )
            found.forbid(
                value not in ("", "runtime/default", "unconfined")
                and not value.startswith("localhost/"),
                _path(key),
                "invalid AppArmor profile name",
            )
        elif (key == _SECCOMP_POD or key.startswith(_SECCOMP)) and not _is_seccomp(value):
            found.add(_path(key), "must be a valid seccomp profile")
    pod_context = spec.get("securityContext") or {}
    seccomp = pod_context.get("seccompProfile")
    if seccomp and _SECCOMP_POD in annotations:
        _check_agreement(annotations[_SECCOMP_POD], seccomp, _SECCOMP_VALUES, "spec", found)
    for name, (path, container) in containers.items():
        context = container.get("securityContext") or {}
        seccomp = context.get("seccompProfile")
        if seccomp and _SECCOMP + name in annotations:
            _check_agreement(annotations[_SECCOMP + name], seccomp, _SECCOMP_VALUES, path, found)
        profile = context.get("appArmorProfile") or pod_context.get("appArmorProfile")
        if profile and _APP_ARMOR + name in annotations:
            _check_agreement(
                annotations[_APP_ARMOR + name], profile, _APP_ARMOR_VALUES, path, found
            )


def _check_agreement(
    annotation: str,
    profile: Mapping[str, Any],
    values: Mapping[str, tuple[str, ...]],
    path: str,
    found: Findings,
) -> None:
    """Check as validateSeccompAnnotationsAndFieldsMatch and its AppArmor twin do."""
    kind = profile.get("type") or ""
    if kind == "Localhost":
        agrees = annotation == f"localhost/{profile.get('localhostProfile') or ''}"
    else:
        agrees = annotation in values.get(kind, (annotation,))
    if not agrees:
        field = "appArmorProfile" if values is _APP_ARMOR_VALUES else "seccompProfile"
        found.add(f"{path}.securityContext.{field}", "annotation and field must match")


def _is_seccomp(value: str) -> bool:
    if value in ("runtime/default", "docker/default", "unconfined"):
        return True
    profile = value.removeprefix("localhost/")
    return profile != value and not profile.startswith("/") and not climbs(profile)


def _is_int32(text: str) -> bool:
    """Tell whether Go's ParseInt takes the text, without plus sign and leading zeros."""
    try:
        number = int(text)
    except ValueError:
        return False
    return str(number) == text and -(1 << 31) <= number < 1 << 31


def _containers(
    spec: Mapping[str, Any],
) -> Iterator[tuple[str, tuple[str, Mapping[str, Any]]]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(kind) or ()):
            yield container.get("name") or "", (f"spec.{kind}[{index}]", container)


def _path(key: str) -> str:
    return f"metadata.annotations['{key}']"
