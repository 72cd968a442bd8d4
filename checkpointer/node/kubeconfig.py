"""A kubeconfig's current cluster and user, read without the Kubernetes client.

The first decision after a boot must not wait for that library's import. What the library alone
can do (exec plugins) is left to it: `needs_client` says so, and the probe then goes without
credentials, for `/readyz` is open to everyone by default.

What is missing or ambiguous is refused, as client-go does: a wrong guess would look like an API
server that is away. No message holds a credential.
"""

from __future__ import annotations

import base64
import binascii
import functools
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from checkpointer.errors import CheckpointerError
from checkpointer.shallow_yaml import loader
from checkpointer.values import dataclass


class KubeconfigError(CheckpointerError):
    """The kubeconfig cannot be used; the message names the file and the key."""


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """Where the API is, how to know it, and who we are; paths are absolute."""

    path: Path
    server: str
    ca_file: str
    tls_server_name: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    token: str | None = None
    token_file: str | None = None
    needs_client: bool = False

    def __repr__(self) -> str:
        return f"Kubeconfig({str(self.path)!r}, server={self.server!r})"

    def bearer_token(self) -> str | None:
        """Return the token to send, read anew each time: files are rotated."""
        if self.token_file is None:
            return self.token
        try:
            token = Path(self.token_file).read_text(encoding="ascii").strip()
        except OSError as error:
            raise KubeconfigError(f"{self.token_file}: {error.strerror}") from error
        except UnicodeDecodeError:
            raise KubeconfigError(f"{self.token_file}: expected a token") from None
        if not _is_token(token):
            raise KubeconfigError(f"{self.token_file}: expected a token")
        return token


def read_kubeconfig(path: Path) -> Kubeconfig:
    """Return what the current context of the file says; KubeconfigError when it cannot be used.

    Inline certificates and keys are put into anonymous memory files, never on disk, because the
    TLS library takes paths.
    """
    document = _document(path)
    context = _current_context(document, path)
    cluster = _named(document, "clusters", _text(context, "cluster", path), "cluster", path)
    user_name = _text(context, "user", path)
    user = _named(document, "users", user_name, "user", path) if user_name else {}
    for option, reason in (
        ("insecure-skip-tls-verify", "the API's certificate must be verified"),
        ("proxy-url", "an API behind a proxy is not supported"),
    ):
        if cluster.get(option):
            raise KubeconfigError(f"{path}: cluster.{option}: {reason}")
    authority = _file(cluster, "certificate-authority", path)
    if authority is None:
        raise KubeconfigError(f"{path}: cluster.certificate-authority: expected a CA")
    certificate, key = _file(user, "client-certificate", path), _file(user, "client-key", path)
    if (certificate is None) != (key is None):
        missing = "client-certificate" if certificate is None else "client-key"
        raise KubeconfigError(f"{path}: user.{missing}: expected, for the other half is there")
    token, token_file = _text(user, "token", path), _text(user, "tokenFile", path)
    if token is not None and not _is_token(token):
        raise KubeconfigError(f"{path}: user.token: expected a token")
    return Kubeconfig(
        path=path,
        server=_server(cluster, path),
        ca_file=authority,
        tls_server_name=_text(cluster, "tls-server-name", path),
        client_certificate=certificate,
        client_key=key,
        token=token,
        token_file=_absolute(token_file, path) if token_file else None,
        needs_client=bool(user.get("exec") or user.get("auth-provider")),
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
    except OSError as error:
        raise KubeconfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KubeconfigError(f"{path}: not a text file") from error
    try:
        document = _loaded(text)
    except (yaml.YAMLError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        # Not only its own errors: what looks like a date and is none comes as a ValueError.
        raise KubeconfigError(f"{path}: not valid YAML") from error
    if not isinstance(document, dict):
        raise KubeconfigError(f"{path}: expected a kubeconfig")
    return document


@functools.lru_cache(maxsize=1)
def _loaded(text: str) -> Any:
    """Return what a YAML text says, for reading only. It is read often, and changes with the
    credentials in it."""
    return yaml.load(text, loader())  # noqa: S506 - a safe one


def _current_context(document: dict[str, Any], path: Path) -> dict[str, Any]:
    name = _text(document, "current-context", path)
    if name is None:
        raise KubeconfigError(f"{path}: current-context: expected the name of a context")
    return _named(document, "contexts", name, "context", path)


def _named(
    document: dict[str, Any], key: str, name: str | None, part: str, path: Path
) -> dict[str, Any]:
    entries = document.get(key)
    found = [
        entry
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and entry.get("name") == name
    ]
    if name is None or not found:
        raise KubeconfigError(f"{path}: {key}: expected an entry named {name!r}")
    if len(found) > 1:
        raise KubeconfigError(f"{path}: {key}: more than one entry is named {name!r}")
    if not isinstance(found[0].get(part), dict):
        raise KubeconfigError(f"{path}: {key}: {part} of {name!r}: expected a mapping")
    return dict(found[0][part])


def _server(cluster: dict[str, Any], path: Path) -> str:
    server = _text(cluster, "server", path) or ""
    try:
        address = urlsplit(server)
        is_usable = address.scheme == "https" and address.hostname and address.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or any(character in server for character in "@?# "):
        raise KubeconfigError(f"{path}: cluster.server: expected https://host:port")
    return server.rstrip("/")


def _text(section: dict[str, Any], key: str, path: Path) -> str | None:
    """Return a text, None when there is none; an empty one is none, as for client-go."""
    value = section.get(key)
    if value is not None and not isinstance(value, str):
        raise KubeconfigError(f"{path}: {key}: expected a text")
    return value or None


def _file(section: dict[str, Any], key: str, path: Path) -> str | None:
    data, name = _text(section, f"{key}-data", path), _text(section, key, path)
    if data and name:
        raise KubeconfigError(f"{path}: {key}: {key}-data is there as well, expected one of them")
    if data:
        try:
            # Go's decoder skips line ends, so they occur.
            content = base64.b64decode("".join(data.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise KubeconfigError(f"{path}: {key}-data: expected base64") from error
        return _memory_file(key, content)
    return _absolute(name, path) if name else None


def _absolute(name: str, path: Path) -> str:
    return str(path.parent / name)


def _is_token(text: str) -> bool:
    """Tell whether it can stand in a header: what cannot is not sent, nor told to anybody."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


@functools.cache
def _memory_file(name: str, content: bytes) -> str:
    """Return the path of a file in memory with this content; for equal content the same one.

    It stays open for the life of the process, for nobody can tell when a path was last used.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return f"/proc/self/fd/{descriptor}"
