"""What a pod's containers are given beside its spec: the volumes that the kubelet renders, what in
them it issues anew by itself, and what their environment takes of the pod's own metadata.
"""

from __future__ import annotations

import re
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


_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]", re.DOTALL)
"""One label or annotation, as a fieldPath names it (fieldpath.go:SplitMaybeSubscriptedPath)."""


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


def metadata_in_environment(pod: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the labels and annotations that containers' environment takes, by their fieldPath.

    Others of them may change at any time, by a network plugin say, and nothing that runs does.
    """
    metadata = pod["metadata"]
    paths = {
        str(((variable.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath"))
        for kind in ("initContainers", "containers")
        for container in pod["spec"].get(kind) or ()
        for variable in container.get("env") or ()
    }
    found = (match for path in sorted(paths) if (match := _KEYED.fullmatch(path)))
    return {match[0]: (metadata.get(match[1]) or {}).get(match[2]) for match in found}
