"""The simulated runtime's records as CRI v1 messages."""

from __future__ import annotations

from typing import Any, Final

from checkpointer.core.runtime import ContainerState
from checkpointer.node import cri_v1_pb2 as cri
from checkpointer.simulation.runtime import image_id
from checkpointer.simulation.runtime_records import ContainerRecord, SandboxRecord

STATES: Final = {
    ContainerState.CREATED: cri.CONTAINER_CREATED,
    ContainerState.RUNNING: cri.CONTAINER_RUNNING,
    ContainerState.EXITED: cri.CONTAINER_EXITED,
    ContainerState.UNKNOWN: cri.CONTAINER_UNKNOWN,
}


def has_labels(labels: Any, wanted: Any) -> bool:
    """Tell whether the labels are among these."""
    return all(labels.get(name) == value for name, value in wanted.items())


def sandbox_labels(sandbox: SandboxRecord) -> dict[str, str]:
    """Return the labels that the kubelet gives a sandbox (5.7)."""
    config = sandbox.config
    return {
        **config.labels,
        "io.kubernetes.pod.name": config.name,
        "io.kubernetes.pod.namespace": config.namespace,
        "io.kubernetes.pod.uid": config.uid,
    }


def _sandbox_metadata(sandbox: SandboxRecord) -> Any:
    config = sandbox.config
    return cri.PodSandboxMetadata(
        name=config.name, uid=config.uid, namespace=config.namespace, attempt=config.attempt
    )


def _sandbox_state(sandbox: SandboxRecord) -> Any:
    return cri.SANDBOX_READY if sandbox.is_ready else cri.SANDBOX_NOTREADY


def sandbox_item(sandbox: SandboxRecord) -> Any:
    """Return a sandbox as lists have it."""
    return cri.PodSandbox(
        id=sandbox.id,
        metadata=_sandbox_metadata(sandbox),
        state=_sandbox_state(sandbox),
        created_at=sandbox.created_at,
        labels=sandbox_labels(sandbox),
        annotations=sandbox.config.annotations,
    )


def sandbox_status(sandbox: SandboxRecord) -> Any:
    """Return a sandbox as its status call has it."""
    return cri.PodSandboxStatus(
        id=sandbox.id,
        metadata=_sandbox_metadata(sandbox),
        state=_sandbox_state(sandbox),
        created_at=sandbox.created_at,
        network=cri.PodSandboxNetworkStatus(ip=sandbox.config.ip),
        labels=sandbox_labels(sandbox),
        annotations=sandbox.config.annotations,
    )


def _image_spec(container: ContainerRecord) -> Any:
    image = container.config.image
    return cri.ImageSpec(image=image_id(image), user_specified_image=image)


def container_item(container: ContainerRecord) -> Any:
    """Return a container as lists have it."""
    config = container.config
    return cri.Container(
        id=container.id,
        pod_sandbox_id=container.sandbox.id,
        metadata=cri.ContainerMetadata(name=config.name, attempt=config.attempt),
        image=_image_spec(container),
        image_ref=image_id(config.image),
        image_id=image_id(config.image),
        state=STATES[container.state],
        created_at=container.created_at,
        labels=config.labels,
        annotations=config.annotations,
    )


def container_status(container: ContainerRecord) -> Any:
    """Return a container as its status call has it."""
    config = container.config
    return cri.ContainerStatus(
        id=container.id,
        metadata=cri.ContainerMetadata(name=config.name, attempt=config.attempt),
        image=_image_spec(container),
        image_ref=image_id(config.image),
        state=STATES[container.state],
        created_at=container.created_at,
        started_at=container.started_at,
        finished_at=container.finished_at,
        exit_code=container.exit_code,
        reason=container.reason,
        labels=config.labels,
        annotations=config.annotations,
        mounts=[
            cri.Mount(container_path=inside, host_path=outside)
            for inside, outside in config.mounts.items()
        ],
        log_path=config.log_path,
    )


def image_item(name: str) -> Any:
    """Return an image as lists have it."""
    return cri.Image(id=image_id(name), repo_tags=[name], size=50_000_000)
