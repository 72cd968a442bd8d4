"""Rules for volumes (validation.go:ValidateVolumes) and for references to API objects.

Part of the acceptance gate. The second half is pkg/api/pod/util.go:HasAPIObjectReference, in
force since Kubernetes 1.34 (gate PreventStaticPodAPIReferences) and for mirror pods always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from checkpointer.manifest.formats import climbs, is_label
from checkpointer.manifest.gate import Findings
from checkpointer.manifest.quantity import parse
from checkpointer.manifest.reference_rules import check_field_ref, check_resource_field_ref
from checkpointer.manifest.volume_fields import PROJECTION, VOLUME

_SOURCES: Final = tuple(name for name in VOLUME.rows if name != "name")
_HOST_PATH_TYPES: Final = frozenset(
    {
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    }
)
_FILE_FIELDS: Final = frozenset(
    {
        "metadata.name",
        "metadata.namespace",
        "metadata.labels",
        "metadata.annotations",
        "metadata.uid",
    }
)
_REFERENCES: Final = {
    "azureFile": "azureFile",
    "configMap": "configmaps",
    "csi": "csidrivers",
    "ephemeral": "ephemeral",
    "glusterfs": "endpoints",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "secret": "secrets",
}
"""Volume sources that are references by themselves, and the resource in the kubelet's error."""

_PROJECTED_REFERENCES: Final = {
    "clusterTrustBundle": "clustertrustbundles",
    "configMap": "configmaps",
    "podCertificate": "podcertificates",
    "secret": "secrets",
    "serviceAccountToken": "serviceaccounts",
}
_SECRET_REFS: Final = {
    "cephfs": "secretRef",
    "cinder": "secretRef",
    "flexVolume": "secretRef",
    "iscsi": "secretRef",
    "rbd": "secretRef",
    "scaleIO": "secretRef",
    "storageos": "secretRef",
}


def check_volumes(spec: Mapping[str, Any], found: Findings) -> dict[str, Mapping[str, Any]]:
    """Check all volumes; return them by name. A volume without a source is an emptyDir."""
    volumes: dict[str, Mapping[str, Any]] = {}
    for index, volume in enumerate(spec.get("volumes") or ()):
        path = f"spec.volumes[{index}]"
        name = volume.get("name") or ""
        if not is_label(name):
            found.add(f"{path}.name", "expected a DNS label")
        elif name in volumes:
            found.add(f"{path}.name", "duplicate")
        sources = [source for source in _SOURCES if volume.get(source) is not None]
        found.forbid(len(sources) > 1, path, "may not specify more than 1 volume type")
        for source in sources:
            check = _CHECKS.get(source)
            if check:
                check(volume[source], f"{path}.{source}", found)
        volumes[name] = volume
    return volumes


def check_references(spec: Mapping[str, Any], found: Findings) -> None:
    """Check that nothing refers to an object of the API."""
    if spec.get("serviceAccountName") or spec.get("serviceAccount"):
        _refuse("spec.serviceAccountName", "serviceaccounts", found)
    for index, reference in enumerate(spec.get("imagePullSecrets") or ()):
        if reference.get("name"):
            _refuse(f"spec.imagePullSecrets[{index}]", "secrets", found)
    if spec.get("resourceClaims"):
        _refuse("spec.resourceClaims", "resourceclaims", found)
    for path, container in _containers(spec):
        _check_environment(container, path, found)
    for index, volume in enumerate(spec.get("volumes") or ()):
        _check_volume_references(volume, spec, f"spec.volumes[{index}]", found)


def _check_environment(container: Any, path: str, found: Findings) -> None:
    if not isinstance(container, Mapping):
        return
    for index, source in enumerate(_mappings(container.get("envFrom"))):
        for field, resource in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
            if source.get(field) is not None:
                _refuse(f"{path}.envFrom[{index}].{field}", resource, found)
    for index, entry in enumerate(_mappings(container.get("env"))):
        value_from = entry.get("valueFrom") or {}
        for field, resource in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
            if value_from.get(field) is not None:
                _refuse(f"{path}.env[{index}].valueFrom.{field}", resource, found)


def _check_volume_references(
    volume: Mapping[str, Any], spec: Mapping[str, Any], path: str, found: Findings
) -> None:
    for source, resource in _REFERENCES.items():
        if volume.get(source) is not None:
            _refuse(f"{path}.{source}", resource, found)
    for source, field in _SECRET_REFS.items():
        reference = volume.get(source)
        secret = reference.get(field) if isinstance(reference, Mapping) else None
        if isinstance(secret, Mapping) and secret.get("name"):
            _refuse(f"{path}.{source}.{field}", "secrets", found)
    for index, projection in enumerate((volume.get("projected") or {}).get("sources") or ()):
        place = f"{path}.projected.sources[{index}]"
        token = projection.get("serviceAccountToken") is not None
        found.forbid(
            token and not (spec.get("serviceAccountName") or spec.get("serviceAccount")),
            f"{place}.serviceAccountToken",
            "must not be specified when serviceAccountName is not set",
        )
        for field, resource in _PROJECTED_REFERENCES.items():
            if projection.get(field) is not None:
                _refuse(f"{place}.{field}", resource, found)
        found.forbid(
            not any(projection.get(field) is not None for field in PROJECTION.rows),
            place,
            "static pods may not use unknown projections",
        )


def _check_host_path(source: Mapping[str, Any], path: str, found: Findings) -> None:
    if not source.get("path"):
        found.add(f"{path}.path", "required")
    elif climbs(source["path"]):
        found.add(f"{path}.path", "must not contain '..'")
    found.forbid(
        (source.get("type") or "") not in _HOST_PATH_TYPES,
        f"{path}.type",
        "expected a type of host path",
    )


def _check_empty_dir(source: Mapping[str, Any], path: str, found: Findings) -> None:
    medium = source.get("medium") or ""
    found.forbid(
        medium not in ("", "Memory", "HugePages") and not medium.startswith("HugePages-"),
        f"{path}.medium",
        "expected Memory, HugePages or none",
    )
    limit = source.get("sizeLimit")
    size = parse(str(limit)) if limit is not None else 0
    found.forbid(
        size is None or size < 0, f"{path}.sizeLimit", "expected a quantity that is not negative"
    )


def _check_nfs(source: Mapping[str, Any], path: str, found: Findings) -> None:
    found.forbid(not source.get("server"), f"{path}.server", "required")
    found.forbid(
        not (source.get("path") or "").startswith("/"), f"{path}.path", "must be an absolute path"
    )


def _check_image(source: Mapping[str, Any], path: str, found: Findings) -> None:
    found.forbid(not source.get("reference"), f"{path}.reference", "required")
    found.forbid(
        (source.get("pullPolicy") or "Always") not in ("Always", "IfNotPresent", "Never"),
        f"{path}.pullPolicy",
        "expected Always, IfNotPresent or Never",
    )


def _check_downward(source: Mapping[str, Any], path: str, found: Findings) -> None:
    _check_mode(source.get("defaultMode"), f"{path}.defaultMode", found)
    for index, item in enumerate(source.get("items") or ()):
        _check_item(item, f"{path}.items[{index}]", found)


def _check_item(item: Mapping[str, Any], path: str, found: Findings) -> None:
    target = item.get("path") or ""
    if not target:
        found.add(f"{path}.path", "required")
    elif target.startswith(("/", "..")) or climbs(target):
        found.add(f"{path}.path", "must be a relative path without '..'")
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None and resource is not None:
        found.add(path, "fieldRef and resourceFieldRef can not be specified together")
    elif field is not None:
        check_field_ref(field, _FILE_FIELDS, f"{path}.fieldRef", found)
    elif resource is not None:
        check_resource_field_ref(resource, f"{path}.resourceFieldRef", found, in_volume=True)
    else:
        found.add(path, "one of fieldRef and resourceFieldRef is required")
    _check_mode(item.get("mode"), f"{path}.mode", found)


def _check_projected(source: Mapping[str, Any], path: str, found: Findings) -> None:
    _check_mode(source.get("defaultMode"), f"{path}.defaultMode", found)
    paths: set[str] = set()
    for index, projection in enumerate(source.get("sources") or ()):
        place = f"{path}.sources[{index}]"
        found.forbid(
            sum(projection.get(field) is not None for field in PROJECTION.rows) > 1,
            place,
            "may not specify more than 1 volume type",
        )
        items = (projection.get("downwardAPI") or {}).get("items") or ()
        for number, item in enumerate(items):
            _check_item(item, f"{place}.downwardAPI.items[{number}]", found)
            target = item.get("path") or ""
            found.forbid(target in paths, f"{place}.downwardAPI.items[{number}].path", "duplicate")
            paths.add(target)


def _check_mode(mode: int | None, path: str, found: Findings) -> None:
    found.forbid(
        mode is not None and not 0 <= mode <= 0o777,
        path,
        "must be a number between 0 and 0777 (octal)",
    )


_CHECKS: Final = {
    "hostPath": _check_host_path,
    "emptyDir": _check_empty_dir,
    "nfs": _check_nfs,
    "image": _check_image,
    "downwardAPI": _check_downward,
    "projected": _check_projected,
}


def _refuse(path: str, resource: str, found: Findings) -> None:
    found.add(path, f"static pods may not reference {resource}")


def _containers(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(kind) or ()):
            yield f"spec.{kind}[{index}]", container


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, Mapping))
