"""Rules for probes and lifecycle handlers (validation.go:validateProbe, validateLifecycle).

Part of the acceptance gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from checkpointer.manifest.formats import is_header_name, is_port_name, is_port_number
from checkpointer.manifest.gate import Context, Findings

PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_PROBE_NUMBERS: Final = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)


def check_handlers(
    container: Mapping[str, Any], path: str, context: Context, found: Findings
) -> None:
    """Check probes and lifecycle of a container that may have them."""
    for field in PROBES:
        probe = container.get(field)
        if probe is not None:
            _check_probe(probe, field, f"{path}.{field}", context, found)
    lifecycle = container.get("lifecycle") or {}
    for field in ("postStart", "preStop"):
        if lifecycle.get(field) is not None:
            _check_handler(lifecycle[field], f"{path}.lifecycle.{field}", context, found)
    found.forbid(
        lifecycle.get("stopSignal") and not context.has_os,
        f"{path}.lifecycle.stopSignal",
        "may not be set without spec.os.name",
    )


def _check_probe(
    probe: Mapping[str, Any], field: str, path: str, context: Context, found: Findings
) -> None:
    _check_handler(probe, path, context, found)
    for name in _PROBE_NUMBERS:
        found.forbid(
            (probe.get(name) or 0) < 0, f"{path}.{name}", "must be greater than or equal to 0"
        )
    grace = probe.get("terminationGracePeriodSeconds")
    found.forbid(
        grace is not None and grace <= 0,
        f"{path}.terminationGracePeriodSeconds",
        "must be greater than 0",
    )
    if field == "readinessProbe":
        found.forbid(
            grace is not None,
            f"{path}.terminationGracePeriodSeconds",
            "must not be set for readinessProbes",
        )
    elif (probe.get("successThreshold") or 1) != 1:
        found.add(f"{path}.successThreshold", "must be 1")


def _check_handler(
    handler: Mapping[str, Any], path: str, context: Context, found: Findings
) -> None:
    given = [name for name in _HANDLERS if handler.get(name) is not None]
    if len(given) != 1:
        found.add(
            path,
            "may not specify more than 1 handler type" if given else "must specify a handler type",
        )
        return
    kind, place = given[0], f"{path}.{given[0]}"
    action = handler[kind]
    if kind == "exec":
        found.forbid(not action.get("command"), f"{place}.command", "required")
    elif kind == "sleep":
        found.forbid(
            not 0 <= (action.get("seconds") or 0) <= context.grace_seconds,
            place,
            "must be non-negative and less than terminationGracePeriodSeconds",
        )
    else:
        _check_port(action.get("port", 0), f"{place}.port", found)
    if kind == "httpGet":
        found.forbid(
            (action.get("scheme") or "HTTP") not in ("HTTP", "HTTPS"),
            f"{place}.scheme",
            "expected HTTP or HTTPS",
        )
        for header in action.get("httpHeaders") or ():
            found.forbid(
                not is_header_name(header.get("name") or ""),
                f"{place}.httpHeaders",
                "expected the name of a header",
            )


def _check_port(port: Any, path: str, found: Findings) -> None:
    is_good = is_port_name(port) if isinstance(port, str) else is_port_number(port or 0)
    found.forbid(not is_good, path, "expected a port's number or name")
