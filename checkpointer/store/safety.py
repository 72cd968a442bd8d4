"""Whether a folder can be trusted: nobody but root and us may replace anything on the way to it."""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path

from checkpointer.store.errors import UnsafePathError


def check_folder(path: Path) -> int | None:
    """Check a folder of ours and all above it; return its mode, None if it does not exist yet.

    Each must be a real folder (no symbolic link), owned by root or us, and not writable by
    others, save for one with the sticky bit such as /tmp. The folder itself must be ours.
    Raises UnsafePathError naming the folder and what was expected; OSError if one cannot be read.
    """
    user = os.geteuid()
    *above, last = _way_to(path)
    try:
        for folder in above:
            _check(folder, os.lstat(folder), user, is_ours=False)
        status = os.lstat(last)
    except FileNotFoundError:
        return None
    _check(last, status, user, is_ours=True)
    return status.st_mode


@functools.lru_cache(maxsize=8)
def _way_to(path: Path) -> tuple[str, ...]:
    """Return the folders from the root to this one. Before each write: worked out once."""
    if not path.is_absolute() or ".." in path.parts:
        raise UnsafePathError(f"{path} is not an absolute path without '..'")
    return (*map(str, reversed(path.parents)), str(path))


def _check(folder: str, status: os.stat_result, user: int, *, is_ours: bool) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise UnsafePathError(
            f"{folder} is a symbolic link, expected a folder; give the path that it leads to"
        )
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafePathError(f"{folder} is not a folder")
    allowed = {user} if is_ours else {0, user}
    if is_ours and status.st_uid == 0 and user != 0:
        raise UnsafePathError(f"{folder} belongs to root, and this does not run as root: try sudo")
    if status.st_uid not in allowed:
        raise UnsafePathError(
            f"{folder} belongs to user {status.st_uid}, expected {' or '.join(map(str, allowed))}: "
            f"its owner could replace what lies there; see what does, then chown {user} {folder}"
        )
    if status.st_mode & 0o022 and (is_ours or not status.st_mode & stat.S_ISVTX):
        mode = stat.S_IMODE(status.st_mode)
        raise UnsafePathError(
            f"{folder} is writable by others (mode {mode:04o}): they could replace what lies "
            f"there; see what does, then chmod go-w {folder}"
        )
