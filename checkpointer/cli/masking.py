"""Manifests to be looked at: nobody can tell any more which values came from secrets, so the
values of all environment variables are hidden, save those that this project adds itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "<hidden>"

_OURS = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")


def masked(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the pod with its environment's values hidden."""
    spec = dict(manifest.get("spec") or {})
    for kind in _container_kinds(spec):
        spec[kind] = [_masked_container(container) for container in spec[kind]]
    return {**manifest, "spec": spec}


def environment(manifest: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return the values of all environment variables, by container and name."""
    spec = manifest.get("spec") or {}
    return {
        (str(container.get("name")), str(entry.get("name"))): str(entry.get("value", ""))
        for kind in _container_kinds(spec)
        for container in spec[kind]
        for entry in container.get("env") or ()
    }


def _container_kinds(spec: Mapping[str, Any]) -> Iterator[str]:
    return (kind for kind in ("initContainers", "containers") if spec.get(kind))


def _masked_container(container: Mapping[str, Any]) -> dict[str, Any]:
    entries = container.get("env")
    if not entries:
        return dict(container)
    return {**container, "env": [_masked_entry(entry) for entry in entries]}


def _masked_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    if not entry.get("value") or entry.get("name") in _OURS:
        return dict(entry)
    return {**entry, "value": HIDDEN}
