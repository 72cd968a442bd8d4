"""Reading a volume that the kubelet's AtomicWriter wrote, or our copy of one, consistently.

Everything is opened relative to an open folder and never through a link, so that nothing can
lead the reader elsewhere; `..data` is read once before and once after.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from checkpointer.store.errors import MaterialError, StoreError
from checkpointer.store.files import raise_if_exhausted, read_file
from checkpointer.store.material import Entry, Kind, RenderedVolume
from checkpointer.store.system_calls import SystemCalls
from checkpointer.store.token import is_token

DATA = "..data"
SIZE_LIMIT = 64 << 20
"""Bytes of one volume. A secret or configMap has at most 1 MiB; a projected one has many."""

_ENTRY_LIMIT = 16_384
_DEPTH_LIMIT = 64
_TRIES = 5
_LABEL = "security.selinux"


def read_rendered(
    path: Path,
    plugin: str,
    name: str,
    token_paths: Iterable[str] = (),
    *,
    size_limit: int = SIZE_LIMIT,
    calls: SystemCalls | None = None,
) -> RenderedVolume:
    """Read the volume in the folder `path`.

    `token_paths` are paths of service-account tokens within the volume; each must have a
    token's form. Raises MaterialError, naming the volume and what is wrong with it, and
    CannotTellError when the process is out of handles or memory.
    """
    tokens = frozenset(token_paths)
    shown = f"volume {name} ({path})"
    for _ in range(_TRIES):
        reading = _Reading(calls or SystemCalls(), shown, size_limit)
        try:
            volume = reading.volume(path, plugin, name, tokens)
        except _ChangedError:
            continue
        except OSError as error:
            raise_if_exhausted(error, shown)
            raise MaterialError(f"cannot read {shown}: {error.strerror}") from error
        _check_tokens(volume, shown)
        return volume
    raise MaterialError(f"{shown} changed on each of {_TRIES} readings")


def data_folder(path: Path) -> str:
    """Return the name that `..data` leads to: it changes with every update. Raises OSError."""
    return os.readlink(path / DATA)


def _check_tokens(volume: RenderedVolume, shown: str) -> None:
    found = {entry.path for entry in volume.tokens if entry.kind is Kind.FILE}
    if missing := volume.token_paths - found:
        raise MaterialError(f"{shown} has no token at {', '.join(sorted(missing))}")
    for entry in volume.tokens:
        if not is_token(entry.content):
            raise MaterialError(f"{shown}: {entry.path} is not a service-account token")


class _ChangedError(Exception):
    """The kubelet replaced the content while it was read."""


@dataclass(slots=True)
class _Reading:
    """One attempt to read a volume; `left` counts down to the size limit."""

    calls: SystemCalls
    shown: str
    left: int
    count: int = field(default=0)

    def volume(self, path: Path, plugin: str, name: str, tokens: frozenset[str]) -> RenderedVolume:
        folder = self._open_folder(str(path), None)
        try:
            target = self._data_target(folder)
            names = sorted(self.calls.list_directory(folder))
            mount_points = self._beside(folder, names)
            try:
                data, entries = self._data(folder, target)
            except FileNotFoundError as error:
                raise _ChangedError from error
            if self._data_target(folder) != target:
                raise _ChangedError
            itself = self._folder_entry(folder, "")
        finally:
            self.calls.close(folder)
        return RenderedVolume(name, plugin, itself, data, entries, mount_points, tokens)

    def _data_target(self, folder: int) -> str:
        try:
            target = os.readlink(DATA, dir_fd=folder)
        except FileNotFoundError as error:
            # Not even an empty optional secret looks so: the writer makes ..data for those too.
            # After a reboot the folder of a tmpfs volume is there and empty.
            raise MaterialError(
                f"{self.shown} is not rendered: it has no {DATA} (not mounted since the boot?)"
            ) from error
        if "/" in target or not target.startswith("..") or len(target) < 3:
            raise MaterialError(f"{self.shown}: {DATA} leads out of the volume")
        return target

    def _data(self, folder: int, target: str) -> tuple[Entry, tuple[Entry, ...]]:
        handle = self._open_folder(target, folder)
        try:
            found: list[Entry] = []
            self._walk(handle, "", found)
            return self._folder_entry(handle, DATA), tuple(found)
        finally:
            self.calls.close(handle)

    def _walk(self, folder: int, above: str, found: list[Entry]) -> None:
        if above.count("/") >= _DEPTH_LIMIT:
            raise MaterialError(f"{self.shown} has folders more than {_DEPTH_LIMIT} deep")
        for name in sorted(self.calls.list_directory(folder)):
            if name.startswith("..") and not above:
                raise MaterialError(f"{self.shown}: the name {name!r} is reserved")
            path = above + name
            self._count()
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                handle = self._open_folder(name, folder)
                try:
                    found.append(self._folder_entry(handle, path))
                    self._walk(handle, f"{path}/", found)
                finally:
                    self.calls.close(handle)
            elif stat.S_ISREG(status.st_mode):
                found.append(self._file(folder, name, path))
            elif stat.S_ISLNK(status.st_mode):
                found.append(self._link(folder, name, path, status))
            else:
                raise MaterialError(f"{self.shown}: {path} is neither file, folder nor link")

    def _beside(self, folder: int, names: list[str]) -> tuple[Entry, ...]:
        """Return the mount points beside `..data`; refuse what no AtomicWriter leaves there."""
        found: list[Entry] = []
        for name in names:
            if name.startswith(".."):
                continue  # the writer's own: ..data, ..data_tmp, the timestamped folders
            self._count()
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                if os.readlink(name, dir_fd=folder) != f"{DATA}/{name}":
                    raise MaterialError(f"{self.shown}: the link {name} leads out of the volume")
            elif stat.S_ISDIR(status.st_mode):
                inside: list[Entry] = []
                handle = self._open_folder(name, folder)
                try:
                    found.append(self._folder_entry(handle, name))
                    self._walk(handle, f"{name}/", inside)
                finally:
                    self.calls.close(handle)
                if any(entry.kind is not Kind.FOLDER for entry in inside):
                    raise MaterialError(f"{self.shown}: {name} beside {DATA} is not empty")
                found += inside
            else:
                raise MaterialError(f"{self.shown}: {name} is neither link nor folder")
        return tuple(found)

    def _file(self, folder: int, name: str, path: str) -> Entry:
        try:
            read = read_file(self.calls, name, self.left, folder, f"{self.shown}: {path}")
        except StoreError as error:
            raise MaterialError(f"{error} (of the whole volume)") from error
        self.left -= len(read.content)
        label = self._label(f"/proc/self/fd/{folder}/{name}")
        mode = stat.S_IMODE(read.status.st_mode)
        owner = (read.status.st_uid, read.status.st_gid)
        return Entry(path, Kind.FILE, mode, *owner, content=read.content, label=label)

    def _link(self, folder: int, name: str, path: str, status: os.stat_result) -> Entry:
        target = os.readlink(name, dir_fd=folder)
        resolved = os.path.normpath(os.path.join(os.path.dirname(path) or ".", target))
        if os.path.isabs(target) or resolved == ".." or resolved.startswith("../"):
            raise MaterialError(f"{self.shown}: the link {path} leads out of the volume")
        return Entry(path, Kind.LINK, 0o777, status.st_uid, status.st_gid, target=target)

    def _open_folder(self, name: str, folder: int | None) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        return self.calls.open(name, flags, dir_fd=folder)

    def _folder_entry(self, handle: int, path: str) -> Entry:
        status = os.fstat(handle)
        label = self._label(handle)
        mode = stat.S_IMODE(status.st_mode)
        return Entry(path, Kind.FOLDER, mode, status.st_uid, status.st_gid, label=label)

    def _label(self, what: int | str) -> str | None:
        """Return the SELinux label at level s0: the categories are those of one pod's run."""
        try:
            raw = os.getxattr(what, _LABEL, follow_symlinks=isinstance(what, int))
        except OSError:
            return None
        user_role_type = raw.rstrip(b"\0").decode("ascii", "replace").split(":")[:3]
        return ":".join([*user_role_type, "s0"]) if len(user_role_type) == 3 else None

    def _count(self) -> None:
        self.count += 1
        if self.count > _ENTRY_LIMIT:
            raise MaterialError(f"{self.shown} has more than {_ENTRY_LIMIT} entries")
