"""Small state of the node that belongs to no workload, such as the last contact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.store.durable import Disk
from checkpointer.store.errors import DiskError
from checkpointer.store.files import read_file
from checkpointer.store.layout import STATE, encode
from checkpointer.store.provenance import JSON_LIMIT, canonical, parse_object
from checkpointer.store.safety import check_folder
from checkpointer.store.system_calls import SystemCalls


def read_state(calls: SystemCalls, root: Path, name: str) -> Fact[dict[str, Any]]:
    """Return what was last written; empty when nothing was, Unknown when it cannot be read."""
    path = _path(root, name)
    try:
        check_folder(root)
        return Known(parse_object(read_file(calls, str(path), JSON_LIMIT).content, str(path)))
    except FileNotFoundError:
        return Known({})
    except OSError as error:
        return Unknown(f"cannot read {path}: {error.strerror}")
    except DiskError as error:
        return Unknown(str(error))


def write_state(disk: Disk, root: Path, name: str, value: Mapping[str, Any]) -> bool:
    """Write it durably if it differs; return whether it did. Raises StoreError."""
    path = _path(root, name)
    disk.make_directory(path.parent)
    return disk.write_file(path, canonical(value))


def _path(root: Path, name: str) -> Path:
    return root / STATE / f"{encode(name)}.json"
