"""Serving HTTP beside the loop: a few requests at a time, and nobody can hold it up.

One thread accepts; each connection gets a thread of its own, of which each listener has a bounded
number, so that a crowd on the TCP port leaves root's unix socket alone. A connection is cut at
its deadline however slowly it sends or reads. Nothing here polls: with nobody connected, the
accepting thread sleeps in the kernel.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import field
from http.server import BaseHTTPRequestHandler
from typing import Any

from checkpointer.config import is_loopback
from checkpointer.values import dataclass

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 1.0
"""For how long accepting rests when the system has no handles left."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked. `is_root` is true on the unix socket, which only root can open."""

    method: str
    path: str
    query: str
    accept: str
    is_root: bool
    is_remote: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What it gets."""

    status: int
    content: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Handle = Callable[[Request], Answer]


@dataclass(slots=True)
class Listener:
    """A listening socket, how many connections it may have open, and for how long each."""

    socket: socket.socket
    is_root: bool
    connection_seconds: float
    limit: int
    open: int = field(default=0)


class Server:
    """Serves `handle` on its listeners between `start` and `close`."""

    def __init__(self, listeners: tuple[Listener, ...], handle: Handle) -> None:
        self._listeners, self._handle = listeners, handle
        self._open: dict[socket.socket, tuple[float, Listener]] = {}
        """Each connection's deadline on the monotonic clock."""
        self._lock = threading.Lock()
        self._wake_in, self._wake_out = socket.socketpair()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        for listener in self._listeners:
            listener.socket.setblocking(False)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut what is open; a request that is under way is not waited for."""
        self._stopping = True
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(5)
        for listener in self._listeners:
            listener.socket.close()
        with self._lock:
            for connection in self._open:
                _cut(connection)
        self._wake_in.close()
        self._wake_out.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_in.send(b"x")

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for listener in self._listeners:
                selector.register(listener.socket, selectors.EVENT_READ, listener)
            selector.register(self._wake_out, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select(self._cut_overdue()):
                    if isinstance(key.data, Listener):
                        self._accept(key.data)
                    else:
                        self._wake_out.recv(64)

    def _cut_overdue(self) -> float | None:
        """End what is beyond its deadline; return when the next one is, in seconds."""
        now = time.monotonic()
        with self._lock:
            for connection, (deadline, _) in self._open.items():
                if deadline <= now:
                    _cut(connection)
            left = [deadline - now for deadline, _ in self._open.values() if deadline > now]
        return min(left, default=None)

    def _accept(self, listener: Listener) -> None:
        try:
            connection, address = listener.socket.accept()
        except BlockingIOError:
            return
        except OSError as error:  # out of handles: without a pause this would turn hot
            log.warning("cannot accept a connection: %s", error.strerror)
            time.sleep(LONGEST_PAUSE_SECONDS)
            return
        connection.settimeout(listener.connection_seconds)
        with self._lock:
            is_full = listener.open >= listener.limit
            if not is_full:
                listener.open += 1
                deadline = time.monotonic() + listener.connection_seconds
                self._open[connection] = deadline, listener
        if is_full:
            connection.close()
            return
        threading.Thread(
            target=self._serve,
            args=(connection, address, listener),
            name="http-request",
            daemon=True,
        ).start()

    def _serve(self, connection: socket.socket, address: Any, listener: Listener) -> None:
        try:
            with contextlib.suppress(OSError, ValueError):
                _Handler(connection, _host(address), listener.is_root, self._handle)
        except Exception as error:  # a fault in an answer is that answer's
            log.error("answering a request failed: %s", type(error).__name__, exc_info=error)
        finally:
            with self._lock:
                del self._open[connection]
                listener.open -= 1
            _cut(connection)
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    """One request; its answer closes the connection."""

    protocol_version = "HTTP/1.0"
    server_version, sys_version = "pod-checkpointer", ""

    def __init__(self, connection: socket.socket, host: str, is_root: bool, handle: Handle) -> None:
        self._host, self._is_root, self._handle = host, is_root, handle
        super().__init__(connection, (host, 0), None)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: what is asked for is no change of the node."""

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        request = Request(
            self.command,
            path,
            query,
            self.headers.get("Accept", ""),
            self._is_root,
            not self._is_root and not is_loopback(self._host),
        )
        answer = self._handle(request)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)


def listen_on_tcp(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(16)
    except OSError:
        listening.close()
        raise
    return listening


def _host(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) else ""


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
