"""Pods as an API server holds them, drawn from the field tables: all that is not refused outright.

Every row of `fields` is drawn unless its treatment is REFUSED, so that a new row is drawn without
a word here. `RULES` says what values a field may have, and which fields exclude each other;
`valid_mends` settles what depends on other places of the pod.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from checkpointer.manifest.fields import POD
from checkpointer.manifest.shapes import Each, Kind, Shape, Table, Treatment
from tests.unit.manifest import valid_mends
from tests.unit.manifest.valid_values import (
    ADDRESS,
    CLAIMS,
    DATA_KEYS,
    ENV_FIELDS,
    ENV_NAME,
    ENV_VALUE,
    FILE_FIELDS,
    IDS,
    LABEL,
    LABELS,
    MODES,
    OBJECTS,
    PORTS,
    PROFILES,
    QUANTITIES,
    RESOURCES,
    TOLERATIONS,
    one,
)

Strategy = st.SearchStrategy[Any]

_LEAVES: dict[Kind, Strategy] = {
    Kind.TEXT: LABEL,
    Kind.INT32: st.integers(1, 100),
    Kind.INT64: st.integers(1, 100),
    Kind.BOOL: st.booleans(),
    Kind.QUANTITY: QUANTITIES,
    Kind.INT_OR_TEXT: PORTS,
    Kind.TEXTS: st.lists(LABEL, min_size=1, max_size=2),
    Kind.INTS: st.lists(IDS, max_size=2),
    Kind.MAP: LABELS,
    Kind.QUANTITIES: st.just({"cpu": "1m"}),
    Kind.ANY: one({}, [], "x", 1, {"a": {"b": [1]}}, [{"name": "x"}]),
}
_OPTIONAL = st.just(True)
_SYSCTLS = one("net.core.somaxconn", "kernel/shm_rmid_forced", "fs.mqueue.msg_max", "kernel.sem")


@dataclass(frozen=True)
class Rule:
    """What makes a drawn object of a table valid."""

    values: Mapping[str, Strategy] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    union: tuple[str, ...] = ()
    """Fields of which exactly one is given."""
    mend: Callable[[Any], Any] = staticmethod(lambda drawn: drawn)


_HANDLERS = ("exec", "httpGet", "tcpSocket")
_KEY = {"key": DATA_KEYS, "name": st.sampled_from(OBJECTS), "optional": _OPTIONAL}
_KEY_RULE = Rule(_KEY, tuple(_KEY))
_NAMED_RULE = Rule({"name": _KEY["name"], "optional": _OPTIONAL}, ("name", "optional"))
_ITEMS = {"items": st.deferred(lambda: st.lists(_KEY_TO_PATH, max_size=2)), "defaultMode": MODES}

RULES: dict[str, Rule] = {
    "Pod": Rule(
        {"apiVersion": st.just("v1"), "kind": st.just("Pod"), "status": one({"phase": "Running"})},
        ("apiVersion", "kind", "metadata", "spec"),
        mend=valid_mends.mend_pod,
    ),
    "ObjectMeta": Rule(
        {
            "name": LABEL.map("web-77f-{}".format),
            "uid": st.just("11111111-2222-3333-4444-555555555555"),
            "labels": st.fixed_dictionaries(
                {}, optional={"app": LABEL, "pod-template-hash": st.just("77f")}
            ),
            "annotations": st.fixed_dictionaries(
                {"prometheus.io/port": st.just("1")}, optional={"note": ENV_VALUE}
            ),
        },
        ("name", "namespace", "uid"),
        mend=valid_mends.mend_metadata,
    ),
    "OwnerReference": Rule(
        {"kind": one("DaemonSet", "ReplicaSet", "StatefulSet", "Widget"), "name": one("web-77f")},
        ("apiVersion", "kind", "name", "uid"),
    ),
    "PodSpec": Rule(
        {
            "dnsPolicy": one("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
            "nodeName": one("edge-07"),
            "preemptionPolicy": one("Never", "PreemptLowerPriority"),
            "priorityClassName": one("system-node-critical", "system-cluster-critical", "mine"),
            "resources": valid_mends.POD_RESOURCES,
            "restartPolicy": one("Always", "OnFailure", "Never"),
            "tolerations": TOLERATIONS,
        },
        ("containers",),
        mend=valid_mends.mend_spec,
    ),
    "PodOS": Rule({"name": one("linux")}, ("name",)),
    "PodDNSConfig": Rule({"nameservers": st.lists(ADDRESS, min_size=1, max_size=3)}),
    "PodDNSConfigOption": Rule(required=("name",)),
    "HostAlias": Rule({"ip": ADDRESS}, ("ip",)),
    "PodSecurityContext": Rule(
        {
            "appArmorProfile": PROFILES,
            "fsGroup": IDS,
            "fsGroupChangePolicy": one("OnRootMismatch", "Always"),
            "runAsGroup": IDS,
            "runAsUser": IDS,
            "seLinuxChangePolicy": one("Recursive", "MountOption"),
            "seccompProfile": PROFILES,
            "supplementalGroupsPolicy": one("Merge", "Strict"),
        },
        mend=valid_mends.mend_sysctls,
    ),
    "Sysctl": Rule({"name": _SYSCTLS}, ("name", "value")),
    "Container": Rule(
        {
            "imagePullPolicy": one("Always", "IfNotPresent", "Never"),
            "args": st.lists(ENV_VALUE, max_size=2),
            "resources": RESOURCES,
            "restartPolicy": one("Always", "Always", "Always", "OnFailure", "Never"),
            "terminationMessagePolicy": one("File", "FallbackToLogsOnError"),
        },
        ("image",),
        mend=valid_mends.mend_container,
    ),
    "ContainerPort": Rule({"protocol": one("TCP", "UDP", "SCTP"), "hostIP": ADDRESS}),
    "SecurityContext": Rule(
        {
            "appArmorProfile": PROFILES,
            "capabilities": st.fixed_dictionaries(
                {}, optional={"add": one(["NET_ADMIN"], ["SYS_ADMIN"]), "drop": one(["ALL"])}
            ),
            "procMount": one("Default", "Unmasked"),
            "runAsGroup": IDS,
            "runAsUser": IDS,
            "seccompProfile": PROFILES,
        },
        mend=valid_mends.mend_security,
    ),
    "VolumeMount": Rule(
        {
            "mountPropagation": one("None", "HostToContainer", "Bidirectional"),
            "recursiveReadOnly": one("Disabled", "Enabled", "IfPossible"),
            "subPath": one("a", "a/b"),
            "subPathExpr": one("a", "$(A)/b"),
        },
    ),
    "Probe": Rule(union=(*_HANDLERS, "grpc")),
    "LifecycleHandler": Rule(union=(*_HANDLERS, "sleep")),
    "ExecAction": Rule(required=("command",)),
    "HTTPGetAction": Rule({"scheme": one("HTTP", "HTTPS")}),
    "EnvVar": Rule({"name": ENV_NAME, "value": ENV_VALUE}, ("name",), ("value", "valueFrom")),
    "EnvVarSource": Rule(
        union=("configMapKeyRef", "secretKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef")
    ),
    "EnvFromSource": Rule({"prefix": one("P_", "")}, union=("configMapRef", "secretRef")),
    "ConfigMapKeySelector": _KEY_RULE,
    "SecretKeySelector": _KEY_RULE,
    "ConfigMapEnvSource": _NAMED_RULE,
    "SecretEnvSource": _NAMED_RULE,
    "ObjectFieldSelector": Rule({"apiVersion": one("v1"), "fieldPath": ENV_FIELDS}, ("fieldPath",)),
    "ResourceFieldSelector": Rule(
        {
            "containerName": one("c0"),
            "divisor": one("0", "1", 0),
            "resource": one("limits.cpu", "requests.memory", "requests.cpu"),
        },
        ("containerName", "resource"),
    ),
    "DownwardAPIVolumeFile": Rule(
        {
            "fieldRef": st.fixed_dictionaries(
                {"fieldPath": FILE_FIELDS}, optional={"apiVersion": one("v1")}
            ),
            "mode": MODES,
        },
        ("path",),
        ("fieldRef", "resourceFieldRef"),
    ),
    "KeyToPath": Rule({"mode": MODES}, ("key", "path")),
    "ConfigMapVolumeSource": Rule(_ITEMS),
    "SecretVolumeSource": Rule(_ITEMS),
    "DownwardAPIVolumeSource": Rule({"defaultMode": MODES}, ("items",)),
    "ProjectedVolumeSource": Rule(
        {"defaultMode": MODES}, ("sources",), mend=valid_mends.mend_projected
    ),
    "ServiceAccountTokenProjection": Rule({"expirationSeconds": one(3607, 600, 86400)}, ("path",)),
    "EmptyDirVolumeSource": Rule({"medium": one("", "Memory", "HugePages-2Mi")}),
    "HostPathVolumeSource": Rule(
        {"path": one("/var/log"), "type": one("", "Directory", "File", "Socket")}, ("path",)
    ),
    "ImageVolumeSource": Rule(
        {"pullPolicy": one("Always", "IfNotPresent", "Never")}, ("reference",)
    ),
    "NFSVolumeSource": Rule({"path": one("/x")}, ("path", "server")),
    "PersistentVolumeClaimVolumeSource": Rule(
        {"claimName": st.sampled_from(sorted(CLAIMS))}, ("claimName",)
    ),
}
_WHOLE = (
    *("HTTPGetAction", "HTTPHeader", "TCPSocketAction", "GRPCAction", "SleepAction"),
    *("ClusterTrustBundleProjection", "FileKeySelector", "ResourceFieldSelector"),
    "NFSVolumeSource",
)
"""Small tables deep inside: drawn with all their fields, or some would hardly ever be met."""

_SEVERAL = (
    "Volume",
    "ContainerPort",
    "OwnerReference",
    "Sysctl",
    "VolumeProjection",
    "DownwardAPIVolumeFile",
)
UNIONS = {"Volume": ("name",), "VolumeProjection": ()}
"""Tables of which all rows but these exclude each other."""


def valid(shape: Shape) -> Strategy:
    """Return valid values of a shape; any subset of the fields that are not refused."""
    if isinstance(shape, Each):
        few = 2 if shape.table.name in _SEVERAL else 1  # hypothesis gives large values up
        return st.lists(valid(shape.table), min_size=1, max_size=few)
    if isinstance(shape, Kind):
        return _LEAVES[shape]
    rule = RULES.get(shape.name, Rule())
    fields = {
        name: rule.values[name] if name in rule.values else valid(row.shape)
        for name, row in shape.rows.items()
        if row.treatment is not Treatment.REFUSED
    }
    if shape.name in _WHOLE:
        return st.fixed_dictionaries(fields)
    required = {name: fields.pop(name) for name in (*rule.required, *UNIONS.get(shape.name, ()))}
    names = tuple(fields) if shape.name in UNIONS else rule.union
    chosen = [fields.pop(name) for name in names]
    drawn: Strategy = st.fixed_dictionaries(required, optional=fields)
    if names:
        pairs = st.one_of(*(st.tuples(st.just(n), s) for n, s in zip(names, chosen, strict=True)))
        drawn = st.builds(lambda pair, rest: {pair[0]: pair[1], **rest}, pairs, drawn)
    return drawn.map(rule.mend)


def valid_pod() -> Strategy:
    """Return pods as the API returns them, of any controller, that can be checkpointed."""
    return valid(POD)


def drawable(table: Table = POD, path: str = "") -> Iterator[str]:
    """Yield the path of every field that a valid pod can have."""
    for name, row in table.rows.items():
        if row.treatment is Treatment.REFUSED:
            continue
        yield f"{path}{name}"
        shape = row.shape.table if isinstance(row.shape, Each) else row.shape
        if isinstance(shape, Table):
            yield from drawable(shape, f"{path}{name}.")


def drawn(value: Mapping[str, Any], table: Table = POD, path: str = "") -> Iterator[str]:
    """Yield the path of every field that a pod has."""
    for name, item in value.items():
        yield f"{path}{name}"
        shape = table.rows[name].shape
        if isinstance(shape, Table):
            yield from drawn(item, shape, f"{path}{name}.")
        elif isinstance(shape, Each):
            for element in item:
                yield from drawn(element, shape.table, f"{path}{name}.")


_KEY_TO_PATH = st.fixed_dictionaries(
    {"key": DATA_KEYS, "path": LABEL}, optional={"mode": MODES, "user": IDS}
)
