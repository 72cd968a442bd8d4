"""A client of the cluster's API: plain requests, over connections made inside the machine."""

from __future__ import annotations

import http.client
import json
import ssl
import tempfile
from collections.abc import Callable
from typing import Any

from tests.e2e.cluster.certificates import Authority, Pair
from tests.e2e.cluster.machine import Machine

Object = dict[str, Any]


class ApiError(OSError):
    """The API answered with an error; an OSError, so that waiting takes it as "not yet"."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Api:
    """The API server at one address and port of the machine, as one user."""

    def __init__(
        self, machine: Machine, authority: Authority, address: str, port: int, client: Pair
    ) -> None:
        self.machine = machine
        self.address = (address, port)
        self._context = ssl.create_default_context(cadata=authority.pair.certificate)
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(client.certificate + client.key)
            file.flush()
            self._context.load_cert_chain(file.name)

    def get(self, path: str) -> Object:
        return self._json("GET", path)

    def items(self, path: str) -> list[Object]:
        """Return the objects of a list."""
        found: list[Object] = self.get(path)["items"]
        return found

    def create(self, path: str, body: Object) -> Object:
        return self._json("POST", path, body)

    def patch(self, path: str, body: Object) -> Object:
        """Merge the body into the object (JSON merge patch)."""
        return self._json("PATCH", path, body)

    def update(self, path: str, body: Object) -> Object:
        return self._json("PUT", path, body)

    def delete(self, path: str, body: Object | None = None) -> Object:
        return self._json("DELETE", path, body)

    def is_ready(self, seconds: float = 1.0) -> bool:
        """Return whether /readyz answers 200 on a fresh connection."""
        try:
            return self.request("GET", "/readyz", seconds=seconds)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def request(
        self, method: str, path: str, body: Object | None = None, seconds: float = 30.0
    ) -> tuple[int, str]:
        """Return status and text of one request on a connection of its own."""
        connection = _Connection(self.address, self._connector(seconds), self._context)
        kind = "merge-patch+json" if method == "PATCH" else "json"
        headers = {"Content-Type": f"application/{kind}", "Connection": "close"}
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, headers)
            with connection.getresponse() as response:
                return response.status, response.read().decode()
        finally:
            connection.close()

    def _json(self, method: str, path: str, body: Object | None = None) -> Object:
        try:
            status, text = self.request(method, path, body)
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        if status >= 300:
            raise ApiError(status, f"{method} {path}: {text}")
        answer: Object = json.loads(text)
        return answer

    def _connector(self, seconds: float) -> Callable[[], Any]:
        return lambda: self.machine.network.connect(self.address, seconds)


class _Connection(http.client.HTTPConnection):
    """An HTTPS connection over a socket that somebody else makes."""

    def __init__(
        self, address: tuple[str, int], connect: Callable[[], Any], context: ssl.SSLContext
    ) -> None:
        super().__init__(*address)
        self._make = connect
        self._context = context

    def connect(self) -> None:
        plain = self._make()
        try:
            self.sock = self._context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
