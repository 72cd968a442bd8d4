"""Rules for the fields of a PodSpec besides containers and volumes (validation.go:ValidatePodSpec).

Part of the acceptance gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from checkpointer.manifest.formats import (
    MAX_ID,
    is_address,
    is_label,
    is_label_value,
    is_qualified_name,
    is_search_domain,
    is_subdomain,
    is_sysctl,
)
from checkpointer.manifest.gate import Findings
from checkpointer.manifest.quantity import parse
from checkpointer.manifest.resource_rules import check_resources, total_requests
from checkpointer.manifest.security_rules import check_app_armor, check_seccomp

_CHOICES: Final = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "preemptionPolicy": ("PreemptLowerPriority", "Never"),
}
_CONTEXT_CHOICES: Final = {
    "fsGroupChangePolicy": ("OnRootMismatch", "Always"),
    "supplementalGroupsPolicy": ("Merge", "Strict"),
    "seLinuxChangePolicy": ("Recursive", "MountOption"),
}
_EFFECTS: Final = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")


def check_spec(spec: Mapping[str, Any], found: Findings) -> None:
    """Check all that belongs to the pod as a whole."""
    for field, choices in _CHOICES.items():
        found.forbid(
            (spec.get(field) or choices[0]) not in choices,
            f"spec.{field}",
            f"expected one of {', '.join(choices)}",
        )
    for field in ("hostname", "subdomain"):
        found.forbid(
            spec.get(field) and not is_label(spec[field]),
            f"spec.{field}",
            "expected a DNS label of at most 63 characters",
        )
    for field in ("priorityClassName", "runtimeClassName", "serviceAccountName"):
        found.forbid(
            spec.get(field) and not is_subdomain(spec[field]),
            f"spec.{field}",
            "expected a DNS subdomain",
        )
    found.forbid(
        not 1 <= spec.get("activeDeadlineSeconds", 1) < 1 << 31,
        "spec.activeDeadlineSeconds",
        "must be between 1 and 2147483647",
    )
    for key, value in (spec.get("nodeSelector") or {}).items():
        found.forbid(
            not is_qualified_name(key) or not is_label_value(value or ""),
            f"spec.nodeSelector['{key}']",
            "expected a label",
        )
    _check_host_namespaces(spec, found)
    _check_hostname_override(spec, found)
    _check_security_context(spec, found)
    _check_dns(spec, found)
    _check_tolerations(spec, found)
    _check_host_aliases(spec, found)
    _check_pod_resources(spec, found)
    _check_os(spec, found)


def _check_host_namespaces(spec: Mapping[str, Any], found: Findings) -> None:
    found.forbid(
        spec.get("shareProcessNamespace") and spec.get("hostPID"),
        "spec.shareProcessNamespace",
        "cannot be enabled together with hostPID",
    )
    if spec.get("hostUsers") is False:
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            found.forbid(spec.get(field), f"spec.{field}", "forbidden when hostUsers is false")


def _check_hostname_override(spec: Mapping[str, Any], found: Findings) -> None:
    override = spec.get("hostnameOverride")
    if override is None:
        return
    found.forbid(
        len(override) > 64 or not is_subdomain(override),
        "spec.hostnameOverride",
        "expected a DNS subdomain of at most 64 characters",
    )
    found.forbid(
        spec.get("hostNetwork") or spec.get("setHostnameAsFQDN"),
        "spec.hostnameOverride",
        "excludes hostNetwork and setHostnameAsFQDN",
    )


def _check_security_context(spec: Mapping[str, Any], found: Findings) -> None:
    context = spec.get("securityContext") or {}
    path = "spec.securityContext"
    for field in ("fsGroup", "runAsUser", "runAsGroup"):
        found.forbid(
            not 0 <= context.get(field, 0) <= MAX_ID,
            f"{path}.{field}",
            "must be between 0 and 2147483647",
        )
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        found.forbid(
            not 0 <= group <= MAX_ID,
            f"{path}.supplementalGroups[{index}]",
            "must be between 0 and 2147483647",
        )
    for field, choices in _CONTEXT_CHOICES.items():
        found.forbid(
            context.get(field, choices[0]) not in choices,
            f"{path}.{field}",
            f"expected one of {', '.join(choices)}",
        )
    names: set[str] = set()
    for index, sysctl in enumerate(context.get("sysctls") or ()):
        name = sysctl.get("name") or ""
        if not is_sysctl(name):
            found.add(f"{path}.sysctls[{index}].name", "expected a sysctl name")
        elif name in names:
            found.add(f"{path}.sysctls[{index}].name", "duplicate")
        _check_sysctl_scope(name, spec, f"{path}.sysctls[{index}].name", found)
        names.add(name)
    check_seccomp(context.get("seccompProfile"), f"{path}.seccompProfile", found)
    check_app_armor(context.get("appArmorProfile"), f"{path}.appArmorProfile", found)


def _check_sysctl_scope(name: str, spec: Mapping[str, Any], path: str, found: Findings) -> None:
    dotted = name.replace("/", ".")
    found.forbid(
        spec.get("hostNetwork") and dotted.startswith("net."),
        path,
        "may not be specified when hostNetwork is true",
    )
    ipc = dotted.startswith(("kernel.shm", "kernel.msg", "fs.mqueue.")) or dotted == "kernel.sem"
    found.forbid(spec.get("hostIPC") and ipc, path, "may not be specified when hostIPC is true")


def _check_dns(spec: Mapping[str, Any], found: Findings) -> None:
    config = spec.get("dnsConfig") or {}
    servers = config.get("nameservers") or []
    searches = config.get("searches") or []
    path = "spec.dnsConfig"
    found.forbid(
        spec.get("dnsPolicy") == "None" and not servers,
        f"{path}.nameservers",
        "required when dnsPolicy is None",
    )
    found.forbid(len(servers) > 3, f"{path}.nameservers", "must not have more than 3 nameservers")
    for index, server in enumerate(servers):
        found.forbid(
            not is_address(server), f"{path}.nameservers[{index}]", "expected an IP address"
        )
    found.forbid(
        len(searches) > 32 or len(" ".join(searches)) > 2048,
        f"{path}.searches",
        "must not have more than 32 domains or 2048 characters",
    )
    for index, search in enumerate(searches):
        found.forbid(
            not is_search_domain(search), f"{path}.searches[{index}]", "expected a DNS subdomain"
        )
    for index, option in enumerate(config.get("options") or ()):
        found.forbid(not option.get("name"), f"{path}.options[{index}]", "must not be empty")


def _check_tolerations(spec: Mapping[str, Any], found: Findings) -> None:
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        path = f"spec.tolerations[{index}]"
        key, operator = toleration.get("key") or "", toleration.get("operator") or "Equal"
        value, effect = toleration.get("value") or "", toleration.get("effect") or ""
        found.forbid(key and not is_qualified_name(key), f"{path}.key", "expected a qualified name")
        found.forbid(
            not key and operator != "Exists", f"{path}.operator", "must be Exists when key is empty"
        )
        found.forbid(
            operator == "Exists" and value, f"{path}.value", "must be empty when operator is Exists"
        )
        found.forbid(
            operator == "Equal" and not is_label_value(value),
            f"{path}.value",
            "expected a label value",
        )
        found.forbid(
            operator not in ("Equal", "Exists"), f"{path}.operator", "expected Equal or Exists"
        )
        found.forbid(effect not in _EFFECTS, f"{path}.effect", "expected a taint's effect")
        found.forbid(
            toleration.get("tolerationSeconds") is not None and effect != "NoExecute",
            f"{path}.effect",
            "must be NoExecute when tolerationSeconds is set",
        )


def _check_host_aliases(spec: Mapping[str, Any], found: Findings) -> None:
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        path = f"spec.hostAliases[{index}]"
        found.forbid(not is_address(alias.get("ip") or ""), f"{path}.ip", "expected an IP address")
        for position, name in enumerate(alias.get("hostnames") or ()):
            found.forbid(
                not is_subdomain(name), f"{path}.hostnames[{position}]", "expected a DNS subdomain"
            )


def _check_pod_resources(spec: Mapping[str, Any], found: Findings) -> None:
    """Check the pod's own resources against its containers' (validatePodResourceConsistency)."""
    resources = spec.get("resources")
    if not resources:
        return
    check_resources(resources, "spec.resources", found, is_pod=True)
    requests = resources.get("requests") or {}
    for name, total in total_requests(spec).items():
        own = parse(str(requests.get(name, "0")))
        found.forbid(
            name in requests and own is not None and own < total,
            f"spec.resources.requests[{name}]",
            "must be greater than or equal to the containers' requests together",
        )


def _check_os(spec: Mapping[str, Any], found: Findings) -> None:
    """Check spec.os; a Linux kubelet rejects what is not for Linux (rejectPodAdmission...OS)."""
    system = spec.get("os")
    if system is None:
        return
    name = system.get("name") or ""
    if name not in ("linux", "windows"):
        found.add("spec.os.name", "expected linux or windows")
    elif name == "windows":
        found.add("spec.os.name", "a Linux kubelet rejects a pod for Windows")
    elif (spec.get("securityContext") or {}).get("windowsOptions"):
        found.add("spec.securityContext.windowsOptions", "cannot be set for a linux pod")
