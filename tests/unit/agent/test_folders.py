"""Being woken by folders: by every change, by no look, and whatever becomes of the folder."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers.api import BaseObserver

from checkpointer.node.folders import FolderWatch


@pytest.fixture
def watch() -> Iterator[FolderWatch]:
    found = FolderWatch()
    yield found
    found.close()


@pytest.fixture
def watched(watch: FolderWatch, folder: Path, kit: Any) -> Any:
    """Calls that count what is seen in `folder/w`, which is being watched."""
    (folder / "w").mkdir()
    (folder / "w/old").write_text("old")
    calls = kit.Calls()
    watch.add(folder / "w", calls)
    watch.ensure()
    return calls


def write_beside(path: Path) -> None:
    path.with_name(".new").write_text("new")
    path.with_name(".new").rename(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "made": lambda path: (path / "new").touch(),
    "written": lambda path: (path / "old").write_text("new"),
    "replaced": lambda path: write_beside(path / "old"),
    "removed": lambda path: (path / "old").unlink(),
    "linked": lambda path: (path / "link").symlink_to("old"),
    "closed to others": lambda path: (path / "old").chmod(0o600),
    "folder made": lambda path: (path / "sub").mkdir(),
    "moved in": lambda path: (path.parent / "w0").rename(path / "moved"),
    "moved out": lambda path: (path / "old").rename(path.parent / "moved"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_is_told(watched: Any, folder: Path, change: str) -> None:
    """Whatever happens to an entry of the folder is told within a moment."""
    (folder / "w0").touch()
    count = watched.count
    CHANGES[change](folder / "w")
    assert watched.wait_beyond(count)


def test_looking_is_no_change(watched: Any, folder: Path) -> None:
    """What we read ourselves must not wake us again, or the agent would never rest."""
    count = watched.count
    for _ in range(20):
        os.listdir(folder / "w")
        (folder / "w/old").read_text()
        (folder / "w/old").stat()
    (folder / "w/last").touch()
    assert watched.wait_beyond(count)
    time.sleep(0.1)  # for what should not come
    assert watched.count - count <= 4


def test_beginning_counts_as_a_change(watched: Any, watch: FolderWatch) -> None:
    """What happened between the last look and the watch would be missed otherwise."""
    assert watched.count == 1
    watch.ensure()
    assert watched.count == 1


def test_folder_need_not_exist_yet(watch: FolderWatch, folder: Path, kit: Any) -> None:
    """A kubelet that has not started yet has no folder: it is watched once it is there."""
    calls = kit.Calls()
    watch.add(folder / "later", calls)
    watch.ensure()
    assert calls.count == 0
    (folder / "later").mkdir()
    watch.ensure()
    assert calls.count == 1
    (folder / "later/x").touch()
    assert calls.wait_beyond(1)


@pytest.mark.parametrize("how", ["removed", "moved away"])
def test_folder_that_was_made_anew_is_watched(
    watched: Any, watch: FolderWatch, folder: Path, how: str
) -> None:
    """A folder that takes another's place is watched, even one with the same inode."""
    count = watched.count
    if how == "removed":
        (folder / "w/old").unlink()
        (folder / "w").rmdir()
        assert watched.wait_beyond(count + 1)
        time.sleep(0.1)  # for the last of its events
    else:
        (folder / "w").rename(folder / "w1")
    (folder / "w").mkdir()
    watch.ensure()
    count = watched.count
    (folder / "w/x").touch()
    assert watched.wait_beyond(count)


def test_subfolders_are_told_where_wanted(watch: FolderWatch, folder: Path, kit: Any) -> None:
    """The store is watched to its depth, also in what is made later."""
    deep, flat = kit.Calls(), kit.Calls()
    for name, calls, recursive in (("deep", deep, True), ("flat", flat, False)):
        (folder / name / "a").mkdir(parents=True)
        watch.add(folder / name, calls, recursive=recursive)
    watch.ensure()
    for name in ("deep", "flat"):
        (folder / name / "a/b").mkdir()
    assert deep.wait_beyond(1)
    count = deep.count
    (folder / "deep/a/b/c").touch()
    assert deep.wait_beyond(count)


def test_folder_that_cannot_be_watched_is_tried_again(
    watch: FolderWatch, folder: Path, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is out of inotify watches still has the slow tick; later it may work."""

    def exhausted(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    calls = kit.Calls()
    watch.add(folder, calls)
    with monkeypatch.context() as patched:
        patched.setattr(BaseObserver, "schedule", exhausted)
        watch.ensure()
        watch.ensure()
    assert calls.count == 0
    watch.ensure()
    assert calls.count == 1
    (folder / "x").touch()
    assert calls.wait_beyond(1)


def test_close_leaves_nothing(watch: FolderWatch, folder: Path, kit: Any) -> None:
    """No thread and no handle stays, and closing twice, or before the first watch, is fine."""
    FolderWatch().close()
    threads, handles = threading.active_count(), len(os.listdir("/proc/self/fd"))
    watch.add(folder, kit.Calls())
    watch.ensure()
    assert threading.active_count() > threads
    watch.close()
    watch.close()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == handles
