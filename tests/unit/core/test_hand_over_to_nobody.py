"""A hand-over whose parent the API lists no more: gone for good, or only until the next is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from checkpointer.core.checkpoint import HandOver, Record
from checkpointer.core.decide import decide
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.observation import Pod
from checkpointer.core.plan import Activate, Remove
from tests.unit.core.builders import (
    API,
    BOOTED,
    NOW,
    OTHER_POD,
    PARENT_DIED_IN_PLACE,
    RULES,
    SAME_KUBELET,
    Node,
    at,
    checkpoint,
    pod,
    reachable,
    revision,
)

WAY = HandOver(to="parent-uid", boot_id="boot-1", since=NOW)
ENDS = (pod(terminating=True, ready=False), OTHER_POD)
REFUSED = (pod(ready=False, finished=True), OTHER_POD)


def given_way(stage: int, is_owed: bool = False, **changes: Any) -> Node:
    """Return a node with the API there whose copy made way; `changes` are of the node."""
    way = replace(WAY, is_owed=is_owed, failures=int(is_owed))
    record = Record(parents=("parent-uid",), issue=4, hand_over=way)
    stored = checkpoint(API, revision(stage=stage), record=record)
    return BOOTED.but(
        contact=reachable(),
        checkpoints=Known((stored,)),
        runtime=Known(PARENT_DIED_IN_PLACE),
        kubelet=Known(SAME_KUBELET),
        **changes,
    )


@pytest.mark.parametrize("is_owed", [False, True])
def test_a_hand_over_ends_when_nobody_has_been_wanted_for_long(is_owed: bool) -> None:
    """Moved away, scaled to zero, drained; and what is owed is not written any more."""
    node = given_way(1, is_owed, pods=Known((OTHER_POD,)))
    node = node.with_track(absent_seconds=RULES.absent_seconds)
    assert [type(action) for action in node.decide(NOW + 20).actions] == [Remove]
    busy = node.but(memory=replace(node.memory, last_removal=NOW)).decide(NOW + 20)
    assert busy.actions == ()
    assert busy.records[API].hand_over.to == ""


@pytest.mark.parametrize("pods", [(), (OTHER_POD,), ENDS])
@pytest.mark.parametrize("stage", [0, 1])
def test_a_hand_over_goes_on_while_its_parent_is_being_replaced(
    stage: int, pods: tuple[Pod, ...]
) -> None:
    """Each update of a DaemonSet has its moment without a pod: its next one may fail as well. At
    the deadline an API server gets its copy back, and the others wait for a pod."""
    node = given_way(stage, pods=Known(pods))
    plan = node.decide(NOW + 20)
    assert plan.standings[API].state == "handing over"
    assert plan.records == {}
    late = node.decide(NOW + 61)
    assert bool(late.actions) is (stage == 0 or not pods)
    there = node.but(pods=Known((pod(uid="next", ready=False), OTHER_POD)))
    assert len(there.decide(NOW + 61).actions) == 1


@pytest.mark.parametrize("pods", [(OTHER_POD,), ENDS, REFUSED])
@pytest.mark.parametrize("stage", [0, 1])
def test_a_copy_that_is_owed_comes_back_though_no_pod_is_listed(
    stage: int, pods: tuple[Pod, ...]
) -> None:
    """It could not be written when its parent had failed; that the pod goes mends nothing."""
    (action,) = given_way(stage, True, pods=Known(pods)).decide(NOW + 20).actions
    assert isinstance(action, Activate)


@pytest.mark.parametrize(("seconds", "is_over"), [(59, False), (61, True)])
def test_a_hand_over_to_a_pod_that_is_refused_again_ends_at_the_deadline(
    seconds: float, is_over: bool
) -> None:
    """The copy had its place: with it back the next one would be refused as well."""
    plan = given_way(0, pods=Known(REFUSED)).decide(NOW + seconds)
    assert plan.actions == ()
    assert (API in plan.records) is is_over


@pytest.mark.parametrize("pods", [(OTHER_POD,), REFUSED])
@pytest.mark.parametrize("is_own", [Known(False), Unknown("its UID cannot be read")])
def test_another_clusters_list_ends_no_hand_over(is_own: Any, pods: tuple[Pod, ...]) -> None:
    """What it does not list is not gone."""
    for is_owed, later in ((False, 61), (True, 20)):
        node = given_way(1, is_owed, pods=Known(pods)).with_track(absent_seconds=999.0)
        observed = replace(node.observe(), is_own_cluster=is_own)
        plan = decide(observed, node.memory, RULES, frozenset(), at(NOW + later))
        assert [type(action) for action in plan.actions] == [Activate]
