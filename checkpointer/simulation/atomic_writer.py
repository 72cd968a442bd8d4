"""Writes a volume's files as the kubelet's AtomicWriter does (pkg/volume/util/atomic_writer.go).

Real files lie in a folder with a time in its name, `..data` points to it and is swapped by a
rename, and each name in the volume's root is a link through `..data`.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from checkpointer.values import dataclass

_DATA = "..data"


@dataclass(frozen=True, slots=True)
class File:
    """Content and permission bits of one file."""

    content: bytes
    mode: int = 0o644


Payload = Mapping[str, File]
"""Files by their relative path in the volume."""


def write(root: Path, payload: Payload) -> bool:
    """Make the volume hold exactly the payload; tell whether that changed anything."""
    data = root / _DATA
    before = data.resolve() if data.is_symlink() else None
    if before is not None and before.is_dir() and _read(before) == payload:
        return False
    now = datetime.now(UTC).strftime("%Y_%m_%d_%H_%M_%S")
    folder = root / f"..{now}.{uuid.uuid4().int % 10**10}"
    folder.mkdir(mode=0o755)
    for name, file in payload.items():
        path = folder / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
    swap = root / "..data_tmp"
    swap.unlink(missing_ok=True)
    swap.symlink_to(folder.name)
    os.rename(swap, data)
    _link(root, {name.split("/", 1)[0] for name in payload})
    if before is not None and before.is_dir():
        shutil.rmtree(before)
    return True


def _link(root: Path, names: set[str]) -> None:
    for entry in tuple(root.iterdir()):
        if not entry.name.startswith("..") and entry.name not in names:
            entry.unlink()
    for name in names:
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"{_DATA}/{name}")


def _read(folder: Path) -> dict[str, File]:
    return {
        str(path.relative_to(folder)): File(path.read_bytes(), path.stat().st_mode & 0o7777)
        for path in folder.rglob("*")
        if path.is_file()
    }
