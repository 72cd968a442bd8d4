"""Values that fields of valid pods have."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from checkpointer.core.facts import Known
from checkpointer.manifest.sanitize import BoundClaim


def one(*values: Any) -> st.SearchStrategy[Any]:
    """Return one of these; containers among them are made anew for each pod."""
    return st.sampled_from(values).map(_anew)


def _anew(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _anew(item) for key, item in value.items()}
    return [_anew(item) for item in value] if isinstance(value, list) else value


LABEL = st.sampled_from(["a", "b7", "web", "x-y", "0z", "k" * 63])
LABELS = st.dictionaries(st.sampled_from(["a", "x.y/z"]), LABEL, max_size=2)
ENV_NAME = st.sampled_from(["A", "B", "C", "LONG_NAME", "x.y", "KUBERNETES_SERVICE_HOST"])
ENV_VALUE = st.text(st.sampled_from("ab$()é "), max_size=8)
DATA_KEYS = st.sampled_from(["A", "B", "x.y", "0", "-d", "..bad"])
OBJECTS = ("one", "two", "three")
PORTS = st.sampled_from([1, 443, 65535, "http", "https", "metrics"])
ADDRESS = st.sampled_from(["10.0.0.1", "127.0.0.1", "fd00::1"])
IDS = st.sampled_from([0, 1, 65534, (1 << 31) - 1])
MODES = st.sampled_from([0, 0o400, 0o644, 0o777])
QUANTITIES = st.sampled_from(["1", "64Mi", "0", "1.5Gi", 1048576])
ENV_FIELDS = st.sampled_from(
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
FILE_FIELDS = st.sampled_from(
    ["metadata.name", "metadata.labels", "metadata.namespace", "metadata.labels['app']"]
)
PROFILES = one(
    {"type": "RuntimeDefault"},
    {"type": "Unconfined"},
    {"type": "Localhost", "localhostProfile": "profiles/a.json"},
)
RESOURCES = one(
    {},
    {"limits": {"cpu": "1"}, "requests": {"cpu": "100m", "memory": "1Mi"}},
    {"limits": {"example.com/gpu": "1"}, "requests": {"example.com/gpu": 1}},
    {"limits": {"ephemeral-storage": "2Gi"}, "requests": {"ephemeral-storage": "1Gi"}},
    {"limits": {"hugepages-2Mi": "4Mi", "memory": "64Mi"}},
)
TOLERATIONS = one(
    [],
    [{"operator": "Exists"}],
    [{"key": "a", "value": "b", "effect": "NoSchedule"}],
    [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
)
CLAIMS = {
    "of-host-path": Known(
        BoundClaim({}, {"spec": {"hostPath": {"path": "/data", "type": "DirectoryOrCreate"}}})
    ),
    "of-local": Known(BoundClaim({}, {"spec": {"local": {"path": "/mnt/disks/1"}}})),
}
"""What the API says of the claims of valid pods."""
