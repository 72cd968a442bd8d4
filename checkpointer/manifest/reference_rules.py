"""Rules for references to fields of the pod, in the environment and in volumes.

Part of the acceptance gate (validation.go:validateObjectFieldSelector and its neighbour).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from checkpointer.manifest.formats import is_qualified_name
from checkpointer.manifest.gate import Findings
from checkpointer.manifest.quantity import parse
from checkpointer.manifest.resource_rules import NATIVE

_RESOURCE_FIELDS: Final = frozenset(
    f"{part}.{name}" for part in ("limits", "requests") for name in NATIVE
)
_DIVISORS: Final = frozenset(
    {"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
)


def check_field_ref(
    reference: Mapping[str, Any], allowed: frozenset[str], path: str, found: Findings
) -> None:
    """Check a fieldRef (validateObjectFieldSelector)."""
    found.forbid((reference.get("apiVersion") or "v1") != "v1", f"{path}.apiVersion", "expected v1")
    field = reference.get("fieldPath") or ""
    base, bracket, key = field.removesuffix("']").partition("['")
    if field.endswith("']") and bracket and base:
        if base not in ("metadata.labels", "metadata.annotations"):
            found.add(f"{path}.fieldPath", "does not support subscript")
        elif not is_qualified_name(key.lower() if base == "metadata.annotations" else key):
            found.add(f"{path}.fieldPath", "expected a qualified name as subscript")
    elif field not in allowed:
        found.add(f"{path}.fieldPath", "not supported")


def check_resource_field_ref(
    reference: Mapping[str, Any], path: str, found: Findings, *, in_volume: bool = False
) -> None:
    """Check a resourceFieldRef (validateContainerResourceFieldSelector)."""
    resource = reference.get("resource") or ""
    if in_volume and not reference.get("containerName"):
        found.add(f"{path}.containerName", "required")
    elif resource not in _RESOURCE_FIELDS and not resource.startswith(
        ("limits.hugepages-", "requests.hugepages-")
    ):
        found.add(f"{path}.resource", "not supported")
    divisor = str(reference.get("divisor", "0"))
    allowed = {"1", "1m"} if resource.endswith(".cpu") else _DIVISORS
    found.forbid(
        parse(divisor) != 0 and divisor not in allowed,
        f"{path}.divisor",
        "not supported for this resource",
    )
