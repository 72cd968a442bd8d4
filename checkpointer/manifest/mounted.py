"""Which of a pod's volumes the kubelet renders, and what in them it issues anew by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from checkpointer.values import dataclass

PLUGINS: Final = {
    "secret": "kubernetes.io~secret",
    "configMap": "kubernetes.io~configmap",
    "projected": "kubernetes.io~projected",
    "downwardAPI": "kubernetes.io~downward-api",
}
"""The folder below `pods/<uid>/volumes/`, by the volume's source (EscapeQualifiedName)."""

_ISSUED: Final = (
    ("serviceAccountToken", "path"),
    ("podCertificate", "keyPath"),
    ("podCertificate", "certificateChainPath"),
    ("podCertificate", "credentialBundlePath"),
)


@dataclass(frozen=True, slots=True)
class MountedVolume:
    """A volume that the kubelet renders because a container mounts it."""

    name: str
    plugin: str
    issued: frozenset[str] = frozenset()
    """Paths in it of tokens and certificates: renewed while nobody changes anything."""


def mounted_volumes(spec: Mapping[str, Any]) -> Iterator[MountedVolume]:
    """Yield those of a pod's spec; what no container mounts is never rendered.

    (desired_state_of_world_populator.go:processPodVolumes)
    """
    mounted = {
        mount.get("name")
        for kind in ("initContainers", "containers")
        for container in spec.get(kind) or ()
        for mount in container.get("volumeMounts") or ()
    }
    for volume in spec.get("volumes") or ():
        name = volume.get("name")
        for source, plugin in PLUGINS.items():
            if volume.get(source) is not None and name in mounted and isinstance(name, str):
                yield MountedVolume(name, plugin, _issued(volume[source]))


def _issued(source: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(
        projection[kind][key]
        for projection in source.get("sources") or ()
        for kind, key in _ISSUED
        if (projection.get(kind) or {}).get(key)
    )
