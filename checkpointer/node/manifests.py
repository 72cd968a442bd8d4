"""The folder from which the kubelet starts static pods, and our files in it.

Ours is a regular file whose name has our prefix and whose content carries our mark, at the
moment of looking. Nothing else is ever written, replaced, followed or removed, whatever its
name. The kubelet ignores names that begin with a dot, so a file appears to it complete or not
at all (kubelet-facts.md 1.1, 1.3).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from checkpointer.core.checkpoint import ActiveManifest
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.manifest.render import file_name as own_name
from checkpointer.node.set_aside import original_name
from checkpointer.store.durable import Disk, is_temporary, store_errors
from checkpointer.store.errors import CannotTellError, DiskError, ForeignFileError, StoreError
from checkpointer.store.files import read_file
from checkpointer.store.system_calls import SystemCalls
from checkpointer.values import dataclass

PREFIX = "pod-checkpointer-"
"""How the name of every manifest of ours begins."""

SIZE_LIMIT = 10 * 2**20 - 1
"""Bytes; the kubelet refuses a file of 10 MiB (pkg/kubelet/config/common.go, maxConfigLength)."""


class Mark(Protocol):
    """What a manifest of ours says of itself; manifest.render has it."""

    @property
    def workload(self) -> Workload:
        """Return whose copy it is."""

    @property
    def revision(self) -> int:
        """Return the revision that it runs."""

    @property
    def issue(self) -> int:
        """Return how often it was issued anew."""

    @property
    def uid(self) -> str:
        """Return the pod's UID."""


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies in the manifest folder: ours, and the names of all else but hidden ones."""

    ours: tuple[ActiveManifest, ...] = ()
    foreign: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Files that have our prefix and are not ours, with the reason, or that are ours and one too
    many: a sentence each."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a file was found to be: ours or, with a reason, not."""

    ours: ActiveManifest | None
    reason: str = ""
    may_pass: bool = False
    """Whether the next look may find something else although the file is the same."""


class ManifestFolder:
    """The kubelet's `staticPodPath`. `mark_of` tells a manifest's mark; None if it has none."""

    def __init__(
        self,
        path: Path,
        mark_of: Callable[[bytes], Mark | None],
        calls: SystemCalls | None = None,
    ) -> None:
        self.path = path
        self._mark_of = mark_of
        self._disk = Disk(calls)
        self._seen: dict[tuple[str | int, ...], _Looked] = {}

    def observe(self) -> Fact[Folder]:
        """Return what lies there; Unknown when the folder is missing, no folder or unreadable.

        A file is read again only when its inode, times or size have changed.
        """
        ours: list[ActiveManifest] = []
        foreign: list[str] = []
        problems: list[str] = []
        seen: dict[tuple[str | int, ...], _Looked] = {}
        path = str(self.path)
        try:
            for name in sorted(os.listdir(path)):
                if name.startswith("."):
                    problems += _set_aside(self.path, name)
                    continue
                if not name.startswith(PREFIX):
                    foreign.append(name)
                    continue
                if (key := _key(path, name)) is None:
                    continue
                looked = self._seen.get(key) or self._look(name)
                if not looked.may_pass:
                    seen[key] = looked
                if looked.ours:
                    ours.append(looked.ours)
                else:
                    foreign.append(name)
                    problems.append(looked.reason)
        except (NotADirectoryError, FileNotFoundError) as error:
            return Unknown(f"{self.path} is not a folder: {error.strerror}")
        except OSError as error:
            return Unknown(f"cannot read {self.path}: {error.strerror}")
        except CannotTellError as error:
            return Unknown(str(error))
        self._seen = seen
        problems += _twice(self.path, ours)
        return Known(Folder(tuple(ours), tuple(foreign), tuple(problems)))

    def write(self, file_name: str, content: bytes) -> bool:
        """Put a manifest of ours there, or replace one; return whether it was written.

        Raises ForeignFileError when something else has the name, StoreError when it cannot be
        written or is none that we could recognise later.
        """
        path = self._path(file_name)
        if len(content) > SIZE_LIMIT:
            raise StoreError(f"{path}: {len(content)} bytes are more than the kubelet reads")
        if self._mark_of(content) is None:
            raise StoreError(f"{path}: the manifest to be written does not carry our mark")
        self._check_ours(file_name)
        return self._disk.write_file(path, content)

    def remove(self, file_name: str) -> bool:
        """Remove a manifest of ours; return whether it was there.

        Raises ForeignFileError when it is not ours at this moment, StoreError.
        """
        path = self._path(file_name)
        self._check_ours(file_name)
        return self._disk.remove_file(path)

    def settle(self) -> None:
        """Have on disk what is seen here, before anything goes that no manifest mounts any more.

        Who took a manifest out may have died before it was gone for good. Raises StoreError.
        """
        with store_errors(f"cannot sync {self.path}"):
            self._disk.settle(self.path)

    def finish(self) -> None:
        """Have on disk what a change that failed has left in memory only. Raises StoreError."""
        self._disk.finish()

    def clean(self) -> tuple[str, ...]:
        """Remove what a writer that died left, by its hidden name; return the names.

        Only for the one that holds the instance lock. Raises StoreError.
        """
        try:
            names = [n for n in sorted(os.listdir(self.path)) if is_temporary(n)]
            stale = [n for n in names if stat.S_ISREG((self.path / n).lstat().st_mode)]
        except OSError as error:
            raise StoreError(f"cannot clean {self.path}: {error.strerror}") from error
        for name in stale:
            self._disk.remove_file(self.path / name)
        self.settle()
        return tuple(stale)

    def _path(self, file_name: str) -> Path:
        if not file_name.startswith(PREFIX) or "/" in file_name or "\0" in file_name:
            raise StoreError(f"{file_name!r} is not a file name that begins with {PREFIX}")
        return self.path / file_name

    def _check_ours(self, file_name: str) -> None:
        if not os.path.lexists(self.path / file_name):
            return
        looked = self._look(file_name)
        if looked.ours is None:
            raise ForeignFileError(looked.reason)

    def _look(self, name: str) -> _Looked:
        """Read a file and tell whether it is ours. Raises CannotTellError."""
        path = self.path / name
        try:
            found = read_file(self._disk.calls, str(path), SIZE_LIMIT)
        except CannotTellError:
            raise
        except OSError as error:
            return _Looked(None, f"{path} is left alone: {error.strerror}", may_pass=True)
        except DiskError as error:
            return _Looked(None, f"left alone: {error}")
        mark = self._mark_of(found.content)
        if mark is None:
            return _Looked(None, f"{path} is left alone: it has our prefix but not our mark")
        written_at = found.status.st_mtime_ns
        return _Looked(
            ActiveManifest(name, mark.workload, mark.revision, mark.issue, mark.uid, written_at)
        )


def _key(folder: str, name: str) -> tuple[str | int, ...] | None:
    try:
        status = os.lstat(f"{folder}/{name}")
    except FileNotFoundError:
        return None
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (name, status.st_dev, status.st_ino, status.st_mode, *times, status.st_size)


def _twice(folder: Path, ours: list[ActiveManifest]) -> list[str]:
    """Tell of manifests that somebody has copied: they carry our mark, and go as ours do."""
    names: dict[Workload, list[str]] = {}
    for manifest in ours:
        names.setdefault(manifest.workload, []).append(manifest.file_name)
    return [
        f"{' and '.join(same)} in {folder} are all the copy of {workload}, and the kubelet runs "
        f"one of them: leave only {own_name(workload)}; all go when the copy is released"
        for workload, same in names.items()
        if len(same) > 1
    ]


def _set_aside(folder: Path, name: str) -> list[str]:
    original = original_name(name)
    if original is None:
        return []
    return [
        f"{folder / name} was set aside to restart its pod; if nobody is at it, finish with "
        f"`checkpointer restart {original}`"
    ]
