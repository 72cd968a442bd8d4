"""What happened in the manifest folder, without missing a file that was there for a moment."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.e2e.cluster.agent import MANIFEST_PREFIX
from tests.e2e.cluster.background import Background

_APPEARED = 0x00000100 | 0x00000080  # IN_CREATE | IN_MOVED_TO
_WENT = 0x00000200 | 0x00000040  # IN_DELETE | IN_MOVED_FROM
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Happening:
    """A file of the agent's appeared in the folder or went."""

    moment: float
    name: str
    appeared: bool


class FolderWatch(Background):
    """Records the comings and goings of the agent's manifests while the context lasts.

    The agent's temporary files begin with a dot and are none: the kubelet ignores them as well.
    """

    def __init__(self, folder: Path, on_appeared: Callable[[Path], None] = lambda _: None) -> None:
        self._folder, self._on_appeared = folder, on_appeared
        self._happenings: list[Happening] = []
        super().__init__()
        self._file = -1

    def __enter__(self) -> Self:
        self._file = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if _libc.inotify_add_watch(self._file, os.fsencode(self._folder), _APPEARED | _WENT) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {self._folder}")
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        os.close(self._file)

    @property
    def present(self) -> list[str]:
        """The agent's manifests that lie in the folder now."""
        return sorted(p.name for p in self._folder.glob(f"{MANIFEST_PREFIX}*"))

    @property
    def happenings(self) -> list[Happening]:
        return list(self._happenings)

    @property
    def activated(self) -> list[Happening]:
        return [h for h in self._happenings if h.appeared]

    @property
    def released(self) -> list[Happening]:
        return [h for h in self._happenings if not h.appeared]

    def first(self, part: str, appeared: bool) -> float | None:
        """Return when the first manifest with this in its name came or went."""
        found = (h for h in self.happenings if part in h.name and h.appeared == appeared)
        return next((h.moment for h in found), None)

    def _work(self) -> None:
        while not self._over.is_set():
            if not select.select([self._file], [], [], 0.1)[0]:
                continue
            moment = time.monotonic()
            for mask, name in _events(os.read(self._file, 65536)):
                if name.startswith(MANIFEST_PREFIX):
                    self._happenings.append(Happening(moment, name, bool(mask & _APPEARED)))
                    if mask & _APPEARED:
                        self._on_appeared(self._folder / name)


def _events(content: bytes) -> Iterator[tuple[int, str]]:
    offset = 0
    while offset < len(content):
        _, mask, _, length = _EVENT.unpack_from(content, offset)
        offset += _EVENT.size
        yield mask, content[offset : offset + length].rstrip(b"\0").decode()
        offset += length
