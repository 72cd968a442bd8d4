"""A pod of two containers, an API server and its plugin: what runs of it is not what serves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checkpointer.core.checkpoint import HandOver, Record, main_container
from checkpointer.core.contact import Contact
from checkpointer.core.facts import Known
from checkpointer.core.plan import Activate, Release
from checkpointer.core.runtime import ContainerState, Runtime
from checkpointer.core.turns import Masters
from checkpointer.core.workload import Workload
from tests.unit.core.builders import (
    ACTIVE,
    API,
    BOOTED,
    COPY_RUNS,
    NOW,
    OTHER_POD,
    SAME_KUBELET,
    Node,
    both,
    checkpoint,
    container_of,
    copy_sandbox,
    dead,
    lost,
    manifest,
    parent_sandbox,
    pod,
    reachable,
    revision,
    stamp,
)

TWO = ("apiserver", "kms")
UNTOLD = ("one", "two")
"""Names of which none tells that it serves."""
WAY = HandOver(to="parent-uid", boot_id="boot-1", since=NOW)
ALONE = Masters(("node-1",), "node-1")
MASTERS = Known(Masters(("node-1", "node-2"), "node-1", ("https://node-2:6443",)))


@pytest.mark.parametrize(
    ("workload", "names", "main"),
    [
        ("kube-apiserver", ("web",), "web"),
        ("kube-apiserver", ("kms", "kube-apiserver"), "kube-apiserver"),
        ("kube-apiserver", ("kms", "apiserver"), "apiserver"),
        ("own-kube-apiserver", ("kube-apiserver", "kms"), "kube-apiserver"),
        ("kube-apiserver", ("server", "kms"), None),
        ("etcd-proxy", ("proxy", "etcd-proxy"), "etcd-proxy"),
    ],
)
def test_the_main_container_has_the_workloads_name(
    workload: str, names: tuple[str, ...], main: str | None
) -> None:
    """Or the end of it, between two dashes; a single one needs none."""
    one = Workload("kube-system", "DaemonSet", workload)
    assert main_container(one, revision(app_containers=names)) == main


def test_in_a_later_stage_no_name_tells_which_holds_the_ports() -> None:
    """An exporter may be behind a proxy: `node-exporter` and `kube-rbac-proxy`."""
    names = ("node-exporter", "kube-rbac-proxy")
    workload = Workload("monitoring", "DaemonSet", "node-exporter")
    assert main_container(workload, revision(app_containers=names, stage=1)) is None


def half_dead(deaths: int, runs: str = "kms", dies: str = "apiserver") -> Runtime:
    sandbox = parent_sandbox()
    up = container_of(sandbox, runs, id="up")
    died = (dead(container_of(sandbox, dies, id=f"died-{n}"), n) for n in range(deaths))
    return Runtime((sandbox,), (up, *died))


def handed_over(names: tuple[str, ...] = TWO) -> Node:
    record = Record(parents=("parent-uid",), issue=4, hand_over=WAY)
    return BOOTED.but(
        contact=reachable(),
        masters=MASTERS,
        kubelet=Known(SAME_KUBELET),
        pods=Known((pod(ready=False), OTHER_POD)),
        checkpoints=Known((checkpoint(API, revision(app_containers=names), record=record),)),
    )


def deaths_seen(node: Node, **how: str) -> tuple[Node, bool]:
    """Let it die twice in 20 s; tell whether its copy comes back then."""
    for count in range(3):
        plan = node.but(runtime=Known(half_dead(count, **how))).decide(NOW + 10 + 5 * count)
        node = node.then(plan)
    return node.but(runtime=Known(half_dead(2, **how))), bool(plan.actions)


def test_a_parent_of_which_only_the_plugin_runs_has_failed_whoever_else_answers() -> None:
    """Or its master would stay dark for as long as another one serves."""
    _, is_back = deaths_seen(handed_over())
    assert is_back


def test_a_parent_whose_plugin_alone_is_dead_is_not_fought() -> None:
    """Its API server may serve; where the names do not tell which it is, the deadline does."""
    node, is_back = deaths_seen(handed_over(), runs="apiserver", dies="kms")
    assert not is_back
    assert node.decide(NOW + 61).actions == ()
    node, is_back = deaths_seen(handed_over(UNTOLD), runs="two", dies="one")
    assert not is_back
    (action,) = node.decide(NOW + 61).actions
    assert isinstance(action, Activate)


def test_a_parent_whose_plugin_alone_ran_has_had_no_chance() -> None:
    """Its image was being pulled, say: a good version would be refused for good."""
    node = handed_over().but(contact=lost(NOW + 1), runtime=Known(half_dead(0)))
    plan = node.then(node.decide(NOW + 2)).decide(NOW + 60)
    assert isinstance(plan.actions[0], Activate)
    way = plan.records[API].hand_over
    assert (way.failures, way.refused) == (1, "")


@pytest.mark.parametrize(("others", "is_back"), [(MASTERS, True), (Known(ALONE), False)])
def test_a_parent_that_may_be_what_answers_is_not_fought(
    others: Known[Masters], is_back: bool
) -> None:
    """No name tells which container serves, and on a single node the API is its own."""
    node, _ = deaths_seen(handed_over(UNTOLD).but(masters=others), runs="two", dies="one")
    assert bool(node.decide(NOW + 61).actions) is is_back


@pytest.mark.parametrize(
    ("names", "runs", "seconds", "activates"),
    [
        (("kms",), ("kms",), 30.0, True),
        (("apiserver", "kms"), ("apiserver", "kms"), 3600.0, False),
        (("server",), ("server",), 3600.0, False),
        (("server", "kms"), ("server", "kms"), 3600.0, False),
    ],
)
def test_a_main_container_that_is_never_made_is_missed(
    names: tuple[str, ...], runs: tuple[str, ...], seconds: float, activates: bool
) -> None:
    """Its image is gone, say; but one that a rollout has renamed is there, by a name that no
    revision knows."""
    sandbox = parent_sandbox()
    made = tuple(container_of(sandbox, name, id=name) for name in runs)
    stored = checkpoint(API, revision(app_containers=TWO))
    node = BOOTED.but(
        contact=lost(NOW - 5),
        kubelet=Known(SAME_KUBELET),
        checkpoints=Known((stored,)),
        runtime=Known(Runtime((sandbox,), made)),
    )
    node = node.then(node.decide())
    assert bool(node.decide(NOW + seconds).actions) is activates


def test_a_plugin_in_its_backoff_brings_no_copy_beside_a_main_container_that_runs() -> None:
    """A network that is cut for an hour; its kubelet starts the plugin again."""
    stored = checkpoint(API, revision(app_containers=TWO))
    node = BOOTED.but(
        contact=lost(NOW - 5),
        kubelet=Known(SAME_KUBELET),
        checkpoints=Known((stored,)),
        runtime=Known(half_dead(1, runs="apiserver", dies="kms")),
    )
    node = node.then(node.decide())
    assert node.decide(NOW + 3600).actions == ()


def test_a_renamed_container_is_given_way_to_as_any() -> None:
    """By a rollout; what it was called before tells nothing of it."""
    sandbox = parent_sandbox(created_at=stamp(NOW - 1))
    made = container_of(sandbox, "server", id="server", created_at=stamp(NOW))
    node = ACTIVE.but(
        contact=reachable(),
        runtime=Known(both(COPY_RUNS, Runtime((sandbox,), (made,)))),
    ).with_track(parent_exits=frozenset())
    (action,) = node.decide().actions
    assert isinstance(action, Release)


def test_nobody_waits_for_a_main_container_that_a_plugin_would_outlive() -> None:
    """Its image is pulled, however long that takes: the plugin's minutes are not its own."""
    sandbox = parent_sandbox(created_at=stamp(NOW - 300))
    kms = container_of(sandbox, "kms", id="kms", created_at=stamp(NOW - 300))
    copy = (COPY_RUNS.sandboxes, COPY_RUNS.containers)
    node = seen_beside().but(
        contact=reachable(since=NOW - 500),
        runtime=Known(Runtime((*copy[0], sandbox), (*copy[1], kms))),
    )
    node = node.with_track(parent_running=frozenset({"kms"}), parent_since=NOW - 300)
    plan = node.decide()
    assert plan.actions == ()
    assert plan.standings[API].waits_for == "its parent's main container to be made"


def seen_beside(*containers: str, names: tuple[str, ...] = TWO) -> Node:
    """Return an active copy that serves, and a young parent with these containers made."""
    sandbox = parent_sandbox(created_at=stamp(NOW - 1))
    made = (
        replace(container_of(sandbox, name, id=name), state=ContainerState.CREATED)
        for name in containers
    )
    copy = Runtime(
        COPY_RUNS.sandboxes,
        tuple(container_of(copy_sandbox(), name, id=f"copy-{name}") for name in names),
    )
    return ACTIVE.but(
        contact=reachable(),
        checkpoints=Known((checkpoint(API, revision(app_containers=names)),)),
        runtime=Known(both(copy, Runtime((sandbox,), tuple(made)))),
    )


@pytest.mark.parametrize(
    ("containers", "names", "gives_way"),
    [
        (("kms",), TWO, False),
        (("kms", "apiserver"), TWO, True),
        (("apiserver",), TWO, True),
        (("two",), UNTOLD, True),
    ],
)
def test_a_copy_makes_way_when_the_container_is_made_that_needs_its_port(
    containers: tuple[str, ...], names: tuple[str, ...], gives_way: bool
) -> None:
    """The plugin is there while the API server's image is still pulled: the copy serves on."""
    assert bool(seen_beside(*containers, names=names).decide().actions) is gives_way


def test_a_dead_main_container_beside_its_plugin_is_waited_for_until_its_next_start() -> None:
    """Given way to before that, it would leave the node dark for as long."""
    sandbox = parent_sandbox(created_at=stamp(NOW - 300))
    up = container_of(sandbox, "kms", id="kms", created_at=stamp(NOW - 300))
    died = dead(container_of(sandbox, "apiserver", id="a", created_at=stamp(NOW - 100)), 6)
    node = seen_beside().but(
        contact=reachable(since=NOW - 500),
        runtime=Known(both(COPY_RUNS, Runtime((sandbox,), (up, died)))),
    )
    node = node.with_track(parent_running=frozenset({"kms"}), parent_since=NOW - 300)
    plan = node.decide()
    assert plan.actions == ()
    assert plan.standings[API].waits_for == "its parent to be started again by the kubelet"


def crashing_copy(attempt: int) -> Runtime:
    sandbox = copy_sandbox()
    return Runtime((sandbox,), (dead(container_of(sandbox), attempt),))


@pytest.mark.parametrize(
    ("masters", "contact", "falls_back"),
    [
        (MASTERS, reachable(), True),
        (Known(ALONE), reachable(), False),
        (Known(ALONE), lost(), True),
    ],
)
def test_a_copy_that_keeps_crashing_is_replaced_while_another_master_answers(
    masters: Known[Masters], contact: Contact, falls_back: bool
) -> None:
    """Else its master stays dark until all others are, too. A single one waits for its parent."""
    stored = checkpoint(API, revision(2), revision(1), record=Record(good=(2, 1), issue=4))
    node = ACTIVE.but(
        contact=contact,
        masters=masters,
        checkpoints=Known((stored,)),
        manifests=Known((manifest(revision=2),)),
        runtime=Known(crashing_copy(3)),
    )
    plan = node.decide()
    assert [a.revision for a in plan.actions if isinstance(a, Activate)] == [1] * falls_back
    assert [r.failed for r in plan.records.values()] == [(2,)] * falls_back


def test_a_copy_that_serves_is_not_replaced_for_its_plugin_while_the_api_answers() -> None:
    """Three masters whose plugins crash-loop for the API's absence would go dark together."""
    sandbox = copy_sandbox()
    main = container_of(sandbox, "apiserver", id="main")
    kms = dead(container_of(sandbox, "kms", id="kms"), 5)
    revisions = (revision(2, app_containers=TWO), revision(1, app_containers=TWO))
    stored = checkpoint(API, *revisions, record=Record(good=(2, 1), issue=4))
    node = ACTIVE.but(
        contact=reachable(),
        masters=MASTERS,
        checkpoints=Known((stored,)),
        manifests=Known((manifest(revision=2),)),
    )
    assert node.but(runtime=Known(Runtime((sandbox,), (main, kms)))).decide().actions == ()
    main = dead(container_of(sandbox, "apiserver", id="main"), 5)
    kms = container_of(sandbox, "kms", id="kms")
    (action,) = node.but(runtime=Known(Runtime((sandbox,), (main, kms)))).decide().actions
    assert isinstance(action, Activate)


def test_a_copy_refused_by_a_restarted_kubelet_is_issued_anew_though_its_plugin_runs() -> None:
    """The kubelet's last run had made it; this one does not know the pod, and starts nothing."""
    sandbox = copy_sandbox(created_at=stamp(NOW - 600))
    kms = container_of(sandbox, "kms", id="kms", created_at=stamp(NOW - 600))
    died = dead(container_of(sandbox, "apiserver", id="a", created_at=stamp(NOW - 590)), 0)
    node = ACTIVE.but(
        checkpoints=Known((checkpoint(API, revision(app_containers=TWO)),)),
        kubelet=Known(replace(SAME_KUBELET, started_at=stamp(NOW - 700))),
        runtime=Known(Runtime((sandbox,), (kms, died))),
    )
    assert node.decide().actions == ()
    restarted = replace(SAME_KUBELET, started_at=stamp(NOW - 300))
    (action,) = node.but(kubelet=Known(restarted)).decide().actions
    assert isinstance(action, Activate)
    assert "has not started it" in action.reason


def test_a_copy_without_its_main_container_is_replaced_as_one_without_any() -> None:
    """Its plugin's image is there, and the API server's is gone."""
    sandbox = copy_sandbox()
    record = Record(parents=("parent-uid",), issue=4, good=(1,))
    stored = checkpoint(
        API, revision(3, app_containers=TWO), revision(1, app_containers=TWO), record=record
    )
    node = ACTIVE.but(
        checkpoints=Known((stored,)),
        manifests=Known((manifest(revision=3),)),
        runtime=Known(Runtime((sandbox,), (container_of(sandbox, "kms", id="kms"),))),
    )
    plan = node.decide()
    assert plan.actions == ()
    (action,) = node.then(plan).decide(NOW + 120).actions
    assert isinstance(action, Activate)
    assert (action.revision, action.reason) == (1, "revision 3 has lacked a container for 120 s")
