"""A container runtime that answers what a test tells it to, over a real unix socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from checkpointer.node import cri_v1_pb2 as pb

Handler = Callable[[Any, grpc.ServicerContext], Message | bytes]


class FakeRuntime:
    """Serves the unary `answers` and the stream of `events`; all else is unimplemented.

    A test sets `answers[method name]` to a message, raw bytes, or a function of request and
    context; requests are kept in `requests`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Message | bytes | Handler] = {
            "Version": pb.VersionResponse(
                version="0.1.0",
                runtime_name="fake",
                runtime_version="1.2.3",
                runtime_api_version="v1",
            ),
            "ListPodSandbox": pb.ListPodSandboxResponse(),
            "ListContainers": pb.ListContainersResponse(),
        }
        self.events: Callable[[grpc.ServicerContext], Iterator[Message]] | None = None
        self.requests: list[tuple[str, Message]] = []
        self._pool = ThreadPoolExecutor(8)
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Serve from now on."""
        self._server = grpc.server(
            self._pool, options=(("grpc.max_send_message_length", 64 * 1024 * 1024),)
        )
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        assert self._server.add_insecure_port(f"unix:{self.path}")
        self._server.start()

    def stop(self) -> None:
        """Break off everything, as a killed process does."""
        if self._server is not None:
            self._server.stop(None).wait(5)
            self._server = None

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._pool.shutdown()

    def answer(self, name: str, request: Any, context: grpc.ServicerContext) -> bytes:
        """Return what the test told for this method."""
        self.requests.append((name, request))
        told = self.answers[name]
        if callable(told):
            told = told(request, context)
        return told if isinstance(told, bytes) else told.SerializeToString()


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        service, name = details.method.removeprefix("/runtime.v1.").split("/")
        method = pb.DESCRIPTOR.services_by_name[service].methods_by_name[name]
        parse = getattr(pb, method.input_type.name).FromString
        if name == "GetContainerEvents" and (events := self._runtime.events):
            return grpc.unary_stream_rpc_method_handler(
                lambda _, context: events(context), parse, lambda event: event.SerializeToString()
            )
        if name not in self._runtime.answers:
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._runtime.answer(name, request, context), parse, bytes
        )


def refusing(code: grpc.StatusCode, details: str = "no") -> Handler:
    """Return an answer that is an error."""

    def refuse(_: Any, context: grpc.ServicerContext) -> Message:
        context.abort(code, details)
        raise AssertionError("abort raises")

    return refuse


@contextmanager
def raw_peer(path: Path, speak: Callable[[socket.socket], None] | None) -> Iterator[None]:
    """Listen at a path; hand each connection to `speak`, or accept none at all."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        if speak is None:
            yield
            return

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    speak(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            path.unlink()
