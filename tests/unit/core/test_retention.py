"""Retention: when a checkpoint that nothing wants any more goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.core.checkpoint import Record
from checkpointer.core.contact import Contact
from checkpointer.core.decide import decide
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.observation import Pod
from checkpointer.core.plan import Memory, Plan, Release, Remove
from checkpointer.core.retention import is_unwanted
from checkpointer.core.workload import Workload
from tests.unit.core.builders import (
    API,
    AT_REST,
    COPY_RUNS,
    DNS,
    NOW,
    OTHER_POD,
    PROXY,
    RULES,
    Node,
    at,
    checkpoint,
    denied,
    lost,
    manifest,
    pod,
    reachable,
    recovering,
    revision,
    situation,
    suspect,
)

FORGOTTEN = AT_REST.but(pods=Known((OTHER_POD,)))
"""The API is there and lists this node's pods, none of them the workload's."""
REMOVE = Remove(API, "nothing of it has been wanted here")


def run(node: Node, *times: float) -> tuple[Node, list[Plan]]:
    """Decide at each of these times, writing the records in between."""
    plans = []
    for now in times:
        plan = node.decide(now)
        plans.append(plan)
        node = node.then(plan)
    return node, plans


def absence(node: Node) -> float:
    return node.memory.tracks[API].absent_seconds


def stored(node: Node) -> Record:
    assert isinstance(node.checkpoints, Known)
    return node.checkpoints.value[0].record


def test_what_is_absent_goes_after_the_grace_and_not_before() -> None:
    """Five minutes of cycles in which the API lists other pods only."""
    _, plans = run(FORGOTTEN, *(30.0 * n for n in range(12)))
    assert [plan.actions for plan in plans] == [()] * 10 + [(REMOVE,)] + [()]


def test_the_first_cycle_counts_nothing() -> None:
    """The agent was not there before it."""
    node, _ = run(FORGOTTEN, NOW)
    assert absence(node) == 0.0


@pytest.mark.parametrize(
    ("elapsed", "counted"),
    [(0.1, 0.1), (30.0, 30.0), (60.0, 60.0), (61.0, 60.0), (86400.0, 60.0), (-5.0, 0.0)],
)
def test_a_cycle_counts_for_two_ticks_at_most(elapsed: float, counted: float) -> None:
    """A machine that slept for a night has not been told for a night that nothing is wanted."""
    node, _ = run(FORGOTTEN, NOW, NOW + elapsed)
    assert absence(node) == pytest.approx(counted)


@pytest.mark.parametrize(
    "changes",
    [
        {"contact": suspect()},
        {"contact": lost()},
        {"contact": recovering()},
        {"contact": denied()},
        {"pods": Unknown("the watch broke")},
        {"pods": Known(())},
        {"has_untold_pods": True},
    ],
)
def test_absence_counts_only_while_the_api_says_so(changes: dict[str, object]) -> None:
    """Reachable, and with a list that is not empty as a whole; what was counted stays."""
    node = FORGOTTEN.with_track(absent_seconds=100.0)
    node = replace(node, memory=replace(node.memory, last_cycle=NOW - 30))
    node, _ = run(node.but(**changes), NOW)
    assert absence(node) == 100.0


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (pod(), 0.0),
        (pod(ready=False), 0.0),
        (pod(terminating=True), 0.0),
        (pod(finished=True), 0.0),
        (pod(Workload("kube-system", "Deployment", "else"), "else", finished=True), 130.0),
        (pod(is_parent=False), 130.0),
        (pod(Workload("kube-system", "DaemonSet", "else"), "else"), 130.0),
    ],
)
def test_a_parent_resets_it(seen: Pod, expected: float) -> None:
    """Ready or not, a parent is wanted; a finished or unselected pod is none.

    But one of a DaemonSet that is finished and still there: no controller is at work that would
    have deleted it and made the next one.
    """
    node = FORGOTTEN.but(pods=Known((OTHER_POD, seen))).with_track(absent_seconds=100.0)
    node = replace(node, memory=replace(node.memory, last_cycle=NOW - 30))
    node, _ = run(node, NOW)
    assert absence(node) == expected


def test_it_is_written_in_steps() -> None:
    """A cycle a second must not be a write a second."""
    node, plans = run(FORGOTTEN, *(float(n) for n in range(100)))
    written = [plan.records[API].absent_seconds for plan in plans if plan.records]
    assert written == [30.0, 60.0, 90.0]
    assert stored(node).absent_seconds == 90.0


def test_a_return_is_written_once() -> None:
    """And then nothing more at all."""
    record = Record(parents=("parent-uid",), issue=4, absent_seconds=90.0, good=(1,))
    node = AT_REST.but(checkpoints=Known((checkpoint(record=record),)))
    _, plans = run(node, NOW, NOW + 30, NOW + 60)
    assert [dict(plan.records) for plan in plans] == [
        {API: replace(record, absent_seconds=0.0)},
        {},
        {},
    ]


def test_it_survives_a_restart_of_the_agent() -> None:
    """It goes on from what was written, not from nothing."""
    record = Record(parents=("parent-uid",), absent_seconds=270.0)
    node = FORGOTTEN.but(checkpoints=Known((checkpoint(record=record),)))
    _, plans = run(node, NOW, NOW + 29, NOW + 30)
    assert [plan.actions for plan in plans] == [(), (), (REMOVE,)]


OVERDUE = FORGOTTEN.but(
    checkpoints=Known(
        tuple(checkpoint(w, record=Record(absent_seconds=300.0)) for w in (API, DNS, PROXY))
    )
)


def test_one_goes_at_a_time() -> None:
    """Never all at once, however many have been absent for long enough."""
    node, found = OVERDUE, []
    for number in range(10):
        plan = node.decide(NOW + 20 * number)
        node = node.then(plan)
        gone = {action.workload for action in plan.actions}
        assert isinstance(node.checkpoints, Known)
        kept = tuple(c for c in node.checkpoints.value if c.workload not in gone)
        node = node.but(checkpoints=Known(kept))
        found.append([str(action.workload) for action in plan.actions])
    assert found == [[str(API)], [], [], [str(DNS)], [], [], [str(PROXY)], [], [], []]


def test_those_that_wait_say_so() -> None:
    """An operator sees why they are still there."""
    standings = OVERDUE.decide().standings
    assert [standings[w].waits_for for w in (API, DNS)] == [
        "its removal",
        "its removal, one by one",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"contact": suspect()},
        {"contact": lost()},
        {"contact": recovering()},
        {"contact": denied()},
        {"pods": Unknown("the watch broke")},
        {"pods": Known(())},
        {"has_untold_pods": True},
        {"manifests": Unknown("cannot be listed")},
        {"checkpoints": Unknown("cannot be read")},
    ],
)
def test_nothing_goes_while_the_api_does_not_say_so_now(changes: dict[str, object]) -> None:
    """However long it was absent before."""
    plan = OVERDUE.but(**changes).decide()
    assert [a for a in plan.actions if isinstance(a, Remove | Release)] == []


def test_an_active_one_is_released_first_and_removed_later() -> None:
    """Its turn in the folder and its turn in the store are two; the kubelet ends the copy."""
    node = OVERDUE.but(
        manifests=Known((manifest(),)),
        runtime=Known(COPY_RUNS),
        checkpoints=Known(
            (checkpoint(API, revision(stage=1), record=Record(absent_seconds=300.0)),)
        ),
    )
    plan = node.decide(NOW)
    assert plan.actions == (Release(API, manifest().file_name, REMOVE.reason),)
    node = node.then(plan).but(manifests=Known(()))
    _, plans = run(node, NOW + 1, NOW + 59, NOW + 60)
    assert [plan.actions for plan in plans] == [(), (), (REMOVE,)]


def test_active_ones_are_released_one_at_a_time_too() -> None:
    """A restored API server with one foreign pod must not take all copies down at once."""
    active = tuple(manifest(w) for w in (API, DNS, PROXY))
    stored = tuple(
        checkpoint(w, revision(stage=int(w != API)), record=Record(absent_seconds=300.0))
        for w in (API, DNS, PROXY)
    )
    node = OVERDUE.but(manifests=Known(active), checkpoints=Known(stored))
    assert [action.workload for action in node.decide().actions] == [DNS]


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 120.0),
            st.sampled_from([reachable(), suspect(), lost(), denied()]),
            st.sampled_from([None, (), (OTHER_POD,), (OTHER_POD, pod())]),
        ),
        max_size=40,
    )
)
def test_removal_needs_the_whole_grace_of_positive_absence(
    history: list[tuple[float, Contact, tuple[Pod, ...] | None]],
) -> None:
    """Counted independently: time in which the API listed others, since the parent's last sight."""
    node, now, absent = FORGOTTEN, NOW, 0.0
    is_first = True
    for pause, contact, pods in history:
        now += pause
        fact = Unknown("not told") if pods is None else Known(pods)
        plan = node.but(contact=contact, pods=fact).decide(now)
        if contact == reachable() and pods:
            absent = 0.0 if pod() in pods else absent + (0 if is_first else min(pause, 60.0))
        is_first = False
        if any(isinstance(action, Remove) for action in plan.actions):
            assert contact == reachable()
            assert pods == (OTHER_POD,)
            assert absent >= 300.0 - 1e-6
        node = node.then(plan)


def test_unwanted_is_what_was_absent_for_long_enough() -> None:
    """To the second."""
    track = replace(Memory().tracks.get(API) or FORGOTTEN.with_track().memory.tracks[API])
    at_limit = replace(track, absent_seconds=300.0)
    below = replace(track, absent_seconds=299.9)
    here = situation(reachable())
    others = Known((OTHER_POD,))
    assert (is_unwanted(at_limit, others, here), is_unwanted(below, others, here)) == (True, False)


def test_nothing_is_removed_on_the_word_of_another_cluster() -> None:
    """Nor while it cannot be told whether it is another one; and its time does not count."""
    gone = AT_REST.but(pods=Known((OTHER_POD,))).with_track(absent_seconds=RULES.absent_seconds)
    assert [type(a) for a in gone.decide().actions] == [Remove]
    for fact in (Known(False), Unknown("nobody can tell")):
        seen = replace(gone.observe(), is_own_cluster=fact)
        plan = decide(seen, gone.memory, RULES, frozenset(), at(NOW))
        assert plan.actions == ()
        assert plan.memory.tracks[API].absent_seconds == RULES.absent_seconds


def test_a_new_run_of_the_agent_waits_before_it_removes() -> None:
    """It does not know when the run before it removed something: its start counts as the last."""
    gone = AT_REST.but(pods=Known((OTHER_POD,))).with_track(absent_seconds=RULES.absent_seconds)
    gone = gone.but(memory=replace(gone.memory, last_removal=None))
    first = gone.decide()
    assert first.actions == ()
    later = gone.then(first).decide(NOW + RULES.removal_interval_seconds)
    assert [type(a) for a in later.actions] == [Remove]
