"""Laws of the decision, over observations that make no sense as well as those that do."""

from __future__ import annotations

import re
from dataclasses import fields, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from checkpointer.core.checkpoint import ActiveManifest, Checkpoint, HandOver, Record, Revision
from checkpointer.core.contact import Contact, ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.hold import Hold
from checkpointer.core.observation import KubeletRun
from checkpointer.core.occupancy import SOURCE_ANNOTATION, WORKLOAD_LABEL, occupancy_of
from checkpointer.core.plan import (
    Activate,
    Attempt,
    Kill,
    Memory,
    Plan,
    Release,
    Remove,
    StartAnew,
    Track,
)
from checkpointer.core.plan import Snapshot as TakeSnapshot
from checkpointer.core.release import release
from checkpointer.core.runtime import Container, ContainerState, Runtime, Sandbox
from checkpointer.core.workload import Workload
from tests.unit.core.builders import (
    ACTIVE,
    API,
    AT_REST,
    BOOTED,
    COPY_RUNS,
    DNS,
    NOW,
    OTHER_POD,
    PARENT_DIED_IN_PLACE,
    PARENT_RUNS,
    PROXY,
    RULES,
    WALL_AT_BOOT,
    Node,
    both,
    checkpoint,
    pod,
    reachable,
    situation,
    stamp,
)

WORKLOADS = (API, DNS, PROXY)
UIDS = ("uid-a", "uid-b", "copy-uid", "uid-4")
SECONDS = st.sampled_from([0.0, 100.0, -5000.0, 900.0, 960.0, 999.9, NOW, NOW + 500.0])
STAMPS = SECONDS.map(stamp)
WORDS = st.sampled_from(["", "refused", "two\nlines", "  "])


def known_or_not(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(values.map(Known), values.map(Known), WORDS.map(Unknown))


def tuples(values: st.SearchStrategy[object], most: int) -> st.SearchStrategy[object]:
    return st.lists(values, max_size=most).map(tuple)


CONTACTS = st.builds(
    Contact,
    st.sampled_from(ContactState),
    SECONDS,
    WORDS,
    failures=st.integers(0, 4),
    successes=st.integers(0, 4),
    is_answering=st.booleans(),
)
PODS = st.builds(
    pod,
    st.sampled_from([*WORKLOADS, Workload("default", "Pod", "shop")]),
    st.sampled_from(UIDS),
    is_parent=st.booleans(),
    ready=st.booleans(),
    terminating=st.booleans(),
    finished=st.booleans(),
    ready_seconds=st.sampled_from([0.0, 9.0, 10.0, 99999.0]),
    container_ids=st.frozensets(st.sampled_from(["c1", "c2"])),
    signature=st.sampled_from(["s1", "s2"]),
    content_signature=st.sampled_from(["", "s1", "s2"]),
)
SANDBOXES = st.builds(
    Sandbox,
    id=st.sampled_from(["s1", "s2", "s3"]),
    namespace=st.sampled_from(["kube-system", "default"]),
    name=st.sampled_from(["kube-apiserver-abcde", "coredns-5d-abcde", "x"]),
    uid=st.sampled_from(UIDS),
    attempt=st.integers(0, 3),
    ready=st.booleans(),
    created_at=STAMPS,
    labels=st.dictionaries(
        st.sampled_from(["k8s-app", WORKLOAD_LABEL]),
        st.sampled_from(["kube-apiserver", *(w.digest for w in WORKLOADS)]),
    ),
    annotations=st.dictionaries(
        st.just(SOURCE_ANNOTATION), st.sampled_from(["api", "file"]), max_size=1
    ),
)
CONTAINERS = st.builds(
    Container,
    id=st.sampled_from(["c1", "c2", "c3"]),
    sandbox_id=st.sampled_from(["s1", "s2", "s3"]),
    name=st.sampled_from(["apiserver", "init"]),
    namespace=st.just("kube-system"),
    pod_name=st.just("x"),
    pod_uid=st.sampled_from(UIDS),
    attempt=st.integers(0, 6),
    state=st.sampled_from(ContainerState),
    created_at=STAMPS,
)
RUNTIMES = st.builds(Runtime, tuples(SANDBOXES, 5), tuples(CONTAINERS, 6))
REVISIONS = st.builds(
    Revision,
    number=st.integers(1, 4),
    digest=st.just("d"),
    parent_uid=st.sampled_from(UIDS),
    parent_name=st.just("x"),
    labels=st.sampled_from([(), (("k8s-app", "kube-apiserver"),)]),
    app_containers=st.just(("apiserver",)),
    stage=st.integers(0, 1),
    shares_ports=st.booleans(),
    created_at=st.just(0.0),
)
RECORDS = st.builds(
    Record,
    parents=st.lists(st.sampled_from(UIDS[:2]), unique=True).map(sorted).map(tuple),
    issue=st.integers(0, 9),
    absent_seconds=st.sampled_from([0.0, 29.0, 299.0, 300.0]),
    failed=st.lists(st.integers(1, 4), unique=True).map(sorted).map(tuple),
    good=st.lists(st.integers(1, 4), unique=True).map(tuple),
    hand_over=st.builds(
        HandOver,
        to=st.sampled_from(["", "", *UIDS[:2]]),
        template=st.sampled_from(["", "hash"]),
        boot_id=st.sampled_from(["boot-0", "boot-1"]),
        since=st.sampled_from([-500.0, 900.0, 960.0, NOW]),
        failures=st.integers(0, 5000),
        refused=st.sampled_from(["", "", *UIDS[:2]]),
        refused_template=st.sampled_from(["", "hash"]),
        refused_signature=st.sampled_from(["", "s1"]),
    ),
)
HOLDS = st.builds(
    Hold,
    st.sampled_from(["active", "released"]),
    since=st.just(0.0),
    by=WORDS,
    reason=WORDS,
    until=st.sampled_from([0.0, 1.0, WALL_AT_BOOT + NOW + 60.0]),
    revision=st.integers(0, 4),
    force=st.booleans(),
)
CHECKPOINTS = st.lists(
    st.builds(
        Checkpoint,
        st.sampled_from(WORKLOADS),
        st.lists(REVISIONS, max_size=3, unique_by=lambda r: r.number)
        .map(lambda found: sorted(found, key=lambda r: -r.number))
        .map(tuple),
        RECORDS,
        hold=st.one_of(st.none(), st.none(), HOLDS),
    ),
    max_size=3,
    unique_by=lambda c: c.workload,
).map(tuple)
MANIFESTS = st.lists(
    st.builds(
        ActiveManifest,
        file_name=st.just("f.json"),
        workload=st.sampled_from(WORKLOADS),
        revision=st.integers(1, 4),
        issue=st.integers(0, 9),
        uid=st.sampled_from(UIDS[2:]),
        written_at=STAMPS,
    ),
    max_size=3,
    unique_by=lambda m: m.workload,
).map(tuple)
MAYBE_SECONDS = st.one_of(st.none(), st.sampled_from([-5000.0, 0.0, 900.0, 960.0, 999.9, NOW]))
TRACKS = st.builds(
    Track,
    down_since=MAYBE_SECONDS,
    activated_at=MAYBE_SECONDS,
    issues=st.integers(0, 2000),
    parent_exits=st.one_of(st.none(), st.frozensets(st.sampled_from(["c1", "c2"]))),
    parent_crashes=st.integers(0, 4),
    was_leaving=st.booleans(),
    excused_attempts=st.one_of(st.none(), st.integers(0, 5)),
    running_since=MAYBE_SECONDS,
    absent_seconds=st.sampled_from([0.0, 29.0, 299.0, 300.0]),
)
MEMORIES = st.builds(
    Memory,
    contact_kubelet=st.sampled_from([None, "run-1", "run-2"]),
    tracks=st.dictionaries(st.sampled_from(WORKLOADS), TRACKS),
    ready_since=st.dictionaries(st.sampled_from(UIDS), st.sampled_from([0.0, 995.0])),
    attempts=st.dictionaries(
        st.sampled_from(UIDS),
        st.builds(
            Attempt,
            st.sampled_from(["s1", "s2"]),
            st.sampled_from([0.0, 300.0, 990.0]),
            st.integers(0, 4),
        ),
    ),
    last_cycle=MAYBE_SECONDS,
    last_removal=MAYBE_SECONDS,
    stage_zero_at=MAYBE_SECONDS,
)
ANY = st.builds(
    Node,
    contact=CONTACTS,
    pods=known_or_not(tuples(PODS, 4)),
    runtime=known_or_not(RUNTIMES),
    kubelet=known_or_not(
        st.builds(KubeletRun, st.sampled_from(["run-1", "run-2"]), STAMPS, st.booleans())
    ),
    manifests=known_or_not(MANIFESTS),
    checkpoints=known_or_not(CHECKPOINTS),
    memory=MEMORIES,
    failed_snapshots=st.frozensets(st.sampled_from(UIDS)),
    has_untold_pods=st.booleans(),
)
REASONABLE = (
    BOOTED,
    ACTIVE,
    ACTIVE.but(runtime=Known(both(COPY_RUNS, PARENT_RUNS))),
    ACTIVE.but(
        contact=reachable(900.0),
        pods=Known((pod(), OTHER_POD)),
        runtime=Known(both(COPY_RUNS, PARENT_RUNS)),
    ),
    BOOTED.but(runtime=Known(both(COPY_RUNS, PARENT_DIED_IN_PLACE))),
    AT_REST,
    AT_REST.but(
        pods=Known((OTHER_POD,)),
        checkpoints=Known((checkpoint(record=Record(absent_seconds=300.0)),)),
    ),
)
FIELDS = [f.name for f in fields(Node) if f.name != "rules"]
NODES = st.builds(
    lambda base, other, names: replace(base, **{name: getattr(other, name) for name in names}),
    st.sampled_from(REASONABLE),
    ANY,
    st.one_of(st.sets(st.sampled_from(FIELDS), max_size=3), st.just(FIELDS)),
)
"""A reasonable node with a few things about it at odds, or all of them."""
MANY = settings(max_examples=300, deadline=None)


def values(fact: Fact[tuple[object, ...]]) -> tuple[object, ...]:
    return fact.value if isinstance(fact, Known) else ()


@MANY
@given(NODES)
def test_a_decision_never_raises_and_can_always_be_told(node: Node) -> None:
    """One line, without a None in it, and a pause that is neither nothing nor for ever."""
    plan = node.decide()
    assert "\n" not in plan.sentence
    assert not re.search(r"\bNone\b", plan.sentence)
    assert plan.sentence == plan.sentence.strip()
    assert 0 < plan.wake_in <= RULES.tick_seconds
    for standing in plan.standings.values():
        assert standing.state in {
            "standby",
            "waiting",
            "frozen",
            "active",
            "unusable",
            "handing over",
            "held",
        }


@MANY
@given(NODES)
def test_nothing_is_activated_unless_the_api_is_gone_and_the_runtime_was_asked(node: Node) -> None:
    """Not while denied, reachable, suspect or answering; not on a runtime that is unknown.

    A copy that made way in vain comes back though the API is there: it served before.
    """
    plan = node.decide()
    handing = {
        c.workload  # type: ignore[attr-defined]
        for c in values(node.checkpoints)
        if c.record.hand_over.to and c.record.hand_over.boot_id == "boot-1"  # type: ignore[attr-defined]
    }
    held = {c.workload for c in values(node.checkpoints) if c.hold}  # type: ignore[attr-defined]
    for action in plan.actions:
        if isinstance(action, Activate):
            assert isinstance(node.runtime, Known)
            assert isinstance(node.manifests, Known)
        if isinstance(action, Activate) and action.workload not in held:
            came_back = action.workload in handing and node.contact.state is ContactState.REACHABLE
            assert came_back or node.contact.state is ContactState.LOST
            assert came_back or not node.contact.is_answering


@MANY
@given(NODES)
def test_what_is_activated_is_stored_and_its_issue_is_new_and_written(node: Node) -> None:
    """A number that was used before would be the same pod to the kubelet."""
    plan = node.decide()
    stored = {c.workload: c for c in values(node.checkpoints)}  # type: ignore[attr-defined]
    active = {m.workload: m.issue for m in values(node.manifests)}  # type: ignore[attr-defined]
    for action in plan.actions:
        if isinstance(action, Activate):
            found = stored[action.workload]
            assert action.revision in {r.number for r in found.revisions}
            assert action.issue > max(found.record.issue, active.get(action.workload, 0))
            assert plan.records[action.workload].issue == action.issue


@MANY
@given(NODES)
def test_only_what_is_active_is_released_and_only_copies_are_killed(node: Node) -> None:
    """Never a foreign file, never a container of the parent's or of anybody else's."""
    plan = node.decide()
    active = {m.workload for m in values(node.manifests)}  # type: ignore[attr-defined]
    copies: set[str] = set()
    if isinstance(node.runtime, Known):
        marked = {
            s.uid
            for s in node.runtime.value.sandboxes
            if WORKLOAD_LABEL in s.labels and s.annotations.get(SOURCE_ANNOTATION) != "api"
        }
        copies = {c.id for c in node.runtime.value.containers if c.pod_uid in marked}
    for action in plan.actions:
        if isinstance(action, Release):
            assert action.workload in active
        if isinstance(action, Release | Kill):
            assert set(action.kill) <= copies
        if isinstance(action, Kill):
            assert action.workload not in active


@MANY
@given(NODES)
def test_a_denied_api_activates_and_removes_nothing(node: Node) -> None:
    """And releases only for a parent that the kubelet has begun to start."""
    denied = replace(node.contact, state=ContactState.DENIED, is_answering=False)
    plan = node.but(contact=denied).decide()
    held = {c.workload for c in values(node.checkpoints) if c.hold}  # type: ignore[attr-defined]
    actions = [a for a in plan.actions if a.workload not in held]
    assert not [a for a in actions if isinstance(a, Activate | Remove)]
    released = [a for a in actions if isinstance(a, Release)]
    assert all("is being started" in release.reason for release in released)


@MANY
@given(NODES)
def test_removal_needs_a_positive_answer_and_takes_one_at_a_time(node: Node) -> None:
    """Never while pods are unknown or none at all, never what is active."""
    plan = node.decide()
    removed = [a.workload for a in plan.actions if isinstance(a, Remove)]
    assert len(removed) <= 1
    if removed:
        assert node.contact.state is ContactState.REACHABLE
        assert values(node.pods)
        assert removed[0] not in {m.workload for m in values(node.manifests)}  # type: ignore[attr-defined]


@MANY
@given(NODES)
def test_a_workload_has_one_action_at_most_besides_its_snapshot(node: Node) -> None:
    """And records are written only of what is stored."""
    plan = node.decide()
    acted = [a.workload for a in plan.actions if not isinstance(a, TakeSnapshot)]
    assert len(acted) == len(set(acted))
    assert set(plan.records) <= {c.workload for c in values(node.checkpoints)}  # type: ignore[attr-defined]


@MANY
@given(NODES)
def test_only_ready_parents_of_a_reachable_api_are_snapshotted(node: Node) -> None:
    """Each one a pod that the API lists."""
    plan = node.decide()
    good = {
        (p.workload, p.uid)  # type: ignore[attr-defined]
        for p in values(node.pods)
        if p.is_parent and p.ready and not p.terminating and not p.finished  # type: ignore[attr-defined]
    }
    for action in plan.actions:
        if isinstance(action, TakeSnapshot):
            assert node.contact.state is ContactState.REACHABLE
            assert (action.workload, action.uid) in good


def applied(node: Node, plan: Plan) -> Node:
    """Return the node after the plan was carried out, in store, folder and runtime."""
    node = node.then(plan)
    folder = {m.workload: m for m in values(node.manifests)}  # type: ignore[attr-defined]
    stored = {c.workload: c for c in values(node.checkpoints)}  # type: ignore[attr-defined]
    killed: set[str] = set()
    stopped: set[str] = set()
    for action in plan.actions:
        match action:
            case Activate(workload, number, issue, _, stop):
                uid = f"{workload}-{issue}"
                folder[workload] = ActiveManifest(
                    "f.json", workload, number, issue, uid, stamp(NOW)
                )
                stopped |= set(stop)
            case Release(workload, _, _, kill):
                del folder[workload]
                killed |= set(kill)
            case Kill(_, kill):
                killed |= set(kill)
            case StartAnew(_, sandbox):
                stopped.add(sandbox)
            case Remove(workload):
                del stored[workload]
    runtime = node.runtime
    if isinstance(runtime, Known):
        runtime = Known(
            Runtime(
                tuple(
                    replace(s, ready=s.ready and s.id not in stopped)
                    for s in runtime.value.sandboxes
                ),
                tuple(
                    replace(c, state=ContainerState.EXITED)
                    if c.id in killed or c.sandbox_id in stopped
                    else c
                    for c in runtime.value.containers
                ),
            )
        )
    manifests = (
        Known(tuple(folder.values())) if isinstance(node.manifests, Known) else node.manifests
    )
    return node.but(manifests=manifests, checkpoints=Known(tuple(stored.values())), runtime=runtime)


@settings(max_examples=500, deadline=None)
@given(NODES)
def test_a_plan_that_was_carried_out_is_not_planned_again(node: Node) -> None:
    """A second decision on the same facts does nothing and writes nothing.

    But for what the first has set free: a release or a kill may let the next step follow.
    """
    if isinstance(node.checkpoints, Unknown):
        assert node.decide().actions == ()
        return
    plan = node.decide()
    second = applied(node, plan).decide()
    first_steps = {(type(a), a.workload) for a in plan.actions}
    for action in second.actions:
        assert (type(action), action.workload) not in first_steps
    if not any(isinstance(a, Release | Kill | Activate) for a in plan.actions):
        assert second.actions == ()
        assert second.records == {}


@settings(max_examples=300, deadline=None)
@given(NODES)
def test_frozen_facts_lead_to_rest(node: Node) -> None:
    """However the facts are: decided and carried out again and again at one moment, it ends."""
    if isinstance(node.checkpoints, Unknown):
        return
    for _ in range(8):
        plan = node.decide()
        node = applied(node, plan)
    assert plan.actions == ()
    assert plan.records == {}


@MANY
@given(NODES, st.sampled_from([0.0, WALL_AT_BOOT + NOW + 60.0]))
def test_what_is_held_active_is_never_released(node: Node, until: float) -> None:
    """Whatever is seen of the parent: it is decided on as one that shows no sign of life."""
    hold = Hold("active", since=0.0, by="alice", until=until)
    held = tuple(replace(c, hold=hold) for c in values(node.checkpoints))
    plan = node.but(checkpoints=Known(held)).decide()
    workloads = {c.workload for c in held}
    assert [a for a in plan.actions if isinstance(a, Release) and a.workload in workloads] == []


@MANY
@given(NODES)
def test_without_pods_and_a_parent_in_the_runtime_nothing_is_released(node: Node) -> None:
    """What a checkpoint that is held active rests on: nothing else asks for a release."""
    now = situation(node.contact, kubelet=node.kubelet)
    for manifest in values(node.manifests):
        for one in values(node.checkpoints):
            found = node.runtime
            if isinstance(found, Known):
                alone = replace(
                    occupancy_of(one, found.value), parent_sandboxes=(), parent_running=()
                )
                found = Known(alone)
            track = node.memory.tracks.get(one.workload, Track())
            step = release(one, manifest, Unknown("it is held"), found, track, now)
            assert not isinstance(step.action, Release)
