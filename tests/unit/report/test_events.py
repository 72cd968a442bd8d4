"""Events on pods: once per change of a verdict, over restarts too, and never in anybody's way."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.workload import Workload
from checkpointer.errors import ApiError
from checkpointer.manifest.verdict import Finding, Outcome, Verdict
from checkpointer.node.api import ApiClient
from checkpointer.report import events as module
from checkpointer.report.events import NOTE_BYTES, Events, note
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.waiting import wait_until
from checkpointer.store.revisions import Store

WEB = Workload("kube-system", "DaemonSet", "web")
POD = {"metadata": {"name": "web-abcde", "namespace": "kube-system", "uid": "uid-1"}}
NEW_POD = {"metadata": {"name": "web-fghij", "namespace": "kube-system", "uid": "uid-2"}}
GOOD = Verdict(Outcome.CHECKPOINTABLE, WEB, {})
WARNED = Verdict(
    Outcome.WITH_WARNINGS,
    WEB,
    {},
    warnings=(Finding("spec.containers[0].image", "it is not there", "pull it"),),
)
REFUSED = Verdict(
    Outcome.REFUSED,
    WEB,
    None,
    refusals=(
        Finding("spec.volumes[0].csi", "needs a driver", "use hostPath"),
        Finding("spec.volumes[1]", "unknown"),
    ),
)


class Api:
    """Takes Events, or answers `failures` first: a status, or None for no answer at all."""

    def __init__(self, *failures: int | None) -> None:
        self.failures = list(failures)
        self.asked: list[str] = []
        self.posted: list[Mapping[str, Any]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(path)
        assert self.may_answer.wait(10)
        if self.failures:
            status = self.failures.pop(0)
            raise ApiError(f"POST {path}: HTTP {status}", status)
        self.posted.append(body)
        return body

    @property
    def reasons(self) -> list[str]:
        return [body["reason"] for body in self.posted]


@pytest.fixture
def start(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Events]]:
    """Start the telling as an agent's start does; all of them are closed in the end."""
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.01)
    started: list[Events] = []

    def begin(api: Any, node_name: str = "node-1") -> Events:
        for other in started:
            other.close(1)
        started.append(Events(store, api, node_name))
        return started[-1]

    yield begin
    for events in started:
        events.close(0)
        if events._thread is not None:
            events._thread.join(5)


def settle(events: Events, api: Api, count: int) -> None:
    """Wait until so many Events were posted and remembered, and no other is under way."""
    wait_until(lambda: len(api.posted) >= count, 5, "the thread to do so")
    events.close(5)
    assert len(api.posted) == count


def test_an_event_says_what_the_api_wants_to_know(start: Any) -> None:
    """events.k8s.io/v1, as validation/events.go demands it, about this very pod."""
    api = Api()
    events = start(api)
    events.tell(POD, REFUSED)
    settle(events, api, 1)
    assert api.asked == ["/apis/events.k8s.io/v1/namespaces/kube-system/events"]
    body = dict(api.posted[0])
    metadata, when = body.pop("metadata"), body.pop("eventTime")
    assert metadata["namespace"] == "kube-system"
    assert re.fullmatch(r"web-abcde\.[0-9a-f]{16}", metadata["name"])
    assert abs((datetime.now().astimezone() - datetime.fromisoformat(when)).total_seconds()) < 60
    assert re.fullmatch(r"[-0-9]{10}T[:0-9]{8}\.[0-9]{6}Z", when)
    assert body == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "reportingController": "checkpointer.alpha.coreos.com",
        "reportingInstance": "pod-checkpointer-node-1",
        "action": "Checkpoint",
        "reason": "CheckpointRefused",
        "type": "Warning",
        "note": "not checkpointable: spec.volumes[0].csi: needs a driver (cure: use hostPath); "
        "spec.volumes[1]: unknown",
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "kube-system",
            "name": "web-abcde",
            "uid": "uid-1",
        },
    }


@pytest.mark.parametrize(
    ("verdict", "reason", "kind"),
    [
        (GOOD, "Checkpointable", "Normal"),
        (WARNED, "CheckpointableWithWarnings", "Warning"),
        (REFUSED, "CheckpointRefused", "Warning"),
    ],
)
def test_outcomes_have_reasons_and_types(
    start: Any, verdict: Verdict, reason: str, kind: str
) -> None:
    """What `kubectl get events` can be filtered by."""
    api = Api()
    events = start(api)
    events.tell(POD, verdict)
    settle(events, api, 1)
    assert (api.posted[0]["reason"], api.posted[0]["type"]) == (reason, kind)


def test_an_unchanged_verdict_is_told_once(start: Any) -> None:
    """Neither the next look at the pod nor the next pod of the workload repeats it."""
    api = Api()
    events = start(api)
    for pod in (POD, POD, NEW_POD, POD):
        events.tell(pod, WARNED)
    settle(events, api, 1)


def test_every_change_is_told(start: Any) -> None:
    """Also a change back to what was told before, and new reasons for the same outcome."""
    api = Api()
    events = start(api)
    other = replace(REFUSED, refusals=REFUSED.refusals[:1])
    told = [GOOD, REFUSED, other, GOOD, REFUSED]
    for count, verdict in enumerate(told, 1):
        events.tell(POD, verdict)
        wait_until(lambda count=count: len(api.posted) == count, 5, "the thread to do so")
    settle(events, api, len(told))
    assert len({body["metadata"]["name"] for body in api.posted}) == len(told)


def test_a_restart_repeats_nothing_and_misses_no_change(start: Any) -> None:
    """What was told is in the store."""
    api = Api()
    events = start(api)
    events.tell(POD, WARNED)
    settle(events, api, 1)
    events = start(api)
    events.tell(POD, WARNED)
    events.close(0.2)
    assert len(api.posted) == 1
    events = start(api)
    events.tell(NEW_POD, REFUSED)
    settle(events, api, 2)


def test_the_state_is_written_only_when_something_was_told(
    start: Any, store: Store, folder: Path
) -> None:
    """No churn on the disk of a node at rest."""
    api = Api()
    events = start(api)
    events.tell(POD, GOOD)
    settle(events, api, 1)
    (state,) = (folder / "store").rglob("events*.json")
    before = (state.stat().st_ino, state.stat().st_mtime_ns)
    events = start(api)
    for _ in range(3):
        events.tell(POD, GOOD)
    events.close(1)
    assert (state.stat().st_ino, state.stat().st_mtime_ns) == before


def test_an_event_posted_just_before_the_agent_died_is_not_posted_again(
    start: Any, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name is that of its content, so the API says that it is there, and that is enough."""
    first = Api()
    events = start(first)
    events.tell(POD, WARNED)
    settle(events, first, 1)
    store.write_state(module.STATE, {})  # as if the agent had died in between
    again = Api(409)
    events = start(again)
    events.tell(POD, WARNED)
    wait_until(lambda: again.asked and not again.failures, 5, "the thread to do so")
    events.close(1)
    assert again.posted == []
    assert caplog.records == []
    assert store.read_state(module.STATE).value  # type: ignore[union-attr]


def test_the_name_of_an_event_depends_on_nothing_but_what_is_told(start: Any, store: Store) -> None:
    """Told twice with no memory of it, it has the same name."""
    names = []
    for _ in range(2):
        store.write_state(module.STATE, {})
        api = Api()
        events = start(api)
        events.tell(POD, WARNED)
        settle(events, api, 1)
        names.append(api.posted[0]["metadata"]["name"])
    assert names[0] == names[1]


@pytest.mark.parametrize("failure", [None, 401, 408, 429, 500, 503])
def test_what_passes_is_tried_again(start: Any, failure: int | None) -> None:
    """An API that is away, or busy, hears of it later."""
    api = Api(failure, failure)
    events = start(api)
    events.tell(POD, GOOD)
    settle(events, api, 1)
    assert len(api.asked) == 3


def test_only_the_newest_verdict_is_told_after_an_outage(start: Any) -> None:
    """What changed back and forth in between interests nobody any more."""
    api = Api()
    api.may_answer.clear()
    api.failures = [None]
    events = start(api)
    for verdict in (GOOD, WARNED, GOOD, REFUSED):
        events.tell(POD, verdict)
    api.may_answer.set()
    settle(events, api, 1)
    assert api.reasons == ["CheckpointRefused"]


def test_a_verdict_that_changed_back_before_it_was_told_is_not_told(start: Any) -> None:
    """Nothing has changed, as far as anybody was told."""
    api = Api()
    events = start(api)
    events.tell(POD, GOOD)
    wait_until(lambda: api.posted, 5, "the thread to do so")
    events.close(1)
    api = Api(None)
    api.may_answer.clear()
    events = start(api)
    events.tell(POD, REFUSED)
    wait_until(lambda: api.asked, 5, "the thread to do so")
    events.tell(POD, GOOD)
    api.may_answer.set()
    events.close(0.3)
    assert api.posted == []


def test_telling_never_waits(start: Any) -> None:
    """However long the API takes, the loop goes on; closing gives it a moment and no more."""
    api = Api()
    api.may_answer.clear()
    events = start(api)
    for number in range(100):
        workload = WEB._replace(name=f"web-{number}")
        events.tell(POD, replace(GOOD, workload=workload))
    events.close(0.05)
    api.may_answer.set()
    assert len(api.asked) == 1


def test_an_identity_that_may_not_create_events_is_warned_of_once(
    start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent does its work all the same, and asks again only for what is new."""
    api = Api(403, 403)
    events = start(api)
    events.tell(POD, REFUSED)
    wait_until(lambda: len(api.failures) == 1, 5, "the thread to do so")
    events.tell(POD, REFUSED)
    events.tell(POD, GOOD)
    wait_until(lambda: not api.failures, 5, "the thread to do so")
    events.close(1)
    assert [record.getMessage() for record in caplog.records] == [
        "this identity may not create Events (HTTP 403 in namespace kube-system): verdicts are "
        "told in the log only; allow it to create events.events.k8s.io"
    ]
    assert len(api.asked) == 2


def test_rights_that_came_later_are_used_from_the_next_start_on(start: Any) -> None:
    """What could not be told is not remembered as told."""
    api = Api(403)
    events = start(api)
    events.tell(POD, REFUSED)
    wait_until(lambda: not api.failures, 5, "the thread to do so")
    events.tell(POD, replace(GOOD, workload=WEB._replace(name="other")))
    settle(events, api, 1)
    events = start(api)
    events.tell(POD, REFUSED)
    settle(events, api, 2)


@pytest.mark.parametrize("status", [400, 404, 422])
def test_an_event_that_the_api_does_not_want_is_given_up(
    start: Any, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """Once, with a warning that names the pod; the next one is told as ever."""
    api = Api(status)
    events = start(api)
    events.tell(POD, REFUSED)
    wait_until(lambda: not api.failures, 5, "the thread to do so")
    events.tell(POD, GOOD)
    settle(events, api, 1)
    assert [record.getMessage() for record in caplog.records] == [
        f"no Event on pod kube-system/web-abcde: HTTP {status}"
    ]


def test_a_fault_of_the_client_ends_nothing(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises, the next Event is posted; what it says may hold anything."""

    class Broken(Api):
        def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
            if not self.asked:
                self.asked.append(path)
                raise RuntimeError("hunter2")
            return super().post(path, body)

    api = Broken()
    events = start(api)
    events.tell(POD, REFUSED)
    wait_until(lambda: api.asked, 5, "the thread to do so")
    events.tell(POD, GOOD)
    settle(events, api, 1)
    assert "hunter2" not in caplog.text
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize(
    "content", ["", "{", '{"kube-system/DaemonSet/web": 5}', '{"kube-system/DaemonSet/web": {}}']
)
def test_a_state_that_cannot_be_read_is_begun_anew(
    start: Any, store: Store, folder: Path, content: str
) -> None:
    """Better told twice than not at all."""
    api = Api()
    events = start(api)
    events.tell(POD, GOOD)
    settle(events, api, 1)
    (state,) = (folder / "store").rglob("events*.json")
    state.write_text(content)
    events = start(api)
    events.tell(POD, GOOD)
    settle(events, api, 2)
    assert store.read_state(module.STATE).value  # type: ignore[union-attr]


def test_a_store_that_cannot_be_written_is_told_and_stops_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """This agent remembers; the next one may say it again."""
    (folder / "file").write_text("")
    api = Api()
    events = Events(Store(folder / "file/store"), api, "node-1")
    for verdict in (GOOD, GOOD, REFUSED, REFUSED):
        events.tell(POD, verdict)
        wait_until(lambda: not events._pending, 5, "the thread to do so")
    events.close(1)
    assert api.reasons == ["Checkpointable", "CheckpointRefused"]
    assert all("may be told again" in record.getMessage() for record in caplog.records)


def test_the_state_does_not_grow_for_ever(
    start: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bare pods have a new name each time."""
    monkeypatch.setattr(module, "WORKLOADS_KEPT", 3)
    api = Api()
    events = start(api)
    for number in range(10):
        events.tell(POD, replace(GOOD, workload=Workload("kube-system", "Pod", f"run-{number}")))
    settle(events, api, 10)
    assert set(store.read_state(module.STATE).value) == {  # type: ignore[union-attr]
        f"kube-system/Pod/run-{number}" for number in (7, 8, 9)
    }


def test_names_and_notes_stay_within_the_limits_of_the_api(start: Any) -> None:
    """The longest names that pods and nodes can have."""
    api = Api()
    events = start(api, "n" * 253)
    pod = {"metadata": {"name": "p" * 235 + "." + "q" * 17, "namespace": "a", "uid": "u"}}
    events.tell(pod, GOOD)
    settle(events, api, 1)
    body = api.posted[0]
    name = body["metadata"]["name"]
    assert len(name) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name)
    assert len(body["reportingInstance"]) == 128


@pytest.mark.parametrize("count", [1, 2, 5, 50])
@pytest.mark.parametrize("size", [10, 500, 979, 1000, 1024, 5000])
@pytest.mark.parametrize("letter", ["x", "ü", "€", "🦆"])
def test_notes_are_cut_to_what_an_event_holds(count: int, size: int, letter: str) -> None:
    """In bytes, on a whole character, and with a word on where to read the rest."""
    findings = tuple(Finding("spec", letter * size, "mend it") for _ in range(count))
    text = note("web-abcde", replace(REFUSED, refusals=findings))
    assert text.startswith(f"not checkpointable: spec: {letter}")
    assert len(text.encode()) <= NOTE_BYTES
    is_whole = text.count("mend it") == count
    assert is_whole or text.endswith("more, see: checkpointer explain kube-system/web-abcde)")


def test_the_node_s_own_identity_may_post(
    start: Any, api: ApiServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Through the real client and the Node authorizer's rules; in an outage it waits."""
    caplog.set_level(logging.WARNING, "checkpointer")
    client = ApiClient(folder / "kubelet.conf")
    try:
        api.mode = Mode.ERROR
        events = start(client)
        events.tell(POD, REFUSED)
        wait_until(lambda: api.requests["create events"], 5, "the thread to do so")
        api.mode = Mode.SERVING
        wait_until(lambda: api.cluster.objects("events", "kube-system"), 5, "the thread to do so")
        events.close(5)
        (event,) = api.cluster.objects("events", "kube-system")
        assert event["regarding"]["name"] == "web-abcde"
    finally:
        client.close()
    assert caplog.records == []


def test_no_name_forges_a_note() -> None:
    """Notes are shown by kubectl as they are."""
    finding = Finding("metadata.labels['a\x1b[2J']", "b\nc", "d\x9b")
    text = note("web\n\x1b", replace(REFUSED, refusals=(finding,) * 200))
    assert text.isprintable()
    assert "metadata.labels['a\\x1b[2J']: b\\nc (cure: d\\x9b)" in text
    assert text.endswith("explain kube-system/web\\n\\x1b)")
