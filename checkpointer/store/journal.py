"""What happened on this node, in order: JSON lines in two files of bounded size.

An entry is appended and synced, never changed. A process that dies in between leaves half a line,
which every reader skips and the next append leaves behind. When a file is full it takes the place
of the one before: of the oldest entries, that many are forgotten at once.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from checkpointer.store.durable import Disk, store_errors
from checkpointer.store.errors import DiskError, StoreError
from checkpointer.store.files import read_file
from checkpointer.store.layout import STATE
from checkpointer.store.safety import check_folder
from checkpointer.store.system_calls import SystemCalls
from checkpointer.values import dataclass

NAME, OLDER_NAME = "journal.jsonl", "journal.1.jsonl"

FILE_BYTES = 256 * 1024
"""Beyond which a file is full; some 1,000 entries. Both together are the journal's bound."""

_LINE_BYTES = 4096
_READ_LIMIT = FILE_BYTES + (1 << 20)

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JournalReading:
    """The entries, oldest first, and what is wrong with the files, a sentence each."""

    entries: tuple[Entry, ...] = ()
    problems: tuple[str, ...] = ()


class Journal:
    """Appends entries; only for the one that holds the instance lock."""

    def __init__(
        self, root: Path, calls: SystemCalls | None = None, file_bytes: int = FILE_BYTES
    ) -> None:
        self._root, self._folder = root, root / STATE
        self._disk = Disk(calls)
        self._file_bytes = file_bytes

    def append(self, entries: Sequence[Entry]) -> None:
        """Write these entries; the root must exist. Raises StoreError: then some may be there.

        Appending the same ones again does no harm, for a reader takes a line once.
        """
        path = self._folder / NAME
        content = b"".join(map(_line, entries))
        self._disk.make_directory(self._folder)
        with store_errors(f"cannot write {path}"):
            if _size(path) >= self._file_bytes:
                self._disk.changing(self._folder)
                self._disk.calls.rename(str(path), str(self._folder / OLDER_NAME))
            self._disk.settle(self._folder)  # a file made anew must not take the older one's place
            if not os.path.lexists(path):
                self._disk.changing(self._folder)
            self._append(path, content)
            self._disk.settle(self._folder)

    def _append(self, path: Path, content: bytes) -> None:
        calls = self._disk.calls
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = calls.open(str(path), flags, 0o600)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise StoreError(f"{path} is not a regular file")
            left = memoryview(_separator(calls, handle, status.st_size) + content)
            while left:
                left = left[calls.write(handle, left) :]
            calls.fsync(handle)
        finally:
            calls.close(handle)


def read_journal(root: Path, calls: SystemCalls | None = None) -> JournalReading:
    """Read all entries; needs nothing but the disk. What is no entry is skipped and told of."""
    calls = calls or SystemCalls()
    problems: list[str] = []
    entries: dict[bytes, Entry] = {}
    try:
        check_folder(root)
    except (OSError, DiskError) as error:
        return JournalReading((), (str(error),))
    for name in (OLDER_NAME, NAME):
        path = root / STATE / name
        try:
            content = read_file(calls, str(path), _READ_LIMIT).content
        except FileNotFoundError:
            continue
        except (OSError, DiskError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            problems.append(f"cannot read {path}: {reason}")
            continue
        lines = [line for line in content.split(b"\n") if line]
        found = dict(_entries(lines))
        if len(found) < len(set(lines)):
            problems.append(f"{path}: {len(set(lines)) - len(found)} lines are damaged")
        entries |= found
    return JournalReading(tuple(entries.values()), tuple(problems))


def _entries(lines: list[bytes]) -> Iterator[tuple[bytes, Entry]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield line, entry


def _line(entry: Entry) -> bytes:
    """Return the entry in one line; a reason that is too long is cut."""
    line = _dumped(entry)
    if len(line) <= _LINE_BYTES or "reason" not in entry:
        return line
    return _dumped({**entry, "reason": str(entry["reason"])[: _LINE_BYTES // 8] + "…"})


def _dumped(entry: Entry) -> bytes:
    return json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _separator(calls: SystemCalls, handle: int, size: int) -> bytes:
    """Return what ends the half line that somebody who died has left."""
    if size == 0:
        return b""
    os.lseek(handle, size - 1, os.SEEK_SET)
    return b"" if calls.read(handle, 1) == b"\n" else b"\n"
