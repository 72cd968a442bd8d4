"""Pods made by hypothesis: valid ones as an API server holds them, and wild ones.

Wild pods come straight from the field tables, so that every field and every form is met; valid
pods are put together with care, so that only what sanitizing does can have them refused.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from checkpointer.manifest.fields import POD
from checkpointer.manifest.shapes import Each, Kind, Shape

TEXTS = st.sampled_from(
    [
        *["", "a", "web", "Always", "Never", "TCP", "..", "/", "a/../b", "$(A)", "$$", "Größe"],
        *["A B", "metadata.name", "metadata.labels['a']", "kubernetes.io/config.mirror"],
        *["\ud800", "x" * 300],
    ]
)
_INTEGERS = st.sampled_from([-1, 0, 1, 80, 443, 65536, (1 << 31) - 1])
_QUANTITIES = st.sampled_from(["1", "100m", "64Mi", "0", "-1", "x", 1, 0.5])
_KEYS = st.sampled_from(["a", "app", "pod-template-hash", "x.y/z", "prometheus.io/scrape", "A B"])
JSON = st.recursive(
    st.none() | st.booleans() | _INTEGERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(_KEYS | st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)

_LEAVES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TEXT: TEXTS,
    Kind.INT32: _INTEGERS,
    Kind.INT64: _INTEGERS,
    Kind.BOOL: st.booleans(),
    Kind.QUANTITY: _QUANTITIES,
    Kind.INT_OR_TEXT: _INTEGERS | TEXTS,
    Kind.TEXTS: st.lists(TEXTS, max_size=2),
    Kind.INTS: st.lists(_INTEGERS, max_size=2),
    Kind.MAP: st.dictionaries(_KEYS, TEXTS, max_size=2),
    Kind.QUANTITIES: st.dictionaries(
        st.sampled_from(["cpu", "memory", "example.com/gpu", "hugepages-2Mi", "x"]),
        _QUANTITIES,
        max_size=2,
    ),
    Kind.ANY: JSON,
}


@st.composite
def wild(draw: st.DrawFn, shape: Shape = POD) -> Any:
    """Return a value of a shape: any subset of its fields, values that are often wrong."""
    if isinstance(shape, Each):
        return [draw(wild(shape.table)) for _ in range(draw(st.integers(0, 2)))]
    if isinstance(shape, Kind):
        return draw(_LEAVES[shape])
    names = sorted(shape.rows)
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    for name in ("metadata", "spec", "containers", "name", "image"):
        if name in names and name not in chosen and draw(st.integers(0, 9)):
            chosen.append(name)
    value: dict[str, Any] = {
        name: draw(st.none() if draw(st.integers(0, 19)) == 0 else wild(shape.rows[name].shape))
        for name in chosen
    }
    if draw(st.integers(0, 19)) == 0:
        value["fieldOfTomorrow"] = draw(JSON)
    return value


# Valid pods

LABEL = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
ENV_NAME = st.sampled_from(["A", "B", "C", "LONG_NAME", "x.y", "KUBERNETES_SERVICE_HOST"])
ENV_VALUE = st.text(st.sampled_from("ab$()é "), max_size=8)
DATA_KEYS = st.sampled_from(["A", "B", "x.y", "0", "-d", "..bad"])
PORT_NAMES = st.sampled_from(["http", "https", "metrics"])
OBJECTS = ("one", "two", "three")
FIELD_PATHS = st.sampled_from(
    [
        "metadata.name",
        "metadata.uid",
        "metadata.namespace",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.podIP",
        "status.hostIPs",
        "metadata.labels['app']",
        "metadata.labels['pod-template-hash']",
        "metadata.annotations['note']",
        "metadata.annotations['prometheus.io/port']",
    ]
)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def key_ref() -> st.SearchStrategy[dict[str, Any]]:
    """Return a reference to a key that may not exist, and then is optional."""
    return st.fixed_dictionaries(
        {"name": st.sampled_from(OBJECTS), "key": DATA_KEYS, "optional": st.just(True)}
    )


def env_entries() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return an `env`."""
    source = st.one_of(
        key_ref().map(lambda ref: {"configMapKeyRef": ref}),
        key_ref().map(lambda ref: {"secretKeyRef": ref}),
        FIELD_PATHS.map(lambda path: {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}),
        st.just({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}),
    )
    entry = st.one_of(
        st.fixed_dictionaries({"name": ENV_NAME, "value": ENV_VALUE}),
        st.fixed_dictionaries({"name": ENV_NAME}),
        st.fixed_dictionaries({"name": ENV_NAME, "valueFrom": source}),
    )
    return st.lists(entry, max_size=5)


def env_from() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return an `envFrom`."""
    reference = st.fixed_dictionaries({"name": st.sampled_from(OBJECTS), "optional": st.just(True)})
    source = st.sampled_from(["configMapRef", "secretRef"])
    prefix = st.sampled_from([{}, {"prefix": "P_"}, {"prefix": ""}])
    return st.lists(
        st.builds(lambda ref, field, extra: {field: ref, **extra}, reference, source, prefix),
        max_size=3,
    )


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Return what the API says of the objects that pods here refer to, by name."""
    data = st.dictionaries(DATA_KEYS, values, max_size=4)
    return st.fixed_dictionaries(
        {name: st.none() | data.map(lambda found: {"data": found}) for name in OBJECTS}
    )


def action() -> st.SearchStrategy[dict[str, Any]]:
    """Return the handler of a probe."""
    port = st.integers(1, 65535) | PORT_NAMES
    return st.one_of(
        st.just({"exec": {"command": ["true"]}}),
        port.map(lambda number: {"httpGet": {"path": "/", "port": number, "scheme": "HTTP"}}),
        port.map(lambda number: {"tcpSocket": {"port": number}}),
        st.just({"grpc": {"port": 1}}),
    )


def source() -> st.SearchStrategy[dict[str, Any]]:
    """Return a volume source that can be checkpointed."""
    item = st.fixed_dictionaries(
        {
            "path": LABEL,
            "fieldRef": st.sampled_from(
                ["metadata.name", "metadata.labels", "metadata.namespace", "metadata.labels['app']"]
            ).map(lambda path: {"fieldPath": path}),
        }
    )
    downward = st.lists(item, max_size=2, unique_by=lambda found: found["path"]).map(
        lambda items: {"items": items}
    )
    projection = st.one_of(
        st.just({"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}),
        st.just({"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}),
        st.just({"secret": {"name": "s", "optional": True}}),
        st.just({"downwardAPI": {"items": []}}),
        st.just({"clusterTrustBundle": {"name": "x", "path": "bundle"}}),
    )
    return st.one_of(
        st.just({"configMap": {"name": "c", "defaultMode": 0o644}}),
        st.just({"secret": {"secretName": "s", "optional": True}}),
        downward.map(lambda found: {"downwardAPI": found}),
        st.lists(projection, max_size=3).map(lambda found: {"projected": {"sources": found}}),
        st.just({"emptyDir": {}}),
        st.just({"hostPath": {"path": "/var/log", "type": ""}}),
        st.just({"image": {"reference": "r", "pullPolicy": "Always"}}),
        st.just({"nfs": {"server": "nas", "path": "/x"}}),
    )


@st.composite
def valid_container(
    draw: st.DrawFn, name: str, volumes: list[str], kind: str = "container"
) -> dict[str, Any]:
    """Return a container; kind is container, sidecar or init."""
    container: dict[str, Any] = {"name": name, "image": draw(LABEL)}
    container |= draw(
        optional(
            args=st.lists(ENV_VALUE, max_size=2),
            env=env_entries(),
            envFrom=env_from(),
            imagePullPolicy=st.sampled_from(["Always", "IfNotPresent", "Never"]),
            resizePolicy=st.just([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]),
            resources=st.sampled_from(
                [
                    {},
                    {"limits": {"cpu": "1"}, "requests": {"cpu": "100m", "memory": "1Mi"}},
                    {"limits": {"example.com/gpu": "1"}, "requests": {"example.com/gpu": "1"}},
                ]
            ),
            securityContext=optional(
                privileged=st.just(True),
                runAsUser=st.integers(0, 70000),
                seccompProfile=st.just({"type": "RuntimeDefault"}),
                windowsOptions=st.just({"hostProcess": False}),
            ),
            terminationMessagePolicy=st.just("FallbackToLogsOnError"),
            tty=st.booleans(),
        )
    )
    if kind != "init":
        container |= draw(
            optional(
                livenessProbe=action(),
                readinessProbe=action(),
                startupProbe=action(),
                lifecycle=st.just({"preStop": {"httpGet": {"path": "/", "port": "http"}}}),
                ports=st.just([{"name": "http", "containerPort": 8080, "protocol": "TCP"}]),
            )
        )
    if kind == "sidecar":
        container["restartPolicy"] = "Always"
    container["volumeMounts"] = [
        {"name": volume, "mountPath": f"/mnt/{volume}", **draw(optional(readOnly=st.booleans()))}
        for volume in volumes
    ]
    return container


@st.composite
def valid_pod(draw: st.DrawFn) -> dict[str, Any]:
    """Return a pod as the API returns it, of any controller, that can be checkpointed."""
    volumes = draw(st.lists(LABEL, unique=True, max_size=3))
    names = draw(st.lists(LABEL, unique=True, min_size=1, max_size=4))
    cut = draw(st.integers(1, len(names)))
    kinds = st.sampled_from(["init", "sidecar"])
    owner = draw(st.sampled_from(["DaemonSet", "ReplicaSet", "StatefulSet", "Widget"]))
    labels = draw(
        st.fixed_dictionaries({}, optional={"app": LABEL, "pod-template-hash": st.just("77f")})
    )
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"web-77f-{draw(LABEL)}",
            "namespace": draw(LABEL),
            "uid": "11111111-2222-3333-4444-555555555555",
            "resourceVersion": "7",
            "creationTimestamp": None,
            "labels": labels,
            "annotations": draw(
                optional(note=ENV_VALUE).map(lambda found: {"prometheus.io/port": "1", **found})
            ),
            "ownerReferences": draw(
                st.sampled_from([[], [{"kind": owner, "name": "web-77f", "controller": True}]])
            ),
            "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {
            "containers": [draw(valid_container(name, volumes)) for name in names[:cut]],
            "initContainers": [
                draw(valid_container(name, volumes, draw(kinds))) for name in names[cut:]
            ],
            "volumes": [{"name": name, **draw(source())} for name in volumes],
            "serviceAccountName": "web",
            "nodeName": "edge-07",
            **draw(
                optional(
                    activeDeadlineSeconds=st.just(60),
                    affinity=st.just({"nodeAffinity": {}}),
                    dnsPolicy=st.sampled_from(["Default", "ClusterFirst"]),
                    enableServiceLinks=st.booleans(),
                    ephemeralContainers=st.just([{"name": "debug", "image": "i"}]),
                    hostNetwork=st.booleans(),
                    hostname=LABEL,
                    imagePullSecrets=st.just([{"name": "r"}]),
                    nodeSelector=st.just({"a": "b"}),
                    overhead=st.just({"cpu": "1m"}),
                    priority=st.sampled_from([0, 1000]),
                    preemptionPolicy=st.sampled_from(["Never", "PreemptLowerPriority"]),
                    readinessGates=st.just([{"conditionType": "a/b"}]),
                    restartPolicy=st.sampled_from(["Always", "OnFailure", "Never"]),
                    runtimeClassName=st.just("gvisor"),
                    securityContext=optional(fsGroup=st.integers(0, 70000)),
                    terminationGracePeriodSeconds=st.integers(0, 60),
                    tolerations=st.just([{"operator": "Exists"}]),
                )
            ),
        },
        "status": {"phase": "Running"},
    }
