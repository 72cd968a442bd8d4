"""Which workloads would not come back: what condition, metric and alert all go by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from checkpointer.core.checkpoint import Checkpoint, Record
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.hold import ACTIVE, RELEASED, Hold
from checkpointer.core.observation import Pod
from checkpointer.core.workload import Workload
from checkpointer.manifest.verdict import Finding, Outcome, Verdict
from checkpointer.report.metrics import Inputs, Metrics
from checkpointer.report.node_condition import condition_of
from checkpointer.report.protection import GRACE_SECONDS, Protection
from checkpointer.report.status import (
    AgentStatus,
    ContactStatus,
    Cycle,
    Status,
    build_protection,
    build_status,
)
from checkpointer.report.tally import Tally
from checkpointer.report.verdicts import Verdicts
from tests.unit.core.builders import API, AT_REST, DNS, WALL_AT_BOOT, at, checkpoint, pod, revision

NOW = 1000.0
GONE = Finding("spec.containers[0].image", "the runtime does not have this image")
WARNED = Verdict(Outcome.WITH_WARNINGS, API, None, warnings=(GONE,))
OBSTRUCTED = replace(WARNED, obstacles=(GONE,))


def look(
    *checkpoints: Checkpoint,
    pods: Any = (),
    verdicts: tuple[Verdict, ...] = (),
    failures: dict[str, str] | None = None,
) -> tuple[Status, Protection]:
    seen = replace(
        AT_REST.observe(),
        pods=Known(pods) if isinstance(pods, tuple) else pods,
        checkpoints=Known(checkpoints),
    )
    cycle = Cycle(seen, {}, "", at(NOW), failures=failures or {})
    contact = ContactStatus("reachable", "")
    last = {verdict.workload: verdict for verdict in verdicts}
    status = build_status(AgentStatus("n", "1", 7), contact, cycle, last, {})
    return status, build_protection(cycle, last)


def unprotected(*checkpoints: Checkpoint, **changes: Any) -> dict[Workload, str]:
    """Return them with their reasons, as condition, metrics and document have them, too."""
    found, protection = look(*checkpoints, **changes)
    text = Metrics(lambda: Inputs(found, Tally(), Verdicts(), 1, 0)).exposition()[0].decode()
    assert f"pod_checkpointer_unprotected_workloads {len(found.unprotected)}.0\n" in text
    assert protection.unprotected == tuple(one.workload for one in found.unprotected)
    assert (condition_of(protection).reason == "Unprotected") == bool(found.unprotected)
    told = {one.workload: one.reason for one in found.unprotected}
    assert [one["reason"] for one in found.as_document()["unprotected"]] == list(told.values())
    return told


def young(seconds: float, **changes: Any) -> Pod:
    """Return a parent of DNS that has been on the node for so long."""
    started = WALL_AT_BOOT + NOW - seconds
    usual: dict[str, Any] = {"ready": False, "ready_seconds": 0.0, "started_at": started}
    return pod(DNS, "dns", **(usual | changes))


def test_parent_that_was_never_snapshotted() -> None:
    """A pod that cannot become Ready is never tried, and nothing else would tell of it."""
    pods = (young(GRACE_SECONDS + 1),)
    reason = f"no snapshot of it was taken yet: pod {pods[0].name}, it is not Ready"
    assert unprotected(checkpoint(), pods=pods) == {DNS: reason}
    ready = young(5.0, ready=True, ready_seconds=GRACE_SECONDS + 1, started_at=None)
    assert unprotected(checkpoint(), pods=(ready,)) == {DNS: reason.replace("not Ready", "Ready")}


@pytest.mark.parametrize(
    "one",
    [
        young(GRACE_SECONDS - 1),
        young(-500.0),
        young(999.0, started_at=None),
        young(999.0, is_parent=False),
        young(999.0, terminating=True),
        young(999.0, finished=True),
    ],
    ids=["new", "from the future", "of unknown age", "not selected", "going", "finished"],
)
def test_parent_that_does_not_count_as_missing(one: Pod) -> None:
    """It is too new for a snapshot, or none is wanted of it."""
    assert unprotected(checkpoint(), pods=(one,)) == {}


def test_parent_with_a_checkpoint_is_protected() -> None:
    """Also while it is not Ready, and when it cannot be checkpointed as it is now."""
    stored = checkpoint(DNS)
    assert unprotected(stored, pods=(young(999.0),)) == {}
    assert unprotected(stored, pods=(young(999.0),), failures={"dns": "no token"}) == {}
    assert unprotected(pods=(young(1.0),), failures={"dns": "no token"}) == {DNS: "no token"}


def test_snapshot_that_fails_though_the_parent_can_be_checkpointed() -> None:
    """A full disk makes no pod uncheckpointable; what is wrong with the store is the newer reason,
    for the disk may have room again since the last try."""
    fine = Verdict(Outcome.CHECKPOINTABLE, DNS, {})
    given: dict[str, Any] = {"pods": (young(999.0),), "verdicts": (fine,)}
    given["failures"] = {"dns": "No space left"}
    assert unprotected(**given) == {DNS: "No space left"}
    damaged = Checkpoint(DNS, (), problems=("it does not match its digest",))
    assert unprotected(damaged, **given) == {
        DNS: "no revision of it verifies: it does not match its digest"
    }
    found, _ = look(damaged, **given)
    assert found.refused == ()
    assert f"{DNS}: the last snapshot failed: No space left" in found.problems


def test_checkpoint_of_which_nothing_could_run() -> None:
    """None verifies, or each has failed as a copy; one that is left will do."""
    damaged = replace(checkpoint(), revisions=())
    assert unprotected(damaged) == {API: "no revision of it verifies"}
    said = replace(damaged, problems=("revision 2 is skipped", "revision 1 is skipped"))
    assert unprotected(said) == {API: "no revision of it verifies: revision 2 is skipped"}
    two = (revision(2), revision(1))
    failed = checkpoint(API, *two, record=Record(failed=(2, 1)))
    assert unprotected(failed) == {API: "every stored revision kept crashing as a copy"}
    assert unprotected(checkpoint(API, *two, record=Record(failed=(2,)))) == {}


def test_image_without_which_the_copy_could_not_start() -> None:
    """By the last verdict, unless that is of a pod that nothing could be stored of."""
    told = unprotected(checkpoint(), verdicts=(OBSTRUCTED,))
    assert told == {API: f"{GONE.path}: {GONE.reason}"}
    assert unprotected(checkpoint(), verdicts=(WARNED,)) == {}
    refused = replace(OBSTRUCTED, outcome=Outcome.REFUSED)
    assert unprotected(checkpoint(), verdicts=(refused,)) == {}


def test_checkpoint_that_is_held_released() -> None:
    """It is not activated in an outage either; held active it is, and a hold may be over."""
    hold = Hold(RELEASED, 0.0, "root", "maintenance", until=WALL_AT_BOOT + NOW + 1)
    told = unprotected(replace(checkpoint(), hold=hold))
    assert told == {API: "it is held released by hand, root: maintenance"}
    assert unprotected(replace(checkpoint(), hold=replace(hold, wanted=ACTIVE))) == {}
    over = replace(hold, until=WALL_AT_BOOT + NOW - 1)
    assert unprotected(replace(checkpoint(), hold=over)) == {}


def test_pods_that_are_not_known_are_not_missing() -> None:
    """In an outage what is stored is judged, and nothing else is made up."""
    assert unprotected(checkpoint(), pods=Unknown("contact is lost")) == {}


def test_store_that_cannot_tell_is_not_an_empty_one() -> None:
    """Then it is not known who is protected: the metric is absent, and no pod is made missing."""
    seen = replace(AT_REST.observe(), pods=Known((young(999.0),)), checkpoints=Unknown("I/O error"))
    cycle = Cycle(seen, {}, "", at(NOW))
    found = build_status(AgentStatus("n", "1", 7), ContactStatus("reachable", ""), cycle, {}, {})
    assert found.unprotected == ()
    text = Metrics(lambda: Inputs(found, Tally(), Verdicts(), 1, 0)).exposition()[0].decode()
    assert "unprotected_workloads" not in text


def test_they_are_shown_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    """On the page and in the table: whose, and why."""
    from checkpointer.cli.status import _print
    from checkpointer.report.page import page

    document = look(replace(checkpoint(), revisions=()))[0].as_document()
    name = "kube-system/daemonset/kube-apiserver"
    assert f"<li>{name}: no revision of it verifies</li>".encode() in page(document)
    assert _print(document, "table") == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[-2:] == ["WOULD-NOT-COME-BACK WHY", f"{name} no revision of it verifies"]
    del document["unprotected"]  # an agent of the version before answers `status`
    assert _print(document, "table") == 0
