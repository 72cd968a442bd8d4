"""A checkpoint that an operator holds: active or released by hand, until it is lifted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpointer.core.checkpoint import Record
from checkpointer.core.contact import Contact
from checkpointer.core.decide import needs_runtime
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.held import KILL_AFTER_SECONDS
from checkpointer.core.hold import ACTIVE as WANTED_ACTIVE
from checkpointer.core.hold import RELEASED, Hold
from checkpointer.core.plan import Activate, Kill, Release, Remove, Snapshot
from checkpointer.core.runtime import Runtime
from tests.unit.core.builders import (
    ACTIVE,
    API,
    AT_REST,
    BOOTED,
    COPY_RUNS,
    EMPTY,
    NEW_KUBELET,
    NOW,
    OTHER_POD,
    PARENT_RUNS,
    SAME_KUBELET,
    WALL_AT_BOOT,
    Node,
    both,
    checkpoint,
    container_of,
    copy_sandbox,
    dead,
    denied,
    lost,
    pod,
    reachable,
    recovering,
    revision,
    suspect,
)

WALL = WALL_AT_BOOT + NOW
DAY = 86400.0
CONTACTS = [reachable(), suspect(), lost(), recovering(), denied()]
CONTACT_NAMES = ["reachable", "suspect", "lost", "recovering", "denied"]


def hold(wanted: str = WANTED_ACTIVE, **changes: Any) -> Hold:
    return replace(Hold(wanted, WALL - 60, "alice (uid 0)", "a drill"), **changes)


def holding(node: Node, wanted: str = WANTED_ACTIVE, **changes: Any) -> Node:
    """Return the node with its checkpoints held."""
    assert isinstance(node.checkpoints, Known)
    held = tuple(replace(c, hold=hold(wanted, **changes)) for c in node.checkpoints.value)
    return node.but(checkpoints=Known(held))


@pytest.mark.parametrize("contact", CONTACTS, ids=CONTACT_NAMES)
def test_held_active_is_activated_at_once(contact: Contact) -> None:
    """Whatever contact is, if nothing of it runs."""
    plan = holding(BOOTED.but(contact=contact)).decide()
    assert plan.actions == (Activate(API, 1, 5, "by hand, alice (uid 0): a drill"),)
    assert plan.records[API].issue == 5
    assert plan.standings[API].state == "held"
    assert plan.standings[API].waits_for == "the kubelet to start it"


@pytest.mark.parametrize("contact", CONTACTS, ids=CONTACT_NAMES)
@pytest.mark.parametrize("runtime", [PARENT_RUNS, COPY_RUNS], ids=["parent", "copy"])
def test_held_active_waits_for_what_runs(contact: Contact, runtime: Runtime) -> None:
    """A copy beside it would fight for its ports."""
    plan = holding(BOOTED.but(contact=contact, runtime=Known(runtime))).decide()
    assert plan.actions == ()
    assert plan.standings[API].waits_for == "what runs of it to end: it is held active"


def rest_of_copy(is_graceful: bool) -> Node:
    """Return a node where the plugin of a copy runs whose manifest is gone, and nothing else."""
    sandbox = copy_sandbox()
    running = container_of(sandbox, "kms", id="copy-kms")
    rest = Runtime((sandbox,), (running, dead(container_of(sandbox))))
    stored = revision(app_containers=("apiserver", "kms"), graceful=is_graceful)
    return BOOTED.but(runtime=Known(rest), checkpoints=Known((checkpoint(API, stored),)))


@pytest.mark.parametrize(
    ("node", "seconds"),
    [
        (rest_of_copy(False), 0.0),
        (rest_of_copy(True), KILL_AFTER_SECONDS),
        (BOOTED.but(runtime=Known(COPY_RUNS)), KILL_AFTER_SECONDS),
    ],
)
def test_held_active_replaces_what_is_left_of_a_copy(node: Node, seconds: float) -> None:
    """A kubelet that has not reached the API never stops what was taken out before."""
    node = holding(node)
    plan = node.decide()
    assert bool(plan.actions) is (seconds == 0.0)
    for later in (seconds - 1, seconds):
        after = node.then(plan).decide(NOW + later).actions
        assert bool(after) is (later == seconds or seconds == 0.0)
    (action,) = after
    assert isinstance(action, Activate)
    assert action.stop_sandboxes == ("copy-uid-sandbox",)


def test_a_forced_hold_activates_beside_what_runs() -> None:
    """The operator has been told, and wants it."""
    plan = holding(BOOTED.but(runtime=Known(PARENT_RUNS)), force=True).decide()
    assert [type(action) for action in plan.actions] == [Activate]


def test_held_active_needs_to_know_what_runs() -> None:
    """Forced or not: "could not tell" starts nothing."""
    for force in (False, True):
        plan = holding(BOOTED.but(runtime=Unknown("it hangs")), force=force).decide()
        assert plan.actions == ()
        assert plan.standings[API].waits_for == "the runtime: it hangs"


def test_a_hold_can_name_the_revision() -> None:
    """One that is stored: another one is said to be missing."""
    stored = Known((checkpoint(API, revision(3), revision(2)),))
    node = BOOTED.but(checkpoints=stored)
    (action,) = holding(node, revision=2).decide().actions
    assert isinstance(action, Activate)
    assert action.revision == 2
    plan = holding(node, revision=1).decide()
    assert plan.actions == ()
    assert plan.standings[API].waits_for.startswith("revision 1, which is not stored")


def test_a_revision_that_is_named_by_hand_is_tried_again() -> None:
    """It kept crashing as a copy before; it is not replaced for that as soon as it is there."""
    record = Record(parents=("parent-uid",), issue=4, failed=(2, 3))
    stored = Known((checkpoint(API, revision(3), revision(2), revision(1), record=record),))
    plan = holding(BOOTED.but(checkpoints=stored), revision=2).decide()
    assert [a.revision for a in plan.actions if isinstance(a, Activate)] == [2]
    assert plan.records[API].failed == (3,)


def test_held_active_without_a_revision_says_so() -> None:
    """There is nothing to activate."""
    stored = Known((replace(checkpoint(), revisions=()),))
    plan = holding(BOOTED.but(checkpoints=stored)).decide()
    assert plan.actions == ()
    assert plan.standings[API].waits_for == "a revision that verifies: none does"


@pytest.mark.parametrize("contact", CONTACTS, ids=CONTACT_NAMES)
def test_held_active_is_not_released_for_its_parent(contact: Contact) -> None:
    """That is what a hold is for; the parent waits for the ports."""
    node = ACTIVE.but(
        contact=contact,
        pods=Known((pod(), OTHER_POD)),
        runtime=Known(both(COPY_RUNS, PARENT_RUNS)),
    )
    plan = holding(node).decide()
    assert not [a for a in plan.actions if not isinstance(a, Snapshot)]
    assert plan.standings[API].state == "held"
    assert plan.standings[API].waits_for == (
        "its hold to be lifted (active by hand, alice (uid 0): a drill)"
    )


def test_a_held_copy_that_the_kubelet_refused_is_issued_anew() -> None:
    """Held active it is kept up as in an outage."""
    node = ACTIVE.but(runtime=Known(EMPTY), kubelet=Known(NEW_KUBELET))
    (action,) = holding(node).decide().actions
    assert isinstance(action, Activate)
    assert action.issue == 5


@pytest.mark.parametrize("contact", CONTACTS, ids=CONTACT_NAMES)
def test_held_released_is_taken_out_and_left_to_the_kubelet(contact: Contact) -> None:
    """The kubelet gives it the time to end that its pod asks for."""
    plan = holding(ACTIVE.but(contact=contact), RELEASED).decide()
    assert plan.actions == (Release(API, f"pod-checkpointer-{API.digest}.json", "by hand"),)
    assert plan.standings[API].waits_for == "the released copy to end"


def test_a_released_copy_that_the_kubelet_does_not_stop_is_killed() -> None:
    """One that has not reached the API since it started never stops it."""
    node = holding(ACTIVE, RELEASED)
    after = node.then(node.decide()).but(manifests=Known(()))
    assert after.decide(NOW + KILL_AFTER_SECONDS - 1).actions == ()
    assert after.decide(NOW + KILL_AFTER_SECONDS).actions == (Kill(API, ("copy-uid-apiserver",)),)


@pytest.mark.parametrize("runtime", [Known(EMPTY), Unknown("it hangs")])
def test_held_released_is_not_activated(runtime: Any) -> None:
    """Though contact is lost and nothing of it runs."""
    plan = holding(BOOTED.but(runtime=runtime), RELEASED).decide()
    assert plan.actions == ()
    assert plan.standings[API].state == "held"
    assert "released by hand, alice" in plan.standings[API].waits_for


def test_a_copy_that_has_ended_is_forgotten() -> None:
    """Lifted later, an outage is judged as if it had never been released."""
    ended = Runtime((copy_sandbox(ready=False),), (dead(container_of(copy_sandbox())),))
    node = holding(BOOTED.but(runtime=Known(ended)), RELEASED).with_track(released_at=NOW - 5)
    assert node.decide().memory.tracks[API].released_at is None


def test_a_hold_lifts_itself_when_its_time_is_over() -> None:
    """And the agent is awake then."""
    ends_soon = holding(BOOTED, RELEASED, until=WALL + 0.5).decide()
    assert ends_soon.actions == ()
    assert ends_soon.wake_in == pytest.approx(0.5)
    assert holding(BOOTED, RELEASED, until=WALL).decide().actions == BOOTED.decide().actions


def test_a_hold_lifts_itself_by_the_time_that_has_passed() -> None:
    """Of its minute nearly all has, whatever the node's clock says since it was made."""
    made = {"boot_id": "boot-1", "began": NOW - 59.5, "since": WALL + DAY, "until": WALL + DAY + 60}
    plan = holding(BOOTED, RELEASED, **made).decide()
    assert plan.actions == ()
    assert plan.wake_in == pytest.approx(0.5)
    over = holding(BOOTED, RELEASED, **{**made, "began": NOW - 60})
    assert over.decide().actions == BOOTED.decide().actions


def test_what_is_held_is_not_removed() -> None:
    """Even if nothing wants it any more: the operator does."""
    node = AT_REST.but(
        pods=Known((OTHER_POD,)),
        runtime=Known(EMPTY),
        checkpoints=Known((checkpoint(record=Record(absent_seconds=300.0)),)),
    )
    assert [type(action) for action in node.decide().actions] == [Remove]
    assert holding(node, RELEASED).decide().actions == ()


def test_a_hold_needs_the_runtime_also_at_rest() -> None:
    """Else it could not be told whether anything of it runs."""
    for node, expected in ((AT_REST, False), (holding(AT_REST), True)):
        assert needs_runtime(node.contact, node.manifests, node.checkpoints) is expected


def test_a_held_copy_is_not_watched_as_closely_as_one_that_waits_for_its_parent() -> None:
    """It may be held for days: looking twenty times a second would cost for nothing."""
    node = ACTIVE.but(contact=reachable(NOW), pods=Unknown("the watch broke"))
    node = node.but(kubelet=Known(SAME_KUBELET))
    assert node.decide().wake_in == node.rules.watch_seconds
    assert holding(node).decide().wake_in == node.rules.tick_seconds


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(CONTACTS),
    st.sampled_from([Known(EMPTY), Known(PARENT_RUNS), Known(COPY_RUNS), Unknown("hangs")]),
    st.sampled_from([BOOTED, ACTIVE, AT_REST]),
    st.sampled_from([WANTED_ACTIVE, RELEASED]),
    st.booleans(),
)
def test_a_hold_is_never_acted_against(
    contact: Contact, runtime: Any, node: Node, wanted: str, force: bool
) -> None:
    """Held active: no release, no removal. Held released: no activation, no removal."""
    plan = holding(node.but(contact=contact, runtime=runtime), wanted, force=force).decide()
    against = (Release, Kill, Remove) if wanted == WANTED_ACTIVE else (Activate, Remove)
    assert not [action for action in plan.actions if isinstance(action, against)]
