"""Where a folder lies: its file system, how much room that has, whether it survives a reboot."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.values import dataclass

MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, or of one that is not there yet the nearest parent that is."""

    path: Path
    exists: bool
    """Whether it is a folder; what follows is the parent's otherwise."""
    kind: str
    """The file system's type as in mountinfo, such as ext4; empty when that cannot be told."""
    is_read_only: bool
    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int
    """0 on file systems without a fixed number, such as btrfs."""
    owner: int
    mode: int
    """Permission bits."""


def look_at(path: Path, mounts: Path = MOUNTS) -> Fact[Place]:
    """Return where a folder lies. May wait for as long as a dead network file system does."""
    try:
        nearest = next(place for place in (path, *path.parents) if place.exists())
        status, room = nearest.stat(), os.statvfs(nearest)
    except OSError as error:
        return Unknown(f"cannot look at {path}: {error.strerror}")
    return Known(
        Place(
            path=path,
            exists=nearest == path and stat.S_ISDIR(status.st_mode),
            kind=_kind(nearest.resolve(), mounts),
            is_read_only=bool(room.f_flag & os.ST_RDONLY),
            free_bytes=room.f_bavail * room.f_frsize,
            total_bytes=room.f_blocks * room.f_frsize,
            free_inodes=room.f_favail,
            total_inodes=room.f_files,
            owner=status.st_uid,
            mode=stat.S_IMODE(status.st_mode),
        )
    )


def _kind(path: Path, mounts: Path) -> str:
    """Return the type of what is mounted nearest above; of two at one place the later one."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        if len(point.parts) >= best and (point == path or point in path.parents):
            best, kind = len(point.parts), right.split(" ")[0]
    return kind
