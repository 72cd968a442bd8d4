"""A connection to a container runtime: gRPC over its unix socket, each call with a deadline.

Exists so that nothing above knows gRPC: what goes wrong becomes a `RuntimeCallError` with one
sentence for an operator.

Made to be short-lived, one for each look. An open gRPC channel keeps six threads that wake some
twenty times a second (0.1 % of a core, measured with 1.85); a new one costs a millisecond or
two. It also knows nothing of an earlier failure, whereas gRPC's own reconnecting fails calls
from memory until its back-off of up to two minutes is over.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from typing import Generic, Protocol, Self, TypeVar
from urllib.parse import quote

from checkpointer.errors import RuntimeCallError, RuntimeSilentError
from checkpointer.node.rpc_library import DecodeError, Message, grpc
from checkpointer.values import dataclass

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""What the kubelet accepts (cri-client, pkg/remote_runtime.go); a full node's list can be big."""

_OPTIONS = (
    # As the kubelet does; a socket's path as :authority is malformed to servers in Go.
    ("grpc.default_authority", "localhost"),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    # What one channel remembers of a failure is not shared with the next.
    ("grpc.use_local_subchannel_pool", 1),
    # Despite its name also how long a peer may take over the handshake, and how long the socket
    # to one that never shakes hands outlives its channel; 20 s by default.
    ("grpc.min_reconnect_backoff_ms", 2000),
    # Not SingleThreadedUnaryStream, which would spare a stream its helper thread: of a stream that
    # is cancelled it never reads the end, and keeps some 45 KB each for ever (seen with 1.85).
)

_MAX_DETAIL_CHARACTERS = 300
_SUN_PATH_BYTES = 107
_CONNECT_FAILED = " error: "
"""What gRPC puts before the system's own words, at the end of some 150 of its characters."""


class RuntimeNotFoundError(RuntimeCallError):
    """The runtime answered that it does not know the object."""


class RuntimeUnimplementedError(RuntimeCallError):
    """The runtime answered that it does not implement the call."""


Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Answer]):
    """A method of the CRI, by service and name, and what it answers with."""

    service: str
    name: str
    answer: type[Answer]

    @property
    def path(self) -> str:
        """Return the HTTP/2 path of the method."""
        return f"/runtime.v1.{self.service}/{self.name}"


class Connection:
    """A connection to the runtime's socket, for one look or one stream; not made anew."""

    def __init__(self, endpoint: str) -> None:
        """Prepare to connect.

        Raises:
            ValueError: the endpoint is not one of a unix socket.
            RuntimeCallError: there is no socket.
        """
        self.endpoint = endpoint
        path = socket_path(endpoint)
        try:
            is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
        except OSError as error:
            raise RuntimeCallError(
                f"no container runtime at {endpoint}: {error.strerror}"
            ) from None
        if not is_socket:
            raise RuntimeCallError(f"no container runtime at {endpoint}: not a socket")
        self._channel = grpc.insecure_channel("unix://" + quote(path), _OPTIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: Method[Answer], request: Message, deadline_seconds: float) -> Answer:
        """Call a method and return its answer.

        Raises:
            RuntimeCallError: no answer in time, or one that says no, or one that is not CRI.
        """
        started = time.monotonic()
        try:
            raw = self._channel.unary_unary(method.path, bytes, bytes)(
                request.SerializeToString(), timeout=deadline_seconds
            )
        except grpc.RpcError as error:
            waited_seconds = time.monotonic() - started
            raise _call_error(self.endpoint, method, error, waited_seconds) from None
        except ValueError:  # gRPC's way to say that another thread closed the channel
            raise RuntimeCallError(f"{_failed(self.endpoint, method)}: closed") from None
        return _parse(self.endpoint, method, raw)

    def stream(self, method: Method[Answer], request: Message) -> Stream[Answer]:
        """Open a stream of answers that has no deadline; failures are raised by reading it."""
        call = self._channel.unary_stream(method.path, bytes, bytes)(request.SerializeToString())
        return Stream(self.endpoint, method, call)

    def close(self) -> None:
        """Close the connection, from any thread; ends what is under way."""
        self._channel.close()


class _OpenCall(Protocol):
    def __iter__(self) -> Iterator[bytes]: ...

    def cancel(self) -> bool: ...


class Stream(Generic[Answer]):
    """Answers that arrive over time; iterating blocks until the next one, or the end."""

    def __init__(self, endpoint: str, method: Method[Answer], call: _OpenCall) -> None:
        self._endpoint = endpoint
        self._method = method
        self._call = call

    def __iter__(self) -> Iterator[Answer]:
        """Yield each answer; end when the runtime ends the stream.

        Raises:
            RuntimeCallError: the stream broke, was cancelled, or was refused.
        """
        started = time.monotonic()
        try:
            for raw in self._call:
                yield _parse(self._endpoint, self._method, raw)
        except grpc.RpcError as error:
            waited_seconds = time.monotonic() - started
            raise _call_error(self._endpoint, self._method, error, waited_seconds) from None

    def cancel(self) -> None:
        """End the stream, from any thread."""
        self._call.cancel()


def socket_path(endpoint: str) -> str:
    """Return the absolute path in `unix:///path`, `unix:/path` or `/path`.

    Raises:
        ValueError: the endpoint is none of these, or longer than a socket's address may be.
    """
    path = endpoint.removeprefix("unix:")
    if path.startswith("//"):
        path = path[2:]
    if not path.startswith("/"):
        raise ValueError(f"runtime endpoint {endpoint!r}: expected unix:///path/to/socket")
    if len(os.fsencode(path)) > _SUN_PATH_BYTES:
        raise ValueError(f"runtime endpoint {endpoint!r}: longer than {_SUN_PATH_BYTES} bytes")
    return path


def _silent(failed: str, waited_seconds: float) -> RuntimeSilentError:
    waited = f"{waited_seconds:.1f}" if waited_seconds >= 1.0 else f"{waited_seconds:.1g}"
    return RuntimeSilentError(f"{failed}: no answer within {waited} s")


def _call_error(
    endpoint: str, method: Method[Answer], error: grpc.RpcError, waited_seconds: float
) -> RuntimeCallError:
    """Return gRPC's error as ours, in one line."""
    code = error.code()
    failed = _failed(endpoint, method)
    details = " ".join((error.details() or "").split())[:_MAX_DETAIL_CHARACTERS]
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return _silent(failed, waited_seconds)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return RuntimeUnimplementedError(
            f"{failed}: it does not implement CRI runtime.v1.{method.service} there: {details}"
        )
    if code is grpc.StatusCode.UNAVAILABLE and _CONNECT_FAILED in details:
        reason = details.rpartition(_CONNECT_FAILED)[2].rpartition(": ")[2]
        return RuntimeCallError(f"the container runtime at {endpoint} is away: {reason}")
    kind = RuntimeNotFoundError if code is grpc.StatusCode.NOT_FOUND else RuntimeCallError
    return kind(f"{failed}: {code.name}: {details}")


def _parse(endpoint: str, method: Method[Answer], raw: bytes) -> Answer:
    try:
        return method.answer.FromString(raw)
    except DecodeError:
        raise RuntimeCallError(f"{_failed(endpoint, method)}: the answer is not CRI v1") from None


def _failed(endpoint: str, method: Method[Answer]) -> str:
    return f"the container runtime at {endpoint} failed at {method.name}"
