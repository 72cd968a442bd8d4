"""The decision in a closed loop: a small self-hosted node in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from checkpointer.core.rules import Rules
from tests.unit.core.builders import revision
from tests.unit.core.model import SelfHostedNode


def settled() -> SelfHostedNode:
    node = SelfHostedNode()
    node.settle()
    return node


def names(node: SelfHostedNode) -> list[str]:
    """Return what was done to the folder, the copies and the store, but for snapshots."""
    return [name for _, name in node.events if name != "Snapshot"]


def assert_recovered(node: SelfHostedNode) -> None:
    """The parent serves, and nothing of ours is left beside it."""
    assert (node.parent_is_up, node.active, node.copies) == (True, None, {})


def test_a_power_cycle_ends_with_the_parent_and_an_empty_folder() -> None:
    """Activated at once, released on the parent's sandbox, served without a crash of the parent."""
    node = settled()
    node.cut_power()
    start = node.now
    node.run(120)
    assert names(node) == ["Activate", "Release"]
    activated, released = (when - start for when, name in node.events if name != "Snapshot")
    assert activated <= 0.5
    assert released <= 3.0
    assert node.away_seconds <= 2.5
    assert_recovered(node)


def test_the_parent_is_snapshotted_again_only_when_it_is_due() -> None:
    """Ten minutes after the last time."""
    node = settled()
    start = node.now
    node.run(1300)
    assert [(round(when - start, -2), name) for when, name in node.events] == [
        (600, "Snapshot"),
        (1200, "Snapshot"),
    ]


def test_an_api_server_killed_in_place_activates_nothing() -> None:
    """The kubelet restarts it within a second."""
    node = settled()
    node.kill_parent()
    node.run(120)
    assert names(node) == []
    assert_recovered(node)


def test_a_network_that_is_cut_activates_nothing() -> None:
    """For an hour; everything runs all the time."""
    node = settled()
    node.network = False
    node.run(3600)
    assert names(node) == []


def test_a_kubelet_restarted_without_the_api_activates_only_when_the_parent_dies() -> None:
    """The old container runs on unmanaged; nobody else would start it again."""
    node = settled()
    node.network = False
    node.run(10)
    node.restart_kubelet()
    node.run(600)
    assert names(node) == []
    node.kill_parent()
    node.run(2)
    assert names(node) == ["Activate"]


def test_a_kubelet_restarted_beside_a_running_parent_changes_nothing() -> None:
    """It reaches the API and adopts what runs."""
    node = settled()
    node.restart_kubelet()
    node.run(120)
    assert names(node) == []


def test_three_power_cycles_in_one_outage_are_no_crash_loop() -> None:
    """The copy's attempts add up over them; its revision is as good as before."""
    node = settled()
    node.network = False
    node.revisions = (revision(2), revision(1))
    for _ in range(6):
        node.cut_power()
        node.run(60)
    assert names(node) == ["Activate"]
    assert node.active is not None
    assert node.active.revision == 2


def test_an_agent_restarted_at_any_moment_of_a_power_cycle_finishes_the_job() -> None:
    """Each step of the way."""
    for moment in range(60):
        node = settled()
        node.cut_power()
        node.run(0.1 * moment)
        node.restart_agent()
        node.run(180)
        assert_recovered(node)


def test_a_parent_that_cannot_start_does_not_take_the_api_down_again_and_again() -> None:
    """Four hours: each failed hand-over costs two of its deaths, and each waits twice as long."""
    node = settled()
    node.rules = Rules(watch_seconds=0.1)
    node.parent_works = False
    node.cut_power()
    node.run(4 * 3600)
    releases = [when for when, name in node.events if name == "Release"]
    pauses = [(later - when) / 60 for when, later in pairwise(releases)]
    for pause, least in zip(pauses, [2, 4, 8, 16, 32, 64], strict=False):
        assert least <= pause <= 2 * least + 12
    assert 5 <= len(releases) <= 8
    assert node.away_seconds <= len(releases) * 75


def test_a_parent_that_is_repaired_takes_over() -> None:
    """At the next hand-over."""
    node = settled()
    node.parent_works = False
    node.cut_power()
    node.run(900)
    node.parent_works = True
    node.run(2 * 3600)
    assert_recovered(node)


def test_a_copy_that_cannot_start_falls_back_once_per_revision() -> None:
    """Three revisions, none of them good; then it stays with the last."""
    node = settled()
    node.revisions = (revision(3), revision(2), revision(1))
    node.copy_works = False
    node.network = False
    node.cut_power()
    node.run(3600)
    assert names(node) == ["Activate"] * 3
    assert node.record.failed == (2, 3)


@pytest.mark.parametrize("bind_seconds", [0.5, 0.0])
def test_a_parent_deep_in_backoff_costs_little_of_the_apis_time(bind_seconds: float) -> None:
    """It is started anew once the copy is gone, however quick it is with its port."""
    node = settled()
    node.rules = Rules(watch_seconds=0.1)
    node.bind_seconds = bind_seconds
    node.network = False
    node.restart_kubelet()
    node.kill_parent()
    node.run(5)
    node.kubelet_knows = True  # it was told of the parent by another API server
    node.run(300)
    node.network, node.away_seconds = True, 0.0
    node.run(2 * 3600)
    assert_recovered(node)
    assert node.away_seconds <= 3.0


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["power", "kubelet", "agent", "kill", "cut network", "mend network"],
        ),
        st.floats(0.1, 90.0),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
@example([("kill", 1.0), ("kubelet", 1.0)])
def test_whatever_happened_the_parent_is_back_in_bounded_time(
    history: list[tuple[str, float]],
) -> None:
    """Once the world leaves the node alone: the parent serves and the folder is empty."""
    node = settled()
    happen = {
        "power": node.cut_power,
        "kubelet": node.restart_kubelet,
        "agent": node.restart_agent,
        "kill": node.kill_parent,
        "cut network": lambda: setattr(node, "network", False),
        "mend network": lambda: setattr(node, "network", True),
    }
    for name, pause in history:
        happen[name]()
        node.run(pause)
    node.network = True
    node.run(1200)
    assert_recovered(node)
    assert "Remove" not in names(node)


@pytest.mark.parametrize("seconds", [60, 600])
def test_a_long_outage_writes_nothing_to_disk(seconds: int) -> None:
    """After the activation: no record, no manifest, however many cycles."""
    node = settled()
    node.network = False
    node.cut_power()
    node.run(5)
    node.plans.clear()
    node.run(seconds)
    assert node.plans == []
