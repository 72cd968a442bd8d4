"""Whatever goes wrong for long, and in which order things are synced: as before or complete.

Single calls that fail, deaths and power cuts are in tests/unit/durability. Each operation is run
once to count its system calls, then on a fresh copy of the same store for every call from which
on the disk is gone; afterwards it is done again by a process in good health, and must finish.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.checkpoint import Checkpoint, Record
from checkpointer.core.facts import Known
from checkpointer.core.workload import Workload
from checkpointer.store.errors import DiskError
from checkpointer.store.revisions import Store

OTHER = Workload("kube-system", "Deployment", "kube-scheduler")


@dataclass(frozen=True)
class Operation:
    """A change of the store, what may serve before and after it, and how it is told finished."""

    run: Callable[[Store], object]
    before: list[int]
    after: list[int]
    is_done: Callable[[Store, Checkpoint], bool]


@pytest.fixture
def operations(ram_path, kit) -> dict[str, Operation]:
    """The operations on a store with revisions 1 and 2 of one workload and 1 of another."""
    volumes = kit.volumes_at(ram_path / "rendered")
    fresh = kit.volumes_at(ram_path / "fresh", kit.jwt(exp=7))[1]
    store = Store(ram_path / "base")
    store.add(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes, OTHER))
    store.write_record(kit.workload, Record(issue=1))
    (ram_path / "base/kube-system/daemonset.kube-apiserver/stranger").write_bytes(b"mine")
    workload = kit.workload

    def gone(store: Store, found: Checkpoint) -> bool:
        folder = store.root / "kube-system/daemonset.kube-apiserver"
        return found.revisions == () and os.listdir(folder) == ["stranger"]

    return {
        "add": Operation(
            lambda s: s.add(kit.new_revision(volumes, digest="new")),
            [2, 1],
            [3, 2, 1],
            lambda s, found: found.revisions[0].digest == "new",
        ),
        "record": Operation(
            lambda s: s.write_record(workload, Record(issue=2)),
            [2, 1],
            [2, 1],
            lambda s, found: found.record == Record(issue=2),
        ),
        "renew": Operation(
            lambda s: s.refresh_tokens(workload, 2, fresh),
            [2, 1],
            [2, 1],
            lambda s, found: s.token_expiry(workload, 2) == 7,
        ),
        "prune": Operation(
            lambda s: s.prune(workload, {2}),
            [2, 1],
            [2],
            lambda s, found: [r.number for r in found.revisions] == [2],
        ),
        "remove": Operation(lambda s: s.remove(workload), [2, 1], [], gone),
        "clean": Operation(lambda s: s.clean(), [2, 1], [2, 1], lambda s, found: True),
    }


def litter(root: Path) -> None:
    """Leave what a process that died may have left anywhere."""
    folder = root / "kube-system/daemonset.kube-apiserver"
    for parent in (root, root / "kube-system", folder, folder / "revisions"):
        (parent / ".pod-checkpointer-new-0123456789abcdef").write_bytes(b"half")
        (parent / ".pod-checkpointer-removed-0123456789abcdef").mkdir()
        (parent / ".pod-checkpointer-removed-0123456789abcdef/deep").mkdir()
        (parent / ".pod-checkpointer-removed-0123456789abcdef/deep/file").write_bytes(b"half")
    copy = folder / "revisions/2/material/api"
    (copy / "..checkpoint-9").mkdir()
    (copy / "..data_tmp").symlink_to("..checkpoint-9")


def found_in(root: Path, workload: Workload) -> Checkpoint:
    """Read the store as another process does."""
    answer = Store(root).read()
    assert isinstance(answer, Known), answer
    assert answer.value.problems == ()
    found = {c.workload: c for c in answer.value.checkpoints}
    assert [r.number for r in found[OTHER].revisions] == [1]
    return found.get(workload, Checkpoint(workload, ()))


def temporaries(root: Path) -> list[Path]:
    """All names that only a process at work may have."""
    return [
        path
        for path in root.rglob("*")
        if path.name.startswith(".pod-checkpointer-") or path.name == "..data_tmp"
    ]


def check(root: Path, kit: Any, operation: Operation) -> None:
    """Whoever opens the store now finds it as before or complete, and nothing damaged."""
    found = found_in(root, kit.workload)
    served = [revision.number for revision in found.revisions]
    assert served in (operation.before, operation.after)
    assert found.problems == ()
    assert found.record in (Record(issue=1), Record(issue=2), Record())


def finish(root: Path, kit: Any, operation: Operation) -> None:
    """The next run cleans up, does it again, and is done."""
    store = Store(root)
    assert store.clean() == ()
    assert temporaries(root) == []
    if not operation.is_done(store, found_in(root, kit.workload)):
        operation.run(store)
    assert operation.is_done(Store(root), found_in(root, kit.workload))
    assert temporaries(root) == []
    assert (root / "kube-system/daemonset.kube-apiserver/stranger").read_bytes() == b"mine"


def copies(base: Path, name: str) -> Iterator[Path]:
    """Give a fresh copy of the store each time."""
    root = base.with_name("copy")
    while True:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(base, root, symlinks=True)
        if name == "clean":
            litter(root)
        yield root


def counted(root: Path, kit: Any, operation: Operation) -> list[str]:
    """Run it once in good health and return the names of its system calls."""
    calls = kit.FaultyCalls()
    operation.run(Store(root, calls))
    return calls.names


NAMES = ["add", "record", "renew", "prune", "remove", "clean"]


@pytest.mark.parametrize("name", NAMES)
def test_dead_disk_is_an_error_and_no_more(operations, ram_path, kit, name):
    """When every call fails from some point on, what serves still serves."""
    operation = operations[name]
    fresh = copies(ram_path / "base", name)
    names = counted(next(fresh), kit, operation)
    for at in range(len(names)):
        root = next(fresh)
        calls = dying_calls(kit, at)
        try:
            operation.run(Store(root, calls))
        except DiskError:
            pass
        else:
            assert name == "clean" or calls.fault.at == len(calls.names)
        check(root, kit, operation)
        finish(root, kit, operation)


def dying_calls(kit: Any, at: int) -> Any:
    """Return the system calls of a disk that is read-only from the n-th call on."""

    class Calls(kit.FaultyCalls):
        def _go_wrong(self, name: str, call: Any, args: Any, kwargs: Any) -> Any:
            self.fault.at = len(self.names)
            is_change = name not in kit.reading and not (
                name == "open" and not args[1] & os.O_CREAT
            )
            if is_change and name != "fsync":
                raise OSError(errno.EROFS, "Read-only file system")
            return self._do(name, call, args, kwargs)

    return Calls(kit.Fault(at))


@pytest.mark.parametrize("name", NAMES)
def test_short_writes_are_continued(operations, ram_path, kit, name):
    """A write that takes three bytes at a time ends in the same store."""
    operation = operations[name]
    root = next(copies(ram_path / "base", name))
    operation.run(Store(root, kit.FaultyCalls(kit.Fault(-1, short_writes=True))))
    check(root, kit, operation)
    finish(root, kit, operation)


def test_every_change_is_synced_before_it_is_named(operations, ram_path, kit):
    """A revision's files and folders are synced before its rename, and that before the pointer's.

    The order of the calls is the promise: a power cut keeps only what was synced.
    """
    calls = kit.FaultyCalls()
    operations["add"].run(Store(next(copies(ram_path / "base", "add")), calls))
    names = calls.names
    first, second = (i for i, name in enumerate(names) if name == "rename")
    assert names[first - 1 - names[:first][::-1].index("fsync")] == "fsync"
    written = names[:first].count("write")
    folders = names[:first].count("mkdir")
    assert written == 8  # five files of material and three of the revision
    # One sync for each file and folder, and for those above that this process had not synced.
    assert names[:first].count("fsync") >= written + folders
    assert names[first + 1 : second].count("fsync") == 2  # the folder's rename; the pointer
    assert names[second + 1 :].count("fsync") == 1


def test_folder_whose_sync_failed_is_synced_by_the_next_try(root, kit):
    """A write that is skipped because the bytes are there must not skip the sync as well."""
    healthy = kit.FaultyCalls()
    Store(root).write_record(kit.workload, Record(issue=1))
    Store(root, healthy).write_record(kit.workload, Record(issue=2))
    last = len(healthy.names) - 1 - healthy.names[::-1].index("fsync")
    Store(root).write_record(kit.workload, Record(issue=1))
    calls = kit.FaultyCalls(kit.Fault(last, error=5))
    store = Store(root, calls)
    with pytest.raises(DiskError, match=r"cannot write .*record\.json: Input/output error"):
        store.write_record(kit.workload, Record(issue=2))
    before = len(calls.names)
    assert store.write_record(kit.workload, Record(issue=2)) is False
    assert "fsync" in calls.names[before:]


def test_uncommitted_revision_does_not_pile_up(operations, ram_path, kit):
    """A disk on which only the pointer cannot be written does not fill with revisions."""
    operation = operations["add"]
    names = counted(next(copies(ram_path / "base", "add")), kit, operation)
    root = next(copies(ram_path / "base", "add"))
    pointer = len(names) - 1 - names[::-1].index("rename")
    for _ in range(3):
        with pytest.raises(DiskError):
            operation.run(Store(root, kit.FaultyCalls(kit.Fault(pointer, error=28))))
    revisions = root / "kube-system/daemonset.kube-apiserver/revisions"
    assert sorted(os.listdir(revisions)) == ["1", "2"]
