"""Who the copy is: its labels, annotations and host name, next to those of the parent.

Labels stay, since Services and network policies select by them; annotations go unless a node
component acts on them. Section 0 of the kubelet's contract says what must not be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from checkpointer.core.workload import TEMPLATE_LABELS
from checkpointer.manifest import PREFIX
from checkpointer.manifest.formats import is_label
from checkpointer.manifest.sources import PLACEHOLDER, Options
from checkpointer.manifest.verdict import Ledger
from checkpointer.values import dataclass

_CONTAINER_PREFIXES: Final = (
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
)
_KEPT_PREFIXES: Final = ("k8s.v1.cni.cncf.io/", "prometheus.io/", "io.kubernetes.cri-o.")
_KEPT: Final = frozenset(
    {
        "kubectl.kubernetes.io/default-container",
        "kubectl.kubernetes.io/default-logs-container",
        "kubernetes.io/egress-bandwidth",
        "kubernetes.io/ingress-bandwidth",
        "seccomp.security.alpha.kubernetes.io/pod",
        "v1.multus-cni.io/default-network",
    }
)
_RESULTS: Final = frozenset(
    {"k8s.v1.cni.cncf.io/network-status", "k8s.v1.cni.cncf.io/networks-status"}
)
"""Written into the pod by the network plugin: facts about the parent, not wishes."""

_BY_MULTUS: Final = frozenset(
    {*_RESULTS, "k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network"}
)
"""With one of these the pod's network is made by Multus, or such a plugin."""

_NOT_FOR_THE_NODE: Final = "nothing on the node acts on it"

KUBELET_ANNOTATIONS: Final = frozenset(
    {
        "kubernetes.io/config.hash",
        "kubernetes.io/config.mirror",
        "kubernetes.io/config.seen",
        "kubernetes.io/config.source",
    }
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the downward API tells the parent, and what it would tell the copy."""

    name: str
    uid: str
    service_account: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    copy_labels: Mapping[str, str]
    copy_annotations: Mapping[str, str]


def identify(
    metadata: Mapping[str, Any], spec: Mapping[str, Any], options: Options, ledger: Ledger
) -> Identity:
    """Decide on labels and annotations of the copy of a pod."""
    labels = _texts(metadata.get("labels"))
    annotations = _texts(metadata.get("annotations"))
    return Identity(
        name=metadata["name"],
        uid=metadata.get("uid") or (PLACEHOLDER.format("UID") if options.placeholders else ""),
        service_account=spec.get("serviceAccountName") or spec.get("serviceAccount") or "",
        labels=labels,
        annotations=annotations,
        copy_labels=_choose_labels(labels, ledger),
        copy_annotations=_choose_annotations(
            annotations, _container_names(spec), options.annotations, ledger
        ),
    )


def hostname_of(name: str) -> str:
    """Return the host name that the kubelet gives to a pod of this name.

    K/kubelet_pods.go:truncatePodHostnameIfNeeded: 63 characters, then no dash or dot at the end.
    """
    return name if len(name) <= 63 else name[:63].rstrip("-.")


def keep_hostname(spec: dict[str, Any], identity: Identity, ledger: Ledger) -> None:
    """Give the copy its parent's host name; on the host's network the node's name counts."""
    if spec.get("hostNetwork") or spec.get("hostname") or spec.get("hostnameOverride"):
        return
    hostname = hostname_of(identity.name)
    if is_label(hostname):
        spec["hostname"] = hostname
        ledger.change("spec.hostname", "substituted", "the parent's name: the copy has another")
        return
    ledger.warn(
        "spec.hostname",
        f"the parent's host name {hostname} cannot be given to another pod, as it has dots: "
        "the copy's host name is its own name",
        "set spec.hostname in the pod template",
    )


def warn_of_networks(spec: Mapping[str, Any], identity: Identity, ledger: Ledger) -> None:
    """Warn of a network that is made by asking the API; a host's network is made by nobody.

    Multus reads the pod and its NetworkAttachmentDefinitions at each start of a sandbox and fails
    without an answer ("error getting pod", k8snetworkplumbingwg/multus-cni issues 743 and 943).
    """
    found = sorted(_BY_MULTUS & identity.annotations.keys())
    if not found or spec.get("hostNetwork"):
        return
    ledger.warn(
        _path("annotations", found[0]),
        "the network plugin asks the API for this pod's networks: in an outage the copy may get "
        "no sandbox, and while parent and copy are both up they ask for the same static addresses",
        "run the pod on the host's network, or give the node a network plugin that needs no API",
    )


def _texts(values: Mapping[str, str] | None) -> dict[str, str]:
    """Return a copy in which a null is an empty text, as Go decodes it."""
    return {key: value or "" for key, value in (values or {}).items()}


def _choose_labels(labels: Mapping[str, str], ledger: Ledger) -> dict[str, str]:
    kept = {}
    for key, value in labels.items():
        if key in TEMPLATE_LABELS:
            ledger.change(_path("labels", key), "dropped", "differs between two pods of a workload")
        elif key.startswith(PREFIX):
            ledger.change(_path("labels", key), "dropped", "marks our own checkpoints")
        else:
            kept[key] = value
    return kept


def _choose_annotations(
    annotations: Mapping[str, str], containers: set[str], extra: tuple[str, ...], ledger: Ledger
) -> dict[str, str]:
    kept = {}
    for key, value in annotations.items():
        if _is_kept(key, containers, extra):
            kept[key] = value
        else:
            reason = "speaks of the parent" if key.startswith(PREFIX) else _NOT_FOR_THE_NODE
            ledger.change(_path("annotations", key), "dropped", reason)
    return kept


def _is_kept(key: str, containers: set[str], extra: tuple[str, ...]) -> bool:
    if key in KUBELET_ANNOTATIONS or key.startswith(PREFIX):
        return False
    for prefix in _CONTAINER_PREFIXES:
        if key.startswith(prefix):
            return key.removeprefix(prefix) in containers
    if key in _KEPT or (key.startswith(_KEPT_PREFIXES) and key not in _RESULTS):
        return True
    if key.partition("/")[0].endswith("crio.io"):
        return True
    return any(
        key.startswith(wanted[:-1]) if wanted.endswith("*") else key == wanted for wanted in extra
    )


def _container_names(spec: Mapping[str, Any]) -> set[str]:
    return {
        container.get("name", "")
        for kind in ("containers", "initContainers")
        for container in spec.get(kind) or ()
    }


def _path(field: str, key: str) -> str:
    return f"metadata.{field}['{key}']"
