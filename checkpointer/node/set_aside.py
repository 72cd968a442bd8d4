"""Taking somebody's manifest out of the kubelet's folder for a moment, and putting it back.

The one exception to leaving foreign files alone: an operator has named this one, to restart its
pod. It keeps its bytes and its inode. It stays in the folder under a name that begins with a dot,
which the kubelet ignores and our own cleaning does not take for a leftover, so that whatever
happens in between, the next run finds it and everybody can see it.
"""

from __future__ import annotations

import os
from pathlib import Path

from checkpointer.store.durable import Disk, store_errors
from checkpointer.store.errors import ForeignFileError, StoreError

SUFFIX = ".set-aside-by-pod-checkpointer"


def hidden_path(path: Path) -> Path:
    """Return where a manifest lies while it is set aside."""
    return path.with_name(f".{path.name}{SUFFIX}")


def original_name(name: str) -> str | None:
    """Return the name of the manifest that lies at this name; None when it is no such name."""
    if not (name.startswith(".") and name.endswith(SUFFIX) and len(name) > len(SUFFIX) + 1):
        return None
    return name[1 : -len(SUFFIX)]


def set_aside(disk: Disk, path: Path) -> None:
    """Take a manifest out. Raises StoreError; then it is still there."""
    disk.rename(path, hidden_path(path))


def put_back(disk: Disk, path: Path) -> bool:
    """Put a manifest back where it was; return whether it had been away.

    Raises ForeignFileError when somebody has put another one there meanwhile: both stay.
    Raises StoreError.
    """
    hidden = hidden_path(path)
    if not os.path.lexists(hidden):
        disk.finish()
        return False
    was_away = not os.path.lexists(path)
    with store_errors(f"cannot put {path} back: it is {hidden} until you rename it"):
        try:
            disk.link_file(hidden, path)
        except FileExistsError:
            was_away = False
            if not _is_same(hidden, path):
                raise ForeignFileError(
                    f"{path} is another file than {hidden}, which was set aside: keep the one "
                    "that you want and remove the other"
                ) from None
            disk.settle(path.parent)  # who linked it may have died before that was on disk
        except OSError:
            if os.path.lexists(path):
                raise
            # A file system without hard links, or one that fails: it must not stay away.
            disk.rename(hidden, path)
            return True
    if not os.path.lexists(path):
        raise StoreError(f"{path} is gone; {hidden} was kept: rename it back")
    disk.remove_file(hidden)
    return was_away


def _is_same(first: Path, second: Path) -> bool:
    return os.path.samestat(first.lstat(), second.lstat()) or (
        first.is_file()
        and second.is_file()
        and not second.is_symlink()
        and first.read_bytes() == second.read_bytes()
    )
