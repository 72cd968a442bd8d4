"""Activation: every condition by itself prevents it, all together bring it about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checkpointer.core.checkpoint import Checkpoint, HandOver, Record, choose_revision
from checkpointer.core.contact import Contact
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.lease import Turn
from checkpointer.core.observation import KubeletRun, Pod
from checkpointer.core.plan import Activate, Kill, Memory, StartAnew, Track
from checkpointer.core.runtime import ContainerState, Runtime
from checkpointer.core.standing import Standing
from checkpointer.core.workload import Workload
from tests.unit.core.builders import (
    API,
    BOOTED,
    COPY_RUNS,
    DNS,
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
    at,
    both,
    checkpoint,
    container_of,
    copy_sandbox,
    dead,
    denied,
    lost,
    parent_sandbox,
    pod,
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
    assert plan.records == {API: Record(parents=("parent-uid",), issue=5, issued_in="boot-1")}
    assert plan.standings == {API: Standing("active", "the kubelet to start it")}
    assert plan.wake_in == RULES.watch_seconds
    assert plan.memory.tracks[API] == Track(
        down_since=NOW, activated_at=NOW, parent_exits=frozenset(), excused_attempts=0
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
    back = back.then(back.decide(NOW + 29.5))
    node = back.then(back.decide(NOW + 50)).but(runtime=Known(PARENT_DIED_IN_PLACE))
    assert node.decide(NOW + 51).actions == ()


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


@pytest.mark.parametrize(
    ("failed", "good", "refused", "expected"),
    [
        ((), (1,), "", 3),
        ((), (2, 1), "v3", 2),
        ((), (3, 2), "v3", 3),
        ((), (), "v3", 3),
        ((2,), (2, 1), "v3", 1),
        ((2,), (2, 1), "", 1),
        ((2,), (2,), "v3", 1),
        ((2,), (2,), "", 3),
        ((1, 2), (2, 1), "v3", 3),
    ],
)
def test_in_doubt_the_last_known_good_is_taken(
    failed: tuple[int, ...], good: tuple[int, ...], refused: str, expected: int
) -> None:
    """Once a copy or a parent has failed; what a refused parent was made of comes last."""
    way = HandOver(refused="parent-uid" if refused else "", refused_template=refused)
    stored = checkpoint(
        API,
        *(revision(number, template=f"v{number}") for number in (3, 2, 1)),
        record=Record(failed=failed, good=good, hand_over=way),
    )
    chosen = choose_revision(stored)
    assert chosen is not None
    assert chosen.number == expected


def test_an_owed_copy_is_the_last_known_good_after_a_reboot_too() -> None:
    """The hand-over is over then; that its parent failed is not forgotten."""
    way = HandOver(
        to="parent-uid",
        boot_id="boot-0",
        since=50.0,
        failures=1,
        is_owed=True,
        refused="parent-uid",
        refused_template="v3",
    )
    record = Record(parents=("parent-uid",), issue=4, good=(2,), hand_over=way)
    stored = checkpoint(API, revision(3, template="v3"), revision(2), revision(1), record=record)
    plan = BOOTED.but(checkpoints=Known((stored,))).decide()
    assert [a.revision for a in plan.actions if isinstance(a, Activate)] == [2]


def test_without_a_revision_there_is_nothing_to_choose() -> None:
    """It is unusable, and others are not held up by it."""
    assert choose_revision(UNREADABLE) is None


WAY = HandOver(to="parent-uid", boot_id="boot-1", since=NOW)
GIVEN_WAY = Known((checkpoint(record=Record(parents=("parent-uid",), issue=4, hand_over=WAY)),))
RELEASED = IN_PLACE.but(contact=lost(NOW + 0.3), checkpoints=GIVEN_WAY)
"""Given way to its parent a moment ago; with it the API has gone."""


@pytest.mark.parametrize(("later", "activates"), [(1.0, False), (59.9, False), (60.0, True)])
def test_after_a_release_the_hand_over_deadline_decides(later: float, activates: bool) -> None:
    """Neither the loss of contact nor the grace: a hand-over takes the API away for a moment."""
    plan = RELEASED.decide(NOW + later)
    assert bool(plan.actions) is activates
    assert plan.standings[API].state == ("active" if activates else "handing over")


def test_an_agent_that_starts_amid_a_hand_over_knows_of_it() -> None:
    """It is on disk: a memory that is empty changes nothing."""
    node = RELEASED.but(memory=Memory())
    assert node.decide(NOW + 59).actions == ()
    assert len(node.decide(NOW + 60).actions) == 1


def test_a_reboot_ends_a_hand_over() -> None:
    """The parent is gone with the machine, and its kubelet does not know it any more."""
    way = replace(WAY, boot_id="boot-0")
    record = Record(parents=("parent-uid",), issue=4, hand_over=way)
    plan = BOOTED.but(checkpoints=Known((checkpoint(record=record),))).decide()
    assert plan.actions == (ACTIVATE,)
    assert plan.records[API].hand_over.to == "", "else the runtime is asked for it for ever"


@pytest.mark.parametrize("answered", [None, NOW + 5, NOW + 5.1, NOW + 50])
def test_a_parent_that_has_served_is_no_failed_one_when_the_network_goes(
    answered: float | None,
) -> None:
    """Past the deadline it runs, and cannot be reached: a copy would fight it for its ports."""
    gone = replace(lost(NOW + 50.3), last_answer=answered)
    plan = RELEASED.but(contact=gone, runtime=Known(PARENT_RUNS)).decide(NOW + 61)
    assert bool(plan.actions) is (answered in (None, NOW + 5)), "that may be the copy's last one"


@pytest.mark.parametrize(("crashes", "at"), [(1, NOW + 60), (2, NOW + 21)])
def test_a_parent_that_dies_again_and_again_gets_its_copy_back_at_once(
    crashes: int, at: float
) -> None:
    """One death may be a lost race for the port; the second is its own."""
    sandbox, node = parent_sandbox(), RELEASED.but(runtime=Known(PARENT_RUNS))
    node = node.then(node.decide(NOW + 1))
    for second in range(2, 75):
        deaths = min(crashes, second // 10)
        containers = tuple(dead(container_of(sandbox, id=f"parent-{n}"), n) for n in range(deaths))
        runs = () if second in (20, 21) else (container_of(sandbox, id=f"runs-{second}"),)
        if crashes == 1 and second >= 22:
            runs = ()
        runtime = Runtime((sandbox,), (*containers, *runs))
        plan = node.but(runtime=Known(runtime)).decide(NOW + second)
        if plan.actions:
            break
        node = node.then(plan)
    reason = "its parent failed when it was given way"
    if crashes == 1:
        reason = "its parent was not back in time when it was given way"
    assert plan.actions == (Activate(API, 1, 5, reason),)
    assert NOW + second == pytest.approx(at, abs=1.0)
    assert plan.records[API].hand_over == HandOver(
        to="parent-uid",
        boot_id="boot-1",
        since=NOW + second,
        failures=1,
        is_owed=True,
        refused="parent-uid" if crashes == 2 else "",
    )


def with_lost_start(attempt: int = 3, kubelet_age: float = 3600.0) -> Node:
    """Return a node whose parent lost its start to the copy that made way for it."""
    sandbox = parent_sandbox()
    first = container_of(sandbox, id="before")
    last = dead(container_of(sandbox, id="after", created_at=stamp(NOW + 1)), attempt)
    node = RELEASED.but(
        contact=lost(NOW + 1),
        kubelet=Known(KubeletRun("run-2", stamp(NOW - kubelet_age), True)),
        runtime=Known(Runtime((sandbox,), (first,))),
    )
    return node.then(node.decide(NOW + 1)).but(runtime=Known(Runtime((sandbox,), (last,))))


ANEW = StartAnew(API, "parent-uid-sandbox", ("after",))


def test_a_parent_that_lost_its_start_is_started_anew_once() -> None:
    """Its ports are free now, and it would wait for its backoff; a second death is its own."""
    node = with_lost_start()
    plan = node.decide(NOW + 3)
    assert plan.actions == (ANEW,)
    assert list(plan.standings.values()) == [
        Standing("handing over", "the kubelet to start its parent")
    ]
    assert plan.records == {}
    new = parent_sandbox(id="new", created_at=stamp(NOW + 4))
    after = node.then(plan).but(runtime=Known(Runtime((new,), ())))
    plan = after.decide(NOW + 4)
    assert plan.actions == ()
    again = dead(container_of(new, id="again", created_at=stamp(NOW + 4)), 4)
    plan = after.then(plan).but(runtime=Known(Runtime((new,), (again,)))).decide(NOW + 5)
    assert plan.actions == (Activate(API, 1, 5, "its parent failed when it was given way"),)


@pytest.mark.parametrize(
    ("attempt", "kubelet_age", "returns"),
    [(7, 3600, True), (3, 3600, True), (1, 3600, False), (7, 5, False)],
)
def test_a_parent_that_is_not_started_anew_is_not_waited_for_when_its_next_start_is_far(
    attempt: int, kubelet_age: float, returns: bool
) -> None:
    """It would be dark until the deadline; of a backoff that has only begun it would not."""
    node = with_lost_start(attempt, kubelet_age)
    for second in (2.0, 5.0, 8.0):
        plan = node.decide(NOW + second)
        assert plan.actions == (ANEW,), "the runtime would not do it"
        node = node.then(plan)
        assert node.decide(NOW + second + 1.9).actions == ()
    plan = node.decide(NOW + 10)
    reason = "its parent died when it was given way, and is not started again soon"
    assert plan.actions == ((Activate(API, 1, 5, reason),) if returns else ())
    if returns:
        assert plan.records[API].hand_over == HandOver(
            to="parent-uid", boot_id="boot-1", since=NOW + 10, failures=1, is_owed=True
        )


def test_a_parent_whose_sidecar_runs_is_not_waited_for_in_a_long_backoff() -> None:
    """It is not started anew, for its sandbox is in use; its app is dark all the same."""
    node = with_lost_start(attempt=7)
    assert isinstance(node.runtime, Known)
    sidecar = container_of(parent_sandbox(), "proxy")
    found = replace(node.runtime.value, containers=(*node.runtime.value.containers, sidecar))
    node = node.but(runtime=Known(found))
    assert node.decide(NOW + 3).actions == ()
    plan = node.decide(NOW + 10)
    reason = "its parent died when it was given way, and is not started again soon"
    assert plan.actions == (Activate(API, 1, 5, reason),)


def test_a_sandbox_with_a_container_in_an_unknown_state_is_left() -> None:
    """It may run: only the runtime has lost sight of it."""
    node = with_lost_start()
    assert isinstance(node.runtime, Known)
    lost_sight = container_of(parent_sandbox(), state=ContainerState.UNKNOWN)
    found = replace(node.runtime.value, containers=(*node.runtime.value.containers, lost_sight))
    assert node.but(runtime=Known(found)).decide(NOW + 3).actions == ()


def test_an_agent_that_was_ended_amid_a_start_anew_finishes_it() -> None:
    """The dead were forgotten and their sandbox is left: the kubelet would wait for the backoff."""
    empty = Known(Runtime((parent_sandbox(),), ()))
    node = RELEASED.but(contact=lost(NOW + 1), runtime=empty, memory=Memory())
    node = node.but(kubelet=Known(KubeletRun("run-2", stamp(-7200), True)))
    plan = node.decide(NOW + 2.9)
    assert plan.actions == ()
    plan = node.then(plan).decide(NOW + 3)
    assert plan.actions == (StartAnew(API, "parent-uid-sandbox", ()),)


def test_a_parent_that_is_started_anew_past_the_deadline_may_start() -> None:
    """Its copy took longer to end than that; it is not brought back beside it at once."""
    node = with_lost_start()
    plan = node.decide(NOW + 61)
    assert plan.actions == (ANEW,)
    node = node.then(plan)
    assert node.decide(NOW + 61.1).actions == ()
    new = parent_sandbox(id="new", created_at=stamp(NOW + 62))
    node = node.but(runtime=Known(Runtime((new,), ())))
    assert node.decide(NOW + 63.9).actions == ()


def test_a_parent_that_died_with_the_sandbox_that_was_ended_has_not_failed() -> None:
    """The kubelet started it there between the two steps: it was killed, and may be fine."""
    node = with_lost_start()
    node = node.then(node.decide(NOW + 3))
    ended = parent_sandbox(ready=False)
    new = parent_sandbox(id="new", created_at=stamp(NOW + 4))
    killed = dead(container_of(ended, id="between", created_at=stamp(NOW + 3)), 4)
    node = node.but(runtime=Known(Runtime((ended, new), (killed,))))
    assert node.decide(NOW + 4).actions == ()


def test_what_may_be_done_with_its_work_is_not_started_anew() -> None:
    """A Job's container that the runtime has forgotten would run once more."""
    job = Workload("kube-system", "Job", "kube-apiserver")
    node = with_lost_start()
    stored = checkpoint(job, record=GIVEN_WAY.value[0].record)
    plan = node.but(checkpoints=Known((stored,)), pods=Unknown("lost")).decide(NOW + 3)
    assert not any(isinstance(action, StartAnew) for action in plan.actions)
    assert plan.standings[job].state == "handing over"


def test_a_sandbox_that_stays_empty_is_ended_again() -> None:
    """The kubelet looked before the dead were forgotten, and waits for their backoff in it."""
    node = with_lost_start()
    node = node.then(node.decide(NOW + 3))
    new = parent_sandbox(id="new", created_at=stamp(NOW + 4))
    node = node.but(runtime=Known(Runtime((new,), ())))
    assert node.decide(NOW + 5.9).actions == ()
    plan = node.decide(NOW + 6)
    assert plan.actions == (StartAnew(API, "new", ()),)
    with_init = checkpoint(API, revision(has_init=True), record=GIVEN_WAY.value[0].record)
    assert node.but(checkpoints=Known((with_init,))).decide(NOW + 6).actions == ()
    made = dead(container_of(new, id="failed", created_at=stamp(NOW + 4)), 4)
    starting = replace(made, state=ContainerState.CREATED)
    for container in (starting, replace(made, state=ContainerState.RUNNING)):
        node = node.but(runtime=Known(Runtime((new,), (container,))))
        assert node.decide(NOW + 6).actions == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"kubelet": Known(KubeletRun("run-2", stamp(NOW - 70), False))},
        {"kubelet": Known(KubeletRun("run-3", stamp(NOW + 2), True))},
        {"kubelet": Unknown("no socket")},
    ],
    ids=["it is not there", "another run of it", "not known"],
)
def test_a_parent_is_started_anew_only_where_the_kubelet_is_sure_to_do_it(
    changes: dict[str, object],
) -> None:
    """Its sandbox is all that a kubelet that was started since knows of it."""
    assert with_lost_start(1).but(**changes).decide(NOW + 3).actions == ()


def test_a_parent_is_started_anew_only_when_its_copy_has_ended() -> None:
    """It would lose this start, too."""
    node = with_lost_start()
    assert isinstance(node.runtime, Known)
    beside = node.but(runtime=Known(both(COPY_RUNS, node.runtime.value)))
    assert ANEW not in beside.decide(NOW + 3).actions


def test_what_dies_for_want_of_the_api_is_not_started_anew() -> None:
    """A later stage's pod does, again and again, until the API is back."""
    later = Known((checkpoint(API, revision(stage=1), record=GIVEN_WAY.value[0].record),))
    node = with_lost_start().but(checkpoints=later)
    assert node.decide(NOW + 3).actions == ()
    assert node.but(contact=reachable(NOW)).decide(NOW + 3).actions == (ANEW,)


@pytest.mark.parametrize(
    ("stage", "contact", "activates"),
    [(0, lost(), True), (0, reachable(), True), (1, lost(), False), (1, reachable(), True)],
)
def test_what_dies_while_the_api_is_away_has_not_failed(
    stage: int, contact: Contact, activates: bool
) -> None:
    """A controller manager that is handed over beside the API server ends without it."""
    stored = checkpoint(API, revision(stage=stage), record=GIVEN_WAY.value[0].record)
    pods = Known((pod(ready=False), OTHER_POD))
    node = RELEASED.but(contact=contact, pods=pods, checkpoints=Known((stored,)))
    plan = node.with_track(parent_crashes=2).decide(NOW + 20)
    assert bool(plan.actions) is activates
    assert plan.memory.tracks[API].parent_crashes == 0


@pytest.mark.parametrize(
    ("stage", "contact", "activates"),
    [
        (0, lost(NOW + 0.3), True),
        (0, reachable(), False),
        (0, recovering(), False),
        (0, denied(), False),
        (0, suspect(), False),
        (1, lost(NOW + 0.3), False),
        (1, reachable(), False),
    ],
)
def test_a_parent_that_runs_past_the_deadline_and_does_not_serve(
    stage: int, contact: Contact, activates: bool
) -> None:
    """It counts as failed only where contact depends on it, and is gone."""
    stored = checkpoint(API, revision(stage=stage), record=GIVEN_WAY.value[0].record)
    node = RELEASED.but(contact=contact, runtime=Known(PARENT_RUNS), checkpoints=Known((stored,)))
    plan = node.decide(NOW + 61)
    assert bool(plan.actions) is activates
    if activates:
        assert plan.records[API].hand_over.refused == "parent-uid"


@pytest.mark.parametrize(
    ("contact", "activates"),
    [(reachable(), True), (suspect(), False), (denied(), False), (recovering(), False)],
)
def test_a_parent_that_is_down_at_the_deadline_gets_its_copy_back_with_the_api_there(
    contact: Contact, activates: bool
) -> None:
    """The copy served before; that another API server answers is no reason to leave it dark."""
    node = RELEASED.but(contact=contact, pods=Known((pod(ready=False), OTHER_POD)))
    assert node.decide(NOW + 59).actions == ()
    assert bool(node.decide(NOW + 60).actions) is activates


@pytest.mark.parametrize(("made", "activates"), [(LOST_SINCE - 60, True), (NOW - 5, False)])
def test_the_successor_of_a_parent_that_was_leaving_is_no_reason_for_a_copy(
    made: float, activates: bool
) -> None:
    """An API server that the API took away has closed its port; one made since then starts."""
    container = container_of(parent_sandbox(), created_at=stamp(made))
    node = BOOTED.but(
        contact=replace(lost(LOST_SINCE), last_answer=LOST_SINCE),
        kubelet=Known(SAME_KUBELET),
        runtime=Known(Runtime((parent_sandbox(),), (container,))),
    ).with_track(was_leaving=True)
    assert bool(node.decide().actions) is activates


@pytest.mark.parametrize(("made", "activates"), [(NOW - 5, False), (NOW + 3600, True)])
def test_a_parent_made_before_the_clock_went_back_is_none_of_this_kubelets(
    made: float, activates: bool
) -> None:
    """Its sandbox looks younger than the kubelet's run, which does not know it."""
    sandbox = parent_sandbox(created_at=stamp(made))
    node = BOOTED.but(
        kubelet=Known(replace(NEW_KUBELET, started_at=stamp(NOW - 60))),
        runtime=Known(Runtime((sandbox,), (dead(container_of(sandbox)),))),
    )
    assert bool(node.decide().actions) is activates


def test_a_hand_over_ends_when_the_parent_is_ready() -> None:
    """By what runs now, not by what the API remembers; then nothing of it is kept."""
    node = RELEASED.but(contact=reachable(), pods=Known((pod(), OTHER_POD)))
    assert node.decide(NOW + 20).records == {}
    plan = node.but(runtime=Known(PARENT_RUNS)).decide(NOW + 20)
    assert plan.standings[API] == Standing("standby")
    assert plan.records[API] == Record(parents=("parent-uid",), issue=4)


def test_a_parent_that_is_ready_at_once_may_have_been_probed_at_its_copy() -> None:
    """Its first probe came before the copy was dead: the turn of the masters is not over yet."""
    node = RELEASED.but(
        contact=reachable(), pods=Known((pod(), OTHER_POD)), runtime=Known(PARENT_RUNS)
    )
    plan = node.decide(NOW + 1)
    assert plan.standings[API] == Standing("handing over", "its parent to stay Ready, 4 s more")
    assert (plan.records, plan.turn) == ({}, Turn.KEPT)
    assert plan.wake_in <= 4.0
    assert node.then(plan).decide(NOW + 5).records[API].hand_over == HandOver()


def test_its_copys_grace_counts_before_a_parent_is_ready() -> None:
    """A copy that is never killed answers until its end."""
    stored = checkpoint(API, revision(graceful=True), record=GIVEN_WAY.value[0].record)
    beside = Runtime(
        (*COPY_RUNS.sandboxes, *PARENT_RUNS.sandboxes),
        (*COPY_RUNS.containers, *PARENT_RUNS.containers),
    )
    node = RELEASED.but(
        contact=reachable(),
        checkpoints=Known((stored,)),
        pods=Known((pod(), OTHER_POD)),
        runtime=Known(beside),
    )
    plan = node.decide(NOW + 20)
    assert plan.records == {}
    node = node.then(plan).but(runtime=Known(PARENT_RUNS))
    assert node.decide(NOW + 24).records == {}
    assert node.decide(NOW + 25).records[API].hand_over == HandOver()


def test_containers_that_die_together_are_one_death_of_the_parent() -> None:
    """A pod of three is not more broken than a pod of one."""
    sandbox, names = parent_sandbox(), ("apiserver", "audit", "kms")
    stored = checkpoint(API, revision(app_containers=names), record=GIVEN_WAY.value[0].record)
    up = tuple(container_of(sandbox, name) for name in names)
    node = RELEASED.but(checkpoints=Known((stored,)), runtime=Known(Runtime((sandbox,), up)))
    node = node.then(node.decide(NOW + 1))
    down = Runtime((sandbox,), tuple(dead(container) for container in up))
    plan = node.but(runtime=Known(down)).decide(NOW + 2)
    assert plan.actions == ()
    assert plan.memory.tracks[API].parent_crashes == 1


def test_nothing_else_is_activated_amid_a_hand_over_of_stage_0() -> None:
    """The API's absence is expected for as long, whatever else is down."""
    others = tuple(checkpoint(w, revision(stage=1)) for w in (DNS, PROXY))
    node = BOOTED.but(contact=lost(NOW - 200), checkpoints=Known((*GIVEN_WAY.value, *others)))
    plan = node.decide(NOW + 10)
    assert plan.actions == ()
    waiting = Standing("waiting", "the hand-over of stage 0 to be over, 50 s more")
    assert (plan.standings[DNS], plan.standings[PROXY]) == (waiting, waiting)


CRASHED = Runtime(
    (parent_sandbox(),),
    tuple(dead(container_of(parent_sandbox(), id=f"parent-{n}"), n) for n in range(3)),
)


def test_a_parent_that_keeps_crashing_gets_its_last_known_good_beside_it() -> None:
    """Its kubelet goes on trying; what came after the last known good may be what is broken."""
    record = Record(parents=("parent-uid",), issue=4, good=(1,))
    stored = checkpoint(API, revision(2), revision(1), record=record)
    node = IN_PLACE.but(checkpoints=Known((stored,)), runtime=Known(PARENT_RUNS))
    node = node.then(node.decide()).but(runtime=Known(CRASHED))
    plan = node.decide(NOW + 5)
    reason = "contact lost (connection refused) and its parent keeps crashing"
    assert plan.actions == (Activate(API, 1, 5, reason),)
    assert plan.records[API].hand_over.refused == "parent-uid"


def test_what_is_not_stage_0_dies_for_want_of_the_api_and_is_left_to_the_kubelet() -> None:
    """A controller manager cannot run without it, and nor could its copy."""
    stored = checkpoint(API, revision(stage=1), record=Record(parents=("parent-uid",), issue=4))
    node = IN_PLACE.but(checkpoints=Known((stored,)), runtime=Known(PARENT_RUNS))
    node = node.then(node.decide()).but(runtime=Known(CRASHED))
    assert activated_at(node, NOW + 5) == pytest.approx(NOW + 305, abs=0.1)


def test_crashes_from_before_the_outage_do_not_count() -> None:
    """Three restarts in a month are no crash loop."""
    node = IN_PLACE.but(contact=reachable(), runtime=Known(PARENT_RUNS))
    for now, contact, runtime in (
        (NOW, suspect(), PARENT_RUNS),
        (NOW + 1, suspect(), CRASHED),
        (NOW + 2, lost(), CRASHED),
    ):
        plan = node.but(contact=contact, runtime=Known(runtime)).decide(now)
        assert plan.actions == ()
        node = node.then(plan)


@pytest.mark.parametrize(("up", "seconds"), [(5.0, 30.0), (25.0, 55.0)])
def test_a_parent_that_runs_in_between_is_down_all_the_same(up: float, seconds: float) -> None:
    """Only one that has run for a while starts the grace anew."""
    node = IN_PLACE.then(IN_PLACE.decide(NOW)).but(runtime=Known(PARENT_RUNS))
    node = node.then(node.decide(NOW))
    node = node.then(node.decide(NOW + up)).but(runtime=Known(PARENT_DIED_IN_PLACE))
    assert activated_at(node, NOW + up) == pytest.approx(NOW + seconds, abs=0.1)


@pytest.mark.parametrize(
    ("stage", "pods", "seconds"),
    [
        (0, (pod(terminating=True), OTHER_POD), 0.0),
        (0, (OTHER_POD,), 30.0),
        (0, (pod(), OTHER_POD), 30.0),
        (0, (), 30.0),
        (1, (pod(terminating=True), OTHER_POD), 300.0),
    ],
)
def test_a_parent_that_was_taken_away_is_not_waited_for(
    stage: int, pods: tuple[Pod, ...], seconds: float
) -> None:
    """A rollout of an API server: it went with its pod, and none can be made without it."""
    node = IN_PLACE.but(
        contact=suspect(),
        pods=Known(pods),
        checkpoints=Known((checkpoint(API, revision(stage=stage)),)),
    )
    gone = node.then(node.decide()).but(contact=lost(), pods=Unknown("contact is lost"))
    assert activated_at(gone, NOW) == pytest.approx(NOW + seconds, abs=0.1)


def test_a_parent_that_was_taken_away_is_remembered_when_it_is_gone_from_the_list() -> None:
    """Only by that: a list without it may be another cluster's at the same address."""
    ends = IN_PLACE.but(contact=suspect(), pods=Known((pod(terminating=True), OTHER_POD)))
    gone = ends.then(ends.decide()).but(pods=Known((OTHER_POD,)))
    lost_then = gone.then(gone.decide()).but(contact=lost(), pods=Unknown("contact is lost"))
    assert activated_at(lost_then, NOW) == pytest.approx(NOW, abs=0.1)


@pytest.mark.parametrize(
    ("stage", "parent", "activates"),
    [(0, pod(terminating=True), True), (0, pod(), False), (1, pod(terminating=True), False)],
)
def test_an_api_server_that_was_taken_away_is_not_waited_for_to_end(
    stage: int, parent: Pod, activates: bool
) -> None:
    """It has closed its port, and ends its open connections for half a minute."""
    node = IN_PLACE.but(
        contact=suspect(),
        pods=Known((parent, OTHER_POD)),
        runtime=Known(PARENT_RUNS),
        checkpoints=Known((checkpoint(API, revision(stage=stage)),)),
    )
    gone = node.then(node.decide()).but(contact=lost(), pods=Unknown("contact is lost"))
    assert bool(gone.decide(NOW + 0.2).actions) is activates
    answered = gone.but(contact=recovering())
    assert answered.decide(NOW + 0.2).actions == ()
    copied = gone.but(runtime=Known(COPY_RUNS))
    assert copied.decide(NOW + 0.2).actions == ()


def activated_at(node: Node, now: float) -> float:
    for _ in range(1000):
        plan = node.decide(now)
        if plan.actions:
            return now
        node = node.then(plan)
        now += plan.wake_in
    return float("inf")


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
