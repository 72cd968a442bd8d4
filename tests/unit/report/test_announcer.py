"""Events on what happened: with their true times, after an outage, over restarts, never twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from checkpointer.core.workload import Workload
from checkpointer.errors import ApiError
from checkpointer.report import announcer as module
from checkpointer.report.announcer import LIMIT, Announcer, event_of
from checkpointer.report.happenings import Happening, Kind
from checkpointer.report.history import Historian
from checkpointer.simulation.waiting import wait_until
from checkpointer.store.revisions import Store
from tests.unit.core.builders import API, DNS

LOST = Happening(Kind.CONTACT, 1_700_000_000.5, "timeout", state="lost")
ACTIVATED = Happening(Kind.ACTIVATED, 1_700_000_001.0, "nothing runs", API, "api-x", "uid-1", 2, 5)
RELEASED = Happening(Kind.RELEASED, 1_700_000_009.0, "its parent is Ready", API, "api-x", "uid-1")
BACK = Happening(Kind.CONTACT, 1_700_000_010.0, "HTTP 200", state="reachable")


class FakeApi:
    """Takes Events while it is there; otherwise it answers with `status`, or not at all."""

    def __init__(self) -> None:
        self.is_there = True
        self.status: int | None = None
        self.tries = 0
        self.posted: list[Mapping[str, Any]] = []

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.tries += 1
        if not self.is_there:
            raise ApiError(f"POST {path}", self.status)
        self.posted.append(body)
        return body

    @property
    def reasons(self) -> list[str]:
        return [body["reason"] for body in self.posted]


class Run:
    """One run of the agent, as far as it concerns Events."""

    def __init__(self, store: Store, api: FakeApi) -> None:
        self.announcer = Announcer(store, api, "node-1")
        self.historian = Historian(store.root, store.prepare)

    def happens(self, *happenings: Happening) -> None:
        self.announcer.take(self.historian.write(list(happenings), 0.0))

    def end(self) -> None:
        self.announcer.close()
        if self.announcer._thread is not None:
            self.announcer._thread.join(5)


@pytest.fixture
def start(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """Start runs, each after the end of the one before."""
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(module, "DELAY_LIMIT_SECONDS", 0.02)
    runs: list[Run] = []

    def begin(api: FakeApi) -> Run:
        for run in runs:
            run.end()
        runs.append(Run(store, api))
        return runs[-1]

    yield begin
    for run in runs:
        run.end()
    assert not [t for t in threading.enumerate() if t.name == "announcer"]


def settled(run: Run) -> None:
    wait_until(lambda: run.announcer.waiting == 0, 5, "the delivery")


def test_event_on_a_pod() -> None:
    """About the parent, in its namespace, at the time at which it happened."""
    body = event_of(ACTIVATED, ACTIVATED, 1, "node-1")
    assert body["metadata"]["namespace"] == "kube-system"
    assert body["metadata"]["name"].startswith("api-x.")
    assert body["eventTime"] == "2023-11-14T22:13:21.000000Z"
    assert (body["reason"], body["type"]) == ("CheckpointActivated", "Warning")
    expected = "kube-system/daemonset/kube-apiserver revision 2 on node-1: nothing runs"
    assert body["note"] == expected
    assert body["regarding"]["uid"] == "uid-1"
    assert "series" not in body


def test_no_name_forges_a_note() -> None:
    """Whatever happened was said of names from outside, and by an API that may be none."""
    forged = Workload("kube-system", "DaemonSet", "a\nb\x1b[2J")
    told = replace(ACTIVATED, workload=forged, reason="c\x9bd")
    note = event_of(told, told, 1, "node-1")["note"]
    assert note == "kube-system/daemonset/a\\nb\\x1b[2J revision 2 on node-1: c\\x9bd"
    contact = replace(LOST, reason="HTTP 200\nall is well")
    note = event_of(contact, contact, 1, "node-1")["note"]
    assert note == "contact with the API: lost (HTTP 200\\nall is well)"


def test_event_on_the_node() -> None:
    """In the namespace that the API demands for what has none."""
    body = event_of(LOST, LOST, 1, "node-1")
    assert body["metadata"]["namespace"] == "default"
    assert body["regarding"] == {
        "apiVersion": "v1",
        "kind": "Node",
        "name": "node-1",
        "uid": "node-1",
    }
    assert body["reason"] == "APIContactLost"
    assert body["note"] == "contact with the API: lost (timeout)"


def test_outage_is_told_afterwards(start: Any) -> None:
    """In order and with their own times, once the API answers."""
    api = FakeApi()
    api.is_there = False
    run = start(api)
    run.happens(LOST, ACTIVATED)
    run.happens(BACK, RELEASED)
    wait_until(lambda: api.tries > 2, 5, "attempts")
    api.is_there = True
    settled(run)
    expected = ["APIContactLost", "CheckpointActivated", "APIContactRestored", "CheckpointReleased"]
    assert api.reasons == expected
    assert api.posted[0]["eventTime"] == "2023-11-14T22:13:20.500000Z"


def test_restart_amid_an_outage_loses_nothing_and_repeats_nothing(start: Any) -> None:
    """The journal is the queue; what was delivered is not delivered again."""
    api = FakeApi()
    first = start(api)
    first.happens(LOST)
    settled(first)
    api.is_there = False
    first.happens(ACTIVATED)
    second = start(api)
    second.happens(Happening(Kind.STARTED, 5.0))
    api.is_there = True
    settled(second)
    third = start(api)
    third.happens(RELEASED)
    settled(third)
    assert api.reasons == ["APIContactLost", "CheckpointActivated", "CheckpointReleased"]
    assert len({body["metadata"]["name"] for body in api.posted}) == 3


def test_what_repeats_is_one_event_with_a_count(start: Any) -> None:
    """A kubelet that refuses a manifest all night fills no namespace with Events."""
    api = FakeApi()
    api.is_there = False
    run = start(api)
    again = [
        Happening(Kind.ISSUED_ANEW, 1_700_000_000.0 + n, "x", API, "p", "u") for n in range(50)
    ]
    run.happens(*again)
    api.is_there = True
    settled(run)
    total = sum(body.get("series", {"count": 1})["count"] for body in api.posted)
    assert total == 50
    assert len(api.posted) <= 2
    assert api.posted[0]["eventTime"] == "2023-11-14T22:13:20.000000Z"


def test_queue_is_bounded(start: Any) -> None:
    """However many workloads, the newest are told."""
    api = FakeApi()
    api.is_there = False
    run = start(api)
    for number in range(LIMIT + 20):
        run.happens(Happening(Kind.REMOVED, 5.0, "x", DNS, "p", "u", state=str(number)))
    assert run.announcer.waiting == LIMIT


def test_forbidden_is_told_once(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An identity without the right costs one line in the log."""
    api = FakeApi()
    api.is_there, api.status = False, 403
    run = start(api)
    run.happens(LOST, ACTIVATED)
    settled(run)
    assert len([m for m in caplog.messages if "may not create Events" in m]) == 1


def test_good_contact_at_a_start_is_no_news(start: Any) -> None:
    """Each restart of the agent on a healthy cluster tells nothing."""
    api = FakeApi()
    run = start(api)
    run.happens(Happening(Kind.STARTED, 5.0), BACK, ACTIVATED)
    settled(run)
    assert api.reasons == ["CheckpointActivated"]


def test_end_of_an_outage_is_told_by_the_next_run(start: Any) -> None:
    """Who was told that contact was lost is told that it is back, restart or not."""
    api = FakeApi()
    first = start(api)
    first.happens(LOST)
    settled(first)
    second = start(api)
    second.happens(Happening(Kind.STARTED, 5.0), BACK)
    settled(second)
    assert api.reasons == ["APIContactLost", "APIContactRestored"]
