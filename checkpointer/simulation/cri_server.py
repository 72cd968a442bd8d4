"""The simulated runtime's CRI v1 socket: real gRPC over a real unix socket.

It can be closed and opened again while the containers live on, as containerd can be restarted.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from checkpointer.node import cri_v1_pb2 as cri
from checkpointer.simulation import cri_answers as answers
from checkpointer.simulation.runtime import NoSuchObjectError, Runtime, image_id
from checkpointer.simulation.runtime_records import ContainerRecord, Event, SandboxRecord

_EVENTS = {
    Event.CREATED: cri.CONTAINER_CREATED_EVENT,
    Event.STARTED: cri.CONTAINER_STARTED_EVENT,
    Event.STOPPED: cri.CONTAINER_STOPPED_EVENT,
    Event.DELETED: cri.CONTAINER_DELETED_EVENT,
}
_CLOSE_SECONDS = 5.0

Method = Callable[[Any, grpc.ServicerContext], Any]


class CriServer:
    """Serves one runtime at one socket while it is open.

    `has_events` False answers GetContainerEvents as runtimes do that lack it. `hangs` True
    lets every call wait until its client gives up.
    """

    def __init__(self, runtime: Runtime, socket: Path) -> None:
        self.endpoint = f"unix://{socket}"
        self.has_events = True
        self.hangs = False
        self._runtime = runtime
        self._socket = socket
        self._server: grpc.Server | None = None
        self._streams: set[queue.SimpleQueue[Any]] = set()

    @property
    def subscribers(self) -> int:
        """Return how many event streams are open."""
        return len(self._streams)

    def open(self) -> None:
        """Serve at the socket; one that a dead runtime left behind is replaced."""
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        server = grpc.server(ThreadPoolExecutor(max_workers=16, thread_name_prefix="cri"))
        server.add_generic_rpc_handlers((self._runtime_service(), self._image_service()))
        if not server.add_insecure_port(self.endpoint):
            raise OSError(f"cannot listen at {self.endpoint}")
        server.start()
        self._server = server
        self._runtime.listeners.append(self._publish)
        self._runtime.sandbox_listeners.append(self._publish_sandbox)

    def close(self) -> None:
        """End every call and stream and take the socket away."""
        if self._server is None:
            return
        self._runtime.listeners.remove(self._publish)
        self._runtime.sandbox_listeners.remove(self._publish_sandbox)
        for stream in tuple(self._streams):
            stream.put(None)
        self._server.stop(0).wait(_CLOSE_SECONDS)
        self._server = None
        self._socket.unlink(missing_ok=True)

    def _runtime_service(self) -> grpc.GenericRpcHandler:
        handlers = {
            "Version": _unary(self._version, cri.VersionRequest),
            "Status": _unary(self._status, cri.StatusRequest),
            "ListPodSandbox": _unary(self._list_sandboxes, cri.ListPodSandboxRequest),
            "PodSandboxStatus": _unary(self._sandbox_status, cri.PodSandboxStatusRequest),
            "StopPodSandbox": _unary(self._stop_sandbox, cri.StopPodSandboxRequest),
            "ListContainers": _unary(self._list_containers, cri.ListContainersRequest),
            "ContainerStatus": _unary(self._container_status, cri.ContainerStatusRequest),
            "StopContainer": _unary(self._stop_container, cri.StopContainerRequest),
            "RemoveContainer": _unary(self._remove_container, cri.RemoveContainerRequest),
            "GetContainerEvents": grpc.unary_stream_rpc_method_handler(
                self._events,
                request_deserializer=cri.GetEventsRequest.FromString,
                response_serializer=cri.ContainerEventResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(
            "runtime.v1.RuntimeService", {name: self._guarded(h) for name, h in handlers.items()}
        )

    def _image_service(self) -> grpc.GenericRpcHandler:
        handlers = {
            "ImageStatus": _unary(self._image_status, cri.ImageStatusRequest),
            "ListImages": _unary(self._list_images, cri.ListImagesRequest),
        }
        return grpc.method_handlers_generic_handler(
            "runtime.v1.ImageService", {name: self._guarded(h) for name, h in handlers.items()}
        )

    def _guarded(self, handler: Any) -> Any:
        """Let a unary call hang if told so, and word "not found" as containerd does."""
        if handler.unary_unary is None:
            return handler
        serve: Method = handler.unary_unary

        def guarded(request: Any, context: grpc.ServicerContext) -> Any:
            while self.hangs and context.is_active():
                time.sleep(0.02)
            try:
                return serve(request, context)
            except NoSuchObjectError as error:
                context.abort(grpc.StatusCode.NOT_FOUND, str(error))

        return grpc.unary_unary_rpc_method_handler(
            guarded,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _version(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        return cri.VersionResponse(
            version="0.1.0",
            runtime_name="simulated",
            runtime_version="1.0.0",
            runtime_api_version="v1",
        )

    def _status(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        conditions = [
            cri.RuntimeCondition(type=name, status=True)
            for name in ("RuntimeReady", "NetworkReady")
        ]
        return cri.StatusResponse(status=cri.RuntimeStatus(conditions=conditions))

    def _list_sandboxes(self, request: Any, _context: grpc.ServicerContext) -> Any:
        wanted = request.filter
        found = [
            answers.sandbox_item(one)
            for one in self._runtime.sandboxes()
            if one.id.startswith(wanted.id)
            and (not wanted.HasField("state") or one.is_ready == (wanted.state.state == 0))
            and answers.has_labels(answers.sandbox_labels(one), wanted.label_selector)
        ]
        return cri.ListPodSandboxResponse(items=found)

    def _sandbox_status(self, request: Any, _context: grpc.ServicerContext) -> Any:
        sandbox = self._runtime.sandbox(request.pod_sandbox_id)
        return cri.PodSandboxStatusResponse(status=answers.sandbox_status(sandbox))

    def _stop_sandbox(self, request: Any, _context: grpc.ServicerContext) -> Any:
        self._runtime.stop_sandbox(request.pod_sandbox_id)
        return cri.StopPodSandboxResponse()

    def _list_containers(self, request: Any, _context: grpc.ServicerContext) -> Any:
        wanted = request.filter
        found = [
            answers.container_item(one)
            for one in self._runtime.containers()
            if one.id.startswith(wanted.id)
            and one.sandbox.id.startswith(wanted.pod_sandbox_id)
            and (not wanted.HasField("state") or answers.STATES[one.state] == wanted.state.state)
            and answers.has_labels(one.config.labels, wanted.label_selector)
        ]
        return cri.ListContainersResponse(containers=found)

    def _container_status(self, request: Any, _context: grpc.ServicerContext) -> Any:
        container = self._runtime.container(request.container_id)
        return cri.ContainerStatusResponse(status=answers.container_status(container))

    def _stop_container(self, request: Any, _context: grpc.ServicerContext) -> Any:
        self._runtime.stop_container(request.container_id, request.timeout)
        self._runtime.wait_stopped(request.container_id, request.timeout + 1.0)
        return cri.StopContainerResponse()

    def _remove_container(self, request: Any, _context: grpc.ServicerContext) -> Any:
        self._runtime.remove_container(request.container_id)
        return cri.RemoveContainerResponse()

    def _image_status(self, request: Any, _context: grpc.ServicerContext) -> Any:
        for name in self._runtime.images:
            if request.image.image in (name, image_id(name)):
                return cri.ImageStatusResponse(image=answers.image_item(name))
        return cri.ImageStatusResponse()

    def _list_images(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        return cri.ListImagesResponse(
            images=[answers.image_item(name) for name in self._runtime.images]
        )

    def _events(self, _request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if not self.has_events:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method GetContainerEvents")
        stream: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._streams.add(stream)
        context.add_callback(lambda: stream.put(None))
        try:
            while (event := stream.get()) is not None:
                yield event
        finally:
            self._streams.discard(stream)

    def _publish(self, event: Event, container: ContainerRecord) -> None:
        statuses = [answers.container_status(container)]
        self._send(event, container.id, container.sandbox, statuses)

    def _publish_sandbox(self, event: Event, sandbox: SandboxRecord) -> None:
        """Tell of a sandbox as containerd does: as of a container that has its ID."""
        self._send(event, sandbox.id, sandbox, [])

    def _send(
        self, event: Event, container_id: str, sandbox: SandboxRecord, statuses: list[Any]
    ) -> None:
        message = cri.ContainerEventResponse(
            container_id=container_id,
            container_event_type=_EVENTS[event],
            created_at=time.time_ns(),
            pod_sandbox_status=answers.sandbox_status(sandbox),
            containers_statuses=statuses,
        )
        for stream in tuple(self._streams):
            stream.put(message)


def _unary(serve: Method, request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        serve,
        request_deserializer=request.FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )
