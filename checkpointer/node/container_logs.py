"""A container's log file as the runtime writes it, read line by line.

Two formats, as in the kubelet's own reader (pkg/kubelet/kuberuntime/logs/logs.go): the CRI's
`<RFC 3339 time> <stdout|stderr> <tags> <text>`, where the tag P means that the line goes on, and
Docker's JSON lines. The kubelet renames a file that has grown (10 MiB by default) and the runtime
begins a new one at the same path.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from checkpointer.errors import CheckpointerError
from checkpointer.values import dataclass

FOLLOW_SECONDS = 0.2
_CHUNK = 1 << 16
_LONGEST_LINE = 1 << 20


class LogError(CheckpointerError):
    """A log file cannot be read; the message names it."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line, or a part of one that goes on in the next; no newline at its end."""

    time: str
    """RFC 3339 with nanoseconds, as written; empty when the line is in no known format."""
    stream: str
    text: bytes
    is_partial: bool = False


def parse_line(raw: bytes) -> LogLine:
    """Return what a line of the file says; one in no known format is text as it is."""
    raw = raw.rstrip(b"\n")
    if raw.startswith(b"{"):
        return _docker_line(raw)
    parts = raw.split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return LogLine("", "stdout", raw)
    text = parts[3] if len(parts) == 4 else b""
    is_partial = parts[2].split(b":")[0] == b"P"
    return LogLine(parts[0].decode("ascii", "replace"), parts[1].decode(), text, is_partial)


def seconds_of(line: LogLine) -> float | None:
    """Return a line's time in seconds of the Unix epoch; None when it has none."""
    try:
        return datetime.fromisoformat(_to_microseconds(line.time)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def read_lines(
    path: Path,
    tail: int | None = None,
    since: float | None = None,
    goes_on: Callable[[], bool] | None = None,
) -> Iterator[LogLine]:
    """Yield a log's lines: the last `tail`, those written after `since` (Unix epoch, seconds).

    With `goes_on` what is written later follows, until that is False and all has been read. A
    file that is renamed away on the way is read to its end and then the new one. Raises LogError.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise LogError(f"cannot read {path}: {error.strerror}") from error
    try:
        if tail is not None:
            file.seek(_start_of_tail(file, tail))
        for line in _file_lines(file):
            if since is None or (seconds_of(line) or 0.0) >= since:
                yield line
        while goes_on is not None:
            is_last = not goes_on()
            yield from _file_lines(file)
            if _is_replaced(file, path):
                yield from _file_lines(file)  # what came between the last read and the renaming
                file.close()
                file = path.open("rb")
                yield from _file_lines(file)
                continue
            if is_last:
                return
            time.sleep(FOLLOW_SECONDS)
    except OSError as error:
        raise LogError(f"cannot read {path}: {error.strerror}") from error
    finally:
        file.close()


def _file_lines(file: BinaryIO) -> Iterator[LogLine]:
    """Yield the complete lines from here on; a half-written one is left for the next time."""
    while raw := file.readline(_LONGEST_LINE):
        if not raw.endswith(b"\n") and len(raw) < _LONGEST_LINE:
            file.seek(-len(raw), os.SEEK_CUR)
            return
        yield parse_line(raw)


def _start_of_tail(file: BinaryIO, count: int) -> int:
    """Return where the last lines begin, reading from the end: a log may be large."""
    position = file.seek(0, os.SEEK_END)
    if count == 0:
        return position
    wanted = count + 1  # the newline before the first of them
    while position > 0:
        start = max(0, position - _CHUNK)
        file.seek(start)
        block = file.read(position - start)
        end = len(block)
        while (found := block.rfind(b"\n", 0, end)) >= 0:
            wanted -= 1
            if wanted == 0:
                return start + found + 1
            end = found
        position = start
    return 0


def _is_replaced(file: BinaryIO, path: Path) -> bool:
    try:
        there, here = os.stat(path), os.fstat(file.fileno())
    except FileNotFoundError:
        return False
    if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
        return True
    if there.st_size < file.tell():
        file.seek(0)  # copied away and truncated, as logrotate does
    return False


def _docker_line(raw: bytes) -> LogLine:
    try:
        entry = json.loads(raw)
        text = str(entry["log"]).encode("utf-8", "replace")
        stamp, stream = str(entry.get("time", "")), str(entry.get("stream", "stdout"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return LogLine("", "stdout", raw)
    return LogLine(stamp, stream, text.rstrip(b"\n"), is_partial=not text.endswith(b"\n"))


def _to_microseconds(stamp: str) -> str:
    """Cut nanoseconds to what datetime reads."""
    head, dot, rest = stamp.partition(".")
    if not dot:
        return stamp
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return f"{head}.{digits[:6]}{rest[len(digits) :]}"
