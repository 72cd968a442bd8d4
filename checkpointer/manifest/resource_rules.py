"""Rules for requests and limits (validation.go:ValidateContainerResourceRequirements).

Part of the acceptance gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from checkpointer.manifest.formats import is_qualified_name
from checkpointer.manifest.gate import Findings
from checkpointer.manifest.quantity import is_whole, parse

NATIVE: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
"""Resources of Kubernetes itself that a container can have, besides huge pages."""


def check_resources(
    resources: Mapping[str, Any], path: str, found: Findings, *, is_pod: bool = False
) -> None:
    """Check requests and limits (ValidateContainerResourceRequirements, validatePodResources)."""
    found.forbid(
        resources.get("claims"), f"{path}.claims", "must be one of the pod's resourceClaims"
    )
    limits = _parse_all(resources.get("limits") or {}, f"{path}.limits", found, is_pod)
    requests = _parse_all(resources.get("requests") or {}, f"{path}.requests", found, is_pod)
    for name, value in requests.items():
        limit = limits.get(name)
        overcommits = name in NATIVE or (_is_native(name) and not name.startswith("hugepages-"))
        if limit is None:
            found.forbid(
                not overcommits, f"{path}.limits[{name}]", "required: it cannot be overcommitted"
            )
        elif value > limit or (value != limit and not overcommits):
            found.add(
                f"{path}.requests[{name}]",
                f"must be {'less than or ' if overcommits else ''}equal to the limit",
            )
    named = limits.keys() | requests.keys()
    found.forbid(
        any(name.startswith("hugepages-") for name in named) and not named & {"cpu", "memory"},
        path,
        "HugePages require cpu or memory",
    )


def _parse_all(
    quantities: Mapping[str, Any], path: str, found: Findings, is_pod: bool
) -> dict[str, int]:
    parsed = {}
    for name, quantity in quantities.items():
        place = f"{path}[{name}]"
        found.forbid(
            not _is_resource(name, is_pod), place, "expected a standard or fully qualified resource"
        )
        value = parse(str(quantity))
        if value is None or value < 0:
            found.add(place, "expected a quantity that is not negative")
            continue
        found.forbid(not _is_native(name) and not is_whole(value), place, "must be an integer")
        if name.startswith("hugepages-"):
            size = parse(name.removeprefix("hugepages-"))
            found.forbid(not size or value % size, place, "must be a multiple of the page size")
        parsed[name] = value
    return parsed


def _is_native(name: str) -> bool:
    """Tell whether Kubernetes itself knows the resource (helper.IsNativeResource)."""
    return "/" not in name or "kubernetes.io/" in name


def _is_resource(name: str, is_pod: bool) -> bool:
    if name in NATIVE or name.startswith("hugepages-"):
        return not (is_pod and name == "ephemeral-storage")
    return not is_pod and "/" in name and is_qualified_name(name)


def total_requests(spec: Mapping[str, Any]) -> dict[str, int]:
    """Return what the containers request together (resourcehelper.AggregateContainerRequests).

    Containers and sidecars run side by side; an init container runs beside the sidecars before
    it.
    """
    total: dict[str, int] = {}
    for container in spec.get("containers") or ():
        _add(total, _requests(container))
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        requests = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(total, requests)
            _add(sidecars, requests)
            requests = {}
        for name in requests.keys() | sidecars.keys():
            beside = requests.get(name, 0) + sidecars.get(name, 0)
            peak[name] = max(peak.get(name, 0), beside)
    return {name: max(total.get(name, 0), peak.get(name, 0)) for name in total.keys() | peak.keys()}


def _requests(container: Mapping[str, Any]) -> dict[str, int]:
    resources = container.get("resources") or {}
    named = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: parse(str(value)) or 0 for name, value in named.items()}


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value
