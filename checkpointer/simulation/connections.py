"""TLS connections on one loopback port, with the ways in which networks fail.

A thread per connection, the handshake included, so that one stuck client stops nobody. Every
connection can be broken from outside at once: a client must see the end of its watch when the
server dies, not at the next timeout.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import threading
import traceback
from collections.abc import Callable
from enum import Enum
from pathlib import Path

_HANDSHAKE_SECONDS = 10.0
_IDLE_SECONDS = 600.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Mode(Enum):
    """How the API server looks from the node while its process runs."""

    SERVING = "serving"
    REFUSED = "connection refused"
    BLACK_HOLE = "accepts and never answers"
    RESET = "accepts and resets"
    ERROR = "answers 500"
    THROTTLED = "answers 429"
    UNAUTHORIZED = "answers 401"
    FORBIDDEN = "answers 403"
    WRONG_CERTIFICATE = "shows a certificate of somebody else"
    SLOW = "answers late"
    EMPTY_LISTS = "lists nothing"


class Gate:
    """What all connections of a server obey: the mode, and when they have to end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._mode = Mode.SERVING
        self._generation = 0

    @property
    def mode(self) -> Mode:
        """Return the mode of this moment."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        with self._changed:
            self._mode = mode
            self._changed.notify_all()

    def end_passages(self) -> None:
        """Have every connection of now find out that it is over."""
        with self._changed:
            self._generation += 1
            self._changed.notify_all()

    def passage(self) -> Passage:
        """Return what one new connection asks before each step."""
        return Passage(self, self._generation)

    def is_over(self, generation: int) -> bool:
        """Tell whether connections of that generation have to end."""
        return generation != self._generation

    def wait(self, generation: int) -> None:
        """Hold the caller while nothing passes."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._mode is not Mode.BLACK_HOLE or self.is_over(generation)
            )


class Passage:
    """One connection's way through the gate."""

    def __init__(self, gate: Gate, generation: int) -> None:
        self._gate = gate
        self._generation = generation

    @property
    def mode(self) -> Mode:
        """Return the mode of this moment."""
        return self._gate.mode

    @property
    def is_over(self) -> bool:
        """Tell whether the connection has to end."""
        return self._gate.is_over(self._generation)

    @property
    def is_blocked(self) -> bool:
        """Tell whether a waiting watch has something else to see to than new objects."""
        return self.is_over or self._gate.mode is Mode.BLACK_HOLE

    def go_on(self) -> None:
        """Wait while nothing passes; ConnectionAbortedError when the connection has to end."""
        self._gate.wait(self._generation)
        if self.is_over:
            raise ConnectionAbortedError("the server ended this connection")


class Listener:
    """Accepts on one port while it is open; `serve` gets each connection and returns at its end."""

    def __init__(
        self, port: int, gate: Gate, serve: Callable[[ssl.SSLSocket, Passage], None]
    ) -> None:
        self.port = port
        self.accepted = 0
        """How many connections were made, answered or not."""
        self.errors: list[str] = []
        """Tracebacks of what should not have happened while serving."""
        self._gate = gate
        self._serve = serve
        self._socket: socket.socket | None = None
        self._thread = threading.Thread()
        self._idle = threading.Condition()
        self._connections: set[socket.socket] = set()
        self.contexts: dict[bool, ssl.SSLContext] = {}
        """The TLS context to use; under True the one of an impostor."""

    def open(self) -> None:
        """Start to accept connections."""
        self._socket = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._thread = threading.Thread(target=self._accept, args=(self._socket,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Refuse connections from now on; the open ones are not touched."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
            self._socket.close()
            self._socket = None
            self._thread.join(5)

    def drop_connections(self, seconds: float = 5.0) -> None:
        """Break every open connection and wait for its thread to end."""
        self._gate.end_passages()
        with self._idle:
            for control in self._connections:
                _break(control)
            self._idle.wait_for(lambda: not self._connections, seconds)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # A second handle on the same connection: TLS takes the first one for itself.
            control = connection.dup()
            with self._idle:
                self.accepted += 1
                self._connections.add(control)
            threading.Thread(target=self._handle, args=(connection, control), daemon=True).start()

    def _handle(self, connection: socket.socket, control: socket.socket) -> None:
        try:
            with connection:
                self._talk(connection)
        except OSError:
            pass  # the other side went away, or we were told to
        except Exception:
            self.errors.append(traceback.format_exc())
        finally:
            with self._idle:
                self._connections.discard(control)
                control.close()
                self._idle.notify_all()

    def _talk(self, connection: socket.socket) -> None:
        passage = self._gate.passage()
        passage.go_on()
        connection.settimeout(_HANDSHAKE_SECONDS)
        if passage.mode is Mode.RESET:
            # Not before the client has said something: Python's ssl leaks a socket that is
            # reset between its connection and its handshake.
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            return
        context = self.contexts[passage.mode is Mode.WRONG_CERTIFICATE]
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.settimeout(_IDLE_SECONDS)
            self._serve(secured, passage)


def server_context(certificate: Path, key: Path, client_authority: bytes) -> ssl.SSLContext:
    """Return a TLS context that wants, but does not demand, a certificate of the client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(cadata=client_authority.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def free_port() -> int:
    """Return a free port below the ephemeral ones.

    A client that keeps connecting to an ephemeral port on which nobody listens will, once in a
    while, be given that very port as its own and connect to itself.
    """
    for _ in range(200):
        port = random.randint(20000, 32000)
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                candidate.bind(("127.0.0.1", port))
                return port
    raise OSError("no free port between 20000 and 32000")


def _break(control: socket.socket) -> None:
    with contextlib.suppress(OSError):
        control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        control.shutdown(socket.SHUT_RDWR)
