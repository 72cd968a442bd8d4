"""One write path: whole or not at all, synced, and only when something differs."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from checkpointer.store.durable import Disk
from checkpointer.store.errors import StoreError


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_file_is_written_whole_with_its_mode(tmp_path):
    """Content and mode are exact, whatever the umask."""
    before = os.umask(0o077)
    try:
        assert Disk().write_file(tmp_path / "f", b"abc", 0o644) is True
    finally:
        os.umask(before)
    assert (tmp_path / "f").read_bytes() == b"abc"
    assert mode_of(tmp_path / "f") == 0o644
    assert os.listdir(tmp_path) == ["f"]


def test_identical_file_is_left_alone(tmp_path, kit):
    """Renaming an equal manifest restarts static pods (peers.md P4)."""
    disk = Disk()
    disk.write_file(tmp_path / "f", b"abc")
    inode = (tmp_path / "f").stat().st_ino
    assert disk.write_file(tmp_path / "f", b"abc") is False
    assert (tmp_path / "f").stat().st_ino == inode
    calls = kit.FaultyCalls()
    assert Disk(calls).write_file(tmp_path / "f", b"abc") is False
    assert not {"write", "rename", "fchmod"} & set(calls.names)


@pytest.mark.parametrize("content", [b"", b"ab", b"abd", b"abcd"])
def test_differing_content_or_mode_is_written(tmp_path, content):
    """Shorter, longer, other, or only another mode."""
    Disk().write_file(tmp_path / "f", b"abc")
    assert Disk().write_file(tmp_path / "f", content) is True
    assert (tmp_path / "f").read_bytes() == content
    assert Disk().write_file(tmp_path / "f", content, 0o640) is True
    assert mode_of(tmp_path / "f") == 0o640


def test_symbolic_link_is_replaced_and_never_followed(tmp_path):
    """What a link leads to is not ours."""
    (tmp_path / "other").write_bytes(b"abc")
    (tmp_path / "f").symlink_to("other")
    assert Disk().write_file(tmp_path / "f", b"abc") is True
    assert not (tmp_path / "f").is_symlink()
    Disk().write_file(tmp_path / "f", b"new")
    assert (tmp_path / "other").read_bytes() == b"abc"


def test_pipe_in_the_way_does_not_hang(tmp_path):
    """A planted pipe is replaced like any other file."""
    path = tmp_path / "f"
    os.mkfifo(path)
    writer = threading.Thread(target=Disk().write_file, args=(path, b"abc"), daemon=True)
    writer.start()
    writer.join(10)
    if writer.is_alive():
        os.close(os.open(path, os.O_RDWR))  # lets go whoever waits for the other end
        writer.join()
        pytest.fail("it waits for somebody who writes to the pipe")
    assert path.read_bytes() == b"abc"


def test_error_names_path_and_reason(tmp_path):
    """An operator can act on it."""
    (tmp_path / "f").mkdir()
    with pytest.raises(StoreError, match=rf"^cannot write {tmp_path}/f: Is a directory$"):
        Disk().write_file(tmp_path / "f", b"abc")
    with pytest.raises(StoreError, match=r"cannot write .*/no/f: No such file or directory"):
        Disk().write_file(tmp_path / "no/f", b"abc")
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("old", [None, b"old"])
def test_each_call_may_fail(tmp_path, kit, old):
    """The file is as before or complete, no temporary one is left, no handle is open."""
    path = tmp_path / "f"

    def start() -> None:
        path.unlink(missing_ok=True)
        if old is not None:
            path.write_bytes(old)
            path.chmod(0o600)

    start()
    calls = kit.FaultyCalls()
    Disk(calls).write_file(path, b"new")
    open_before = len(os.listdir("/proc/self/fd"))
    for at in range(len(calls.names)):
        for error in kit.errors:
            start()
            disk = Disk(kit.FaultyCalls(kit.Fault(at, error=error)))
            reason = None
            try:
                disk.write_file(path, b"new")
            except StoreError as failure:
                reason = str(failure)
            assert reason in (None, f"cannot write {path}: {os.strerror(error)}")
            found = path.read_bytes() if path.exists() else None
            assert found in (old, b"new")
            assert set(os.listdir(tmp_path)) <= {"f"}
            assert len(os.listdir("/proc/self/fd")) == open_before
            disk.write_file(path, b"new")
            assert path.read_bytes() == b"new"


def test_what_never_had_its_name_needs_no_sync(tmp_path, kit):
    """On a full disk a write may fail each second; the folder is as it was."""

    class Calls(kit.FaultyCalls):
        def write(self, handle, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    disk = Disk(Calls())
    with pytest.raises(StoreError, match="No space left"):
        disk.write_file(tmp_path / "f", b"abc")
    assert not disk.is_unfinished

    class Unsynced(kit.FaultyCalls):
        def fsync(self, handle):
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(errno.EIO, "Input/output error")
            super().fsync(handle)

    disk = Disk(Unsynced())
    with pytest.raises(StoreError, match="Input/output error"):
        disk.write_file(tmp_path / "f", b"abc")
    assert disk.is_unfinished


def test_failed_cleanup_does_not_hide_the_error(tmp_path, kit):
    """When even the temporary file cannot be removed, the first reason is told."""

    class Calls(kit.FaultyCalls):
        def unlink(self, path):
            raise OSError(errno.EROFS, "Read-only file system")

        def fsync(self, handle):
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(StoreError, match="Input/output error"):
        Disk(Calls()).write_file(tmp_path / "f", b"abc")
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".pod-checkpointer-")


def test_folder_is_made_once_with_its_mode(tmp_path):
    """Whatever the umask; an existing one is left as it is."""
    before = os.umask(0o777)
    try:
        assert Disk().make_directory(tmp_path / "d") is True
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "d") == 0o700
    assert Disk().make_directory(tmp_path / "d") is False
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot create the folder"):
        Disk().make_directory(tmp_path / "f")


def test_removing_what_is_gone_is_fine(tmp_path):
    """Removal is idempotent."""
    (tmp_path / "f").write_bytes(b"")
    assert Disk().remove_file(tmp_path / "f") is True
    assert Disk().remove_file(tmp_path / "f") is False
    assert Disk().remove_file(tmp_path / "no/f") is False
    assert Disk().remove_tree(tmp_path / "d", inside=tmp_path) is False
    assert Disk().remove_empty_directory(tmp_path / "d") is False


def test_removed_tree_is_hidden_first(tmp_path, kit):
    """After the first rename nobody reads it under its name any more."""
    (tmp_path / "d/e").mkdir(parents=True)
    calls = kit.FaultyCalls(kit.Fault(0, crash="after"))
    with pytest.raises(kit.CrashError):
        Disk(calls).remove_tree(tmp_path / "d", inside=tmp_path)
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".pod-checkpointer-removed-")


@pytest.mark.parametrize("hide", [True, False])
def test_nothing_in_a_tree_goes_before_its_end_is_on_disk(tmp_path, kit, hide):
    """After a power cut half of it could be read, under its name or by what led to it."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").touch()
    calls = kit.FaultyCalls()
    Disk(calls).remove_tree(tmp_path / "d", inside=tmp_path, hide=hide)
    order = [name for name in calls.names if name in ("rename", "fsync", "unlink", "rmdir")]
    assert order == [*["rename"] * hide, "fsync", "unlink", "rmdir", "fsync"]


def test_removing_a_tree_follows_no_link(tmp_path):
    """Neither one inside it nor one in its place."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_bytes(b"")
    (tmp_path / "store/d/sub").mkdir(parents=True)
    (tmp_path / "store/d/link").symlink_to(tmp_path / "mine")
    (tmp_path / "store/l").symlink_to(tmp_path / "mine")
    disk = Disk()
    assert disk.remove_tree(tmp_path / "store/d", inside=tmp_path / "store") is True
    assert disk.remove_tree(tmp_path / "store/l", inside=tmp_path / "store") is True
    assert os.listdir(tmp_path / "store") == []
    assert os.listdir(tmp_path / "mine") == ["file"]


def test_tree_with_closed_folders_can_be_removed(tmp_path):
    """Material may have folders that not even their owner may write to."""
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/f").write_bytes(b"")
    (tmp_path / "d/e").chmod(0o000)
    Disk().remove_tree(tmp_path / "d", inside=tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["", "../x", "store/../x", "store"])
def test_tree_outside_is_never_removed(tmp_path, path):
    """A wrong path costs nothing."""
    (tmp_path / "store").mkdir()
    (tmp_path / "x").mkdir()
    with pytest.raises(StoreError, match="is not inside"):
        Disk().remove_tree(tmp_path / path, inside=tmp_path / "store")
    assert sorted(os.listdir(tmp_path)) == ["store", "x"]


def test_renaming_onto_something_is_refused(tmp_path):
    """A revision is never replaced, not even by an empty folder's rules."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(StoreError, match="the target exists"):
        Disk().rename_directory(tmp_path / "a", tmp_path / "b")


def test_link_is_swapped_in_one_step(tmp_path, kit):
    """At each point a reader finds the old target or the new one."""
    disk = Disk()
    assert disk.swap_link(tmp_path / "l", "one") is True
    assert disk.swap_link(tmp_path / "l", "one") is False
    calls = kit.FaultyCalls()
    (tmp_path / "l_tmp").symlink_to("stale")
    Disk(calls).swap_link(tmp_path / "l", "two")
    assert os.readlink(tmp_path / "l") == "two"
    for at in range(len(calls.names)):
        disk.swap_link(tmp_path / "l", "one")
        dying = kit.FaultyCalls(kit.Fault(at, crash="before"))
        (tmp_path / "l_tmp").symlink_to("stale")
        with pytest.raises(kit.CrashError):
            Disk(dying).swap_link(tmp_path / "l", "two")
        dying.bury()
        assert os.readlink(tmp_path / "l") in ("one", "two")
        (tmp_path / "l_tmp").unlink(missing_ok=True)


def test_memory_of_synced_folders_does_not_grow_with_churn(tmp_path):
    """What is gone is forgotten."""
    disk = Disk()
    for number in range(50):
        disk.make_directory(tmp_path / f"d{number}")
        disk.write_file(tmp_path / f"d{number}/f", b"")
        disk.remove_tree(tmp_path / f"d{number}", inside=tmp_path)
    assert disk._settled == {str(tmp_path)}
