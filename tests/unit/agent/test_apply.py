"""Applying: what fails is told once, held back and tried again, and keeps nobody else down."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from checkpointer.apply import Applier
from checkpointer.core.checkpoint import HandOver, Record
from checkpointer.core.contact import initial_contact
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.moment import Moment
from checkpointer.core.observation import Observation
from checkpointer.core.plan import (
    Action,
    Activate,
    Kill,
    Memory,
    Plan,
    Release,
    Remove,
    ReplaceParent,
    Snapshot,
    StartAnew,
)
from checkpointer.core.workload import Workload
from checkpointer.errors import ApiError, CheckpointerError, NotCheckpointableError
from checkpointer.manifest.render import mark_of
from checkpointer.manifest.verdict import Finding, Outcome, Verdict
from checkpointer.node.cri_connection import RuntimeSilentError
from checkpointer.node.manifests import ManifestFolder
from checkpointer.store.revisions import Store

SECRET = "hunter2"
A = Workload("kube-system", "DaemonSet", "a")
B = Workload("kube-system", "DaemonSet", "b")
NOTHING = Observation(
    initial_contact(0.0), Unknown("-"), Unknown("-"), Unknown("-"), Known(()), Known(())
)


class FakeRuntime:
    """A runtime that notes what it is told to stop, and cannot stop some."""

    def __init__(self) -> None:
        self.stopped: list[tuple[str, ...]] = []
        self.stubborn: set[str] = set()
        self.silent: set[str] = set()
        self.on_stop: Callable[[], None] = lambda: None

    def stop_container(self, container: str, grace_seconds: int) -> None:
        self._stop("container", container, str(grace_seconds))

    def remove_container(self, container: str) -> None:
        self._stop("removed", container)

    def stop_sandbox(self, sandbox: str) -> None:
        self._stop("sandbox", sandbox)

    def _stop(self, *what: str) -> None:
        self.stopped.append(what)
        self.on_stop()
        if what[1] in self.silent:
            raise RuntimeSilentError(f"{what[1]}: no answer within 10.0 s")
        if what[1] in self.stubborn:
            raise CheckpointerError(f"{what[1]} does not stop")


class FakeSnapshooter:
    """Fails with what a test sets for a pod's UID."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.taken: list[str] = []
        self.active: list[Fact[int | None]] = []

    def take(self, pod: Mapping[str, Any], _: Any, active: Fact[int | None], __: float) -> None:
        self.taken.append(pod["metadata"]["uid"])
        self.active.append(active)
        if error := self.errors.get(pod["metadata"]["uid"]):
            raise error

    def explain(self, pod: Mapping[str, Any]) -> tuple[Verdict, None, None]:
        """Answer a dry run, which only asks."""
        finding = Finding("spec.volumes", "it is odd")
        return Verdict(Outcome.REFUSED, A, None, refusals=(finding,)), None, None


class Bench:
    """An applier on a real store and folder."""

    def __init__(self, folder: Path, store_calls: Any, folder_calls: Any, dry_run: bool) -> None:
        (folder / "manifests").mkdir()
        self.manifests = folder / "manifests"
        self.store_calls, self.folder_calls = store_calls, folder_calls
        self.store = Store(folder / "store", store_calls)
        self.folder = ManifestFolder(self.manifests, mark_of, folder_calls)
        self.applier = Applier(self.store, self.folder, "node-1", dry_run)

    def apply(
        self,
        *actions: Action,
        at: float = 0.0,
        records: Mapping[Workload, Record] | None = None,
        pods: Fact[tuple[Any, ...]] | None = None,
    ) -> bool:
        plan = Plan("", Memory(), actions, records or {})
        found = Unknown("-") if pods is None else pods
        return self.applier.apply(plan, NOTHING, found, Moment("boot", at, 1000.0))

    @property
    def active(self) -> list[tuple[Workload, int, int]]:
        found = self.folder.observe()
        assert isinstance(found, Known)
        return [(m.workload, m.revision, m.issue) for m in found.value.ours]

    @property
    def stored(self) -> dict[Workload, list[int]]:
        found = self.store.read()
        assert isinstance(found, Known)
        return {c.workload: [r.number for r in c.revisions] for c in found.value.checkpoints}

    def record(self, workload: Workload) -> Record:
        found = Store(self.store.root).read()
        assert isinstance(found, Known)
        return next(c.record for c in found.value.checkpoints if c.workload == workload)


@pytest.fixture
def bench(folder: Path, kit: Any) -> Bench:
    found = Bench(folder, kit.FullDisk(), kit.FullDisk(), False)
    for workload in (A, B):
        found.store.add(kit.new_revision(workload))
    return found


@pytest.fixture
def runtime(bench: Bench) -> FakeRuntime:
    """The runtime that the bench's applier has."""
    found = FakeRuntime()
    bench.applier.runtime = found  # type: ignore[assignment]
    return found


def activate(workload: Workload, revision: int = 1, issue: int = 1, stop: Any = ()) -> Activate:
    return Activate(workload, revision, issue, "because", stop)


def told(caplog: pytest.LogCaptureFixture, level: int = logging.ERROR) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= level]


def test_activation_writes_a_manifest_that_says_whose_it_is(bench: Bench) -> None:
    """What the kubelet gets is the stored revision under our mark."""
    assert bench.apply(activate(A, issue=7))
    assert bench.active == [(A, 1, 7)]


def test_applying_again_changes_nothing(bench: Bench, kit: Any) -> None:
    """An agent that died after the last system call repeats the plan without a trace."""
    bench.apply(activate(A), records={A: Record(issue=1)})
    before = kit.tree(bench.manifests), kit.tree(bench.store.root)
    assert bench.apply(activate(A), records={A: Record(issue=1)})
    assert (kit.tree(bench.manifests), kit.tree(bench.store.root)) == before


def test_failed_action_is_held_back_ever_longer(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk is tried again after 1, 2, 4 ... 60 s, is told once, and heals by itself."""
    bench.folder_calls.is_full = True
    tried = []
    at = 0.0
    while len(tried) < 9:
        before = bench.folder_calls.refusals
        assert not bench.apply(activate(A), at=at)
        if bench.folder_calls.refusals > before:
            tried.append(at)
        at += 0.5
    assert [b - a for a, b in itertools.pairwise(tried)] == [
        *(1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0)
    ]
    (line,) = told(caplog)
    assert line.startswith("kube-system/daemonset/a: cannot write")
    assert line.endswith("No space left on device; trying again in 1 s")
    bench.folder_calls.is_full = False
    assert not bench.apply(activate(A), at=tried[-1] + 59.0)
    assert bench.active == []
    assert bench.apply(activate(A), at=tried[-1] + 60.0)
    assert bench.active == [(A, 1, 1)]
    assert not bench.applier.has_failed


def test_backoff_begins_anew_after_a_success(bench: Bench) -> None:
    """What worked in between is no longer held against an action."""
    bench.folder_calls.is_full = True
    for at in (0.0, 1.0):
        bench.apply(activate(A), at=at)
    bench.folder_calls.is_full = False
    assert bench.apply(activate(A), at=3.0)
    bench.folder_calls.is_full = True
    assert not bench.apply(activate(A, issue=2), at=4.0)
    bench.folder_calls.is_full = False
    assert bench.apply(activate(A, issue=2), at=5.0)


def test_failure_is_forgotten_with_the_wish(bench: Bench) -> None:
    """An action that nobody plans any more leaves no backoff for one that is planned later."""
    bench.folder_calls.is_full = True
    bench.apply(activate(A), at=0.0)
    bench.apply(at=0.5)
    assert bench.applier.has_failed
    bench.apply(at=1.0)
    assert not bench.applier.has_failed


def test_changed_message_is_told_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """An operator hears of the next problem, not of the same one every minute."""
    runtime = FakeRuntime()
    bench.applier.runtime = runtime  # type: ignore[assignment]
    for at, stubborn in ((0.0, "c1"), (1.0, "c1"), (3.0, "c2")):
        runtime.stubborn = {stubborn}
        bench.apply(Kill(A, ("c1", "c2")), at=at)
    assert told(caplog) == [
        "kube-system/daemonset/a: c1 does not stop; trying again in 1 s",
        "kube-system/daemonset/a: c2 does not stop; trying again in 4 s",
    ]


def test_records_of_held_actions_are_not_written(bench: Bench) -> None:
    """An issue number counts attempts: while none is made it stays, or the disk never rests."""
    bench.folder_calls.is_full = True
    for at, issue, kept in ((0.0, 1, 1), (0.5, 2, 1), (0.9, 3, 1), (1.0, 4, 4)):
        bench.apply(
            activate(A, issue=issue), at=at, records={A: Record(issue=issue), B: Record(issue=9)}
        )
        assert bench.record(A).issue == kept
    assert bench.record(B).issue == 9


def test_record_that_cannot_be_written_stops_no_activation(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A node without room in the store still gets its API server; told once, saved later."""
    bench.store_calls.is_full = True
    for at in (0.0, 1.0, 2.0):
        assert not bench.apply(activate(A), at=at, records={A: Record(issue=1)})
    assert bench.active == [(A, 1, 1)]
    (line,) = told(caplog)
    assert line.startswith("kube-system/daemonset/a: cannot write")
    bench.store_calls.is_full = False
    assert bench.apply(activate(A), at=3.0, records={A: Record(issue=1)})
    assert bench.record(A).issue == 1


def test_tampered_revision_is_replaced_by_the_one_before(
    bench: Bench, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What was changed behind our back is found at the last moment, and not run."""
    bench.store.add(kit.new_revision(A, "d2"))
    assert bench.stored[A] == [2, 1]
    path = next(p for p in bench.store.root.rglob("revisions/2/*") if p.name.startswith("manif"))
    path.write_bytes(path.read_bytes().replace(b"pause", b"evil!"))
    assert not bench.apply(activate(A, 2))
    assert bench.active == []
    assert bench.stored[A] == [1]
    assert "revision 2 does not verify" in told(caplog)[0]
    assert bench.apply(activate(A, 1, 2), at=0.1)
    assert bench.active == [(A, 1, 2)]


@pytest.mark.parametrize("what", ["file", "link", "folder"])
def test_foreign_thing_in_the_way_stays(
    bench: Bench, what: str, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What has our file's name and not our mark is somebody's: an error, and nothing replaced."""
    bench.apply(activate(A))
    (path,) = bench.manifests.iterdir()
    path.unlink()
    if what == "file":
        path.write_text('{"kind": "Pod"}')
    elif what == "link":
        path.symlink_to("/etc/hostname")
    else:
        path.mkdir()
    before = kit.tree(bench.manifests)
    caplog.clear()
    assert not bench.apply(activate(A), Release(B, path.name, "back"))
    assert kit.tree(bench.manifests) == before
    assert len(told(caplog)) == 2
    assert all(path.name in line for line in told(caplog))


def test_release_removes_the_manifest_and_kills_at_once(bench: Bench, runtime: FakeRuntime) -> None:
    """The copy is stopped through the runtime with no grace: its parent needs the port now."""
    bench.apply(activate(A))
    (path,) = bench.manifests.iterdir()
    assert bench.apply(Release(A, path.name, "back", ("c1", "c2")))
    assert bench.active == []
    assert runtime.stopped == [("container", "c1", "0"), ("container", "c2", "0")]


def test_copy_is_killed_before_anything_is_written(bench: Bench, runtime: FakeRuntime) -> None:
    """The parent that needs its ports does not wait for the disk."""
    bench.apply(activate(A))
    (path,) = bench.manifests.iterdir()
    seen: list[tuple[bool, str]] = []
    runtime.on_stop = lambda: seen.append((path.exists(), bench.record(A).hand_over.to))
    record = Record(hand_over=HandOver("uid-a"))
    assert bench.apply(Release(A, path.name, "back", ("c1",)), records={A: record})
    assert seen == [(True, "")]
    assert (path.exists(), bench.record(A).hand_over.to) == (False, "uid-a")
    assert runtime.stopped == [("container", "c1", "0")]


def test_copy_whose_manifest_stays_is_killed_once(bench: Bench, runtime: FakeRuntime) -> None:
    """The kubelet starts it again: with each try to remove the manifest it would die anew."""
    bench.apply(activate(A))
    (path,) = bench.manifests.iterdir()
    content = path.read_bytes()
    path.write_text("somebody else's")
    assert not bench.apply(Release(A, path.name, "back", ("c1",)))
    assert not bench.apply(Release(A, path.name, "back", ("c1",)), at=1.0)
    assert runtime.stopped == [("container", "c1", "0")]
    path.write_bytes(content)
    assert bench.apply(Release(A, path.name, "back", ("c2",)), at=60.0)
    assert runtime.stopped[1:] == [("container", "c2", "0")]


def test_copy_whose_manifest_stays_is_not_killed_with_each_new_wish(
    bench: Bench, runtime: FakeRuntime
) -> None:
    """The API that wants the parent back may be the copy's own: killed, nobody wants anything, and
    as soon as it is back the same release is planned again."""
    bench.apply(activate(A))
    (path,) = bench.manifests.iterdir()
    content = path.read_bytes()
    path.write_text("somebody else's")
    assert not bench.apply(Release(A, path.name, "back", ("c1",)))
    bench.apply(at=2.0)
    assert not bench.applier.has_failed
    assert not bench.apply(Release(A, path.name, "back", ("c2",)), at=20.0)
    assert runtime.stopped == [("container", "c1", "0")]
    path.write_bytes(content)
    assert bench.apply(Release(A, path.name, "back", ("c2",)), at=60.0)
    assert runtime.stopped[1:] == [("container", "c2", "0")]


def test_hand_over_that_cannot_be_recorded_is_not_begun(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody would know of it: the parent not started anew, its failures not counted, the copy
    taken out again as soon as it is back."""
    runtime = FakeRuntime()
    bench.applier.runtime = runtime  # type: ignore[assignment]
    bench.apply(activate(A))
    (path,) = bench.manifests.iterdir()
    handed_over = {A: Record(hand_over=HandOver("uid-a"))}
    bench.store_calls.is_full = True
    for at, copy in ((0.0, "c1"), (20.0, "c2"), (40.0, "c3")):
        assert not bench.apply(Release(A, path.name, "back", (copy,)), at=at, records=handed_over)
        bench.apply(at=at + 19.0)
    assert bench.active == [(A, 1, 1)]
    assert runtime.stopped == [("container", "c1", "0")]
    said = (
        f"{A}: its manifest stays, for its hand-over cannot be recorded; its copy, killed before "
        "that was known, is started again by the kubelet; trying again in 1 s"
    )
    assert [line for line in told(caplog) if "cannot be recorded" in line] == [said] * 3
    bench.store_calls.is_full = False
    assert bench.apply(Release(A, path.name, "back", ("c4",)), at=99.0, records=handed_over)
    assert bench.active == []
    assert bench.record(A).hand_over.to == "uid-a"


def test_revision_whose_manifest_may_come_back_with_a_power_cut_is_not_pruned(
    bench: Bench, kit: Any
) -> None:
    """A run that died had taken the manifest out; until that is on disk, nobody can tell what is
    active."""
    snapshooter = FakeSnapshooter()
    bench.applier.snapshooter = snapshooter  # type: ignore[assignment]
    sync = bench.folder_calls.fsync

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "bad sector")

    for bench.folder_calls.fsync in (broken, sync):
        assert bench.apply(Snapshot(A, "uid-a"), pods=Known((kit.pod_object("a"),)))
    unknown, known = snapshooter.active
    assert unknown == Unknown(f"cannot sync {bench.manifests}: bad sector")
    assert known == Known(None)


def test_hand_over_whose_record_may_go_with_the_power_is_not_begun(
    bench: Bench, runtime: FakeRuntime
) -> None:
    """Its last sync failed: what is read is the new one, and nobody would write it again."""
    bench.apply(activate(A))
    (path,) = bench.manifests.iterdir()
    sync = bench.store_calls.fsync

    def broken(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, "bad sector")
        sync(handle)

    bench.store_calls.fsync = broken
    records = {A: Record(hand_over=HandOver("uid-a"))}
    assert not bench.apply(records=records)
    assert bench.stored[A] == [1]
    assert bench.record(A) == records[A]
    release = Release(A, path.name, "back")
    assert not bench.apply(release, at=20.0, records=records)
    assert bench.active == [(A, 1, 1)]
    bench.store_calls.fsync = sync
    assert bench.apply(release, at=90.0, records=records)
    assert bench.active == []


def test_sync_that_fails_again_later_is_told_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for as long as it lasts, for the store and for the folder."""
    bench.apply(activate(A))
    real = bench.store_calls.fsync, bench.folder_calls.fsync

    def broken(handle: int) -> None:
        raise OSError(errno.EIO, "bad sector")

    def fail() -> list[str]:
        bench.store.write_state("kept", {"at": len(told(caplog))})
        (path,) = bench.manifests.iterdir()
        bench.store_calls.fsync = bench.folder_calls.fsync = broken
        bench.folder._disk.changing(path.parent)
        bench.store._disk.changing(bench.store.root)
        for at in range(3):
            assert not bench.apply(at=float(at))
        bench.store_calls.fsync, bench.folder_calls.fsync = real
        assert bench.apply(at=9.0)
        return told(caplog)

    lines = [f"cannot sync {p}: bad sector" for p in (bench.store.root, bench.manifests)]
    assert fail() == [f"{line}; trying again" for line in lines]
    assert len(fail()) == 4


def test_parent_that_is_started_anew_is_forgotten_before_its_sandbox_ends(
    bench: Bench, runtime: FakeRuntime
) -> None:
    """What the kubelet finds dead in the runtime it waits for; what cannot be done is an error."""
    runtime.stubborn = {"c2"}
    anew = StartAnew(A, "s1", ("c1", "c2", "c3"))
    assert not bench.apply(anew)
    assert [what[1] for what in runtime.stopped] == ["c1", "c2", "c3"]
    runtime.stubborn.clear()
    assert bench.apply(anew, at=1.0)
    assert runtime.stopped[3:] == [
        *(("removed", name) for name in ("c1", "c2", "c3")),
        ("sandbox", "s1"),
    ]


def test_one_that_does_not_stop_does_not_save_the_others(bench: Bench) -> None:
    """Every container is told to stop, whatever became of the one before; then it is an error."""
    runtime = FakeRuntime()
    runtime.stubborn = {"c1"}
    bench.applier.runtime = runtime  # type: ignore[assignment]
    assert not bench.apply(Kill(A, ("c1", "c2")))
    assert [what[1] for what in runtime.stopped] == ["c1", "c2"]
    assert bench.applier.has_failed


def test_runtime_that_hangs_costs_a_cycle_one_deadline(bench: Bench) -> None:
    """However many are to be stopped, of whichever workload; the next cycle asks again."""
    runtime = FakeRuntime()
    runtime.silent = {"c1"}
    bench.applier.runtime = runtime  # type: ignore[assignment]
    assert not bench.apply(Kill(A, ("c1", "c2")), Kill(B, ("c3",)))
    assert [what[1] for what in runtime.stopped] == ["c1"]
    runtime.silent = set()
    assert bench.apply(Kill(A, ("c1", "c2")), Kill(B, ("c3",)), at=60.0)
    assert [what[1] for what in runtime.stopped[1:]] == ["c1", "c2", "c3"]


def test_replaced_copy_is_stopped_after_the_new_one_is_written(
    bench: Bench, runtime: FakeRuntime
) -> None:
    """A fall-back ends the sandbox of the copy that it replaces."""
    assert bench.apply(activate(A, stop=("s1",)))
    assert runtime.stopped == [("sandbox", "s1")]
    assert bench.active == [(A, 1, 1)]


def test_without_a_runtime_files_are_still_changed(bench: Bench) -> None:
    """No socket found: what only needs the folder is done."""
    assert bench.apply(activate(A, stop=("s1",)))
    (path,) = bench.manifests.iterdir()
    assert bench.apply(Release(A, path.name, "back", ("c1",)), Kill(B, ("c2",)))
    assert bench.active == []


def test_removal_takes_the_checkpoint_out_of_the_store(bench: Bench) -> None:
    """What nobody wants any more goes, the others stay; a second time is no error."""
    assert bench.apply(Remove(A, "unwanted"))
    assert bench.apply(Remove(A, "unwanted"))
    assert bench.stored == {B: [1]}


def test_fault_in_one_action_keeps_nobody_down(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw is one workload's, held back like others, and tells no value."""

    def faulty(*_: Any) -> tuple[str, ...]:
        raise KeyError(SECRET)

    with monkeypatch.context() as patched:
        patched.setattr(bench.store, "verify", faulty)
        assert not bench.apply(activate(A), Remove(B, "unwanted"))
    assert bench.stored == {A: [1]}
    assert told(caplog) == ["kube-system/daemonset/a: KeyError; trying again in 1 s"]
    assert not bench.apply(activate(A), at=0.5)
    assert bench.apply(activate(A), at=1.0)


def test_dry_run_changes_nothing(folder: Path, bench: Bench, kit: Any) -> None:
    """Not a byte, not a time, and the runtime is left alone."""
    bench.apply(activate(B), records={B: Record(issue=1)})
    dry = Applier(bench.store, bench.folder, "node-1", dry_run=True)
    runtime, snapshooter = FakeRuntime(), FakeSnapshooter()
    dry.runtime = runtime  # type: ignore[assignment]
    dry.snapshooter = snapshooter  # type: ignore[assignment]
    bench.applier = dry
    before = kit.tree(folder)
    (path,) = bench.manifests.iterdir()
    assert bench.apply(
        activate(A),
        Release(B, path.name, "back", ("c1",)),
        Kill(B, ("c2",)),
        Remove(A, "unwanted"),
        Snapshot(A, "uid-a"),
        records={A: Record(issue=3)},
        pods=Known((kit.pod_object("a"),)),
    )
    assert kit.tree(folder) == before
    assert (runtime.stopped, snapshooter.taken) == ([], [])


@pytest.mark.parametrize(
    ("error", "level", "line"),
    [
        (NotCheckpointableError("it is odd"), logging.WARNING, "it is odd"),
        (CheckpointerError("it failed"), logging.ERROR, "it failed"),
        (KeyError(SECRET), logging.ERROR, "KeyError"),
    ],
)
def test_failed_snapshot_is_told_once_and_remembered(
    bench: Bench,
    kit: Any,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    level: int,
    line: str,
) -> None:
    """Each reason is told once; the parent counts as failed until it succeeds or is gone."""
    snapshooter = FakeSnapshooter()
    snapshooter.errors = {"uid-a": error}
    bench.applier.snapshooter = snapshooter  # type: ignore[assignment]
    pods = Known((kit.pod_object("a"), kit.pod_object("b")))
    for at in (0.0, 60.0):
        assert not bench.apply(Snapshot(A, "uid-a"), Snapshot(B, "uid-b"), at=at, pods=pods)
    assert snapshooter.taken == ["uid-a", "uid-b"] * 2
    assert [(r.levelno, r.message) for r in caplog.records if r.levelno >= logging.WARNING] == [
        (level, f"no snapshot of kube-system/daemonset/a: {line}")
    ]
    assert bench.applier.failed_snapshots == {"uid-a": line}
    assert not bench.applier.has_failed
    bench.apply(pods=Unknown("contact is lost"))
    assert bench.applier.failed_snapshots == {"uid-a": line}
    snapshooter.errors = {}
    assert bench.apply(Snapshot(A, "uid-a"), at=120.0, pods=pods)
    assert bench.applier.failed_snapshots == {}


def test_failed_snapshot_is_forgotten_with_its_parent(bench: Bench, kit: Any) -> None:
    """A parent that the API positively does not list any more is remembered no longer."""
    snapshooter = FakeSnapshooter()
    snapshooter.errors = {"uid-a": CheckpointerError("no")}
    bench.applier.snapshooter = snapshooter  # type: ignore[assignment]
    bench.apply(Snapshot(A, "uid-a"), pods=Known((kit.pod_object("a"),)))
    bench.apply(pods=Known(()))
    assert bench.applier.failed_snapshots == {}


def test_snapshot_without_a_client_is_a_failure(bench: Bench, kit: Any) -> None:
    """A snapshot that could not be tried must not pass for one that was taken."""
    pods = Known((kit.pod_object("a"),))
    assert not bench.apply(Snapshot(A, "uid-a"), pods=pods)
    assert bench.applier.failed_snapshots == {"uid-a": "the API cannot be read from"}


def test_snapshot_of_a_parent_that_has_just_gone_is_none(bench: Bench) -> None:
    """Between the plan and its execution a pod may go."""
    bench.applier.snapshooter = FakeSnapshooter()  # type: ignore[assignment]
    assert bench.apply(Snapshot(A, "uid-a"), pods=Known(()))


REPLACE = ReplaceParent(A, "a-x7k2p", "uid-a", "its next start is far away")


def test_a_parent_is_deleted_by_its_uid(bench: Bench) -> None:
    """So that a successor of the same name is left alone."""
    deleted: list[tuple[str, str, str]] = []
    bench.applier.delete_pod = lambda *pod: deleted.append(pod)
    assert bench.apply(REPLACE)
    assert deleted == [(A.namespace, "a-x7k2p", "uid-a")]


def test_a_parent_that_may_not_be_deleted_is_left_to_its_backoff(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, and nothing is held back for it."""

    def refuse(*_: str) -> None:
        raise ApiError("DELETE /api/v1/...: HTTP 403", 403)

    failed: list[str] = []
    bench.applier.on_failed = lambda _, message: failed.append(message)
    bench.applier.delete_pod = refuse
    assert not bench.apply(REPLACE)
    assert failed == ["pod a-x7k2p is not replaced: DELETE /api/v1/...: HTTP 403"]
    assert told(caplog, logging.WARNING) == [f"{A}: {failed[0]}"]
    assert not bench.applier.has_failed


def test_snapshots_are_left_when_contact_is_no_longer_what_they_were_planned_on(
    bench: Bench, kit: Any
) -> None:
    """There may be hundreds, and an outage has not to wait for the last of them."""
    snapshooter = FakeSnapshooter()
    bench.applier.snapshooter = snapshooter  # type: ignore[assignment]
    pods = Known((kit.pod_object("a"), kit.pod_object("b")))
    bench.applier.is_overtaken = lambda: bool(snapshooter.taken)
    assert not bench.apply(Snapshot(A, "uid-a"), Snapshot(B, "uid-b"), activate(A), pods=pods)
    assert snapshooter.taken == ["uid-a"]
    assert bench.applier.failed_snapshots == {"uid-b": "contact changed before its turn came"}
    assert bench.active == [(A, 1, 1)], "what contact asks for is done"
    bench.applier.is_overtaken = lambda: False
    assert bench.apply(Snapshot(B, "uid-b"), pods=pods)
    assert bench.applier.failed_snapshots == {}
