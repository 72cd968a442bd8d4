"""What becomes of a parent that failed, and of the copy that is owed for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from checkpointer.core.checkpoint import Checkpoint, HandOver, Record
from checkpointer.core.contact import Contact
from checkpointer.core.decide import decide
from checkpointer.core.facts import Known
from checkpointer.core.moment import Moment
from checkpointer.core.plan import Activate, Memory
from checkpointer.core.runtime import Runtime
from tests.unit.core.builders import (
    ACTIVE,
    API,
    BOOTED,
    COPY_RUNS,
    NOW,
    OTHER_POD,
    PARENT_DIED_IN_PLACE,
    PARENT_RUNS,
    RULES,
    SAME_KUBELET,
    WALL_AT_BOOT,
    both,
    checkpoint,
    container_of,
    copy_sandbox,
    dead,
    lost,
    made,
    manifest,
    parent_sandbox,
    pod,
    reachable,
    revision,
    stamp,
)

IN_PLACE = BOOTED.but(runtime=Known(PARENT_DIED_IN_PLACE), kubelet=Known(SAME_KUBELET))
"""The parent's container was killed; its sandbox lives and the kubelet knows the pod."""
WAY = HandOver(to="parent-uid", boot_id="boot-1", since=NOW)
GIVEN_WAY = Known((checkpoint(record=Record(parents=("parent-uid",), issue=4, hand_over=WAY)),))
RELEASED = IN_PLACE.but(contact=lost(NOW + 0.3), checkpoints=GIVEN_WAY)
"""Given way to its parent a moment ago; with it the API has gone."""


@pytest.mark.parametrize("contact", [lost(NOW + 1), reachable()])
@pytest.mark.parametrize("forgets", [False, True])
def test_a_copy_that_is_owed_comes_back_whatever_is_lost_in_between(
    contact: Contact, forgets: bool
) -> None:
    """The record is on disk before the manifest is: an agent may die between, a write fail."""
    down = Runtime((parent_sandbox(),), (dead(container_of(parent_sandbox()), 3),))
    node = RELEASED.but(
        contact=contact, pods=Known((pod(ready=False), OTHER_POD)), runtime=Known(down)
    )
    plan = node.decide(NOW + 61)
    (action,) = plan.actions
    assert isinstance(action, Activate)
    node = node.then(plan).but(memory=Memory()) if forgets else node.then(plan)
    again = node.decide(NOW + 62)
    assert again.actions == (replace(action, issue=6),)
    way = plan.records[API].hand_over
    assert again.records[API].hand_over == way, "it failed once"
    ready = pod(container_ids=frozenset({"parent-uid-apiserver"}))
    up = node.but(contact=reachable(), pods=Known((ready, OTHER_POD)), runtime=Known(PARENT_RUNS))
    assert up.decide(NOW + 63).records[API].hand_over == HandOver(), "it came up by itself"
    written = node.but(manifests=Known((manifest(),)))
    assert written.decide(NOW + 63).records[API].hand_over == HandOver(
        template="", boot_id="boot-1", since=NOW + 61, failures=1
    )


def test_the_last_known_good_is_owed_too() -> None:
    """Tried a second time it is still that one, and not the newest."""
    record = Record(parents=("parent-uid",), issue=4, good=(1,))
    stored = checkpoint(API, revision(2), revision(1), record=record)
    sandbox, node = parent_sandbox(), IN_PLACE.but(checkpoints=Known((stored,)), contact=lost(NOW))
    plan = node.decide(NOW)
    for second in range(1, 99):
        deaths = tuple(dead(container_of(sandbox, id=f"died-{n}"), n) for n in range(second))
        node = node.then(plan).but(runtime=Known(Runtime((sandbox,), deaths)))
        plan = node.decide(NOW + second)
        if plan.actions:
            break
    (action,) = plan.actions
    assert isinstance(action, Activate)
    assert action.revision == 1
    (again,) = node.then(plan).decide(NOW + 100).actions
    assert isinstance(again, Activate)
    assert again.revision == 1


def test_the_parent_that_failed_is_the_one_that_is_there() -> None:
    """A rollout amid a hand-over put it in the place of the one that was given way to."""
    labels = {**parent_sandbox().labels, "controller-revision-hash": "new"}
    new = parent_sandbox("new-uid", labels=labels)
    died = tuple(dead(container_of(new, id=f"died-{n}"), n) for n in range(3))
    node = RELEASED.but(runtime=Known(Runtime((new,), died)))
    node = node.with_track(parent_exits=frozenset({"died-0", "died-1"}), parent_crashes=1)
    way = node.decide(NOW + 5).records[API].hand_over
    assert (way.refused, way.refused_template) == ("new-uid", "new")


TWO = ("apiserver", "kms")


def with_deaths(count: int) -> Runtime:
    """Return a pod whose plugin runs and whose API server has died so often."""
    sandbox = parent_sandbox()
    kms = container_of(sandbox, "kms", id="kms")
    dies = tuple(dead(container_of(sandbox, id=f"died-{n}"), n) for n in range(count))
    return Runtime((sandbox,), (kms, *(dies or (container_of(sandbox),))))


def test_an_api_server_that_crashes_beside_its_plugin_is_down() -> None:
    """That something of the pod runs is no API."""
    record = Record(parents=("parent-uid",), issue=4, good=(1,))
    revisions = (revision(2, app_containers=TWO), revision(1, app_containers=TWO))
    stored = checkpoint(API, *revisions, record=record)
    node = IN_PLACE.but(contact=lost(NOW - 5), checkpoints=Known((stored,)))
    for deaths in range(RULES.parent_crash_limit):
        node = node.but(runtime=Known(with_deaths(deaths)))
        plan = node.decide(NOW + deaths)
        assert plan.actions == ()
        node = node.then(plan)
    node = node.but(runtime=Known(with_deaths(RULES.parent_crash_limit)))
    (action,) = node.decide(NOW + 99).actions
    assert isinstance(action, Activate)
    assert action.revision == 1


def test_an_api_server_that_is_dead_beside_its_plugin_is_waited_for_as_any_other() -> None:
    """Its crashes may have been nobody's to count: its kubelet's next try is minutes away."""
    stored = checkpoint(API, revision(app_containers=TWO))
    node = IN_PLACE.but(contact=lost(NOW - 5), checkpoints=Known((stored,)))
    node = node.but(runtime=Known(with_deaths(1)))
    plan = node.decide(NOW)
    assert plan.actions == ()
    assert plan.standings[API].waits_for == "the kubelet to restart it, 30 s more"
    node = node.then(plan)
    assert node.decide(NOW + RULES.grace_seconds - 1).actions == ()
    reason = "contact lost (connection refused) and its parent is partly dead"
    assert node.decide(NOW + RULES.grace_seconds).actions == (Activate(API, 1, 5, reason),)
    young = node.but(runtime=Known(PARENT_RUNS))
    assert young.decide(NOW + RULES.grace_seconds).actions == ()


@pytest.mark.parametrize("contact", [lost(NOW + 10), reachable()])
def test_a_hand_over_to_an_api_server_that_crashes_beside_its_plugin_fails(
    contact: Contact,
) -> None:
    """Its name tells that it serves: whether another API server answers or not."""
    record = Record(parents=("parent-uid",), issue=4, hand_over=WAY)
    stored = checkpoint(API, revision(app_containers=TWO), record=record)
    contact = replace(contact, last_answer=NOW + 8)
    node = IN_PLACE.but(contact=contact, checkpoints=Known((stored,)))
    for deaths in range(3):
        node = node.but(runtime=Known(with_deaths(deaths)))
        plan = node.decide(NOW + 20 + deaths)
        node = node.then(plan)
    assert len(plan.actions) == 1


def test_an_answer_of_a_copy_that_keeps_its_grace_is_not_its_parents() -> None:
    """It served until its end; the parent beside it never has."""
    record = Record(parents=("parent-uid",), issue=4, hand_over=WAY)
    stored = Known((checkpoint(API, revision(graceful=True), record=record),))
    gone = replace(lost(NOW + 25), last_answer=NOW + 24)
    node = RELEASED.but(checkpoints=stored, runtime=Known(both(PARENT_RUNS, COPY_RUNS)))
    node = node.then(node.decide(NOW + 24)).but(contact=gone, runtime=Known(PARENT_RUNS))
    assert node.decide(NOW + 59).actions == ()
    assert len(node.decide(NOW + 61).actions) == 1


def test_a_hand_over_that_began_later_than_now_is_of_another_boot() -> None:
    """Where the boots cannot be told apart it would last for days."""
    way = replace(WAY, boot_id="", since=500_000.0)
    record = Record(parents=("parent-uid",), issue=4, hand_over=way)
    node = BOOTED.but(checkpoints=Known((checkpoint(API, record=record),)))
    moment = Moment("", 60.0, WALL_AT_BOOT)
    plan = decide(node.observe(), node.memory, node.rules, frozenset(), moment)
    assert len(plan.actions) == 1


def test_once_a_refused_parent_is_deleted_the_next_of_its_template_is_tried_after_the_wait() -> (
    None
):
    """Who has mended what it mounts deletes it; the template is the same as before."""
    refused = HandOver(
        boot_id="boot-1",
        since=NOW - 10,
        failures=1,
        refused="bad-uid",
        refused_template="T2",
        refused_signature=pod().content_signature,
    )
    record = Record(parents=("bad-uid",), issue=4, good=(1,), hand_over=refused)
    stored = checkpoint(API, revision(1, template="T1"), record=record)
    labels = {**parent_sandbox().labels, "controller-revision-hash": "T2"}
    fresh = parent_sandbox("new-uid", created_at=stamp(NOW), labels=labels)
    node = ACTIVE.but(
        contact=reachable(NOW - 300),
        checkpoints=Known((stored,)),
        pods=Known((pod(uid="new-uid", ready=False, template="T2"), OTHER_POD)),
        runtime=Known(both(COPY_RUNS, made(fresh))),
    )
    plan = node.decide(NOW)
    assert [type(action) for action in plan.actions] == []
    assert "the next try to hand over" in plan.standings[API].waits_for
    wait = 2 * RULES.hand_over_seconds - 10
    assert len(node.then(plan).decide(NOW + wait).actions) == 1
    there = node.but(pods=Known((pod(uid="bad-uid", ready=False, template="T2"), OTHER_POD)))
    there = there.but(runtime=Known(both(COPY_RUNS, made(replace(fresh, uid="bad-uid")))))
    assert there.decide(NOW + 9999).actions == ()


def test_an_api_server_whose_kubelet_does_not_know_it_is_down_beside_its_plugin() -> None:
    """Nobody starts it again: it need not die another time."""
    stored = checkpoint(API, revision(app_containers=TWO))
    died = Known(with_deaths(1))
    node = BOOTED.but(contact=lost(NOW - 5), checkpoints=Known((stored,)), runtime=died)
    assert len(node.decide(NOW).actions) == 1
    assert node.but(kubelet=Known(SAME_KUBELET)).decide(NOW).actions == ()


def test_the_dead_container_of_a_replaced_pod_is_no_death_of_the_one_that_runs() -> None:
    """It is listed for a while beside the successor, which serves; a copy would fight it."""
    old = parent_sandbox("old-uid", ready=False, name="kube-apiserver-aaaaa")
    died = Runtime((old,), (dead(container_of(old)),))
    beside = BOOTED.but(contact=lost(NOW - 99), runtime=Known(both(died, PARENT_RUNS)))
    assert beside.decide(NOW).actions == ()
    crashed = dead(container_of(copy_sandbox()), RULES.crash_limit)
    copy = Runtime((copy_sandbox(),), (crashed,))
    stored = Known((checkpoint(API, revision(2), revision(1)),))
    active = ACTIVE.but(manifests=Known((manifest(revision=2),)), checkpoints=stored)
    for rest in (PARENT_RUNS, both(died, PARENT_RUNS)):
        assert active.but(runtime=Known(both(rest, copy))).decide(NOW).actions == ()


def test_a_copy_whose_api_server_keeps_crashing_beside_its_plugin_falls_back() -> None:
    """What runs of it is no API; nor is what runs of its parent."""
    revisions = (revision(2, app_containers=TWO), revision(1, app_containers=TWO))
    sandbox = copy_sandbox()
    kms = container_of(sandbox, "kms", id="copy-kms")
    crashed = dead(container_of(sandbox, id="copy-died"), RULES.crash_limit)
    copy = Runtime((sandbox,), (kms, crashed))
    node = ACTIVE.but(
        manifests=Known((manifest(revision=2),)),
        checkpoints=Known((checkpoint(API, *revisions),)),
    )
    for runtime in (copy, both(with_deaths(1), copy)):
        (action,) = node.but(runtime=Known(runtime)).decide(NOW).actions
        assert isinstance(action, Activate)
        assert action.revision == 1
    young = Runtime((sandbox,), (kms, dead(container_of(sandbox, id="copy-died"), 1)))
    assert node.but(runtime=Known(young)).decide(NOW).actions == ()


REST = Runtime(
    (copy_sandbox(),),
    (
        container_of(copy_sandbox(), "kms", id="copy-kms"),
        dead(container_of(copy_sandbox(), id="copy-died")),
    ),
)
"""Of a copy whose manifest is gone its plugin runs on: a kubelet without the API never stops it."""


def with_two(**changes: Any) -> Checkpoint:
    """Return a checkpoint with a plugin; `changes` are of its record."""
    graceful = changes.pop("graceful", False)
    record = replace(Record(parents=("parent-uid",), issue=4), **changes)
    return checkpoint(API, revision(app_containers=TWO, graceful=graceful), record=record)


def test_the_rest_of_a_copy_is_no_api_server() -> None:
    """Nobody starts its dead container again: the next copy replaces it, sandbox and all."""
    node = BOOTED.but(checkpoints=Known((with_two(),)))
    (action,) = node.but(runtime=Known(REST)).decide().actions
    assert isinstance(action, Activate)
    assert action.stop_sandboxes == ("copy-uid-sandbox",)
    assert "its copy that was taken out is partly dead" in action.reason
    whole = Runtime(REST.sandboxes, (REST.containers[0], container_of(copy_sandbox())))
    assert node.but(runtime=Known(whole)).decide().actions == ()


def test_the_rest_of_a_copy_that_keeps_its_grace_has_that_first() -> None:
    """No longer than a hand-over may take: a kubelet without the API never ends it."""
    node = BOOTED.but(checkpoints=Known((with_two(graceful=True),)), runtime=Known(REST))
    plan = node.decide()
    assert plan.actions == ()
    assert plan.standings[API].waits_for == "the released copy to end, 60 s more"
    assert len(node.then(plan).decide(NOW + RULES.hand_over_seconds).actions) == 1


def test_the_copy_is_owed_though_the_rest_of_the_last_one_runs() -> None:
    """Its parent, which has no sandbox, does not have it killed."""
    for graceful, waits in ((False, False), (True, True)):
        stored = with_two(graceful=graceful, hand_over=replace(WAY, is_owed=True, failures=1))
        node = RELEASED.but(checkpoints=Known((stored,)), runtime=Known(REST))
        assert (node.decide(NOW + 5).actions == ()) is waits
        (action,) = node.decide(NOW + 61).actions
        assert isinstance(action, Activate)
        assert action.stop_sandboxes == ("copy-uid-sandbox",)


def test_what_kept_crashing_as_a_copy_is_not_tried_before_a_parent_is_ready() -> None:
    """It made way for a parent that did not come up: the revision before brings the copy back."""
    record = Record(parents=("parent-uid",), issue=4, hand_over=WAY, failed=(2,))
    stored = checkpoint(API, revision(2), revision(1), record=record)
    node = RELEASED.but(checkpoints=Known((stored,)))
    (action,) = node.decide(NOW + 61).actions
    assert isinstance(action, Activate)
    assert action.revision == 1
    up = node.but(
        contact=reachable(),
        pods=Known((pod(container_ids=frozenset({"parent-uid-apiserver"})), OTHER_POD)),
        runtime=Known(PARENT_RUNS),
    )
    assert up.decide(NOW + 5).records[API].failed == ()
    back = ACTIVE.but(
        contact=reachable(NOW),
        manifests=Known((manifest(),)),
        checkpoints=Known((checkpoint(API, revision(1), record=Record(failed=(2,))),)),
        pods=Known((pod(ready=False), OTHER_POD)),
        runtime=Known(both(COPY_RUNS, made(parent_sandbox(created_at=stamp(NOW))))),
    )
    assert back.decide(NOW).records[API].failed == (2,)
