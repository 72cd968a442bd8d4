"""Whatever fails, a manifest that was set aside is not lost, and the next run puts it back."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from checkpointer.node.set_aside import hidden_path, put_back, set_aside
from checkpointer.store.durable import Disk
from checkpointer.store.errors import DiskError
from checkpointer.store.system_calls import SystemCalls

CONTENT = b"kind: Pod"


def start(path: Path, is_aside: bool) -> None:
    """Make the folder as it is before the operation."""
    for name in os.listdir(path.parent):
        (path.parent / name).unlink()
    (hidden_path(path) if is_aside else path).write_bytes(CONTENT)


@pytest.mark.parametrize("is_aside", [False, True], ids=["set aside", "put back"])
def test_failing_or_dying_at_any_call_keeps_the_manifest(ram_path, kit, is_aside):
    """Under one of its two names, or both, with all its bytes."""
    path = ram_path / "etcd.yaml"
    operate = put_back if is_aside else set_aside
    start(path, is_aside)
    calls = kit.FaultyCalls()
    operate(Disk(calls), path)
    faults = [{"error": error} for error in kit.errors]
    faults += [{"crash": how} for how in ("before", "after")]
    for at in range(len(calls.names)):
        for fault in faults:
            start(path, is_aside)
            faulty = kit.FaultyCalls(kit.Fault(at, **fault))
            with suppress(DiskError, kit.CrashError):
                operate(Disk(faulty), path)
            faulty.bury()
            names = set(os.listdir(ram_path))
            assert names
            assert names <= {path.name, hidden_path(path).name}
            assert all((ram_path / name).read_bytes() == CONTENT for name in names)
            put_back(Disk(), path)
            assert os.listdir(ram_path) == [path.name]
            assert path.read_bytes() == CONTENT


class _NoLinks(SystemCalls):
    """A file system that knows no hard links."""

    def link(self, source: str, target: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_file_system_without_hard_links_will_do(ram_path):
    """The manifest is renamed back, unless there is another one."""
    path = ram_path / "etcd.yaml"
    start(path, is_aside=True)
    assert put_back(Disk(_NoLinks()), path) is True
    assert os.listdir(ram_path) == [path.name]
