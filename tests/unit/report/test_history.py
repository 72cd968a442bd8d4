"""What happened: from the loop's cycles to the journal and back."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.checkpoint import HandOver, Record
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.observation import Observation
from checkpointer.core.plan import Activate, Kill, Release, Remove, Snapshot, StartAnew
from checkpointer.core.runtime import Runtime
from checkpointer.core.workload import Workload
from checkpointer.report.happenings import Happening, Kind, from_entry
from checkpointer.report.history import KEPT, RETRY_SECONDS, Historian, read_history
from checkpointer.report.recorder import LONGEST_HAND_OVER_SECONDS, Recorder
from checkpointer.store.errors import StoreError
from checkpointer.store.journal import NAME as JOURNAL
from checkpointer.store.journal import Journal
from tests.unit.core.builders import (
    API,
    PARENT_RUNS,
    SAME_KUBELET,
    at,
    checkpoint,
    lost,
    manifest,
    pod,
    reachable,
    revision,
    suspect,
)

FULL = Happening(
    Kind.HANDED_OVER, 1_700_000_000.25, "because", API, "pod", "uid", 3, 5, "lost", 1.5, 7
)


def seen(contact: Any = None, **changes: Any) -> Observation:
    usual = Observation(
        contact or reachable(),
        pods=Known((pod(),)),
        runtime=Known(Runtime()),
        kubelet=Known(SAME_KUBELET),
        manifests=Known(()),
        checkpoints=Known((checkpoint(API, revision(2), revision(1)),)),
    )
    return replace(usual, **changes)


class Told:
    """A recorder, and what it has told."""

    def __init__(self) -> None:
        self.found: list[Happening] = []
        self.recorder = Recorder(lambda happenings, _: self.found.extend(happenings))

    def cycle(self, observation: Observation, seconds: float, *actions: Any) -> list[Happening]:
        """One cycle in which these actions succeed; return what it told."""
        self.found.clear()
        self.recorder.begin(observation, at(seconds))
        for action in actions:
            self.recorder.done(action)
        self.recorder.end()
        return list(self.found)


@pytest.fixture
def told() -> Told:
    """One that has already told of contact."""
    fresh = Told()
    fresh.cycle(seen(), 0.0)
    return fresh


def test_no_name_ends_a_line_of_the_journal(tmp_path: Path) -> None:
    """Nor does one move the terminal on which the file is shown."""
    forged = replace(FULL, workload=Workload("a", "b", 'c\n{"x": 1}\x1b\x9b'), reason="d\ne")
    (tmp_path / "store").mkdir(mode=0o700)
    journal = Journal(tmp_path / "store")
    journal.append([forged.as_entry(), FULL.as_entry()])
    text = next((tmp_path / "store").rglob(JOURNAL)).read_text()
    first, second = text.splitlines()
    assert first.isprintable()
    assert from_entry(json.loads(first)) == replace(forged, reason="d\\ne")
    assert from_entry(json.loads(second)) == FULL


def test_every_field_survives_the_journal() -> None:
    """What is read back is what was written, to the microsecond."""
    assert from_entry(FULL.as_entry()) == FULL
    bare = Happening(Kind.STARTED, 5.0, number=1)
    assert bare.as_entry() == {"seq": 1, "time": "1970-01-01T00:00:05.000000Z", "kind": "started"}
    assert from_entry(bare.as_entry()) == bare


@pytest.mark.parametrize(
    "damage", [{"kind": "x"}, {"time": 5}, {"time": "now"}, {"workload": "w"}, {"seq": None}]
)
def test_line_of_somebody_else_is_no_happening(damage: dict[str, Any]) -> None:
    """A damaged or later form is passed over, never a crash of who reads."""
    assert from_entry({**FULL.as_entry(), **damage}) is None


def test_contact_is_told_with_why_it_changed(told: Told) -> None:
    """Also by a loop that was held up until the API answered again."""
    late = replace(lost(), reason="answers again, HTTP 200", entry_reason="connection refused")
    (one,) = told.cycle(seen(late), 5.0)
    assert (one.state, one.reason) == ("lost", "connection refused")


def test_contact_is_told_when_it_changes(told: Told) -> None:
    """Once per state, at the time at which it changed; a suspicion is no change."""
    assert told.cycle(seen(), 1.0) == []
    assert told.cycle(seen(suspect(2.0)), 2.0) == []
    assert told.cycle(seen(reachable()), 3.0) == []
    (one,) = told.cycle(seen(lost(900.0)), 904.0)
    assert (one.kind, one.state, one.reason) == (Kind.CONTACT, "lost", "connection refused")
    assert one.at == at(900.0).wall
    assert told.cycle(seen(lost(900.0)), 905.0) == []


def test_nothing_is_told_before_contact_is_judged() -> None:
    """At boot no write comes before the first activation; then all of it is told."""
    fresh = Told()
    fresh.recorder.started(at(0.0), "1.2.3")
    assert fresh.cycle(seen(suspect(0.0)), 0.0) == []
    found = fresh.cycle(seen(lost(0.5)), 1.0)
    assert [one.kind for one in found] == [Kind.STARTED, Kind.CONTACT]


ACTIVATION = Activate(API, 2, 5, "nothing of it runs")


@pytest.mark.parametrize(
    ("active", "expected"),
    [
        ((), Kind.ACTIVATED),
        ((manifest(revision=2),), Kind.ISSUED_ANEW),
        ((manifest(revision=1),), Kind.FELL_BACK),
    ],
)
def test_kinds_of_activation(told: Told, active: Any, expected: Kind) -> None:
    """By what was active before: nothing, the same revision, or another."""
    (one,) = told.cycle(seen(manifests=Known(active)), 9.0, ACTIVATION)
    assert one == Happening(
        expected,
        at(9.0).wall,
        "nothing of it runs",
        API,
        "kube-apiserver-x7k2p",
        "parent-uid",
        revision=2,
        issue=5,
    )


RELEASE = Release(API, "file", "its parent's sandbox is up")


def test_hand_over_is_timed_until_the_parent_is_ready(told: Told) -> None:
    """A status from before the release proves nothing, however often the API repeats it."""
    away = seen(manifests=Known((manifest(),)), pods=Unknown("contact is lost"))
    (released,) = told.cycle(away, 100.0, RELEASE)
    assert (released.kind, released.revision) == (Kind.RELEASED, 1)
    stale = seen(pods=Known((pod(ready_seconds=3600.0),)))
    assert told.cycle(stale, 103.0) == []
    (one,) = told.cycle(seen(pods=Known((pod(ready_seconds=0.5),))), 104.5)
    assert (one.kind, one.seconds) == (Kind.HANDED_OVER, 4.5)
    assert told.cycle(stale, 105.0) == []


def test_hand_over_to_a_parent_that_is_up_takes_no_time(told: Told) -> None:
    """Where both may run side by side there is no gap to be measured."""
    told.cycle(seen(manifests=Known((manifest(),)), runtime=Known(PARENT_RUNS)), 100.0, RELEASE)
    (one,) = told.cycle(seen(), 130.0)
    assert (one.kind, one.seconds) == (Kind.HANDED_OVER, 0.0)


def test_hand_over_that_failed(told: Told) -> None:
    """The copy was needed again before the parent came."""
    told.cycle(seen(manifests=Known((manifest(),)), pods=Known(())), 100.0, RELEASE)
    found = told.cycle(seen(pods=Known(())), 160.0, ACTIVATION)
    assert [one.kind for one in found] == [Kind.HAND_OVER_FAILED, Kind.ACTIVATED]


def test_parent_that_never_comes_is_waited_for_in_vain(told: Told) -> None:
    """Much later its return is not taken for the end of that hand-over."""
    told.cycle(seen(manifests=Known((manifest(),)), pods=Known(())), 100.0, RELEASE)
    late = 101.0 + LONGEST_HAND_OVER_SECONDS
    assert told.cycle(seen(pods=Known(())), late) == []
    assert told.cycle(seen(pods=Known((pod(ready_seconds=0.1),))), late + 1) == []


def with_way(way: HandOver, **changes: Any) -> Observation:
    stored = checkpoint(API, revision(2), revision(1), record=Record(hand_over=way))
    return seen(checkpoints=Known((stored,)), **changes)


def test_hand_over_of_an_earlier_run_is_followed() -> None:
    """An agent that starts amid one goes by what is on disk; a reboot has ended it."""
    way = HandOver(to="parent-uid", boot_id="boot-1", since=100.0)
    for told, expected in (
        (with_way(way, pods=Unknown("not yet")), [Kind.HANDED_OVER]),
        (with_way(replace(way, boot_id="before"), pods=Unknown("not yet")), []),
    ):
        fresh = Told()
        fresh.cycle(told, 103.0)
        found = fresh.cycle(with_way(way, pods=Known((pod(ready_seconds=0.5),))), 105.0)
        assert [one.kind for one in found] == expected
        assert all(one.seconds == 5.0 for one in found)


def test_parent_that_gets_no_other_try_is_told_of_once(told: Told) -> None:
    """On the pod that failed, not the one that was snapshotted; not again after a restart."""
    refused = HandOver(failures=1, refused="uid-2")
    broken = pod(uid="uid-2", name="kube-apiserver-bad")
    failing = with_way(refused, pods=Known((broken,)), manifests=Known((manifest(revision=1),)))
    (one,) = told.cycle(failing, 9.0)
    assert (one.kind, one.pod, one.pod_uid) == (Kind.PARENT_REFUSED, broken.name, "uid-2")
    assert one.reason.endswith("revision 1 goes on in its place")
    assert told.cycle(failing, 10.0) == []
    assert told.cycle(with_way(HandOver()), 11.0) == []
    (one,) = told.cycle(with_way(refused, pods=Unknown("contact is lost")), 12.0)
    assert (one.pod, one.pod_uid) == ("kube-apiserver-x7k2p", "parent-uid")
    kinds = [one.kind for one in Told().cycle(failing, 13.0)]
    assert kinds == [Kind.CONTACT]


def test_parent_that_is_started_anew_is_told(told: Told) -> None:
    """Its restart count goes up, and whoever wonders finds why."""
    (one,) = told.cycle(seen(), 9.0, StartAnew(API, "sandbox", ("c",)))
    assert (one.kind, one.pod_uid) == (Kind.STARTED_ANEW, "parent-uid")


def test_other_actions(told: Told) -> None:
    """A snapshot that stored nothing and the end of a copy are no news; a removal is."""
    nothing = (Snapshot(API, "uid"), Kill(API, ("c",)))
    (one,) = told.cycle(seen(), 9.0, *nothing, Remove(API, "unwanted"))
    assert (one.kind, one.reason) == (Kind.REMOVED, "unwanted")
    told.recorder.begin(seen(), at(10.0))
    told.recorder.done(Snapshot(API, "uid"), revision(3))
    told.recorder.failed(Snapshot(API, "uid"), "no token")
    told.recorder.failed(ACTIVATION, "disk full")
    told.found.clear()
    told.recorder.end()
    kinds = [(one.kind, one.revision) for one in told.found]
    assert kinds == [(Kind.SNAPSHOT, 3), (Kind.SNAPSHOT_FAILED, None), (Kind.FAILED, None)]


class Disk:
    """A journal that may refuse."""

    def __init__(self) -> None:
        self.refuses = False
        self.written: list[int] = []
        self.tries = 0

    def append(self, entries: Any) -> None:
        self.tries += 1
        if self.refuses:
            raise StoreError("cannot write: No space left on device")
        self.written += [entry["seq"] for entry in entries]


def test_full_disk_stops_nothing_and_loses_nothing(folder: Path) -> None:
    """What waits is bounded, not tried at every cycle, and written when there is room."""
    disk = Disk()
    historian = Historian(folder, lambda: None, disk)  # type: ignore[arg-type]
    disk.refuses = True
    one = Happening(Kind.STARTED, 5.0)
    assert [h.number for h in historian.write([one, one], 0.0)] == [1, 2]
    assert historian.problem == "the journal: cannot write: No space left on device"
    historian.write([], 1.0)
    assert disk.tries == 1
    disk.refuses = False
    historian.write([], RETRY_SECONDS)
    assert disk.written == [1, 2]
    assert historian.problem == ""
    historian.write([], 1e9)
    assert disk.tries == 2
    disk.refuses = True
    historian.write([one] * (KEPT + 50), 2e9)
    disk.refuses = False
    historian.write([], 3e9)
    assert disk.written[2:] == list(range(53, KEPT + 53))


def test_numbers_go_on_after_a_restart(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The journal of the next process continues that of the one before."""
    caplog.set_level(logging.DEBUG)
    one = Happening(Kind.STARTED, 5.0, "version 1")
    for number in (1, 2):
        assert [h.number for h in Historian(folder, lambda: None).write([one], 0.0)] == [number]
    assert [h.number for h in read_history(folder).happenings] == [1, 2]
    assert [h.number for h in read_history(folder, limit=1).happenings] == [2]
    assert read_history(folder, limit=0).happenings == ()
    assert read_history(folder / "none").happenings == ()
