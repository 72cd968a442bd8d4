"""What the downward API told a parent of its requests, where the copy is given none.

A port of pkg/api/v1/resource/helpers.go:ExtractContainerResourceValue for what `requests: none`
takes away: the copy would be told 0, and size its threads or its heap by that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from checkpointer.manifest.containers import NO_RESERVATION, containers_of
from checkpointer.manifest.quantity import NANO, parse

_CPU: Final = "cpu"
_MILLI: Final = NANO // 1000


def requested(reference: Mapping[str, Any], container: str, spec: Mapping[str, Any]) -> str | None:
    """Return what a resourceFieldRef told the parent, or None where the copy is told the same.

    `container` is the name of the one that asks; `spec` the parent's.
    """
    resource = _resource(reference)
    if resource is None:
        return None
    wanted = reference.get("containerName") or container
    resources = next(
        (c.get("resources") or {} for _, c, _ in containers_of(spec) if c.get("name") == wanted), {}
    )
    # A request that is absent is the limit (defaults.go:SetDefaults_Pod).
    limit = (resources.get("limits") or {}).get(resource, "0")
    amount = parse(str((resources.get("requests") or {}).get(resource, limit)))
    divisor = parse(str(reference.get("divisor") or "1")) or NANO
    if not amount or divisor < 0:
        return None
    unit = _MILLI if resource == _CPU else NANO
    return str(-(-_in(unit, amount) // _in(unit, divisor)))


def tell_of_requests(items: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether files of the downward API tell of requests that the copy does not have."""
    return any(_resource(item.get("resourceFieldRef") or {}) is not None for item in items)


def _resource(reference: Mapping[str, Any]) -> str | None:
    part, _, resource = (reference.get("resource") or "").partition(".")
    return resource if part == "requests" and resource in NO_RESERVATION else None


def _in(unit: int, amount: int) -> int:
    """Return an amount in whole units, rounded up as Quantity.Value and MilliValue do."""
    return -(-amount // unit)
