"""The journal: bounded, appended to durably, readable whatever call failed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from checkpointer.store.errors import StoreError
from checkpointer.store.journal import NAME, OLDER_NAME, Journal, read_journal
from checkpointer.store.layout import STATE


def entry(number: int, **more: Any) -> dict[str, Any]:
    return {"seq": number, "kind": "started", **more}


def numbers(root: Path) -> list[int]:
    return [found["seq"] for found in read_journal(root).entries]


@pytest.fixture
def base(ram_path: Path) -> Path:
    """A store's root with a journal of two entries, of which the file is nearly full."""
    root = ram_path / "base"
    root.mkdir(mode=0o700)
    Journal(root).append([entry(1), entry(2)])
    return root


def test_entries_are_read_in_order(base: Path) -> None:
    """What was appended by one process and the next is there, for root only."""
    Journal(base).append([entry(3, reason="zwölf")])
    assert read_journal(base).entries[-1] == entry(3, reason="zwölf")
    assert numbers(base) == [1, 2, 3]
    assert stat.S_IMODE((base / STATE / NAME).stat().st_mode) == 0o600


def test_journal_that_was_never_written_is_empty(ram_path: Path) -> None:
    """A fresh node has no history, which is no problem."""
    reading = read_journal(ram_path / "store")
    assert (reading.entries, reading.problems) == ((), ())


def test_size_is_bounded(base: Path) -> None:
    """The oldest entries go; the newest are always there."""
    journal = Journal(base, file_bytes=400)
    for number in range(3, 60):
        journal.append([entry(number)])
        assert numbers(base)[-1] == number
        assert sum(p.stat().st_size for p in (base / STATE).iterdir()) < 1000
    assert len(numbers(base)) >= 10


def test_half_a_line_is_left_behind(base: Path) -> None:
    """What a power cut left is told of and harms neither side."""
    with (base / STATE / NAME).open("ab") as file:
        file.write(b'{"seq":3,"ki')
    assert numbers(base) == [1, 2]
    Journal(base).append([entry(4)])
    assert numbers(base) == [1, 2, 4]
    (problem,) = read_journal(base).problems
    assert problem == f"{base / STATE / NAME}: 1 lines are damaged"


def test_long_reason_is_cut(base: Path) -> None:
    """No single happening fills the journal."""
    Journal(base).append([entry(3, reason="é" * 100_000)])
    assert (base / STATE / NAME).stat().st_size < 8192
    assert read_journal(base).entries[-1]["reason"].endswith("é…")


@pytest.mark.parametrize("name", [NAME, OLDER_NAME])
def test_what_is_no_journal_is_left_alone(base: Path, name: str) -> None:
    """Neither a link nor a pipe is followed or waited for."""
    target = base / "elsewhere"
    target.write_bytes(b"mine")
    path = base / STATE / name
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    assert len(read_journal(base).problems) == 1
    if name == NAME:
        with pytest.raises(StoreError, match="cannot write"):
            Journal(base).append([entry(3)])
    path.unlink()
    os.mkfifo(path)
    assert "is not a regular file" in read_journal(base).problems[0]
    assert target.read_bytes() == b"mine"


def sweep(base: Path, kit: Any, file_bytes: int) -> Any:
    """Yield for each call of an append a fresh root, the call's number and its name."""
    root = base.with_name("copy")

    def fresh() -> Path:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(base, root, symlinks=True)
        return root

    calls = kit.FaultyCalls()
    Journal(fresh(), calls, file_bytes).append([entry(3), entry(4)])
    for at, name in enumerate(calls.names):
        yield fresh(), at, name


@pytest.mark.parametrize("file_bytes", [10_000, 10], ids=["append", "rotate"])
def test_failing_call_loses_no_entry(base: Path, kit: Any, file_bytes: int) -> None:
    """Whichever call fails: what was there is there, and trying again has all of it, once."""
    handles = len(os.listdir("/proc/self/fd"))
    for root, at, name in sweep(base, kit, file_bytes):
        journal = Journal(root, kit.FaultyCalls(kit.Fault(at, error=errno.ENOSPC)), file_bytes)
        with pytest.raises(StoreError):
            journal.append([entry(3), entry(4)])
        assert numbers(root)[:2] == [1, 2], name
        Journal(root).append([entry(3), entry(4)])
        assert numbers(root) == [1, 2, 3, 4], name
        assert len(os.listdir("/proc/self/fd")) == handles


@pytest.mark.parametrize("how", ["before", "after", "half"])
@pytest.mark.parametrize("file_bytes", [10_000, 10], ids=["append", "rotate"])
def test_death_at_any_call_loses_no_entry(base: Path, kit: Any, file_bytes: int, how: str) -> None:
    """Killed before, after or in the middle of any call: the next run reads and goes on."""
    for root, at, name in sweep(base, kit, file_bytes):
        if how == "half" and name != "write":
            continue
        calls = kit.FaultyCalls(kit.Fault(at, crash=how))
        with pytest.raises(kit.CrashError):
            Journal(root, calls, file_bytes).append([entry(3), entry(4)])
        calls.bury()
        assert numbers(root)[:2] == [1, 2], name
        Journal(root).append([entry(5)])
        found = numbers(root)
        assert found[-1] == 5, name
        assert found == sorted(set(found)), name


def test_short_writes_are_continued(base: Path, kit: Any) -> None:
    """A system that takes three bytes at a time gets all of them."""
    fault = kit.Fault(-1, short_writes=True)
    Journal(base, kit.FaultyCalls(fault)).append([entry(3)])
    assert json.loads((base / STATE / NAME).read_bytes().splitlines()[-1]) == entry(3)
