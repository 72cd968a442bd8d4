"""Activation: every condition by itself prevents it, all together bring it about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checkpointer.core.activation import choose_revision
from checkpointer.core.checkpoint import Checkpoint, Record
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.plan import Activate, Kill, Memory, Standing, Track
from checkpointer.core.runtime import ContainerState, Runtime
from tests.unit.core.builders import (
    API,
    BOOTED,
    COPY_RUNS,
    DNS,
    LOST_SINCE,
    NEW_KUBELET,
    NOW,
    PARENT_DIED_IN_PLACE,
    PARENT_RUNS,
    PROXY,
    RULES,
    SAME_KUBELET,
    Node,
    at,
    both,
    checkpoint,
    container_of,
    copy_sandbox,
    dead,
    denied,
    lost,
    parent_sandbox,
    reachable,
    recovering,
    revision,
    stamp,
    suspect,
)

ACTIVATE = Activate(API, 1, 5, "contact lost (connection refused) and nothing of it runs")
IN_PLACE = BOOTED.but(runtime=Known(PARENT_DIED_IN_PLACE), kubelet=Known(SAME_KUBELET))
"""The parent's container was killed; its sandbox lives and the kubelet knows the pod."""


def test_all_conditions_together_activate() -> None:
    """Lost, nothing runs, the kubelet started after the last contact, a revision verifies."""
    plan = BOOTED.decide()
    assert plan.actions == (ACTIVATE,)
    assert plan.records == {API: Record(parents=("parent-uid",), issue=5)}
    assert plan.standings == {API: Standing("active", "the kubelet to start it")}
    assert plan.wake_in == RULES.watch_seconds
    assert plan.memory.tracks[API] == Track(
        down_since=NOW, activated_at=NOW, known_sandboxes=frozenset(), excused_attempts=0
    )


UNREADABLE = Checkpoint(API, (), Record(), ("revision 1 is skipped: digest",))


@pytest.mark.parametrize(
    ("change", "standing"),
    [
        ({"contact": reachable()}, Standing("standby")),
        ({"contact": suspect()}, Standing("standby")),
        ({"contact": denied()}, Standing("standby")),
        ({"contact": recovering()}, Standing("waiting", "the API, which answers again")),
        ({"runtime": Unknown("no socket")}, Standing("frozen", "the runtime: no socket")),
        ({"runtime": Known(PARENT_RUNS)}, Standing("standby", "nothing: its containers run")),
        ({"runtime": Known(COPY_RUNS)}, Standing("standby", "nothing: its containers run")),
        (
            {"kubelet": Known(SAME_KUBELET)},
            Standing("waiting", "the kubelet to restart it, 30 s more"),
        ),
        (
            {"kubelet": Unknown("no socket")},
            Standing("waiting", "the kubelet to restart it, 30 s more"),
        ),
        (
            {"checkpoints": Known((UNREADABLE,))},
            Standing("unusable", "no stored revision verifies"),
        ),
        (
            {"manifests": Unknown("cannot be listed")},
            Standing("frozen", "the manifest folder: cannot be listed"),
        ),
    ],
)
def test_each_condition_alone_prevents_activation(
    change: dict[str, object], standing: Standing
) -> None:
    """What cannot be told holds the decision as well."""
    plan = BOOTED.but(**change).decide()
    assert plan.actions == ()
    assert plan.standings == {API: standing}


def test_an_unreadable_store_freezes_everything() -> None:
    """It is looked at again soon, since the API is away."""
    plan = BOOTED.but(checkpoints=Unknown("cannot be\nread")).decide()
    assert (plan.sentence, plan.actions, plan.wake_in) == ("frozen: cannot be read", (), 1.0)


def test_an_unreadable_store_can_wait_while_the_api_is_there() -> None:
    """Nothing would be activated anyway."""
    plan = BOOTED.but(contact=reachable(), checkpoints=Unknown("cannot be read")).decide()
    assert plan.wake_in == RULES.tick_seconds


def activated_after(node: Node, limit: float = 200.0) -> float:
    """Return after how many seconds it is activated, cycle by cycle as each plan asks."""
    now = NOW
    while now < NOW + limit:
        plan = node.decide(now)
        if any(isinstance(action, Activate) for action in plan.actions):
            return now - NOW
        node = node.then(plan)
        now += plan.wake_in
    return float("inf")


@pytest.mark.parametrize(
    ("node", "seconds"),
    [
        (BOOTED, 0.0),
        (BOOTED.but(kubelet=Known(SAME_KUBELET)), 30.0),
        (BOOTED.but(kubelet=Unknown("no socket")), 30.0),
        (IN_PLACE, 30.0),
        (IN_PLACE.but(kubelet=Known(NEW_KUBELET)), 0.0),
        (IN_PLACE.but(kubelet=Known(replace(SAME_KUBELET, listening=False))), 30.0),
        (BOOTED.but(memory=Memory()), 0.0),
        (BOOTED.but(runtime=Known(PARENT_RUNS)), float("inf")),
        (BOOTED.but(runtime=Unknown("no socket")), float("inf")),
        (BOOTED.but(contact=denied()), float("inf")),
        (BOOTED.but(contact=recovering()), float("inf")),
    ],
)
def test_it_is_activated_at_its_time(node: Node, seconds: float) -> None:
    """At once when the kubelet does not know the parent, else after the grace, or never."""
    assert activated_after(node) == pytest.approx(seconds, abs=0.01)


def test_an_api_server_killed_in_place_is_left_to_the_kubelet() -> None:
    """It is back before the grace is over: nothing was activated, and the grace starts anew."""
    node = IN_PLACE
    for now in (NOW, NOW + 10, NOW + 29):
        plan = node.decide(now)
        assert plan.actions == ()
        node = node.then(plan)
    back = node.but(runtime=Known(PARENT_RUNS))
    node = back.then(back.decide(NOW + 29.5)).but(runtime=Known(PARENT_DIED_IN_PLACE))
    assert node.decide(NOW + 31).actions == ()


def test_the_network_cut_while_all_runs_activates_nothing() -> None:
    """For a day."""
    node = BOOTED.but(runtime=Known(PARENT_RUNS), kubelet=Known(SAME_KUBELET))
    for hour in range(24):
        plan = node.decide(NOW + 3600.0 * hour)
        assert plan.actions == ()
        node = node.then(plan)


def test_after_a_kubelet_restart_old_containers_hold_it_until_they_die() -> None:
    """They keep running unmanaged; when they die nobody else starts them, so it is done at once."""
    node = BOOTED.but(runtime=Known(PARENT_RUNS))
    plan = node.decide()
    assert plan.actions == ()
    died = node.then(plan).but(runtime=Known(PARENT_DIED_IN_PLACE))
    assert died.decide(NOW + 60).actions == (ACTIVATE,)


def test_a_kubelet_that_made_the_sandbox_itself_knows_the_parent() -> None:
    """It reached the API before contact counted as reachable: the grace applies."""
    sandbox = parent_sandbox(created_at=NEW_KUBELET.started_at + 1)
    runtime = Runtime((sandbox,), (dead(container_of(sandbox)),))
    assert activated_after(BOOTED.but(runtime=Known(runtime))) == pytest.approx(30.0, abs=0.01)


@pytest.mark.parametrize("contact", [reachable(), suspect(), denied()])
def test_a_break_in_the_loss_starts_the_grace_anew(contact: object) -> None:
    """Down for 29 s, contact for a moment, lost again."""
    node = IN_PLACE
    for now, state in (
        (NOW, lost()),
        (NOW + 29, contact),
        (NOW + 29.5, lost()),
        (NOW + 31, lost()),
    ):
        plan = node.but(contact=state).decide(now)
        assert plan.actions == ()
        node = node.then(plan)


def test_the_kubelet_of_the_last_contact_is_remembered() -> None:
    """Only while reachable, only one that listens, and only on an answer younger than its run:
    contact may be lost, unnoticed as yet, when a kubelet starts."""
    answered = replace(reachable(), last_answer=NOW + 1.0)
    seen = {
        name: node.then(node.decide()).but(contact=contact).decide(NOW + 2.0).memory.contact_kubelet
        for name, (node, contact) in {
            name: (
                node,
                answered if name in ("reachable", "not listening", "unknown") else node.contact,
            )
            for name, node in {
                "reachable": BOOTED.but(contact=reachable()),
                "no answer yet": BOOTED.but(contact=replace(reachable(), last_answer=NOW - 1.0)),
                "lost": BOOTED,
                "recovering": BOOTED.but(contact=recovering()),
                "denied": BOOTED.but(contact=denied()),
                "not listening": BOOTED.but(
                    contact=reachable(), kubelet=Known(replace(NEW_KUBELET, listening=False))
                ),
                "unknown": BOOTED.but(contact=reachable(), kubelet=Unknown("no socket")),
            }.items()
        }.items()
    }
    assert seen == {
        "reachable": "run-2",
        "no answer yet": "run-1",
        "lost": "run-1",
        "recovering": "run-1",
        "denied": "run-1",
        "not listening": "run-1",
        "unknown": "run-1",
    }


STAGED = BOOTED.but(
    contact=lost(NOW),
    checkpoints=Known(
        (
            checkpoint(DNS, revision(stage=1)),
            checkpoint(API, revision(stage=0)),
            checkpoint(PROXY, revision(stage=1)),
        )
    ),
)


def test_stage_0_goes_first() -> None:
    """What restores contact; the others wait for it, and say so."""
    plan = STAGED.decide()
    assert [action.workload for action in plan.actions] == [API]
    assert plan.standings[DNS] == Standing("waiting", "stage 0 to bring contact back, 30 s more")
    assert plan.memory.stage_zero_at == NOW


@pytest.mark.parametrize(("later", "expected"), [(29.9, []), (30.0, [DNS, PROXY])])
def test_the_later_stage_follows_if_contact_is_still_lost(
    later: float, expected: list[object]
) -> None:
    """After its delay; not one second earlier."""
    plan = STAGED.decide()
    node = STAGED.then(plan)
    node = node.but(
        checkpoints=Known(tuple(c for c in node.checkpoints.value if c.workload != API))
    )  # type: ignore[union-attr]
    stage_zero = checkpoint(API, revision(stage=0))
    node = node.but(
        checkpoints=Known((*node.checkpoints.value, stage_zero)),  # type: ignore[union-attr]
        runtime=Known(COPY_RUNS),
    )
    assert [a.workload for a in node.decide(NOW + later).actions] == expected


def test_the_later_stage_waits_from_when_stage_0_was_activated() -> None:
    """Stage 0 had its grace to wait for; then it gets its time."""
    memory = replace(BOOTED.memory, stage_zero_at=NOW - 10)
    node = STAGED.but(contact=lost(NOW - 100), memory=memory, runtime=Known(COPY_RUNS))
    plan = node.decide()
    assert plan.actions == ()
    assert plan.standings[PROXY].waits_for == "stage 0 to bring contact back, 20 s more"


def test_an_old_outage_does_not_open_the_later_stage() -> None:
    """The delay counts from the newer of loss and activation."""
    memory = replace(BOOTED.memory, stage_zero_at=NOW - 5000)
    plan = STAGED.but(memory=memory, runtime=Known(COPY_RUNS)).decide()
    assert plan.standings[DNS].waits_for == "stage 0 to bring contact back, 30 s more"


def test_a_node_without_a_stage_0_does_not_wait_for_one() -> None:
    """An edge node: all at once."""
    node = BOOTED.but(
        contact=lost(NOW),
        checkpoints=Known(tuple(checkpoint(w, revision(stage=1)) for w in (DNS, PROXY))),
    )
    assert [action.workload for action in node.decide().actions] == [DNS, PROXY]


def test_an_unusable_stage_0_is_not_waited_for() -> None:
    """It can restore nothing."""
    node = STAGED.but(checkpoints=Known((UNREADABLE, checkpoint(DNS, revision(stage=1)))))
    assert [action.workload for action in node.decide().actions] == [DNS]


@pytest.mark.parametrize(
    ("failed", "expected"),
    [((), 3), ((3,), 2), ((2,), 3), ((2, 3), 1), ((1, 2, 3), 3), ((9,), 3)],
)
def test_the_newest_revision_that_has_not_failed_is_taken(
    failed: tuple[int, ...], expected: int
) -> None:
    """And the newest when all have: something is better than nothing."""
    stored = checkpoint(API, revision(3), revision(2), revision(1), record=Record(failed=failed))
    chosen = choose_revision(stored)
    assert chosen is not None
    assert chosen.number == expected
    plan = BOOTED.but(checkpoints=Known((stored,))).decide()
    assert [a.revision for a in plan.actions if isinstance(a, Activate)] == [expected]


def test_without_a_revision_there_is_nothing_to_choose() -> None:
    """It is unusable, and others are not held up by it."""
    assert choose_revision(UNREADABLE) is None


RELEASED = IN_PLACE.but(contact=lost(NOW + 0.3)).with_track(released_at=NOW)
"""Given way to its parent a moment ago; with it the API has gone."""


@pytest.mark.parametrize(("later", "activates"), [(1.0, False), (59.9, False), (60.0, True)])
def test_after_a_release_the_hand_over_deadline_decides(later: float, activates: bool) -> None:
    """Neither the loss of contact nor the grace: a hand-over takes the API away for a moment."""
    plan = RELEASED.decide(NOW + later)
    assert bool(plan.actions) is activates


def test_a_parent_that_keeps_crashing_does_not_put_the_deadline_off() -> None:
    """It runs for a second now and then; at the deadline the copy is back."""
    node, activated = RELEASED, []
    for second in range(1, 75):
        runs = second in (1, 12, 33, 58)
        runtime = PARENT_RUNS if runs else PARENT_DIED_IN_PLACE
        plan = node.but(runtime=Known(runtime)).decide(NOW + second)
        if plan.actions:
            activated.append(second)
            break
        node = node.then(plan)
    assert activated == [60]


def test_the_old_copy_that_still_ends_does_not_put_the_deadline_off() -> None:
    """It was told to go; that it runs says nothing about its parent."""
    ending = RELEASED.but(runtime=Known(both(COPY_RUNS, PARENT_DIED_IN_PLACE)))
    node = ending.then(ending.decide(NOW + 1)).but(runtime=Known(PARENT_DIED_IN_PLACE))
    assert node.decide(NOW + 45).actions == ()
    assert isinstance(node.decide(NOW + 60).actions[0], Activate)


def test_a_parent_that_runs_at_the_deadline_has_taken_over() -> None:
    """When it dies later in the same outage, the kubelet has its grace again."""
    running = RELEASED.but(runtime=Known(PARENT_RUNS))
    node = running.then(running.decide(NOW + 60)).but(runtime=Known(PARENT_DIED_IN_PLACE))
    assert activated_at(node, NOW + 100) == pytest.approx(NOW + 130)


def test_a_hand_over_long_ago_leaves_no_trace() -> None:
    """An API server killed in place days later is the kubelet's to restart."""
    node = IN_PLACE.but(contact=lost(NOW + 86400)).with_track(released_at=NOW)
    assert activated_at(node, NOW + 86400) == pytest.approx(NOW + 86430)


def activated_at(node: Node, now: float) -> float:
    for _ in range(1000):
        plan = node.decide(now)
        if plan.actions:
            return now
        node = node.then(plan)
        now += plan.wake_in
    return float("inf")


def test_failed_hand_overs_are_counted() -> None:
    """Each one lets the next wait longer; an activation for another reason forgets them."""
    again = RELEASED.with_track(failed_hand_overs=2).decide(NOW + 60)
    assert again.memory.tracks[API].failed_hand_overs == 3
    other = BOOTED.with_track(failed_hand_overs=2).decide()
    assert other.memory.tracks[API].failed_hand_overs == 0


def test_sandboxes_that_are_up_are_known_at_activation() -> None:
    """A later one is the parent's return; these are not."""
    plan = BOOTED.but(runtime=Known(PARENT_DIED_IN_PLACE)).decide()
    assert plan.memory.tracks[API].known_sandboxes == {"parent-uid-sandbox"}


INTERRUPTED = both(COPY_RUNS, PARENT_DIED_IN_PLACE)


@pytest.mark.parametrize("contact", [reachable(), suspect(), lost(), recovering(), denied()])
def test_an_interrupted_release_is_finished(contact: object) -> None:
    """The manifest is gone, the copy runs on, its parent wants the ports."""
    node = BOOTED.but(contact=contact, runtime=Known(INTERRUPTED))
    plan = node.decide()
    assert plan.actions == (Kill(API, ("copy-uid-apiserver",)),)
    assert plan.standings[API] == Standing("standby", "the released copy to end")


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (BOOTED.but(runtime=Known(COPY_RUNS)), "no parent wants the ports"),
        (
            BOOTED.but(
                runtime=Known(INTERRUPTED),
                checkpoints=Known((checkpoint(API, revision(shares_ports=True)),)),
            ),
            "both can run",
        ),
        (
            BOOTED.but(
                runtime=Known(
                    Runtime(
                        (copy_sandbox(), parent_sandbox()),
                        (dead(container_of(copy_sandbox())),),
                    )
                ),
                kubelet=Known(SAME_KUBELET),
            ),
            "the copy has ended",
        ),
    ],
)
def test_a_copy_without_a_manifest_is_not_killed_without_need(node: Node, reason: str) -> None:
    """The kubelet ends it in its own way."""
    assert node.decide().actions == (), reason


def test_states_that_are_not_running_do_not_hold_an_activation() -> None:
    """Created, exited and unknown containers after a power cut."""
    for state in (ContainerState.CREATED, ContainerState.EXITED, ContainerState.UNKNOWN):
        container = replace(container_of(parent_sandbox(ready=False)), state=state)
        runtime = Runtime((parent_sandbox(ready=False),), (container,))
        assert BOOTED.but(runtime=Known(runtime)).decide().actions == (ACTIVATE,)


def test_an_activation_that_could_not_be_written_is_planned_again() -> None:
    """Without another grace: what was waited for has been waited for."""
    node = IN_PLACE.with_track(down_since=NOW - 30)
    plan = node.decide()
    again = node.then(plan).decide(NOW + 1)
    assert [type(a) for a in (*plan.actions, *again.actions)] == [Activate, Activate]
    assert again.memory.tracks[API].down_since == NOW - 30


def test_the_clocks_of_the_facts_are_those_of_the_tests() -> None:
    """A guard for the table above: the new run began after the loss, the old one at the boot."""
    assert SAME_KUBELET.started_at < stamp(LOST_SINCE) < NEW_KUBELET.started_at
    assert stamp(NOW) == round(at(NOW).wall * 1e9)
