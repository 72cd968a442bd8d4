"""All checkpoints of the store in memory, so that a cycle in which nothing changed costs nothing.

Verifying means reading every byte; at a thousand checkpoints that takes a second. So each
workload is read when it is first seen, after a change of ours, and when a watcher says so.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from checkpointer.core.checkpoint import Checkpoint, Record
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.store.checkpoints import WorkloadReading, read_checkpoint
from checkpointer.store.durable import PREFIX
from checkpointer.store.errors import DiskError
from checkpointer.store.files import list_names
from checkpointer.store.layout import SOCKET, STATE, workload_folder
from checkpointer.store.safety import check_folder
from checkpointer.store.system_calls import SystemCalls
from checkpointer.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything in the store: checkpoints sorted by workload."""

    checkpoints: tuple[Checkpoint, ...] = ()
    problems: tuple[str, ...] = ()
    """About folders of which nobody can tell whose they are; a checkpoint has its own."""


class Contents:
    """The store's contents as last read, and which of it has to be read again."""

    def __init__(self, root: Path, calls: SystemCalls) -> None:
        self._root = root
        self._calls = calls
        self._lock = threading.Lock()
        self._stale: set[Path] = set()
        self._all_stale = True
        self._root_seen: tuple[int, ...] | None = None
        self._readings: dict[Path, WorkloadReading] = {}
        self._stored: Stored | None = None

    @property
    def known(self) -> Stored | None:
        """Return the contents as last read, None while there are none or they may be old."""
        return self._stored

    def invalidate(self, workload: Workload | None) -> None:
        """Have the next read look again at one workload or at everything."""
        with self._lock:
            if workload is None:
                self._all_stale = True
            else:
                self._stale.add(workload_folder(self._root, workload))

    def invalidate_path(self, path: Path) -> bool:
        """Have the next read look again at what a change of this path may concern.

        Return whether that is anything: state, the agent's socket, temporary names and other
        folders are not.
        """
        if path != self._root and self._root not in path.parents:
            return False
        parts = path.relative_to(self._root).parts
        if parts[:1] in ((STATE,), (SOCKET,)) or any(part.startswith(PREFIX) for part in parts):
            return False
        with self._lock:
            if len(parts) < 2:
                self._all_stale = True
            else:
                self._stale.add(self._root / parts[0] / parts[1])
        return True

    def record_of(self, workload: Workload) -> Record | None:
        """Return the record on disk if it is known without looking."""
        folder = workload_folder(self._root, workload)
        reading = self._readings.get(folder)
        with self._lock:
            if self._all_stale or folder in self._stale:
                return None
        return reading.checkpoint.record if reading and reading.checkpoint else None

    def replace_record(self, workload: Workload, record: Record) -> None:
        """Take over a record that was written, without verifying the revisions again."""
        folder = workload_folder(self._root, workload)
        reading = self._readings.get(folder)
        if reading is None or reading.checkpoint is None or reading.checkpoint.problems:
            self.invalidate(workload)
            return
        checkpoint = replace(reading.checkpoint, record=record)
        self._readings[folder] = replace(reading, checkpoint=checkpoint)
        self._stored = None

    def read(self) -> Fact[Stored]:
        """Return the contents, reading what has to be read. A missing root is an empty store."""
        with self._lock:
            stale, self._stale = self._stale, set()
            all_stale, self._all_stale = self._all_stale, False
        try:
            return Known(self._read(stale, all_stale))
        except OSError as error:
            reason = f"cannot read the store {self._root}: {error.strerror}"
        except DiskError as error:
            reason = str(error)
        with self._lock:
            self._stale |= stale
            self._all_stale |= all_stale
        self._root_seen = None
        return Unknown(reason)

    def _read(self, stale: set[Path], all_stale: bool) -> Stored:
        seen = _signature(self._root)
        stale = stale | {folder for folder, r in self._readings.items() if r.may_pass}
        if seen is None:
            self._root_seen, self._readings = None, {}
            self._stored = None
            return Stored()
        if all_stale or seen != self._root_seen:
            check_folder(self._root)
            known = {} if all_stale else self._readings
            self._read_folders(self._workload_folders(), known, stale)
        elif stale:
            self._read_folders(sorted({*self._readings, *stale}), self._readings, stale)
        self._root_seen = seen
        if self._stored is None:
            self._stored = _collect(self._readings)
        return self._stored

    def _read_folders(
        self, folders: list[Path], known: dict[Path, WorkloadReading], stale: set[Path]
    ) -> None:
        """Read those of these folders that are stale or not known yet."""
        self._readings = {
            folder: known[folder]
            if folder in known and folder not in stale
            else read_checkpoint(self._root, folder, self._calls)
            for folder in folders
        }
        self._stored = None

    def _workload_folders(self) -> list[Path]:
        """Return every folder that may be a workload's. What is hidden or no folder is not."""
        folders: list[Path] = []
        for namespace in list_names(self._calls, self._root) or ():
            if namespace.startswith(".") or namespace == SOCKET:
                continue
            names = list_names(self._calls, self._root / namespace) or ()
            folders += [self._root / namespace / n for n in names if not n.startswith(".")]
        return folders


def _signature(root: Path) -> tuple[int, ...] | None:
    """Return what changes when the root is replaced or gets or loses a namespace."""
    try:
        status = os.lstat(root)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_mode, status.st_uid


def _collect(readings: dict[Path, WorkloadReading]) -> Stored:
    checkpoints = [r.checkpoint for r in readings.values() if r.checkpoint is not None]
    return Stored(
        tuple(sorted(checkpoints, key=lambda checkpoint: checkpoint.workload)),
        tuple(problem for reading in readings.values() for problem in reading.problems),
    )
