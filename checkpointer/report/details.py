"""What the disk tells of a stored revision besides what every cycle reads: size and token expiry.

Read only when somebody asks for the status, and again only when the revision's volumes changed.
What cannot be read is not known, never zero.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from checkpointer.core.workload import Workload
from checkpointer.errors import CheckpointerError
from checkpointer.report.status import RevisionDetails
from checkpointer.store.revisions import Store

_Marks = tuple[tuple[str, int], ...]


class DetailsReader:
    """Remembers what it has read. Not for two threads at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[Workload, int], tuple[_Marks, RevisionDetails]] = {}

    def read(self, serving: Collection[tuple[Workload, int]]) -> dict[Workload, RevisionDetails]:
        """Return the details of these revisions, each by its workload."""
        self._known = {key: known for key, known in self._known.items() if key in serving}
        return {workload: self._read_one(workload, number) for workload, number in serving}

    def _read_one(self, workload: Workload, number: int) -> RevisionDetails:
        material = self._store.material_root(workload, number)
        marks = _marks(material)
        known = self._known.get((workload, number))
        if known is not None and known[0] == marks:
            return known[1]
        details = self._look(workload, number, material)
        self._known[workload, number] = marks, details
        return details

    def _look(self, workload: Workload, number: int, material: Path) -> RevisionDetails:
        try:
            expiry = self._store.token_expiry(workload, number)
            warnings = self._store.warnings(workload, number)
            size = sum(_sizes(material))
        except (CheckpointerError, OSError):
            return RevisionDetails()
        return RevisionDetails(size, expiry, warnings)


def _marks(material: Path) -> _Marks:
    """Return what changes when a volume is added or its tokens are renewed (`..data` moves)."""
    try:
        with os.scandir(material) as volumes:
            return tuple(
                sorted((v.name, v.stat(follow_symlinks=False).st_mtime_ns) for v in volumes)
            )
    except OSError:
        return ()


def _sizes(folder: Path) -> Iterator[int]:
    """Yield the size of every regular file below a folder, following no link."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if not os.path.islink(path):
                yield os.lstat(path).st_size


class StoreSize:
    """How many bytes all files in the store have; read again when its contents have changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._seen: object = None
        self._bytes: int | None = None

    def read(self) -> int | None:
        """Return the size, or None while the store cannot be read. Any thread may call."""
        with self._lock:
            stored = self._store.known
            if stored is None or stored is not self._seen:
                try:
                    self._bytes = sum(_sizes(self._store.root))
                except OSError:
                    self._bytes = None
                self._seen = stored
            return self._bytes
