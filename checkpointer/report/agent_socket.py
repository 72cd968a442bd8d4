"""The running agent's unix socket in the store's folder: making it, and asking through it.

Only root gets there: the folder is 0700, the socket 0600. A socket's address has room for 107
bytes, so both sides go through an open folder.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from checkpointer.errors import CheckpointerError
from checkpointer.store.layout import SOCKET

_ANSWER_LIMIT = 64 << 20


class AgentSocketError(CheckpointerError):
    """The agent's socket cannot be made; the message names it and says why."""


class AgentUnreachableError(CheckpointerError):
    """No running agent answered through its socket; the message says what was tried."""


class AgentSilentError(AgentUnreachableError):
    """Somebody listens at the socket, and did not answer in time."""


def listen_on_socket(store_directory: Path) -> tuple[socket.socket, int]:
    """Return a socket that listens at `agent.sock`, and its inode.

    One that is left from an agent that died is replaced; one that somebody listens on, or that
    is not a socket of ours, is left alone. The folder must exist. Raises AgentSocketError.
    """
    path = store_directory / SOCKET
    try:
        with _address(store_directory) as address:
            _remove_stale(path, address)
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                listening.bind(address)
                os.chmod(address, 0o600)  # before anybody can connect
                listening.listen(16)
                return listening, path.lstat().st_ino
            except OSError:
                listening.close()
                raise
    except OSError as error:
        raise AgentSocketError(f"cannot listen on {path}: {error.strerror}") from error


def remove_socket(store_directory: Path, inode: int) -> None:
    """Remove `agent.sock` if it is still the one with this inode."""
    path = store_directory / SOCKET
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()


def is_there(store_directory: Path, inode: int) -> bool:
    """Tell whether `agent.sock` is still the one with this inode."""
    try:
        return (store_directory / SOCKET).lstat().st_ino == inode
    except OSError:
        return False


def ask_agent(
    store_directory: Path, path: str, seconds: float, method: str = "GET"
) -> tuple[int, bytes]:
    """Return status and content of the running agent's answer, within so many seconds.

    Raises AgentUnreachableError; AgentSilentError when it is there and does not answer in time.
    """
    shown = store_directory / SOCKET
    end = time.monotonic() + seconds
    try:
        with (
            _address(store_directory) as address,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        ):
            connection.settimeout(seconds)
            connection.connect(address)
            connection.sendall(f"{method} {path} HTTP/1.0\r\n\r\n".encode("ascii"))
            return _parse(_read(connection, end))
    except (FileNotFoundError, ConnectionRefusedError):
        raise AgentUnreachableError(f"the agent is not running: nobody at {shown}") from None
    except (TimeoutError, BlockingIOError):
        raise AgentSilentError(
            f"the agent at {shown} did not answer within {seconds:g} s"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise AgentUnreachableError(f"cannot ask the agent at {shown}: {reason}") from error


def _read(connection: socket.socket, end: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    while (left := end - time.monotonic()) > 0:
        connection.settimeout(left)
        part = connection.recv(1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > _ANSWER_LIMIT:
            raise ValueError("the answer is too large")
    raise TimeoutError


def _parse(raw: bytes) -> tuple[int, bytes]:
    head, separator, content = raw.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split()
    if not separator or len(words) < 2 or not words[1].isdigit():
        raise ValueError("the answer is not HTTP")
    return int(words[1]), content


def _remove_stale(path: Path, address: str) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
        raise AgentSocketError(f"{path} is left alone: it is not a socket of ours")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(0.2)
        try:
            connection.connect(address)
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise AgentSocketError(f"{path} is left alone: {error.strerror}") from error
        else:
            raise AgentSocketError(f"{path} is left alone: another agent listens there")


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)
