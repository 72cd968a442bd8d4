"""Rules for a container's securityContext and its profiles (validation.go).

Part of the acceptance gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from checkpointer.manifest.formats import MAX_ID, climbs
from checkpointer.manifest.gate import Findings


def check_security_context(
    container: Mapping[str, Any], path: str, host_users: bool, found: Findings
) -> None:
    """Check the securityContext of one container."""
    security = container.get("securityContext")
    if not security:
        return
    for field in ("runAsUser", "runAsGroup"):
        found.forbid(
            not 0 <= security.get(field, 0) <= MAX_ID,
            f"{path}.{field}",
            "must be between 0 and 2147483647",
        )
    proc_mount = security.get("procMount") or "Default"
    if proc_mount not in ("Default", "Unmasked"):
        found.add(f"{path}.procMount", "expected Default or Unmasked")
    elif proc_mount == "Unmasked" and host_users:
        found.add(f"{path}.procMount", "hostUsers must be false to use Unmasked")
    if security.get("allowPrivilegeEscalation") is False:
        added = (security.get("capabilities") or {}).get("add") or ()
        found.forbid(
            security.get("privileged") or "CAP_SYS_ADMIN" in added,
            f"{path}.allowPrivilegeEscalation",
            "cannot be false with privileged or CAP_SYS_ADMIN",
        )
    check_seccomp(security.get("seccompProfile"), f"{path}.seccompProfile", found)
    check_app_armor(security.get("appArmorProfile"), f"{path}.appArmorProfile", found)


def check_seccomp(profile: Mapping[str, Any] | None, path: str, found: Findings) -> None:
    """Check a seccompProfile (validateSeccompProfileField)."""
    if profile is None:
        return
    _check_profile_type(profile, path, found)
    local = profile.get("localhostProfile") or ""
    found.forbid(
        profile.get("type") == "Localhost" and (local.startswith("/") or climbs(local)),
        f"{path}.localhostProfile",
        "must be a relative path without '..'",
    )


def check_app_armor(profile: Mapping[str, Any] | None, path: str, found: Findings) -> None:
    """Check an appArmorProfile (ValidateAppArmorProfileField)."""
    if profile is None:
        return
    _check_profile_type(profile, path, found)
    local = profile.get("localhostProfile") or ""
    found.forbid(
        profile.get("type") == "Localhost" and (local != local.strip() or len(local) > 4095),
        f"{path}.localhostProfile",
        "must not be padded or too long",
    )


def _check_profile_type(profile: Mapping[str, Any], path: str, found: Findings) -> None:
    kind = profile.get("type") or ""
    if kind not in ("Localhost", "RuntimeDefault", "Unconfined"):
        found.add(f"{path}.type", "expected Localhost, RuntimeDefault or Unconfined")
    elif (kind == "Localhost") != (profile.get("localhostProfile") is not None):
        found.add(f"{path}.localhostProfile", "must be set for type Localhost, and only then")
