"""What the active agent answers over HTTP, and on which sockets.

Read-only on TCP, which is for machines and browsers on the node; other machines, where they are
let in at all, get numbers and health only. What makes the agent do something is for root, on the
unix socket. Imported after the first decision: a booting node has no use for it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qs

from checkpointer.config import Config, host_and_port, parse_duration
from checkpointer.errors import CheckpointerError
from checkpointer.report.agent_socket import is_there, listen_on_socket, remove_socket
from checkpointer.report.server import Answer, Listener, Request, Server, listen_on_tcp
from checkpointer.report.status import Status

log = logging.getLogger(__name__)

RETRY_SECONDS = 30.0
"""After which a socket that could not be had is tried again."""

READ_SECONDS = 10.0
"""For how long one connection for reading may be open."""

LONGEST_SNAPSHOT_SECONDS = 300.0
"""How long a client may have the agent take snapshots for it."""

_DEFAULT_SNAPSHOT_SECONDS = 60.0
_TCP_LIMIT, _ROOT_LIMIT = 8, 8


class Agent(Protocol):
    """What is asked of the running agent; from any thread, and never for long but `snapshot`."""

    def status(self) -> Status: ...

    def metrics(self) -> tuple[bytes, str]:
        """Return the metrics and the content type they are in."""

    def unhealthy(self) -> str:
        """Return why the loop does not turn as it should, or nothing."""

    def unready(self) -> str:
        """Return why the node's checkpoints cannot be told yet, or nothing."""

    def snapshot(self, seconds: float) -> tuple[bool, dict[str, Any]]:
        """Take snapshots of all parents; return whether that was done, and what came of each."""

    def reconcile(self) -> None:
        """Have the loop look at everything now."""


class Endpoints:
    """From a request to its answer."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._read: dict[str, Callable[[Request], Answer]] = {
            "/": self._statusz,
            "/statusz": self._statusz,
            "/metrics": self._metrics,
            "/healthz": lambda _: _health(agent.unhealthy()),
            "/livez": lambda _: _health(agent.unhealthy()),
            "/readyz": lambda _: _health(agent.unready()),
        }
        self._write: dict[str, Callable[[Request], Answer]] = {
            "/v1/snapshot": self._snapshot,
            "/v1/reconcile": self._reconcile,
        }

    def __call__(self, request: Request) -> Answer:
        """Answer one request."""
        if request.path in self._write:
            if not request.is_root:
                return _told(403, "only for root, on the unix socket in the store's folder")
            if request.method != "POST":
                return _not_allowed("POST")
            return self._write[request.path](request)
        answer = self._read.get(request.path)
        if answer is None:
            known = " ".join(sorted(self._read))
            return _told(404, f"nothing here; there are {known}")
        if request.method == "POST":
            return _not_allowed("GET, HEAD")
        return answer(request)

    def _statusz(self, request: Request) -> Answer:
        if request.is_remote:
            return _told(403, "the status is told on the node only")
        document = self._agent.status().as_document()
        if "text/html" in request.accept and "format=json" not in request.query:
            from checkpointer.report.page import HEADERS, page

            return Answer(200, page(document), "text/html; charset=utf-8", HEADERS)
        return _json(200, document)

    def _metrics(self, _: Request) -> Answer:
        content, content_type = self._agent.metrics()
        return Answer(200, content, content_type)

    def _snapshot(self, request: Request) -> Answer:
        given = parse_qs(request.query).get("timeout", [str(_DEFAULT_SNAPSHOT_SECONDS)])[-1]
        try:
            seconds = parse_duration(given)
        except ValueError:
            return _told(400, "timeout: expected a duration such as 30s")
        done, document = self._agent.snapshot(min(seconds, LONGEST_SNAPSHOT_SECONDS))
        return _json(200 if done else 503, document)

    def _reconcile(self, _: Request) -> Answer:
        self._agent.reconcile()
        return _told(202, "the loop has been woken")


class HTTP:
    """The agent's sockets; both are had again when they were lost, and given back at the end."""

    def __init__(self, config: Config, agent: Agent, prepare_store: Callable[[], None]) -> None:
        self._config, self._prepare_store = config, prepare_store
        self._endpoints = Endpoints(agent)
        self._tcp: Server | None = None
        self._root: Server | None = None
        self._inode = 0
        self._tried_at = float("-inf")
        self._problems: frozenset[str] = frozenset()

    def ensure(self) -> None:
        """Listen wherever that is wanted and not so; cheap when all is well."""
        is_lost = self._root is not None and not is_there(self._config.store_directory, self._inode)
        if is_lost and self._root is not None:
            self._root.close()
            self._root = None
        wants_tcp = bool(self._config.http.address) and self._tcp is None
        if not wants_tcp and self._root is not None:
            return
        if time.monotonic() - self._tried_at < RETRY_SECONDS and not is_lost:
            return
        self._tried_at = time.monotonic()
        problems = set()
        for is_wanted, begin in (
            (wants_tcp, self._serve_tcp),
            (self._root is None, self._serve_root),
        ):
            if is_wanted:
                try:
                    begin()
                except CheckpointerError as error:
                    problems.add(str(error))
        for problem in sorted(problems - self._problems):
            log.warning("%s; trying again", problem)
        self._problems = frozenset(problems)

    def close(self) -> None:
        """Stop serving."""
        if self._root is not None:
            remove_socket(self._config.store_directory, self._inode)
        for server in (self._root, self._tcp):
            if server is not None:
                server.close()
        self._root = self._tcp = None

    def _serve_tcp(self) -> None:
        address = self._config.http.address
        try:
            listening = listen_on_tcp(*host_and_port(address))
        except OSError as error:
            raise CheckpointerError(f"cannot serve on {address}: {error.strerror}") from error
        listener = Listener(listening, False, READ_SECONDS, _TCP_LIMIT)
        self._tcp = Server((listener,), self._endpoints)
        self._tcp.start()

    def _serve_root(self) -> None:
        self._prepare_store()
        listening, self._inode = listen_on_socket(self._config.store_directory)
        seconds = LONGEST_SNAPSHOT_SECONDS + READ_SECONDS
        self._root = Server((Listener(listening, True, seconds, _ROOT_LIMIT),), self._endpoints)
        self._root.start()


def _json(status: int, document: dict[str, Any]) -> Answer:
    content = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return Answer(status, content.encode(errors="replace"), "application/json")


def _told(status: int, sentence: str) -> Answer:
    return Answer(status, f"{sentence}\n".encode())


def _not_allowed(methods: str) -> Answer:
    sentence = f"expected {methods}\n".encode()
    return Answer(405, sentence, headers=(("Allow", methods),))


def _health(problem: str) -> Answer:
    return _told(503, problem) if problem else _told(200, "ok")
