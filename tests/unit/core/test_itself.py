"""The agent itself: its copy is always there, follows its upgrades, and leaves when it must."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.core.checkpoint import OwnRecord, Record
from checkpointer.core.contact import Contact
from checkpointer.core.decide import needs_runtime
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.itself import TRIES, recognise, to_record
from checkpointer.core.observation import Itself
from checkpointer.core.plan import (
    Action,
    Activate,
    Attempt,
    GiveWay,
    Leave,
    Memory,
    Plan,
    Release,
    Remove,
    Snapshot,
)
from checkpointer.core.workload import Workload
from tests.unit.core.builders import (
    API,
    AT_REST,
    DNS,
    LOST_SINCE,
    NEW_KUBELET,
    NOW,
    OTHER_POD,
    RULES,
    SAME_KUBELET,
    Node,
    checkpoint,
    denied,
    lost,
    manifest,
    pod,
    reachable,
    revision,
    suspect,
)

AGENT = Workload("kube-system", "DaemonSet", "pod-checkpointer")
PARENT, COPY = "agent-uid", "agent-copy-uid"
MINE = pod(AGENT, PARENT)
FORBIDDEN = Unknown("HTTP 403")
HERE = OwnRecord(workload=AGENT, cluster="ca-1", has_marker=True)
LEAVING = replace(HERE, gone_seconds=60.0, leaving=True)


def itself(uid: str = PARENT, **changes: Any) -> Itself:
    return replace(Itself(AGENT, uid, "ca-1", FORBIDDEN, Known(True)), **changes)


def own(*revisions: Any) -> Any:
    found = revisions or (revision(parent_uid=PARENT, stage=1),)
    return checkpoint(AGENT, *found, record=Record(parents=(PARENT,), issue=4))


def own_manifest(number: int = 1) -> Any:
    return manifest(AGENT, uid=COPY, revision=number)


def memory(record: OwnRecord = HERE, began: float = NOW - 100, **changes: Any) -> Memory:
    usual = Memory(
        contact_kubelet=SAME_KUBELET.identity,
        own=record,
        began=began,
        last_cycle=NOW - 5,
        attempts={PARENT: Attempt("spec-1", NOW - 50)},
    )
    return replace(usual, **changes)


INSTALLED = Node(
    contact=reachable(),
    pods=Known((MINE, OTHER_POD)),
    runtime=Unknown("not asked: nothing depends on it"),
    kubelet=Known(SAME_KUBELET),
    manifests=Known((own_manifest(),)),
    checkpoints=Known((own(),)),
    memory=memory(),
    itself=itself(),
)
"""The agent at rest: the controller's pod works, its copy is parked."""

UPGRADED = INSTALLED.but(
    checkpoints=Known((own(revision(2, parent_uid=PARENT), revision(1, parent_uid="old")),))
)
"""A revision of a new pod is stored; the copy is one of the old."""


def actions(plan: Plan) -> list[Action]:
    return [a for a in plan.actions if not isinstance(a, Release)]


def kinds(node: Node, now: float = NOW) -> list[type]:
    return [type(action) for action in node.decide(now).actions]


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        (PARENT, AGENT),
        (COPY, AGENT),
        ("old", AGENT),
        ("other-uid", OTHER_POD.workload),
        ("nobody", None),
        ("", None),
    ],
)
def test_the_agent_knows_its_controller_by_its_pods_uid(
    uid: str, expected: Workload | None
) -> None:
    """As the API's pod, as a copy in the folder, or as one that a checkpoint was taken of."""
    assert UPGRADED.pods is not None
    found = recognise(uid, UPGRADED.pods, UPGRADED.manifests, UPGRADED.checkpoints)
    assert found == expected


def test_a_copy_is_recognised_by_the_folder_alone() -> None:
    """After a reboot with no API, and with a store that cannot be read, the manifest tells."""
    away = Unknown("away")
    assert recognise(COPY, away, Known((own_manifest(),)), away) == AGENT
    assert recognise(COPY, away, away, away) is None


def test_the_copy_is_made_as_soon_as_there_is_a_revision() -> None:
    """The first revision is put into the kubelet's folder while all is well."""
    plan = INSTALLED.but(manifests=Known(())).decide()
    assert plan.actions == (Activate(AGENT, 1, 5, "the agent has to be there after a reboot"),)
    assert plan.standings[AGENT].state == "active"


def test_an_active_copy_of_itself_is_never_released() -> None:
    """Though its parent is Ready, and whatever contact is."""
    for contact in (reachable(), suspect(), lost(), denied(NOW)):
        assert INSTALLED.but(contact=contact).decide().actions == ()


def test_its_own_copy_is_told_apart_in_the_sentence() -> None:
    """An active checkpoint says that something is down; this one is always active."""
    plan = INSTALLED.but(checkpoints=Known((own(), checkpoint()))).decide()
    assert plan.sentence.endswith("1 standby, the agent's own active")
    assert INSTALLED.decide().sentence.endswith(": no checkpoints, the agent's own active")


def test_the_agents_own_copy_costs_nothing_at_rest() -> None:
    """An active copy has the runtime watched closely; this one, always active, must not."""

    def needs(node: Node) -> bool:
        return needs_runtime(node.contact, node.manifests, node.checkpoints, AGENT)

    assert not needs(INSTALLED)
    assert INSTALLED.decide().wake_in == RULES.tick_seconds
    other = INSTALLED.but(manifests=Known((own_manifest(), manifest())))
    assert needs(other)


def test_a_copy_that_vanished_is_made_again_also_without_contact() -> None:
    """A reboot in the same outage must find it; while it is unclear what is, nothing is done."""
    gone = INSTALLED.but(manifests=Known(()), pods=Unknown("contact is lost"))
    assert kinds(gone.but(contact=lost())) == [Activate]
    assert kinds(gone.but(contact=denied(NOW))) == []
    assert kinds(gone.but(contact=suspect())) == []


def test_no_copy_is_made_for_an_agent_that_is_not_wanted() -> None:
    """The API answers and shows no pod of ours, or one that is going."""
    for pods in ((OTHER_POD,), (replace(MINE, terminating=True), OTHER_POD)):
        assert kinds(INSTALLED.but(manifests=Known(()), pods=Known(pods))) == []


def test_what_has_worked_writes_its_own_manifest() -> None:
    """The controller's new pod, after it has worked for as long as any parent must be Ready."""
    assert UPGRADED.decide().actions == (
        Activate(AGENT, 2, 5, "this revision of the agent has worked"),
    )
    early = UPGRADED.but(memory=memory(began=NOW - 4))
    plan = early.decide()
    assert (plan.actions, plan.wake_in) == ((), 6.0)


@pytest.mark.parametrize("contact", [suspect(), lost(), denied(NOW)])
def test_the_manifest_is_replaced_only_with_contact(contact: Contact) -> None:
    """The kubelet would not follow: the old copy would hold on and the new one wait for ever."""
    node = UPGRADED.but(contact=contact, pods=Unknown("away"))
    for uid in (PARENT, COPY):
        assert kinds(node.but(itself=itself(uid))) == []


def test_a_pod_whose_snapshot_failed_has_proved_nothing() -> None:
    """The newest revision is then another pod's."""
    assert kinds(UPGRADED.but(failed_snapshots=frozenset({PARENT}))) == []
    assert [
        a
        for a in UPGRADED.but(memory=memory(attempts={})).decide().actions
        if isinstance(a, Activate)
    ] == []


def test_the_old_copy_gives_way_to_the_new_pod() -> None:
    """It replaces nothing by itself: a parked pod that is Ready has not shown that it works."""
    old = UPGRADED.but(itself=itself(COPY))
    plan = old.decide()
    assert plan.actions == (GiveWay(AGENT, "revision 2 of the agent is to prove itself"),)
    assert (plan.memory.own.gave_way_to, plan.memory.own.tries) == (2, 1)
    assert kinds(old.but(memory=memory(began=NOW - 1))) == []


@pytest.mark.parametrize("changes", [{"ready": False}, {"terminating": True}])
def test_nobody_gives_way_to_a_pod_that_is_not_there(changes: dict[str, bool]) -> None:
    """The lock would pass to nobody."""
    pods = Known((replace(MINE, **changes), OTHER_POD))
    assert kinds(UPGRADED.but(itself=itself(COPY), pods=pods)) == []


def test_a_revision_that_does_not_come_to_work_is_given_up() -> None:
    """The old copy stays; the next revision has its own chances."""
    tired = replace(HERE, gave_way_to=2, tries=TRIES)
    node = UPGRADED.but(itself=itself(COPY), memory=memory(tired))
    plan = node.decide()
    assert plan.actions == ()
    assert plan.standings[AGENT].waits_for == "revision 2, which does not work"
    third = own(revision(3, parent_uid=PARENT), revision(2), revision(1))
    assert kinds(node.but(checkpoints=Known((third,)))) == [GiveWay]
    assert kinds(UPGRADED.but(memory=memory(tired))) == [Activate]


def test_a_copy_that_is_refused_gives_way_now_and_then() -> None:
    """Its token ends with the pod that it was taken from; the parked pod has one of its own."""
    refused = INSTALLED.but(itself=itself(COPY), pods=Unknown("denied"), contact=denied(NOW - 60))
    plan = refused.decide()
    assert [type(a) for a in plan.actions] == [GiveWay]
    assert plan.memory.own.refusals == 1
    again = refused.but(memory=memory(replace(HERE, refusals=1)))
    assert kinds(again) == []
    assert kinds(again.but(contact=denied(NOW - 120))) == [GiveWay]
    assert kinds(refused.but(itself=itself(PARENT))) == []


def test_seeing_its_pod_is_what_the_record_rests_on() -> None:
    """Cluster and marker are noted while a pod of the agent's own is shown."""
    noted = INSTALLED.but(memory=memory(OwnRecord())).decide().memory.own
    assert noted == HERE
    unmarked = INSTALLED.but(memory=memory(OwnRecord()), itself=itself(marker=Known(False)))
    assert not unmarked.decide().memory.own.has_marker


def after(node: Node, seconds: float, step: float = 5.0) -> tuple[Node, list[Action]]:
    """Run cycles for so long; return the node and what was planned, actions being carried out."""
    done: list[Action] = []
    now = NOW
    while now < NOW + seconds:
        plan = node.decide(now)
        done += [action for action in plan.actions if not isinstance(action, Snapshot)]
        if any(isinstance(action, Leave) for action in plan.actions):
            return carried_out(node.then(plan), plan), done
        node = carried_out(node.then(plan), plan)
        now += step
    return node, done


def carried_out(node: Node, plan: Plan) -> Node:
    assert isinstance(node.checkpoints, Known)
    assert isinstance(node.manifests, Known)
    stored, active = node.checkpoints.value, node.manifests.value
    for action in plan.actions:
        if isinstance(action, Remove | Leave):
            stored = tuple(c for c in stored if c.workload != action.workload)
        if isinstance(action, Release | Leave):
            active = tuple(m for m in active if m.workload != action.workload)
    return node.but(checkpoints=Known(stored), manifests=Known(active))


UNINSTALLED = INSTALLED.but(
    pods=Known((pod(DNS, "dns-uid"), OTHER_POD)),
    itself=itself(COPY, marker=Known(False)),
    checkpoints=Known((checkpoint(DNS), own())),
)
"""`kubectl delete -k`: the copy works alone, and the marker is gone."""


def test_an_uninstalled_agent_removes_everything_itself_last() -> None:
    """After the grace: the checkpoints, then its own with the manifest."""
    node, done = after(UNINSTALLED, 50)
    assert done == []
    node, done = after(UNINSTALLED, 80)
    assert [type(a) for a in done] == [Remove, Leave]
    assert done[1] == Leave(AGENT, own_manifest().file_name, "the agent is not installed any more")
    assert node.manifests == Known(())
    assert node.checkpoints == Known(())


@pytest.mark.parametrize(
    ("owner", "marker", "expected"),
    [
        (Known(False), FORBIDDEN, True),
        (Known(False), Known(True), True),
        (Known(True), Known(False), False),
        (FORBIDDEN, Known(False), True),
        (FORBIDDEN, Known(True), False),
        (FORBIDDEN, Unknown("timeout"), False),
    ],
)
def test_it_leaves_only_on_a_positive_answer(
    owner: Fact[bool], marker: Fact[bool], expected: bool
) -> None:
    """The controller's word counts first, then the marker's; silence is no answer."""
    node = UNINSTALLED.but(itself=itself(COPY, owner=owner, marker=marker))
    _, done = after(node, 600)
    assert any(isinstance(a, Leave) for a in done) is expected


def test_a_list_without_its_pod_alone_is_no_reason_to_leave() -> None:
    """It is as short while the controller-manager is down, or the API restored from nothing."""
    for pods in ((), (OTHER_POD,)):
        alone = UNINSTALLED.but(pods=Known(pods), itself=itself(COPY), checkpoints=Known((own(),)))
        _, done = after(alone, 6000)
        assert done == []


def test_a_marker_that_was_never_there_tells_nothing() -> None:
    """An installation without it is removed by hand, or by an identity that may read more."""
    _, done = after(UNINSTALLED.but(memory=memory(replace(HERE, has_marker=False))), 600)
    assert done == []


@pytest.mark.parametrize("cluster", ["ca-2", ""])
def test_another_cluster_says_nothing_about_this_one(cluster: str) -> None:
    """With another CA, or one that cannot be read, nothing goes, not even what was begun."""
    stranger = itself(COPY, marker=Known(False), owner=Known(False), cluster=cluster)
    for record in (HERE, LEAVING):
        _, done = after(UNINSTALLED.but(itself=stranger, memory=memory(record)), 600)
        assert done == []


@pytest.mark.parametrize("contact", [suspect(), denied(NOW)])
def test_nobody_leaves_while_contact_is_unclear_or_denied(contact: Contact) -> None:
    """Not even when it was decided before."""
    node = UNINSTALLED.but(contact=contact, memory=memory(LEAVING), pods=Unknown("away"))
    assert kinds(node) == []


def test_leaving_that_was_decided_ends_without_the_api() -> None:
    """The API may be lost right after `kubectl delete`: the node must not keep half of it."""
    node = UNINSTALLED.but(contact=lost(), memory=memory(LEAVING), pods=Unknown("lost"))
    _, done = after(node, 20)
    assert [type(a) for a in done] == [Remove, Leave]


def test_what_was_not_decided_stays_while_the_api_is_away() -> None:
    """The grace is counted while the API answers; meanwhile the agent protects the node."""
    young = memory(replace(HERE, gone_seconds=59.0))
    node = UNINSTALLED.but(contact=lost(), memory=young, pods=Unknown("lost"))
    _, done = after(node, 600)
    assert not any(isinstance(a, Remove | Leave) for a in done)


def test_leaving_is_given_up_when_the_agent_is_installed_again() -> None:
    """A pod of its controller is shown: the node is to be protected as before."""
    node = UNINSTALLED.but(memory=memory(LEAVING), pods=Known((MINE, OTHER_POD)))
    plan = node.decide()
    assert not any(isinstance(a, Remove | Leave) for a in plan.actions)
    assert (plan.memory.own.leaving, plan.memory.own.gone_seconds) == (False, 0.0)
    going = node.but(pods=Known((replace(MINE, terminating=True), OTHER_POD)))
    assert going.decide().memory.own.leaving


def test_a_pod_that_cannot_be_read_may_be_its_own() -> None:
    """While there is one of which it cannot be told whose it is, nobody leaves for a marker."""
    second = UNINSTALLED.but(memory=UNINSTALLED.decide().memory, has_untold_pods=True)
    assert second.decide(NOW + 5).memory.own.gone_seconds == 0.0


def test_the_grace_is_not_counted_before_the_first_answer() -> None:
    """The time since the last cycle was not spent without the installation, as far as we know."""
    assert UNINSTALLED.decide().memory.own.gone_seconds == 0.0
    second = UNINSTALLED.then(UNINSTALLED.decide())
    assert second.decide(NOW + 5).memory.own.gone_seconds == 5.0


def test_an_answer_that_it_is_there_starts_the_grace_anew() -> None:
    """An installation that is replaced is gone for a moment."""
    node = UNINSTALLED.but(memory=memory(replace(HERE, gone_seconds=50.0)), itself=itself(COPY))
    assert node.decide().memory.own.gone_seconds == 0.0


def test_a_copy_that_does_its_parents_work_holds_the_agent_here() -> None:
    """It is released when the parent is back, as ever; only then does the agent leave."""
    serving = UNINSTALLED.but(
        memory=memory(LEAVING),
        checkpoints=Known((checkpoint(API), checkpoint(DNS), own())),
        manifests=Known((manifest(), own_manifest())),
        pods=Known((pod(API, ready=False), OTHER_POD)),
    )
    node, done = after(serving, 600)
    assert done == [Remove(DNS, "the agent is not installed any more")]
    released = node.but(manifests=Known((own_manifest(),)))
    _, done = after(released, 20)
    assert [type(a) for a in done] == [Remove, Leave]


def test_nothing_is_snapshotted_while_leaving() -> None:
    """Else what was removed would come back."""
    node = UNINSTALLED.but(memory=memory(LEAVING, attempts={}), pods=Known((pod(), OTHER_POD)))
    assert [type(a) for a in node.decide().actions] == [Remove]


def test_without_a_pod_of_its_own_nothing_is_different() -> None:
    """An agent that runs as a service of the node neither copies itself nor leaves."""
    assert AT_REST.decide().actions == AT_REST.but(memory=replace(LEAVING_MEMORY)).decide().actions


LEAVING_MEMORY = replace(AT_REST.memory, own=LEAVING)


def test_its_stage_holds_nobody() -> None:
    """An agent that somebody put into stage 0 is no way to the API."""
    booted = Node(
        checkpoints=Known((checkpoint(DNS, revision(stage=1)), own(revision(stage=0)))),
        manifests=Known((own_manifest(),)),
        kubelet=Known(NEW_KUBELET),
        contact=lost(LOST_SINCE),
        memory=memory(contact_kubelet=SAME_KUBELET.identity),
        itself=itself(COPY),
    )
    assert kinds(booted, LOST_SINCE + 1) == [Activate]


def test_absence_is_written_in_steps() -> None:
    """The disk is spared, yet a restart forgets little; all else is written at once."""
    assert not to_record(HERE, HERE)
    assert not to_record(HERE, replace(HERE, gone_seconds=9.0))
    assert to_record(HERE, replace(HERE, gone_seconds=10.0))
    assert to_record(replace(HERE, gone_seconds=9.0), HERE)
    assert to_record(HERE, LEAVING)


CONTACTS = st.sampled_from([reachable(), suspect(), lost(), denied(LOST_SINCE)])
ANSWERS: st.SearchStrategy[Fact[bool]] = st.sampled_from([Known(True), Known(False), FORBIDDEN])
PODS: st.SearchStrategy[Any] = st.sampled_from(
    [Unknown("away"), Known(()), Known((OTHER_POD,)), Known((MINE, OTHER_POD))]
)
RECORDS = st.builds(
    OwnRecord,
    workload=st.sampled_from([None, AGENT]),
    cluster=st.sampled_from(["", "ca-1", "ca-2"]),
    has_marker=st.booleans(),
    gone_seconds=st.sampled_from([0.0, 55.0, 100.0]),
    leaving=st.booleans(),
    gave_way_to=st.integers(0, 2),
    tries=st.integers(0, TRIES),
)
NODES = st.builds(
    lambda contact, pods, owner, marker, record, uid, active, stored: UPGRADED.but(
        contact=contact,
        pods=pods,
        itself=itself(uid, owner=owner, marker=marker),
        memory=memory(record),
        manifests=Known((own_manifest(),) if active else ()),
        checkpoints=Known((checkpoint(DNS), own(*stored))),
    ),
    CONTACTS,
    PODS,
    ANSWERS,
    ANSWERS,
    RECORDS,
    st.sampled_from([PARENT, COPY]),
    st.booleans(),
    st.sampled_from([(revision(),), (revision(2), revision())]),
)


@given(NODES)
def test_nothing_goes_without_a_decision_that_a_positive_answer_led_to(node: Node) -> None:
    """Whatever is seen: no removal before it was decided, none when the agent is shown."""
    plan = node.decide()
    goes = [a for a in plan.actions if isinstance(a, Leave)]
    is_shown = isinstance(node.pods, Known) and MINE in node.pods.value
    is_heard = node.contact == reachable() and isinstance(node.pods, Known)
    if goes:
        assert node.memory.own.leaving or plan.memory.own.gone_seconds >= RULES.leave_seconds
        assert not (is_shown and is_heard)
    if plan.memory.own.leaving and not node.memory.own.leaving:
        assert is_heard
        assert node.itself is not None
        assert Known(False) in (node.itself.owner, node.itself.marker)


@given(NODES)
def test_a_manifest_of_its_own_is_only_replaced_by_what_works_with_contact(node: Node) -> None:
    """Never while Lost, never by the old copy."""
    assert isinstance(node.manifests, Known)
    for action in node.decide().actions:
        if isinstance(action, Activate) and action.workload == AGENT and node.manifests.value:
            assert node.contact == reachable()
            assert node.itself is not None
            assert node.itself.pod_uid == PARENT
