"""From CRI messages to the values that decisions are made of.

Pure. Takes the kubelet's labels apart and bears runtimes that leave things out: what a label
does not tell comes from the metadata, and for containers from their sandbox. A state this
version does not know is never mistaken for ready or for stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from checkpointer.core.runtime import Container, ContainerState, Runtime, Sandbox
from checkpointer.node import cri_v1_pb2 as pb
from checkpointer.values import dataclass

# Labels and annotations of the kubelet: pkg/kubelet/kuberuntime/labels.go and
# staging/src/k8s.io/kubelet/pkg/types/labels.go.
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
RESTART_COUNT = "io.kubernetes.container.restartCount"

_STATES: Mapping[int, ContainerState] = MappingProxyType(
    {
        pb.CONTAINER_CREATED: ContainerState.CREATED,
        pb.CONTAINER_RUNNING: ContainerState.RUNNING,
        pb.CONTAINER_EXITED: ContainerState.EXITED,
    }
)


@dataclass(frozen=True, slots=True)
class RuntimeVersion:
    """Which runtime answers, as it says itself, e.g. `containerd`, `1.6.20~ds1`, `v1`."""

    name: str
    version: str
    api_version: str


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image that the runtime has; `size` is in bytes."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class ContainerDetail:
    """What only a status call tells; times in nanoseconds of the Unix epoch, 0 for not yet.

    Of a container that ended at once `finished_at` may lie before `started_at`: containerd 1.6
    takes the one from the shim and the other when its own call to start returned.
    """

    id: str
    name: str
    attempt: int
    state: ContainerState
    created_at: int
    started_at: int
    finished_at: int
    exit_code: int
    reason: str
    log_path: str
    image_ref: str


def runtime_of(sandboxes: Iterable[pb.PodSandbox], containers: Iterable[pb.Container]) -> Runtime:
    """Return both lists, oldest first: runtimes list in no order, and two looks must compare."""
    pods = {message.id: _sandbox_of(message) for message in sandboxes}
    found = (_container_of(message, pods.get(message.pod_sandbox_id)) for message in containers)
    return Runtime(
        sandboxes=tuple(sorted(pods.values(), key=_by_age)),
        containers=tuple(sorted(found, key=_by_age)),
    )


def version_of(message: pb.VersionResponse) -> RuntimeVersion:
    """Return who answered."""
    return RuntimeVersion(
        name=message.runtime_name,
        version=message.runtime_version,
        api_version=message.runtime_api_version,
    )


def image_of(message: pb.Image) -> ImageInfo:
    """Return what is known of an image."""
    return ImageInfo(
        id=message.id,
        tags=tuple(message.repo_tags),
        digests=tuple(message.repo_digests),
        size=message.size,
        pinned=message.pinned,
    )


def detail_of(message: pb.ContainerStatus) -> ContainerDetail:
    """Return a container's status."""
    return ContainerDetail(
        id=message.id,
        name=message.labels.get(CONTAINER_NAME) or message.metadata.name,
        attempt=_attempt_of(message),
        state=_STATES.get(message.state, ContainerState.UNKNOWN),
        created_at=message.created_at,
        started_at=message.started_at,
        finished_at=message.finished_at,
        exit_code=message.exit_code,
        reason=message.reason,
        log_path=message.log_path,
        image_ref=message.image_ref,
    )


def _sandbox_of(message: pb.PodSandbox) -> Sandbox:
    labels = dict(message.labels)
    return Sandbox(
        id=message.id,
        namespace=labels.get(POD_NAMESPACE) or message.metadata.namespace,
        name=labels.get(POD_NAME) or message.metadata.name,
        uid=labels.get(POD_UID) or message.metadata.uid,
        attempt=message.metadata.attempt,
        ready=message.state == pb.SANDBOX_READY,
        created_at=message.created_at,
        labels=labels,
        annotations=dict(message.annotations),
    )


def _container_of(message: pb.Container, sandbox: Sandbox | None) -> Container:
    labels = message.labels
    return Container(
        id=message.id,
        sandbox_id=message.pod_sandbox_id,
        name=labels.get(CONTAINER_NAME) or message.metadata.name,
        namespace=labels.get(POD_NAMESPACE) or (sandbox.namespace if sandbox else ""),
        pod_name=labels.get(POD_NAME) or (sandbox.name if sandbox else ""),
        pod_uid=labels.get(POD_UID) or (sandbox.uid if sandbox else ""),
        attempt=_attempt_of(message),
        state=_STATES.get(message.state, ContainerState.UNKNOWN),
        created_at=message.created_at,
        image=message.image.user_specified_image or message.image.image or message.image_ref,
    )


def _attempt_of(message: pb.Container | pb.ContainerStatus) -> int:
    """Return the kubelet's restart count; its annotation serves where metadata is missing."""
    if message.HasField("metadata"):
        return message.metadata.attempt
    count = message.annotations.get(RESTART_COUNT, "")
    return int(count) if count.isascii() and count.isdecimal() else 0


def _by_age(listed: Sandbox | Container) -> tuple[int, str]:
    return listed.created_at, listed.id
