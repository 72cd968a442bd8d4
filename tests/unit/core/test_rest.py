"""Rest: what is not decided on anew would have been decided to stay as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from checkpointer.core.checkpoint import HandOver, Record
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.hold import Hold
from checkpointer.core.plan import Attempt, Track
from checkpointer.core.rest import AT_REST as STANDING
from checkpointer.core.rest import resting
from tests.unit.core.builders import (
    API,
    AT_REST,
    EMPTY,
    NOW,
    OTHER_POD,
    Node,
    checkpoint,
    denied,
    lost,
    manifest,
    pod,
    revision,
    suspect,
)

RECORD = Record(parents=("parent-uid",), issue=4, good=(1,))
RESTS = AT_REST.with_track(parent_since=NOW - 50.0)
TWIN = pod(uid="twin-uid", is_parent=False, finished=True, ready=False)
"""A pod of the same workload that has ended. It means nothing, but with it the workload has two
pods, and is decided on at length."""


def with_record(**changes: Any) -> Node:
    return RESTS.but(checkpoints=Known((checkpoint(record=replace(RECORD, **changes)),)))


def with_pod(**changes: Any) -> Node:
    return RESTS.but(pods=Known((pod(**changes), OTHER_POD)))


def at_rest(node: Node) -> dict[Any, Track]:
    assert isinstance(node.checkpoints, Known)
    pods = node.pods.value if isinstance(node.pods, Known) else ()
    by_workload = {w: tuple(p for p in pods if p.workload == w) for w in {p.workload for p in pods}}
    return resting(node.observe(), node.memory, node.checkpoints.value, by_workload)


def test_a_workload_whose_parent_is_here_rests() -> None:
    """It stands by, and its track is the very same."""
    assert at_rest(RESTS) == {API: RESTS.memory.tracks[API]}
    plan = RESTS.decide()
    assert plan.standings == {API: STANDING}
    assert plan.memory.tracks[API] is RESTS.memory.tracks[API]


@pytest.mark.parametrize(
    "node",
    [
        AT_REST,
        RESTS.but(contact=suspect()),
        RESTS.but(contact=lost()),
        RESTS.but(contact=denied()),
        RESTS.but(runtime=Known(EMPTY)),
        RESTS.but(manifests=Known((manifest(),))),
        RESTS.but(manifests=Unknown("no folder")),
        RESTS.but(pods=Unknown("not asked yet")),
        RESTS.but(pods=Known((OTHER_POD,))),
        RESTS.but(pods=Known((pod(), pod(uid="uid-b")))),
        RESTS.but(checkpoints=Known((replace(checkpoint(record=RECORD), revisions=()),))),
        RESTS.but(checkpoints=Known((checkpoint(API, revision(2), record=RECORD),))),
        RESTS.but(
            checkpoints=Known((replace(checkpoint(record=RECORD), hold=Hold("active", 0.0, "x")),))
        ),
        with_pod(is_parent=False),
        with_pod(terminating=True),
        with_pod(finished=True),
        with_pod(uid="another-uid"),
        with_record(absent_seconds=1.0),
        with_record(hand_over=HandOver(to="uid", boot_id="boot-0")),
        with_record(hand_over=HandOver(refused="uid")),
        RESTS.with_track(down_since=NOW - 1.0),
        RESTS.with_track(parent_crashes=1),
        RESTS.with_track(was_leaving=True),
        RESTS.with_track(absent_seconds=1.0),
    ],
)
def test_whatever_may_matter_is_decided_on(node: Node) -> None:
    """Anything to follow, to count, to forget or to promote ends the rest."""
    assert at_rest(node) == {}


# Most of what is drawn is not at rest; should none be, hypothesis still fails.
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    st.builds(
        Record,
        parents=st.sampled_from([("parent-uid",), ("parent-uid",), ()]),
        issue=st.integers(0, 9),
        absent_seconds=st.sampled_from([0.0, 0.0, 0.0, 29.0]),
        failed=st.sampled_from([(), (), (1,), (2,), (1, 2)]),
        good=st.sampled_from([(1,), (2, 1), (2,), (3, 2), ()]),
        hand_over=st.builds(
            HandOver,
            to=st.sampled_from(["", "", "", "parent-uid"]),
            boot_id=st.sampled_from(["boot-0", "boot-1"]),
            since=st.sampled_from([0.0, 960.0]),
            failures=st.integers(0, 9),
            refused=st.sampled_from(["", "", "", "parent-uid"]),
        ),
    ),
    st.builds(
        Track,
        down_since=st.sampled_from([None, None, None, 900.0]),
        activated_at=st.sampled_from([None, 900.0]),
        issues=st.integers(0, 3),
        parent_running=st.sampled_from([frozenset(), frozenset({"c1"})]),
        parent_exits=st.sampled_from([None, frozenset(), frozenset({"c1"})]),
        parent_crashes=st.sampled_from([0, 0, 0, 3]),
        was_leaving=st.sampled_from([False, False, False, True]),
        excused_attempts=st.sampled_from([None, 2]),
        released_at=st.sampled_from([None, 900.0]),
        absent_seconds=st.sampled_from([0.0, 0.0, 0.0, 29.0]),
    ),
    st.builds(
        pod,
        st.just(API),
        ready=st.booleans(),
        terminating=st.sampled_from([False, False, False, True]),
        signature=st.sampled_from(["spec-1", "spec-2"]),
    ),
    st.sampled_from([(revision(1),), (revision(2), revision(1)), (revision(2, stage=1),)]),
    st.sampled_from([None, Attempt("spec-1", 0.0, 1), Attempt("spec-1", 0.0, 2)]),
    st.booleans(),
)
def test_rest_is_what_would_have_been_decided(
    record: Record,
    track: Track,
    parent: Any,
    revisions: tuple[Any, ...],
    attempt: Attempt | None,
    is_untold: bool,
) -> None:
    """The short way comes to the same as the long one, whatever stands in record and track."""
    attempts = {} if attempt is None else {parent.uid: attempt}
    node = RESTS.but(
        checkpoints=Known((checkpoint(API, *revisions, record=record),)),
        pods=Known((parent, OTHER_POD)),
        memory=replace(
            RESTS.memory,
            tracks={API: track},
            attempts=attempts,
            ready_since={parent.uid: 0.0},
            last_cycle=NOW - 30.0,
        ),
        has_untold_pods=is_untold,
    )
    assume(API in at_rest(node))
    at_length = node.but(pods=Known((parent, TWIN, OTHER_POD)))
    assert at_rest(at_length) == {}
    assert node.decide() == at_length.decide()
