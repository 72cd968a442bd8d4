"""The metrics: their names and values, and that they are parsable as Prometheus has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from checkpointer.core.checkpoint import HandOver, Record
from checkpointer.core.contact import ProbeOutcome, ProbeResult
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.observation import NOT_ASKED, Itself, Observation
from checkpointer.core.standing import Standing
from checkpointer.manifest.verdict import Outcome, Verdict
from checkpointer.report.happenings import Happening, Kind
from checkpointer.report.metrics import CONTENT_TYPE, Inputs, Metrics
from checkpointer.report.status import (
    AgentStatus,
    ContactStatus,
    Cycle,
    RevisionDetails,
    build_status,
)
from checkpointer.report.tally import Histogram, Tally
from checkpointer.report.verdicts import Verdicts
from tests.unit.core.builders import (
    ACTIVATED,
    API,
    DNS,
    SAME_KUBELET,
    WALL_AT_BOOT,
    at,
    checkpoint,
    manifest,
    pod,
    reachable,
    revision,
)

SEEN = Observation(
    reachable(),
    Known((pod(), pod(DNS, "dns", is_parent=False, excluded="no"))),
    NOT_ASKED,
    Known(SAME_KUBELET),
    Known((manifest(),)),
    Known((checkpoint(API, revision(2), revision(1), record=Record(failed=(2,))),)),
)
LABELS = (("kind", "DaemonSet"), ("name", "kube-apiserver"), ("namespace", "kube-system"))


def samples(
    seen: Observation | None = SEEN, state: str = "active", **changes: Any
) -> dict[Any, float]:
    """Return every sample of an exposition by name and sorted labels."""
    tally, verdicts = Tally(), Verdicts()
    tally.probed(ProbeResult(ProbeOutcome.SERVER_ERROR, "HTTP 500"), 0.02)
    tally.cycles.add(0.003)
    for kind in (Kind.ACTIVATED, Kind.ACTIVATED, Kind.ISSUED_ANEW):
        tally.happened(Happening(kind, 0.0))
    tally.happened(Happening(Kind.HANDED_OVER, 0.0, seconds=3.0))
    verdicts.record(Verdict(Outcome.WITH_WARNINGS, API, None))
    cycle = Cycle(seen, {API: Standing(state)}, "", at(10.0)) if seen else None
    status = build_status(
        AgentStatus("node-1", "1.2.3", 7),
        ContactStatus("lost", "refused", since=5.0, **changes),
        cycle,
        verdicts.last,
        {API: RevisionDetails(100, 7777.0)},
    )
    text, content_type = Metrics(lambda: Inputs(status, tally, verdicts, 4096, 3)).exposition()
    assert content_type == CONTENT_TYPE
    return {
        (
            sample.name.removeprefix("pod_checkpointer_"),
            *sorted(sample.labels.items()),
        ): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_values_of_an_active_checkpoint() -> None:
    """Each number is that of the status."""
    found = samples()
    expected = {
        "checkpoint_active": 1.0,
        "checkpoint_active_since_timestamp_seconds": WALL_AT_BOOT + ACTIVATED,
        "checkpoint_revision": 1.0,
        "checkpoint_revision_timestamp_seconds": 0.0,
        "checkpoint_stage": 0.0,
        "checkpoint_failed_revisions": 1.0,
        "checkpoint_material_bytes": 100.0,
        "checkpoint_token_expiry_timestamp_seconds": 7777.0,
        "checkpoint_held": 0.0,
    }
    assert {name: found[name, *LABELS] for name in expected} == expected
    assert found["build_info", ("version", "1.2.3")] == 1.0
    assert found["contact_state", ("state", "lost")] == 1.0
    assert found["contact_state", ("state", "reachable")] == 0.0
    assert found["contact_since_timestamp_seconds",] == 5.0
    assert found["checkpoints", ("state", "active")] == 1.0
    assert found["checkpoints", ("state", "standby")] == 0.0
    assert found["unprotected_workloads",] == 1.0
    assert found["refused_pods",] == 1.0
    assert found["workloads", ("verdict", "with_warnings")] == 1.0
    assert found["verdict_changes_total", ("verdict", "with_warnings")] == 1.0
    assert found["activations_total",] == 2.0
    assert found["refusals_total",] == 1.0
    assert found["hand_over_seconds_sum",] == 3.0
    assert found["probe_seconds_count", ("outcome", "server_error")] == 1.0
    assert found["store_bytes",] == 4096.0
    assert found["events_waiting",] == 3.0
    assert found["process_resident_memory_bytes",] > 0


def test_what_is_not_known_is_absent_not_zero() -> None:
    """An age of 54 years, or a token that has expired in 1970, would page somebody."""
    found = samples(None)
    names = {key[0] for key in found}
    assert "last_answer_timestamp_seconds" not in names
    assert "last_cycle_timestamp_seconds" not in names
    assert "kubelet_up" not in names
    assert found["source_unknown", ("source", "pods")] == 1.0
    inactive = replace(SEEN, manifests=Known(()), kubelet=Unknown("no socket"))
    found = samples(inactive, last_answer=9.0)
    assert found["checkpoint_active", *LABELS] == 0.0
    assert ("checkpoint_active_since_timestamp_seconds", *LABELS) not in found
    assert found["source_unknown", ("source", "kubelet")] == 1.0
    assert found["source_unknown", ("source", "runtime")] == 0.0
    assert found["last_answer_timestamp_seconds",] == 9.0


def test_own_copy_is_not_an_active_checkpoint() -> None:
    """It always is; an alert on copies that stay active would never end."""
    found = samples(replace(SEEN, itself=Itself(API, "own-uid")))
    assert ("checkpoint_active", *LABELS) not in found
    assert ("checkpoint_active_since_timestamp_seconds", *LABELS) not in found
    assert found["checkpoints", ("state", "active")] == 0.0
    assert found["own_copy_active",] == 1.0
    away = replace(SEEN, itself=Itself(API, "own-uid"), manifests=Known(()))
    assert samples(away)["own_copy_active",] == 0.0
    assert ("own_copy_active",) not in samples()


def test_hand_over_is_measured() -> None:
    """One that is under way, with those that failed before; a parent that gets no other try."""
    way = HandOver(to="uid", boot_id="boot-1", since=4.0, failures=2, refused="uid-0")
    stored = checkpoint(API, revision(2), record=Record(good=(2,), hand_over=way))
    found = samples(replace(SEEN, checkpoints=Known((stored,))), state="handing over")
    assert found["checkpoints", ("state", "handing_over")] == 1.0
    assert found["checkpoint_hand_over_since_timestamp_seconds", *LABELS] == WALL_AT_BOOT + 4.0
    assert found["checkpoint_hand_over_failures", *LABELS] == 2.0
    assert found["checkpoint_parent_refused", *LABELS] == 1.0
    assert found["checkpoint_last_known_good_revision", *LABELS] == 2.0
    found = samples()
    assert ("checkpoint_hand_over_since_timestamp_seconds", *LABELS) not in found
    assert ("checkpoint_last_known_good_revision", *LABELS) not in found
    assert found["checkpoint_parent_refused", *LABELS] == 0.0


def test_histogram_counts_as_prometheus_does() -> None:
    """A value on a bound is in that bucket; buckets are cumulative."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 3.0):
        histogram.add(value)
    assert histogram.read() == ([("1", 2.0), ("2", 3.0), ("+Inf", 4.0)], 6.0)
