"""Writing a copy of a rendered volume, and renewing its tokens while pods have it mounted.

A copy looks like what the kubelet's AtomicWriter leaves, so that tokens can be renewed the way
the kubelet does it, by one rename of `..data`. Its data folder is `..checkpoint-<k>`; one that
`..data` does not lead to is the rest of an interrupted renewal and means nothing.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from checkpointer.store.durable import Disk
from checkpointer.store.errors import DiskError
from checkpointer.store.material import Entry, Kind, RenderedVolume
from checkpointer.store.rendered import DATA, data_folder

_DATA_FOLDER = re.compile(r"\.\.checkpoint-([1-9][0-9]{0,17})", re.ASCII)


def write_copy(disk: Disk, path: Path, volume: RenderedVolume) -> None:
    """Create the copy at `path`, where nobody reads yet; all but `path`'s own name is synced."""
    disk.calls.mkdir(str(path), 0o700)
    first = "..checkpoint-1"
    _write_folder(disk, path / first, volume.data, volume.entries)
    owner = (volume.folder.uid, volume.folder.gid)
    for name, target in [(DATA, first), *((name, f"{DATA}/{name}") for name in volume.links)]:
        disk.calls.symlink(target, str(path / name))
        disk.calls.lchown(str(path / name), *owner)
    for entry in volume.mount_points:
        disk.calls.mkdir(str(path / entry.path), 0o700)
    for entry in reversed(volume.mount_points):
        _finish_folder(disk, path / entry.path, entry)
    _finish_folder(disk, path, volume.folder)


def renew_tokens(disk: Disk, path: Path, volume: RenderedVolume) -> None:
    """Put the volume's content into a new data folder beside and lead `..data` to it.

    At any moment a reader finds all of the old content or all of the new one.
    """
    remove_leftovers(disk, path)
    old = data_folder(path)
    new = f"..checkpoint-{_number(old) + 1}"
    try:
        _write_folder(disk, path / new, volume.data, volume.entries)
        disk.sync_directory(path)
        disk.swap_link(path / DATA, new, (volume.folder.uid, volume.folder.gid))
    except Exception:
        with suppress(OSError, DiskError):
            if data_folder(path) == old:
                disk.remove_tree(path / new, inside=path, hide=False)
        raise
    disk.remove_tree(path / old, inside=path, hide=False)


def remove_leftovers(disk: Disk, path: Path) -> None:
    """Remove what an interrupted renewal left in a copy."""
    current = data_folder(path)
    for name in sorted(os.listdir(path)):
        if name == f"{DATA}_tmp":
            disk.remove_file(path / name)
        elif is_leftover(name, current):
            disk.remove_tree(path / name, inside=path, hide=False)


def is_leftover(name: str, current: str) -> bool:
    """Tell whether an interrupted renewal left this in a copy whose `..data` leads to `current`."""
    return name == f"{DATA}_tmp" or (_number(name) > 0 and name != current)


def _number(name: str) -> int:
    match = _DATA_FOLDER.fullmatch(name)
    return int(match[1]) if match else 0


def _write_folder(disk: Disk, path: Path, folder: Entry, entries: tuple[Entry, ...]) -> None:
    """Create a folder with these entries and sync it; modes of folders are set last."""
    disk.calls.mkdir(str(path), 0o700)
    for entry in entries:
        target = path / entry.path
        if entry.kind is Kind.FOLDER:
            disk.calls.mkdir(str(target), 0o700)
        elif entry.kind is Kind.LINK:
            disk.calls.symlink(entry.target, str(target))
            disk.calls.lchown(str(target), entry.uid, entry.gid)
        else:
            disk.create_file(target, entry.content, entry.mode, (entry.uid, entry.gid), entry.label)
    for entry in reversed(entries):
        if entry.kind is Kind.FOLDER:
            _finish_folder(disk, path / entry.path, entry)
    _finish_folder(disk, path, folder)


def _finish_folder(disk: Disk, path: Path, entry: Entry) -> None:
    handle = disk.calls.open(str(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        disk.calls.fchown(handle, entry.uid, entry.gid)
        disk.calls.fchmod(handle, entry.mode)
        disk.set_label(handle, entry.label)
        disk.calls.fsync(handle)
    finally:
        disk.calls.close(handle)
