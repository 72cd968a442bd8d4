"""The container runtime as seen over CRI v1: what runs on this node, and stopping it.

A thin adapter over containerd, CRI-O and their like: it looks and it stops what it is told to
stop; it never decides. Whatever goes wrong while looking is `Unknown` with a reason, never an
empty list. Contract: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from checkpointer.node.rpc_library import Message  # before the generated messages

# isort: split
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.runtime import Runtime
from checkpointer.errors import RuntimeCallError
from checkpointer.node import cri_v1_pb2 as pb
from checkpointer.node.cri_connection import (
    Answer,
    Connection,
    Method,
    RuntimeNotFoundError,
    socket_path,
)
from checkpointer.node.cri_events import KUBELET_API_VERSION, VERSION, Watch
from checkpointer.node.cri_messages import (
    ContainerDetail,
    ImageInfo,
    RuntimeVersion,
    detail_of,
    image_of,
    runtime_of,
    version_of,
)

__all__ = [
    "DEFAULT_ENDPOINTS",
    "ContainerDetail",
    "ContainerRuntime",
    "ImageInfo",
    "RuntimeCallError",
    "RuntimeVersion",
    "Watch",
    "find_endpoint",
    "find_runtime",
]

DEFAULT_ENDPOINTS = (
    "unix:///run/crio/crio.sock",
    "unix:///run/cri-dockerd.sock",
    "unix:///run/k3s/containerd/containerd.sock",
    "unix:///run/k0s/containerd.sock",
    "unix:///var/snap/microk8s/common/run/containerd.sock",
    "unix:///run/containerd/containerd.sock",
)
"""Where runtimes listen; plain containerd last, for a Docker on the node has one without CRI."""

STOP_MARGIN_SECONDS = 10.0
"""How long stopping may take beyond the grace; cancelled earlier, the runtime stops half-way."""

_SANDBOXES = Method("RuntimeService", "ListPodSandbox", pb.ListPodSandboxResponse)
_CONTAINERS = Method("RuntimeService", "ListContainers", pb.ListContainersResponse)
_CONTAINER_STATUS = Method("RuntimeService", "ContainerStatus", pb.ContainerStatusResponse)
_STOP_CONTAINER = Method("RuntimeService", "StopContainer", pb.StopContainerResponse)
_REMOVE_CONTAINER = Method("RuntimeService", "RemoveContainer", pb.RemoveContainerResponse)
_STOP_SANDBOX = Method("RuntimeService", "StopPodSandbox", pb.StopPodSandboxResponse)
_IMAGE_STATUS = Method("ImageService", "ImageStatus", pb.ImageStatusResponse)


def find_endpoint(endpoints: Iterable[str] = DEFAULT_ENDPOINTS) -> str | None:
    """Return the first endpoint whose socket exists, or None."""
    return next((endpoint for endpoint in endpoints if _is_socket(endpoint)), None)


def find_runtime(endpoints: Iterable[str] = DEFAULT_ENDPOINTS) -> ContainerRuntime | None:
    """Return the first runtime that answers as a CRI v1 runtime, or None.

    A socket alone is not enough: a node of CRI-O may have Docker's containerd besides, which
    has no CRI, and at boot either may be there first.
    """
    for endpoint in endpoints:
        if _is_socket(endpoint):
            runtime = ContainerRuntime(endpoint)
            if isinstance(runtime.version(), Known):
                return runtime
            runtime.close()
    return None


class ContainerRuntime:
    """A container runtime at `endpoint` (`unix:///path` or a path); connects for each look.

    `deadline_seconds` bounds each look as a whole. Threads may share one instance. A runtime
    that comes back after a restart is seen by the next look.
    """

    def __init__(self, endpoint: str, deadline_seconds: float = 2.0) -> None:
        self.endpoint = endpoint
        self._deadline_seconds = deadline_seconds
        self._lock = threading.Lock()
        self._open: set[Connection] = set()
        socket_path(endpoint)  # a wrong endpoint is told now

    def observe(self) -> Fact[Runtime]:
        """Return all sandboxes and containers; Known only if both lists were answered.

        Sandboxes first, as the kubelet lists them (kuberuntime_manager.go, GetPods): a
        container made in between is seen, if need be without its sandbox.
        """
        end = time.monotonic() + self._deadline_seconds
        try:
            with self._connected() as connection:
                sandboxes = connection.call(
                    _SANDBOXES, pb.ListPodSandboxRequest(), self._deadline_seconds
                )
                left = max(0.0, end - time.monotonic())
                containers = connection.call(_CONTAINERS, pb.ListContainersRequest(), left)
        except RuntimeCallError as error:
            return Unknown(str(error))
        return Known(runtime_of(sandboxes.items, containers.containers))

    def version(self) -> Fact[RuntimeVersion]:
        """Return which runtime answers; Unknown says so when it does not implement CRI v1."""
        try:
            answer = self._look(VERSION, pb.VersionRequest(version=KUBELET_API_VERSION))
        except RuntimeCallError as error:
            return Unknown(str(error))
        return Known(version_of(answer))

    def has_image(self, image: str) -> Fact[ImageInfo | None]:
        """Return what the runtime has under the image's name, or Known(None) for nothing."""
        request = pb.ImageStatusRequest(image=pb.ImageSpec(image=image))
        try:
            answer = self._look(_IMAGE_STATUS, request)
        except RuntimeNotFoundError:
            return Known(None)
        except RuntimeCallError as error:
            return Unknown(str(error))
        return Known(image_of(answer.image) if answer.HasField("image") else None)

    def container_status(self, container_id: str) -> Fact[ContainerDetail]:
        """Return what only a status tells; Unknown also when there is no such container."""
        request = pb.ContainerStatusRequest(container_id=container_id)
        try:
            answer = self._look(_CONTAINER_STATUS, request)
        except RuntimeCallError as error:
            return Unknown(str(error))
        if not answer.HasField("status"):
            return Unknown(f"{self.endpoint} answered without a container status")
        return Known(detail_of(answer.status))

    def stop_container(self, container_id: str, grace_seconds: int) -> None:
        """Stop a container, killing it after the grace; 0 kills at once. None left is success.

        Raises:
            RuntimeCallError: it may still run.
        """
        request = pb.StopContainerRequest(container_id=container_id, timeout=grace_seconds)
        self._stop(_STOP_CONTAINER, request, grace_seconds)

    def remove_container(self, container_id: str) -> None:
        """Have the runtime forget a dead container; its logs stay. None left is success.

        Raises:
            RuntimeCallError: it may still be known.
        """
        request = pb.RemoveContainerRequest(container_id=container_id)
        self._stop(_REMOVE_CONTAINER, request, 0)

    def stop_sandbox(self, sandbox_id: str) -> None:
        """Stop a sandbox and kill all containers in it. None left is success.

        Raises:
            RuntimeCallError: some of it may still run.
        """
        self._stop(_STOP_SANDBOX, pb.StopPodSandboxRequest(pod_sandbox_id=sandbox_id), 0)

    def watch(self, wake: Callable[[], None]) -> Watch:
        """Start calling `wake` on container events, from a thread; see `Watch`."""
        return Watch(self.endpoint, wake, self._deadline_seconds)

    def close(self) -> None:
        """End what other threads have under way. Watches are closed by those who started them."""
        with self._lock:
            for connection in self._open:
                connection.close()

    def _look(self, method: Method[Answer], request: Message) -> Answer:
        with self._connected() as connection:
            return connection.call(method, request, self._deadline_seconds)

    def _stop(self, method: Method[Answer], request: Message, grace_seconds: int) -> None:
        try:
            with self._connected() as connection:
                connection.call(method, request, grace_seconds + STOP_MARGIN_SECONDS)
        except RuntimeNotFoundError:
            return  # some runtimes refuse to stop what is already gone (containerd 1.6)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with Connection(self.endpoint) as connection:
            with self._lock:
                self._open.add(connection)
            try:
                yield connection
            finally:
                with self._lock:
                    self._open.discard(connection)


def _is_socket(endpoint: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(socket_path(endpoint)).st_mode)
    except OSError:
        return False
