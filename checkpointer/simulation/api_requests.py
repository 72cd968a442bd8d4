"""Requests on one connection of the simulated API server: routes, verbs, errors, watches."""

from __future__ import annotations

import base64
import json
import select
import ssl
import time
import uuid
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, urlsplit

from checkpointer.simulation import api_writes, tokens
from checkpointer.simulation.api_watches import Watch, status_object
from checkpointer.simulation.authorizer import Attributes, User, is_allowed
from checkpointer.simulation.cluster import (
    RESOURCES,
    AlreadyExistsError,
    Cluster,
    ConflictError,
    ExpiredError,
    NotFoundError,
    Object,
)
from checkpointer.simulation.connections import Mode, Passage
from checkpointer.simulation.selectors import Selector, selector
from checkpointer.values import dataclass

_ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
_OPEN_PATHS = ("readyz", "livez", "healthz", "version")
_REFUSALS = {
    Mode.ERROR: (HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", "etcdserver: no leader"),
    Mode.THROTTLED: (HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequests", "too many requests"),
    Mode.UNAUTHORIZED: (HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized"),
    Mode.FORBIDDEN: (HTTPStatus.FORBIDDEN, "Forbidden", "forbidden by the simulation"),
}
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Server(Protocol):
    """What a request needs of its server."""

    cluster: Cluster
    slow_seconds: float
    bookmark_seconds: float
    tokens: dict[str, User]

    def count(self, what: str) -> None:
        """Count one request."""


class RefusedError(Exception):
    """An answer other than success, as the API's Status object tells it."""

    def __init__(self, status: HTTPStatus, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, taken apart."""

    attributes: Attributes
    selector: Selector
    query: dict[str, str]


class Requests(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, connection: ssl.SSLSocket, passage: Passage, server: Server) -> None:
        self._passage = passage
        self._api = server
        self._user = _user_of(connection.getpeercert())
        super().__init__(connection, connection.getpeername(), cast("BaseServer", server))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: what was asked is counted instead."""

    def do_GET(self) -> None:
        """Answer a get, list or watch."""
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _answer(self) -> None:
        url = urlsplit(self.path)
        parts = [part for part in url.path.split("/") if part]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if parts and parts[0] in _OPEN_PATHS:
            self._api.count(f"get {parts[0]}")
            self._guard(lambda: self._send_health(parts[0]))
            return
        asked = _take_apart(self.command, parts, dict(parse_qsl(url.query)))
        if asked is None:
            self._guard(lambda: _refuse(HTTPStatus.NOT_FOUND, "NotFound", "no such path"))
            return
        attributes = asked.attributes
        what = "/".join(filter(None, (attributes.resource, attributes.subresource)))
        self._api.count(f"{attributes.verb} {what}")
        self._guard(lambda: self._serve(asked, json.loads(body or b"{}")))

    def _guard(self, serve: Any) -> None:
        """Let the mode have its say, then serve, turning errors into Status objects."""
        try:
            self._passage.go_on()
            if self._passage.mode is Mode.SLOW:
                time.sleep(self._api.slow_seconds)
            if refusal := _REFUSALS.get(self._passage.mode):
                _refuse(*refusal)
            serve()
        except RefusedError as error:
            self._send(error.status, status_object(error.status, error.reason, str(error)))
        except NotFoundError as error:
            self._send(HTTPStatus.NOT_FOUND, status_object(404, "NotFound", str(error)))
        except AlreadyExistsError as error:
            self._send(HTTPStatus.CONFLICT, status_object(409, "AlreadyExists", str(error)))
        except ConflictError as error:
            self._send(HTTPStatus.CONFLICT, status_object(409, "Conflict", str(error)))
        except ExpiredError as error:
            self._send(HTTPStatus.GONE, status_object(410, "Expired", str(error)))

    def _send_health(self, path: str) -> None:
        if path == "version":
            self._send(HTTPStatus.OK, {"major": "1", "minor": "36", "gitVersion": "v1.36.2"})
        else:
            self._send_bytes(HTTPStatus.OK, b"ok", "text/plain; charset=utf-8")

    def _serve(self, asked: Asked, body: Object) -> None:
        attributes = asked.attributes
        user = self._authenticated()
        if user is _ANONYMOUS:
            _refuse(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized")
        cluster = self._api.cluster
        if not is_allowed(cluster, user, attributes):
            message = (
                f'{attributes.resource} "{attributes.name}" is forbidden: User "{user.name}" cannot'
                f' {attributes.verb} resource "{attributes.resource}"'
            )
            _refuse(HTTPStatus.FORBIDDEN, "Forbidden", message)
        match attributes.verb:
            case "get":
                self._send(HTTPStatus.OK, _existing(cluster, attributes))
            case "list":
                self._send(HTTPStatus.OK, self._list(asked))
            case "watch":
                self._watch(asked)
            case "create" if attributes.subresource == "token":
                self._send(HTTPStatus.CREATED, self._issue_token(attributes, body))
            case _:
                if grace := asked.query.get("gracePeriodSeconds"):
                    body.setdefault("gracePeriodSeconds", int(grace))
                status, written = api_writes.write(cluster, attributes, body)
                self._send(status, written)

    def _authenticated(self) -> User:
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        if scheme == "Bearer":
            user = self._api.tokens.get(token) or tokens.user_of(self._api.cluster, token)
            return user or _ANONYMOUS
        return self._user

    def _list(self, asked: Asked) -> Object:
        items, revision = self._api.cluster.snapshot(asked.attributes.resource)
        start = 0
        if "continue" in asked.query:
            pinned, start = json.loads(base64.b64decode(asked.query["continue"]))
            list(self._api.cluster.changes_since(pinned))  # 410 when it is too old
        items = [item for item in items if asked.selector.matches(item)]
        if self._passage.mode is Mode.EMPTY_LISTS:
            items = []
        limit = int(asked.query.get("limit") or 0) or len(items)
        metadata: Object = {"resourceVersion": str(revision)}
        if start + limit < len(items):
            token = json.dumps([revision, start + limit]).encode()
            metadata["continue"] = base64.b64encode(token).decode()
            metadata["remainingItemCount"] = len(items) - start - limit
        described = RESOURCES[asked.attributes.resource]
        return {
            "kind": f"{described.kind}List",
            "apiVersion": described.api_version,
            "metadata": metadata,
            "items": items[start : start + limit],
        }

    def _issue_token(self, attributes: Attributes, body: Object) -> Object:
        bound = (body.get("spec") or {}).get("boundObjectRef") or {}
        seconds = int((body.get("spec") or {}).get("expirationSeconds") or 3600)
        audiences = (body.get("spec") or {}).get("audiences") or []
        token = tokens.issue(
            attributes.namespace, attributes.name, bound, audiences=audiences, seconds=seconds
        )
        return {**body, "status": {"token": token}}

    def _watch(self, asked: Asked) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in self._watch_of(asked).events():
            line = json.dumps(event).encode() + b"\n"
            self._passage.go_on()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")

    def _watch_of(self, asked: Asked) -> Watch:
        return Watch(
            self._api.cluster,
            RESOURCES[asked.attributes.resource],
            asked.selector,
            int(asked.query.get("resourceVersion") or 0),
            # The real one takes 30 to 60 minutes when the client names no time.
            seconds=float(asked.query.get("timeoutSeconds") or 1800),
            bookmark_seconds=(
                self._api.bookmark_seconds if asked.query.get("allowWatchBookmarks") else None
            ),
            passage=self._passage,
            client_is_gone=self._client_is_gone,
        )

    def _client_is_gone(self) -> bool:
        """A client sends nothing while it watches: what is readable is its end."""
        return bool(select.select([self.connection], [], [], 0)[0])

    def _send(self, status: int, body: Object) -> None:
        self._send_bytes(status, json.dumps(body).encode(), "application/json")

    def _send_bytes(self, status: int, body: bytes, content_type: str) -> None:
        self._passage.go_on()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)


def _take_apart(method: str, parts: list[str], query: dict[str, str]) -> Asked | None:
    """Return what is asked by a path under /api/v1 or /apis/<group>/<version>."""
    rest = {"api": parts[2:], "apis": parts[3:]}.get(parts[0], []) if parts else []
    namespace: str | None = None
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    if not rest or rest[0] not in RESOURCES:
        return None
    name = rest[1] if len(rest) > 1 else ""
    is_watch = query.get("watch") in ("1", "true", "True")
    verb = _VERBS.get(method) or ("get" if name else "watch" if is_watch else "list")
    chosen = selector(query.get("fieldSelector", ""), query.get("labelSelector", ""), namespace)
    subresource = rest[2] if len(rest) > 2 else ""
    attributes = Attributes(verb, rest[0], namespace or "", name, subresource, chosen.wanted)
    return Asked(attributes, chosen, query)


def _existing(cluster: Cluster, wanted: Attributes) -> Object:
    found = cluster.get(wanted.resource, wanted.namespace, wanted.name)
    if found is None:
        raise NotFoundError(f'{wanted.resource} "{wanted.name}" not found')
    return found


def _refuse(status: HTTPStatus, reason: str, message: str) -> None:
    raise RefusedError(status, reason, message)


def _user_of(certificate: Any) -> User:
    """Return the user whom a verified client certificate names."""
    if not certificate:
        return _ANONYMOUS
    subject = [pair for group in certificate["subject"] for pair in group]
    name = next((value for key, value in subject if key == "commonName"), str(uuid.uuid4()))
    groups = tuple(value for key, value in subject if key == "organizationName")
    return User(name, (*groups, "system:authenticated"))
