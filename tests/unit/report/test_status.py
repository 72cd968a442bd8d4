"""The status: what it says of a node, of what is not known, and of a node without its agent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

import pytest

from checkpointer.config import load
from checkpointer.core.checkpoint import HandOver, Record
from checkpointer.core.contact import Contact, ContactState
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.observation import NOT_ASKED, Itself, Observation
from checkpointer.core.standing import Standing
from checkpointer.manifest.verdict import Finding, Outcome, Verdict
from checkpointer.node.inquiry import Inquiry
from checkpointer.offline import NOT_RUNNING, offline_status
from checkpointer.report.page import page
from checkpointer.report.status import (
    SOURCES,
    AgentStatus,
    ContactStatus,
    Cycle,
    RevisionDetails,
    Status,
    build_status,
    contact_status,
)
from tests.unit.core.builders import (
    ACTIVATED,
    API,
    COPY_RUNS,
    DNS,
    PARENT_RUNS,
    SAME_KUBELET,
    WALL_AT_BOOT,
    at,
    both,
    checkpoint,
    manifest,
    pod,
    reachable,
    revision,
)

AGENT = AgentStatus("node-1", "0.1.0", 7, WALL_AT_BOOT)
GOOD = ContactStatus("reachable", "ok")
AT_REST = Observation(
    contact=reachable(),
    pods=Known((pod(),)),
    runtime=NOT_ASKED,
    kubelet=Known(SAME_KUBELET),
    manifests=Known(()),
    checkpoints=Known((checkpoint(API, revision(2, created_at=5.0), revision(1)),)),
)
NOTHING_KNOWN = Observation(reachable(), *(Unknown(f"{name} broke") for name in SOURCES))


def status(seen: Observation = AT_REST, state: str = "standby", **changes: Any) -> Status:
    given: dict[str, Any] = {"verdicts": {}, "details": {}, **changes}
    cycle = Cycle(seen, {API: Standing(state, "x")}, "all is well", at(1000.0), 0.25)
    given_cycle = given.pop("cycle", replace(cycle, **given.pop("of_cycle", {})))
    return build_status(AGENT, GOOD, given_cycle, **given)


def test_document_of_a_node_at_rest() -> None:
    """Every field, with its times as the API writes them; the form is what programs rely on."""
    details = {API: RevisionDetails(4096, WALL_AT_BOOT + 3600.0, ("spec.x: dropped",))}
    document = status(details=details).as_document()
    assert json.loads(json.dumps(document)) == document
    assert document == {
        "apiVersion": "checkpointer.alpha.coreos.com/v1alpha1",
        "kind": "Status",
        "node": "node-1",
        "agent": {
            "running": True,
            "answering": True,
            "version": "0.1.0",
            "pid": 7,
            "startedAt": "2023-11-14T22:13:20Z",
            "dryRun": False,
        },
        "contact": {
            "state": "reachable",
            "reason": "ok",
            "cause": "ok",
            "since": None,
            "lastAnswer": None,
            "answering": False,
        },
        "kubelet": {"listening": True, "startedAt": "2023-11-14T22:13:20Z"},
        "cycle": {"time": "2023-11-14T22:30:00Z", "seconds": 0.25, "sentence": "all is well"},
        "checkpoints": [
            {
                "namespace": "kube-system",
                "kind": "DaemonSet",
                "name": "kube-apiserver",
                "state": "standby",
                "waitsFor": "x",
                "runs": None,
                "hold": None,
                "handOver": None,
                "itself": False,
                "stage": 0,
                "revision": 2,
                "revisionTakenAt": "1970-01-01T00:00:05Z",
                "parentPod": "kube-apiserver-x7k2p",
                "storedRevisions": [2, 1],
                "lastKnownGood": None,
                "failedRevisions": [],
                "issue": 4,
                "manifest": None,
                "activeSince": None,
                "materialBytes": 4096,
                "tokenExpiry": "2023-11-14T23:13:20Z",
                "verdict": None,
                "warnings": ["spec.x: dropped"],
                "problems": [],
            }
        ],
        "notCheckpointable": [],
        "unprotected": [],
        "unknown": [],
        "problems": [],
    }


def test_active_checkpoint_tells_its_file_and_what_runs() -> None:
    """The revision is the active one, not the newest; the issue is the file's."""
    seen = replace(
        AT_REST,
        manifests=Known((manifest(revision=1, issue=9),)),
        runtime=Known(both(PARENT_RUNS, COPY_RUNS)),
    )
    (one,) = status(seen, "active").as_document()["checkpoints"]
    assert one["manifest"] == manifest().file_name
    assert (one["revision"], one["issue"], one["runs"]) == (1, 9, "both")
    assert one["activeSince"] == "2023-11-14T22:29:10Z"
    assert WALL_AT_BOOT + ACTIVATED == 1_700_000_950.0


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [(Known(PARENT_RUNS), "parent"), (Known(COPY_RUNS), "copy"), (Unknown("away"), None)],
)
def test_who_runs(runtime: Any, expected: str | None) -> None:
    """A runtime that cannot tell is not one in which nothing runs."""
    (one,) = status(replace(AT_REST, runtime=runtime)).as_document()["checkpoints"]
    assert one["runs"] == expected


def of_record(record: Record, **changes: Any) -> Status:
    """Return the status of one checkpoint with two revisions and this record."""
    stored = checkpoint(API, revision(2), revision(1), record=record)
    return status(replace(AT_REST, checkpoints=Known((stored,)), **changes))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (Record(), (2, None, [])),
        (Record(good=(1,)), (2, 1, [])),
        (Record(good=(2, 1)), (2, 2, [])),
        (Record(good=(2, 1), failed=(2,)), (1, 1, [2])),
        (Record(good=(3,)), (2, None, [])),
        (Record(failed=(1, 2)), (2, None, [1, 2])),
    ],
)
def test_last_known_good_is_one_that_has_stayed_ready(record: Record, expected: Any) -> None:
    """None yet after a first snapshot; not one that kept crashing, nor one that is gone."""
    (one,) = of_record(record).as_document()["checkpoints"]
    assert (one["revision"], one["lastKnownGood"], one["failedRevisions"]) == expected


def test_hand_over_under_way_is_told() -> None:
    """To whom and since when; one from before a reboot is over."""
    way = HandOver(to="uid-2", boot_id="boot-1", since=990.0, failures=1)
    (one,) = of_record(Record(hand_over=way)).as_document()["checkpoints"]
    assert one["handOver"] == {
        "to": "uid-2",
        "since": "2023-11-14T22:29:50Z",
        "failures": 1,
        "refusedParent": None,
    }
    before = replace(way, boot_id="boot before")
    (one,) = of_record(Record(hand_over=before)).as_document()["checkpoints"]
    assert (one["handOver"]["to"], one["handOver"]["since"]) == (None, None)


def test_refused_parent_is_a_problem() -> None:
    """It is told where everybody looks, with what runs in its place."""
    refused = Record(hand_over=HandOver(refused="uid-2", failures=1))
    told = of_record(refused, manifests=Known((manifest(revision=1),)))
    assert told.problems == (
        "kube-system/daemonset/kube-apiserver: its parent failed when it was given way, and gets "
        "no other try until it changes; revision 1 goes on in its place",
    )
    (one,) = told.as_document()["checkpoints"]
    assert one["handOver"]["refusedParent"] == "uid-2"
    assert of_record(Record()).problems == ()


def test_own_copy_is_told_to_be_active_for_good() -> None:
    """An operator is not to wait for it to be released."""
    seen = replace(AT_REST, itself=Itself(API, "own-uid"))
    of_cycle = {"standings": {API: Standing("active")}}
    (one,) = status(seen, of_cycle=of_cycle).as_document()["checkpoints"]
    assert one["itself"] is True
    assert one["waitsFor"] == "nothing: the agent's own copy is always active"
    (one,) = status(of_cycle=of_cycle).as_document()["checkpoints"]
    assert (one["itself"], one["waitsFor"]) == (False, "")


def test_manifest_without_store_is_shown() -> None:
    """A file of ours whose checkpoint is gone is not left out."""
    seen = replace(AT_REST, manifests=Known((manifest(DNS),)))
    shown = status(seen).as_document()["checkpoints"]
    assert [(one["name"], one["revision"]) for one in shown] == [
        ("kube-apiserver", 2),
        ("coredns", None),
    ]


def test_verdict_and_its_warnings_are_told() -> None:
    """The newest verdict's warnings, with their cures, stand for those of the stored revision."""
    warned = Verdict(
        Outcome.WITH_WARNINGS, API, None, warnings=(Finding("spec.a", "may differ", "set b"),)
    )
    details = {API: RevisionDetails(warnings=("older",))}
    (one,) = status(verdicts={API: warned}, details=details).as_document()["checkpoints"]
    assert one["verdict"] == "checkpointable with warnings"
    assert one["warnings"] == ["spec.a: may differ (cure: set b)"]


def test_pods_that_cannot_be_checkpointed() -> None:
    """Selected pods that are not protected are listed with the reason; finished ones are not."""
    dns = pod(DNS, "dns")
    refused = Verdict(Outcome.REFUSED, DNS, None, refusals=(Finding("spec.v", "no copy", "c"),))

    def told(one: Any, failures: Any = {}, verdicts: Any = {}) -> list[Any]:  # noqa: B006
        seen = replace(AT_REST, pods=Known((one,)))
        found = status(seen, of_cycle={"failures": failures}, verdicts=verdicts)
        return [r.reasons for r in found.refused]

    excluded = replace(dns, is_parent=False, excluded="namespace x is not allowed")
    assert told(excluded) == [("namespace x is not allowed",)]
    assert told(dns, {"dns": "no token"}) == [("no token",)]
    assert told(dns, {"dns": "no token"}, {DNS: refused}) == [("spec.v: no copy (cure: c)",)]
    assert told(dns, {"other": "no token"}) == []
    for gone in ({"finished": True}, {"terminating": True}):
        assert told(replace(excluded, **gone), {"dns": "x"}, {DNS: refused}) == []
    assert told(replace(dns, is_parent=False), {}, {DNS: refused}) == []


def test_source_that_cannot_tell_is_not_an_empty_one() -> None:
    """Each is listed with its reason; one that nobody asked is none of them."""
    document = status(NOTHING_KNOWN).as_document()
    assert document["unknown"] == [{"source": s, "reason": f"{s} broke"} for s in SOURCES]
    assert document["kubelet"] is None
    assert status().as_document()["unknown"] == []


def test_before_the_first_cycle_nothing_is_known() -> None:
    """An agent that has just started says so for every source."""
    document = status(cycle=None).as_document()
    reasons = {one["source"]: one["reason"] for one in document["unknown"]}
    assert reasons == dict.fromkeys(SOURCES, "no cycle has been finished yet")
    assert document["cycle"] == {"time": None, "seconds": None, "sentence": ""}


def test_checkpoint_without_a_decision_is_unknown() -> None:
    """When the folder or the store froze the decision, no state is made up."""
    (one,) = status(of_cycle={"standings": {}}).as_document()["checkpoints"]
    assert (one["state"], one["waitsFor"]) == ("unknown", "")


def test_contact_is_told_in_wall_time() -> None:
    """Times of the machine's clock are placed on the wall clock of now, whatever it did since."""
    contact = Contact(ContactState.LOST, 900.0, "refused", last_answer=890.0, is_answering=True)
    told = contact_status(contact, at(1000.0))
    expected = ContactStatus(
        "lost", "refused", WALL_AT_BOOT + 900, WALL_AT_BOOT + 890, True, "refused"
    )
    assert told == expected
    never = contact_status(Contact(ContactState.SUSPECT, 900.0, "not probed yet"), at(1000.0))
    assert never.last_answer is None


def test_page_tells_what_runs_and_why_contact_is_lost() -> None:
    """As the table on the node does: what was seen then, and what is seen now."""
    document = status().as_document()
    document["contact"] |= {"state": "lost", "cause": "refused", "reason": "timeout"}
    document["checkpoints"][0]["runs"] = "copy"
    shown = page(document)
    assert b"<th>Runs</th>" in shown
    assert b'<td class="number">copy</td>' in shown
    assert b"refused; now: timeout" in shown
    assert b"; kubelet running, started " in shown


def test_time_that_no_calendar_has_is_none() -> None:
    """A clock gone mad, or a tampered token, does not break the status."""
    details = {API: RevisionDetails(token_expiry=1e300)}
    (one,) = status(details=details).as_document()["checkpoints"]
    assert one["tokenExpiry"] is None


@pytest.fixture
def silent_runtime(folder: Path) -> Iterator[str]:
    """A runtime that takes connections and never answers."""
    path = folder / "cri.sock"
    with socket(AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        yield f"unix://{path}"


def offline_config(folder: Path, endpoint: str) -> Any:
    (folder / "manifests").mkdir(exist_ok=True)
    return load(
        None,
        overrides={
            "nodeName": "node-1",
            "storeDirectory": str(folder / "store"),
            "lockFile": str(folder / "lock"),
            "manifestDirectory": str(folder / "manifests"),
            "kubeletDirectory": str(folder / "kubelet"),
            "runtimeEndpoint": endpoint,
        },
    )


def test_status_without_agent_and_with_a_runtime_that_hangs(
    folder: Path, silent_runtime: str
) -> None:
    """It is answered from disk, says what it could not learn, and leaves no thread behind."""
    before = threading.active_count()
    inquiry = Inquiry(silent_runtime, 0.1)
    document = offline_status(offline_config(folder, silent_runtime), inquiry).as_document()
    assert document["contact"]["state"] == "unknown"
    assert document["contact"]["reason"] == NOT_RUNNING
    assert document["agent"]["running"] is False
    assert (document["cycle"]["time"], document["cycle"]["seconds"]) == (None, None)
    assert document["checkpoints"] == []
    reasons = {one["source"]: one["reason"] for one in document["unknown"]}
    assert set(reasons) == {"pods", "runtime", "kubelet"}
    assert reasons["pods"] == NOT_RUNNING
    assert "no answer within" in reasons["runtime"]
    assert threading.active_count() == before


def test_status_without_agent_shows_what_is_stored(folder: Path, store: Any) -> None:
    """A stored checkpoint is there with its revision; what it waits for is the agent."""
    store.add(new_revision())
    endpoint = "unix:///nonexistent"
    shown = offline_status(offline_config(folder, endpoint), Inquiry(endpoint, 0.1)).as_document()
    (one,) = shown["checkpoints"]
    assert (one["name"], one["revision"], one["state"]) == ("kube-apiserver", 1, "standby")
    assert one["waitsFor"] == f"the agent: {NOT_RUNNING}"
    assert one["materialBytes"] == 0
    assert one["warnings"] == ["spec.a: dropped"]


def new_revision() -> Any:
    from checkpointer.store.revisions import NewRevision

    def manifest_for(_: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []}}

    return NewRevision(API, revision(), manifest_for, warnings=("spec.a: dropped",))
