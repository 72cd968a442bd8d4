"""Reading what somebody may have tampered with: no link followed, no pipe waited for, bounded."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from checkpointer.store.errors import CannotTellError, StoreError
from checkpointer.store.system_calls import SystemCalls
from checkpointer.values import dataclass

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})
"""Errors that tell about this moment and not about the file."""

_PASSING = EXHAUSTED | {errno.EIO, errno.ESTALE, errno.ETIMEDOUT}
_CHUNK = 1 << 20
_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A regular file's content and its mode and owners at the time of reading."""

    content: bytes
    status: os.stat_result


def read_file(
    calls: SystemCalls, path: str, limit: int, dir_fd: int | None = None, shown: str = ""
) -> ReadFile:
    """Read a regular file of at most `limit` bytes; `shown` names it in messages.

    O_NONBLOCK: a planted pipe must not hang the agent. Raises OSError as the system does,
    StoreError when it is not a regular file or too large, CannotTellError when out of handles.
    """
    shown = shown or path
    try:
        handle = calls.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise StoreError(f"{shown} is not a regular file")
            if status.st_size > limit:
                raise StoreError(f"{shown} has {status.st_size} bytes, the limit is {limit}")
            return ReadFile(_read_all(calls, handle, status.st_size, limit, shown), status)
        finally:
            calls.close(handle)
    except OSError as error:
        raise_if_exhausted(error, shown)
        raise


def list_names(calls: SystemCalls, path: Path | str) -> list[str] | None:
    """Return the sorted names in a folder; None where there is none, or something else.

    A symbolic link is something else. Raises OSError and CannotTellError as read_file does.
    """
    try:
        handle = calls.open(str(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            return sorted(calls.list_directory(handle))
        finally:
            calls.close(handle)
    except OSError as error:
        raise_if_exhausted(error, str(path))
        if error.errno in _NO_FOLDER:
            return None
        raise


def raise_if_exhausted(error: OSError, shown: str) -> None:
    """Raise CannotTellError if the error tells about this moment and not about the file."""
    if error.errno in EXHAUSTED:
        raise CannotTellError(f"cannot read {shown}: {error.strerror}") from error


def may_pass(error: BaseException) -> bool:
    """Tell whether the same look may succeed next time although nothing changes on disk."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _PASSING


def _read_all(calls: SystemCalls, handle: int, size: int, limit: int, shown: str) -> bytes:
    parts: list[bytes] = []
    total = 0
    while part := calls.read(handle, min(max(size - total, 0) + 1, _CHUNK)):
        parts.append(part)
        total += len(part)
        if total > limit:
            raise StoreError(f"{shown} grew beyond the limit of {limit} bytes")
    return b"".join(parts)
