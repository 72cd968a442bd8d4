"""A simulated kube-apiserver: real HTTPS on loopback over the simulated cluster's objects.

It knows its clients by certificate or token, obeys the Node authorizer, counts what it is
asked, and can be ill in every way a node sees from outside (`Mode`).
"""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from pathlib import Path

from checkpointer.simulation.api_requests import Requests
from checkpointer.simulation.authorizer import User
from checkpointer.simulation.certificates import Authority, KeyPair
from checkpointer.simulation.cluster import Cluster
from checkpointer.simulation.connections import (
    Gate,
    Listener,
    Mode,
    Passage,
    free_port,
    server_context,
)

_TRUE_ANSWERS = (Mode.SERVING, Mode.SLOW, Mode.EMPTY_LISTS)


class ApiServer:
    """One address at which the cluster may be reached while `is_running`.

    `mode` is how it looks from the node and may be set at any time, also while it is stopped.
    """

    def __init__(self, cluster: Cluster, authority: Authority, folder: Path) -> None:
        self.cluster = cluster
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.slow_seconds = 1.0
        """How late answers are while the mode is SLOW."""
        self.bookmark_seconds = 60.0
        self.tokens: dict[str, User] = {}
        """Who comes with which bearer token."""
        self._authority = authority
        self._folder = folder
        self._gate = Gate()
        self._listener = Listener(self.port, self._gate, self._serve)
        self._lock = threading.RLock()
        self._counting = threading.Lock()
        self._is_running = False
        self._requests: Counter[str] = Counter()

    @property
    def is_running(self) -> bool:
        """Tell whether the process runs, seen or not from the node."""
        return self._is_running

    @property
    def answers_node(self) -> bool:
        """Tell whether a client on the node gets true answers."""
        return self._is_running and self._gate.mode in _TRUE_ANSWERS

    @property
    def requests(self) -> Counter[str]:
        """Return how many requests came in, as "verb resource" (`watch pods`, `get readyz`)."""
        with self._counting:
            return self._requests.copy()

    @property
    def connections(self) -> int:
        """Return how many connections were made so far, answered or not."""
        return self._listener.accepted

    @property
    def errors(self) -> list[str]:
        """Return tracebacks of faults of the simulation itself: none, if all is well."""
        return self._listener.errors

    def start(self, serving: KeyPair) -> None:
        """Listen with this certificate; a running server goes on with it for new connections."""
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._listener.contexts:
                impostor = Authority("captive portal").serving("127.0.0.1", "localhost")
                self._listener.contexts[True] = self._context("impostor", impostor)
            self._listener.contexts[False] = self._context("serving", serving)
            if not self._is_running:
                self._is_running = True
                self._open()
                self.cluster.wake()

    def stop(self) -> None:
        """End the process: refuse connections, break the open ones."""
        with self._lock:
            if self._is_running:
                self._is_running = False
                self._drop()
                self.cluster.wake()

    @property
    def mode(self) -> Mode:
        """Return how the server looks from the node while it runs."""
        return self._gate.mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        """Change how the server looks; a black hole and slowness leave connections standing."""
        with self._lock:
            before = self._gate.mode
            self._gate.mode = mode
            if mode is not before and self._is_running:
                silent = {Mode.BLACK_HOLE, Mode.SLOW, Mode.SERVING}
                if not {before, mode} <= silent:
                    self._drop()
                    self._open()
            self.cluster.wake()

    def count(self, what: str) -> None:
        """Count one request."""
        with self._counting:
            self._requests[what] += 1

    def _open(self) -> None:
        if self._gate.mode is not Mode.REFUSED:
            self._listener.open()

    def _drop(self) -> None:
        self._listener.close()
        self._gate.end_passages()
        self.cluster.wake()  # idle watches see it now
        self._listener.drop_connections()

    def _context(self, name: str, pair: KeyPair) -> ssl.SSLContext:
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(pair.certificate)
        key.write_bytes(pair.key)
        return server_context(certificate, key, self._authority.certificate)

    def _serve(self, connection: ssl.SSLSocket, passage: Passage) -> None:
        Requests(connection, passage, self)
