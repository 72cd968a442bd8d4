"""One cycle's decision as a whole: its sentence, its order, its pauses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checkpointer.core.checkpoint import HandOver, Record
from checkpointer.core.contact import Contact
from checkpointer.core.decide import needs_runtime
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.plan import Activate, Release, Remove, Snapshot
from checkpointer.core.runtime import Runtime
from tests.unit.core.builders import (
    ACTIVATED,
    ACTIVE,
    API,
    AT_REST,
    BOOTED,
    COPY_RUNS,
    DNS,
    EMPTY,
    LOST_SINCE,
    NEW_KUBELET,
    NOW,
    OTHER_POD,
    PARENT_DIED_IN_PLACE,
    PARENT_RUNS,
    PROXY,
    RULES,
    SAME_KUBELET,
    Node,
    both,
    checkpoint,
    container_of,
    copy_sandbox,
    denied,
    lost,
    made,
    manifest,
    parent_sandbox,
    pod,
    reachable,
    recovering,
    revision,
    stamp,
    suspect,
)

NEW_PARENT = both(COPY_RUNS, made(parent_sandbox(created_at=stamp(NOW))))


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (BOOTED.but(checkpoints=Known(())), "contact lost (connection refused): no checkpoints"),
        (
            BOOTED,
            "contact lost (connection refused): activate kube-system/daemonset/kube-apiserver "
            "revision 1 issue 5: contact lost (connection refused) and nothing of it runs; "
            "1 active",
        ),
        (
            BOOTED.but(contact=reachable(), pods=Known((OTHER_POD,))),
            "contact reachable (ok): 1 standby",
        ),
        (
            AT_REST,
            "contact reachable (ok): snapshot kube-system/daemonset/kube-apiserver; 1 standby",
        ),
        (
            ACTIVE.but(runtime=Known(NEW_PARENT)),
            "contact lost (connection refused): release kube-system/daemonset/kube-apiserver: "
            "its parent is being started and needs the ports; 1 handing over",
        ),
        (
            BOOTED.but(runtime=Known(both(COPY_RUNS, PARENT_DIED_IN_PLACE))),
            "contact lost (connection refused): "
            "end the released copy of kube-system/daemonset/kube-apiserver; 1 standby",
        ),
        (
            AT_REST.but(
                pods=Known((OTHER_POD,)),
                checkpoints=Known((checkpoint(record=Record(absent_seconds=300.0)),)),
            ),
            "contact reachable (ok): remove kube-system/daemonset/kube-apiserver: "
            "nothing of it has been wanted here; 1 standby",
        ),
        (
            BOOTED.but(
                runtime=Unknown("no\nsocket"),
                contact=Contact(lost().state, 0.0, "a reason\n  in two lines"),
            ),
            "contact lost (a reason in two lines): 1 frozen",
        ),
    ],
)
def test_a_cycle_is_told_in_one_sentence(node: Node, sentence: str) -> None:
    """Contact, what is done and why, where the checkpoints stand."""
    assert node.decide().sentence == sentence


def test_what_restores_contact_comes_first_and_what_can_wait_last() -> None:
    """Releases, then activations, then snapshots, then removals."""
    dns = container_of(parent_sandbox("dns-uid"))
    gone = checkpoint(PROXY, record=Record(absent_seconds=300.0))
    node = ACTIVE.but(
        contact=reachable(NOW),
        pods=Known((pod(DNS, "dns-uid"), OTHER_POD, pod(ready=False))),
        runtime=Known(both(NEW_PARENT, Runtime((), (dns,)))),
        checkpoints=Known((gone, checkpoint())),
    )
    assert [type(action) for action in node.decide().actions] == [Release, Snapshot, Remove]
    lost_node = ACTIVE.but(
        runtime=Known(NEW_PARENT),
        checkpoints=Known((checkpoint(DNS, revision(labels=(("a", "b"),))), checkpoint())),
    )
    assert [type(action) for action in lost_node.decide().actions] == [Release, Activate]


SHARING = Known((checkpoint(API, revision(shares_ports=True)),))


@pytest.mark.parametrize(
    ("node", "seconds"),
    [
        (AT_REST, 30.0),
        (AT_REST.but(contact=suspect()), 30.0),
        (AT_REST.but(contact=denied()), 1.0),
        (AT_REST.but(pods=Known((pod(ready_seconds=7.0),))), 3.0),
        (AT_REST.but(pods=Known((pod(ready_seconds=9.99999),))), 0.05),
        (BOOTED.but(checkpoints=Known(())), 30.0),
        (BOOTED.but(runtime=Known(PARENT_RUNS)), 1.0),
        (BOOTED.but(runtime=Unknown("no socket")), 1.0),
        (BOOTED.but(contact=recovering()), 1.0),
        (BOOTED.but(manifests=Unknown("cannot be listed")), 1.0),
        (BOOTED, 0.05),
        (ACTIVE, 0.05),
        (ACTIVE.but(contact=reachable(NOW - 599)), 0.05),
        (ACTIVE.but(contact=reachable(NOW - 600)).with_track(activated_at=NOW - 600), 0.2),
        (ACTIVE.but(contact=reachable(NOW), checkpoints=SHARING), 1.0),
        (ACTIVE.but(contact=recovering()), 0.05),
        (ACTIVE.but(contact=denied()), 0.05),
        (ACTIVE.but(contact=replace(denied(), successes=1, is_answering=True)), 0.05),
        (ACTIVE.but(contact=replace(reachable(), since=NOW), checkpoints=Known(())), 0.05),
    ],
)
def test_the_next_cycle_comes_when_something_may_be_due(node: Node, seconds: float) -> None:
    """Closely while a copy is up, each second while contact is lost, else at the slow tick."""
    assert node.decide().wake_in == pytest.approx(seconds)


def test_a_copy_that_has_been_up_for_long_is_watched_at_leisure() -> None:
    """Without the API no parent can return; a dark node must not ask twenty times a second."""
    node, pauses = ACTIVE, []
    for later in (0.0, 30.0, 59.0, 60.0, 3600.0):
        plan = node.decide(ACTIVATED + later)
        node = node.then(plan)
        pauses.append(plan.wake_in)
    assert pauses == [0.05, 0.05, 0.05, 1.0, 1.0]
    assert node.but(contact=recovering()).decide(ACTIVATED + 3601).wake_in == 0.05


@pytest.mark.parametrize("down", [0.0, 10.0, 29.5, 29.95])
def test_a_cycle_never_sleeps_past_the_end_of_a_grace(down: float) -> None:
    """Nor does it spin while it waits for it."""
    node = BOOTED.but(kubelet=Known(SAME_KUBELET)).with_track(down_since=NOW - down)
    wake_in = node.decide().wake_in
    assert RULES.watch_seconds <= wake_in <= max(30.0 - down, RULES.watch_seconds)


AMID_HAND_OVER = Record(hand_over=HandOver(to="parent-uid", boot_id="boot-1"))


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (AT_REST, False),
        (AT_REST.but(manifests=Known((manifest(),))), True),
        (AT_REST.but(manifests=Unknown("cannot be listed")), True),
        (AT_REST.but(contact=suspect()), True),
        (AT_REST.but(contact=lost()), True),
        (AT_REST.but(contact=denied()), True),
        (AT_REST.but(checkpoints=Known((checkpoint(record=AMID_HAND_OVER),))), True),
    ],
)
def test_the_runtime_is_not_asked_at_rest(node: Node, expected: bool) -> None:
    """Reachable, nothing active, no parent waited for: no decision rests on it."""
    assert needs_runtime(node.contact, node.manifests, node.checkpoints) is expected


def test_nothing_happens_at_rest() -> None:
    """No action, no write, one cycle per tick."""
    node = AT_REST.then(AT_REST.decide())
    for number in range(1, 19):
        plan = node.decide(NOW + 30 * number)
        assert (plan.actions, plan.records, plan.wake_in) == ((), {}, 30.0)
        node = node.then(plan)


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ((pod(uid="b"), pod(uid="a")), ("a", "b")),
        ((pod(uid="a"), pod(uid="b", ready=False, is_parent=False)), ("a", "b")),
        ((pod(uid="a"), pod(uid="b", finished=True)), ("a",)),
        ((pod(uid="a"), pod(uid="b", terminating=True)), ("a", "b")),
        ((pod(DNS, uid="a"),), None),
        ((pod(uid="parent-uid"),), None),
        ((pod(uid="b", finished=True),), None),
        ((), None),
    ],
)
def test_the_parents_uids_are_written_when_they_change(
    pods: tuple[object, ...], expected: tuple[str, ...] | None
) -> None:
    """They tell the runtime's sandboxes apart after a restart; none at all forgets nothing."""
    plan = AT_REST.but(pods=Known(pods)).decide()
    wanted = {} if expected is None else {API: Record(parents=expected, issue=4, good=(1,))}
    assert plan.records == wanted


def test_unknown_pods_change_no_record() -> None:
    """Could not tell is not none."""
    assert AT_REST.but(pods=Unknown("the watch broke")).decide().records == {}


def test_one_frozen_checkpoint_does_not_hold_the_others() -> None:
    """One is unusable, one runs, one is activated."""
    unusable = replace(checkpoint(PROXY), revisions=())
    quiet = checkpoint(DNS, revision(labels=(("a", "b"),)))
    node = BOOTED.but(
        checkpoints=Known((unusable, checkpoint(), quiet)),
        runtime=Known(Runtime((copy_sandbox(),), COPY_RUNS.containers)),
    )
    plan = node.decide()
    assert {w: s.state for w, s in plan.standings.items()} == {
        PROXY: "unusable",
        API: "standby",
        DNS: "active",
    }


def test_memory_forgets_what_is_not_stored_any_more() -> None:
    """A removed workload leaves nothing behind."""
    node = BOOTED.with_track(DNS, down_since=1.0)
    assert set(node.decide().memory.tracks) == {API}


def test_a_decision_changes_nothing_it_was_given() -> None:
    """The same facts give the same plan, as often as they are judged."""
    for node in (BOOTED, ACTIVE, AT_REST, ACTIVE.but(runtime=Known(NEW_PARENT))):
        assert node.decide() == node.decide()


def test_a_folder_with_two_files_of_one_workload_is_judged_by_one() -> None:
    """It cannot come about by our own writes; it must not break the cycle."""
    two = (manifest(file_name="a.json"), manifest(file_name="b.json"))
    plan = ACTIVE.but(manifests=Known(two), runtime=Known(NEW_PARENT)).decide()
    assert [a.file_name for a in plan.actions if isinstance(a, Release)] == ["b.json"]


def test_an_empty_node_is_quiet() -> None:
    """Before the first snapshot there is nothing to lose."""
    node = BOOTED.but(checkpoints=Known(()), runtime=Known(EMPTY), contact=lost(LOST_SINCE))
    assert (node.decide().actions, node.decide().standings) == ((), {})


def test_a_new_run_of_the_kubelet_is_noted_within_a_second() -> None:
    """Not with the next tick: contact may be lost before, and the kubelet does know its pods."""
    node = AT_REST.but(kubelet=Known(NEW_KUBELET))
    first = node.decide()
    assert first.memory.contact_kubelet == SAME_KUBELET.identity
    assert first.wake_in == RULES.lost_watch_seconds
    answered = replace(node.contact, last_answer=NOW + 0.01)
    second = node.then(first).but(contact=answered).decide(NOW + 1.0)
    assert second.memory.contact_kubelet == NEW_KUBELET.identity
    assert AT_REST.decide().wake_in > RULES.lost_watch_seconds
