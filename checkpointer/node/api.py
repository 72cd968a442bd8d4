"""The API as one node may use it: single objects, over the library's transport.

Objects stay the plain mappings that the API sends: typed models would double the agent's memory
and drop the fields they do not know. Nothing imports this module before the first decision. No
answer's body ever reaches an error message.

A read from a peer that has silently gone lasts until its timeout, so every connection is known
here and can be cut from another thread.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.errors import ApiError, CheckpointerError
from checkpointer.manifest.answers import object_misfit
from checkpointer.node.client_library import (
    ApiException,
    Configuration,
    RESTClientObject,
    iter_resp_lines,
)
from checkpointer.node.kubeconfig import Kubeconfig, read_kubeconfig
from checkpointer.node.rights import request_of

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
_FORBIDDEN = 403
_STRATEGIC_MERGE = "application/strategic-merge-patch+json"

KEEP_ALIVE = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A watch on a server that has lost its power says nothing for ever: found out in a minute."""

_UNEXPECTED = (
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    RecursionError,
)
"""What libraries raise on answers that are none."""


class ApiClient:
    """Uses the kubeconfig's identity. Certificates and token files are read as they rotate."""

    def __init__(self, kubeconfig: Path) -> None:
        """Read the kubeconfig. Raises CheckpointerError."""
        try:
            self._settings = _configuration(kubeconfig)
            self._client = RESTClientObject(self._settings)
        except (OSError, ValueError) as error:
            raise ApiError(f"{kubeconfig}: {type(error).__name__}") from error
        self._sockets: dict[urllib3.connection.HTTPSConnection, socket.socket] = {}
        self._is_closed = False
        self._client.pool_manager.pool_classes_by_scheme = {"https": _pool_class(self)}

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the JSON object at a path such as `/api/v1/pods`; ApiError otherwise."""
        return _document(self.open(path, query or {}), f"GET {path}")

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object in the collection at a path; return it; ApiError otherwise."""
        return _document(self._request("POST", path, path, body), f"POST {path}")

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Merge into the object at a path, lists by their keys; return it; ApiError otherwise."""
        response = self._request("PATCH", path, path, body, _STRATEGIC_MERGE)
        return _document(response, f"PATCH {path}")

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the object at a path; return it; ApiError otherwise."""
        return _document(self._request("PUT", path, path, body), f"PUT {path}")

    def delete(self, path: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Delete the object at a path by these DeleteOptions; ApiError otherwise."""
        return _document(self._request("DELETE", path, path, options), f"DELETE {path}")

    def find(
        self, path: str, on_refusal: Callable[[str], None] | None = None
    ) -> Fact[Mapping[str, Any] | None]:
        """Return the object, None when the API says that it does not exist, or Unknown.

        `on_refusal` is called with the path when the identity may not read it.
        """
        try:
            return as_object(path, self.get(path))
        except ApiError as error:
            if error.status == _FORBIDDEN and on_refusal is not None:
                on_refusal(path)
            return Known(None) if error.says_not_found else Unknown(str(error))
        except CheckpointerError as error:
            return Unknown(str(error))

    def lines(self, path: str, query: Mapping[str, str], idle_seconds: float) -> Iterator[str]:
        """Yield the lines of an answer that has no end; ApiError when it breaks.

        The answer must begin as soon as any other; after that it may be silent for so long.
        """
        response = self.open(path, query)
        try:
            _set_timeout(response, idle_seconds)
            yield from (line for line in iter_resp_lines(response) if line.strip())
        except _UNEXPECTED as error:
            raise ApiError(f"GET {path}: {type(error).__name__}") from error
        finally:
            response.close()

    def open(self, path: str, query: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Return the open response of a GET that succeeded; the caller reads and closes it."""
        # The path and query are ours; what an object is called cannot leave its segment.
        return self._request("GET", path, f"{path}?{urlencode(query)}" if query else path)

    def _request(
        self,
        method: str,
        path: str,
        address: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": "pod-checkpointer"}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            if (
                token := self._settings.get_api_key_with_prefix("BearerToken", "authorization")
            ) is not None:
                headers["Authorization"] = token
            answer = self._client.request(
                method,
                f"{self._settings.host}{address}",
                headers,
                body=body,
                _request_timeout=(CONNECT_SECONDS, READ_SECONDS),
            )
        except (ApiException, *_UNEXPECTED) as error:
            raise ApiError(f"{method} {path}: {_reason(error)}") from error
        response: urllib3.BaseHTTPResponse = answer.response
        if not 200 <= response.status < 300:
            raise _refusal(f"{method} {path}", response)
        return response

    def cut(self) -> None:
        """Break off every request under way. From any thread, and safe in a signal handler."""
        for sock in list(self._sockets.values()):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Break off every request under way, and have later ones fail. From any thread."""
        self._is_closed = True
        self.cut()
        self._client.close()

    def opened(self, connection: urllib3.connection.HTTPSConnection, sock: socket.socket) -> None:
        """Take note of a connection, by a second handle: TLS takes the first for itself."""
        self._sockets[connection] = sock.dup()
        if self._is_closed:
            self.closed(connection)
            sock.close()
            raise ConnectionAbortedError("the client is closed")

    def closed(self, connection: urllib3.connection.HTTPSConnection) -> None:
        """Forget a connection."""
        if (sock := self._sockets.pop(connection, None)) is not None:
            sock.close()


def as_object(path: str, answer: Mapping[str, Any]) -> Fact[Mapping[str, Any] | None]:
    """Return the answer to a GET of this path, Unknown when it has not the form that it must."""
    misfit = object_misfit(request_of(path)[0], answer)
    return Unknown(f"GET {path}: {misfit}") if misfit else Known(answer)


def _pool_class(api: ApiClient) -> type[urllib3.connectionpool.HTTPSConnectionPool]:
    """Return a pool whose connections its client knows while they are open."""

    class Connection(urllib3.connection.HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            sock = super()._new_conn()
            api.opened(self, sock)
            return sock

        def close(self) -> None:
            super().close()
            api.closed(self)

    class Pool(urllib3.connectionpool.HTTPSConnectionPool):
        ConnectionCls = Connection

    return Pool


def _set_timeout(response: urllib3.BaseHTTPResponse, seconds: float) -> None:
    sock = getattr(response.connection, "sock", None)
    if sock is not None:
        sock.settimeout(seconds)


def _configuration(path: Path) -> Configuration:
    settings = Configuration()
    identity = read_kubeconfig(path)
    if identity.needs_client:
        _run_plugin(identity, settings)
    else:
        settings.host = identity.server
        settings.ssl_ca_cert = identity.ca_file
        settings.cert_file = identity.client_certificate
        settings.key_file = identity.client_key
        settings.tls_server_name = identity.tls_server_name
        if identity.token or identity.token_file:
            settings.api_key_prefix["BearerToken"] = "Bearer"
            settings.api_key["BearerToken"] = identity.bearer_token()

            def refresh(target: Configuration) -> None:
                target.api_key["BearerToken"] = identity.bearer_token()

            settings.refresh_api_key_hook = refresh
    settings.retries = False
    settings.proxy = None
    settings.socket_options = KEEP_ALIVE
    return settings


def _run_plugin(identity: Kubeconfig, settings: Configuration) -> None:
    """Have the library run the kubeconfig's exec plugin, again whenever what it gave expires.

    It takes all of the library, which nothing else here does. Raises ApiError, without a word of
    what the plugin said.
    """
    from kubernetes import config

    try:
        config.load_kube_config(str(identity.path), client_configuration=settings)
    except config.ConfigException as error:
        raise ApiError(f"{identity.path}: {type(error).__name__}") from error


def _reason(error: BaseException) -> str:
    status = getattr(error, "status", None)
    # The library and urllib3 wrap what was the matter in errors of their own that say less.
    return f"HTTP {status}" if status else type(error.__context__ or error).__name__


def _document(response: urllib3.BaseHTTPResponse, request: str) -> dict[str, Any]:
    """Return the JSON object that is the answer to a request, and be done with the answer."""
    try:
        document = json.loads(response.data)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ApiError(f"{request}: {type(error).__name__}") from error
    except (ValueError, RecursionError):
        # Without a cause: that of a decoder holds what it could not decode.
        raise ApiError(f"{request}: the answer is not JSON") from None
    finally:
        response.release_conn()
    if not isinstance(document, dict):
        raise ApiError(f"{request}: the answer is not an object")
    return document


def _refusal(request: str, response: urllib3.BaseHTTPResponse) -> ApiError:
    """Return the error of an answer other than success, and be done with the answer."""
    says_not_found = False
    try:
        if response.status == 404:
            document = json.loads(response.data)
            says_not_found = document["kind"] == "Status" and document["reason"] == "NotFound"
            response.release_conn()
    except _UNEXPECTED:
        says_not_found = False
    finally:
        if not says_not_found:
            response.close()  # unread: the connection is of no more use
    return ApiError(f"{request}: HTTP {response.status}", response.status, says_not_found)
