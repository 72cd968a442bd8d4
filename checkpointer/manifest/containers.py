"""What becomes of a container besides its environment: ports, pull policy, restarts, resources.

All functions change the copy that they are given, never the parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from checkpointer.core.facts import Known
from checkpointer.manifest.expansion import referred_names, unset_references
from checkpointer.manifest.sources import Options
from checkpointer.manifest.verdict import Ledger

_SERVICE_VARIABLE_ENDS: Final = ("_SERVICE_HOST", "_PORT")
_OF_THE_API: Final = ("KUBERNETES_SERVICE_", "KUBERNETES_PORT")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
NO_RESERVATION: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
"""What a copy that reserves nothing requests none of."""


def containers_of(spec: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield path, container and whether it is an init container."""
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            yield f"spec.{kind}[{index}]", container, kind == "initContainers"


def drop_ports(container: dict[str, Any], path: str, ledger: Ledger) -> None:
    """Remove the ports of a host-network container, after naming by number what refers to them.

    Declared ports would make the kubelet reject the returning parent (NodePorts, final). Probes
    and handlers find a name only among their own container's ports
    (pkg/probe/util.go:ResolveContainerPort).
    """
    ports = container.pop("ports", None)
    if not ports:
        return
    numbers = {port["name"]: port.get("containerPort", 0) for port in ports if port.get("name")}
    for place, action in _port_users(container, path):
        name = action.get("port")
        if isinstance(name, str) and name in numbers:
            action["port"] = numbers[name]
            ledger.change(f"{place}.port", "rewritten", f"port {name} by its number")
    ledger.change(
        f"{path}.ports",
        "dropped",
        "declared ports on the host's network make the kubelet reject the returning parent",
    )


def settle_image(container: dict[str, Any], path: str, options: Options, ledger: Ledger) -> None:
    """Make the container start from the image on the node: nothing to pull in an outage."""
    pinned = options.pinned_images.get(container.get("name", ""))
    if pinned and pinned != container.get("image"):
        container["image"] = pinned
        ledger.change(f"{path}.image", "rewritten", "pinned to what actually ran")
    policy = container.get("imagePullPolicy")
    if policy in ("IfNotPresent", "Never"):
        return
    container["imagePullPolicy"] = "IfNotPresent"
    ledger.change(
        f"{path}.imagePullPolicy", "rewritten", "Always needs the registry at every start"
    )


def warn_of_credentials(spec: Mapping[str, Any], options: Options, ledger: Ledger) -> None:
    """Warn of images that a copy could not start from without the registry.

    An image is missing, or the kubelet would pull a present one again for want of the secret
    (K/images/pullmanager/image_pull_manager.go:MustAttemptImagePull, on by default since 1.35).
    """
    records = options.secret_images
    cure = (
        "give the node credentials of its own for the registry, load the image with the "
        "runtime's tool, or set imagePullCredentialsVerificationPolicy: NeverVerify"
    )
    for path, image in _images(spec, options):
        if image in options.absent_images:
            ledger.obstruct(
                path,
                "the runtime does not have this image (any more): the copy could not start",
                "pull it, and keep the kubelet's image garbage collection from removing it",
            )
        elif isinstance(records, Known) and image in records.value:
            ledger.obstruct(
                path,
                "the kubelet's records say that only the pod's own credentials get this "
                "image: a static pod has none, and the kubelet would pull it again",
                cure,
            )
    if not isinstance(records, Known) and spec.get("imagePullSecrets"):
        ledger.warn(
            "spec.imagePullSecrets",
            "kubelets from 1.35 pull an image again that was pulled with a pod's secret: a "
            "static pod has none",
            cure,
        )


def _images(spec: Mapping[str, Any], options: Options) -> Iterator[tuple[str, str]]:
    """Yield path and image of everything in the copy that is made from one."""
    for path, container, _ in containers_of(spec):
        image = options.pinned_images.get(container.get("name", ""), container.get("image", ""))
        yield f"{path}.image", image
    for index, volume in enumerate(spec.get("volumes") or ()):
        if reference := (volume.get("image") or {}).get("reference"):
            yield f"spec.volumes[{index}].image.reference", reference


def settle_restarts(container: dict[str, Any], path: str, is_init: bool, ledger: Ledger) -> None:
    """Keep a sidecar's restartPolicy; the pod's Always holds for everything else."""
    policy = container.get("restartPolicy")
    if policy is None or (is_init and policy == "Always"):
        return
    del container["restartPolicy"]
    ledger.change(f"{path}.restartPolicy", "dropped", "the pod's Always holds")
    if policy != "Always":
        ledger.warn(f"{path}.restartPolicy", "in the copy the container is always restarted")


def settle_requests(owner: dict[str, Any], path: str, ledger: Ledger) -> None:
    """Let the copy reserve nothing, where the node wants it so.

    Zero, not absent: the kubelet would take an absent request from the limit
    (pkg/apis/core/v1/defaults.go:SetDefaults_Pod). What cannot be overcommitted stays.
    """
    resources = owner.get("resources") or {}
    named = {*resources.get("requests", {}), *resources.get("limits", {})} & NO_RESERVATION
    if not named:
        return
    requests = dict(resources.get("requests", {}))
    requests.update(dict.fromkeys(sorted(named), "0"))
    owner["resources"] = {**resources, "requests": requests}
    ledger.change(f"{path}.resources.requests", "rewritten", "the copy must fit on any node")


def warn_of_devices(container: Mapping[str, Any], path: str, ledger: Ledger) -> None:
    """Warn of resources that a device plugin must register before the copy starts.

    K/cm/devicemanager/manager.go:devicesToAllocate, K/lifecycle:removeMissingExtendedResources.
    """
    resources = container.get("resources") or {}
    for name in sorted({*resources.get("limits", {}), *resources.get("requests", {})}):
        if "/" in name and "kubernetes.io/" not in name:
            ledger.warn(
                f"{path}.resources",
                f"after a reboot {name} is there only once its device plugin has registered: "
                "the copy may be rejected, or start without it",
                "checkpoint the device plugin, too, or mount the device as a host path",
            )


def warn_of_host_ports(container: Mapping[str, Any], path: str, ledger: Ledger) -> None:
    """Warn that parent and copy cannot be on the node at the same time."""
    for index, port in enumerate(container.get("ports") or ()):
        if port.get("hostPort"):
            ledger.warn(
                f"{path}.ports[{index}].hostPort",
                "while the copy has this port the kubelet rejects the returning parent, and its "
                "controller replaces it until the copy is released",
            )


def warn_of_service_links(
    container: Mapping[str, Any], path: str, has_links: bool, ledger: Ledger
) -> None:
    """Warn of `$(NAME)` references to variables that only the API's services would define.

    Without service links (spec.enableServiceLinks: false) those of the API's own service are the
    only ones (K/kubelet_pods.go:getServiceEnvVarMap); the parent had no others either.
    """
    entries = container.get("env") or ()
    defined = {entry.get("name") for entry in entries}
    texts = [*(container.get("command") or ()), *(container.get("args") or ())]
    texts += [mount.get("subPathExpr") or "" for mount in container.get("volumeMounts") or ()]
    missing = {name for text in texts if "$(" in text for name in referred_names(text)} - defined
    missing |= unset_references(entries)
    for name in sorted(missing):
        is_of_service = name.endswith(_SERVICE_VARIABLE_ENDS) or "_PORT_" in name
        if is_of_service and (has_links or name.startswith(_OF_THE_API)):
            ledger.warn(
                path,
                f"refers to the service variable {name}, which is not defined in an outage",
                "set the variable in the pod",
            )


def _port_users(container: Mapping[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the HTTP and TCP actions of probes and lifecycle handlers, with their paths."""
    handlers = [(f"{path}.{name}", container.get(name)) for name in _PROBES]
    lifecycle = container.get("lifecycle") or {}
    handlers += [
        (f"{path}.lifecycle.{name}", lifecycle.get(name)) for name in ("postStart", "preStop")
    ]
    for place, handler in handlers:
        for action in ("httpGet", "tcpSocket"):
            if handler and action in handler:
                yield f"{place}.{action}", handler[action]
