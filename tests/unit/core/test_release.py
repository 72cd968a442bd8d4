"""Release: when a copy gives way, and what keeps it alive until then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checkpointer.core.checkpoint import Checkpoint, HandOver, Record
from checkpointer.core.contact import Contact
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.keeping import STEADY_SECONDS
from checkpointer.core.observation import KubeletRun, Pod
from checkpointer.core.plan import Activate, Kill, Plan, Release, Snapshot, StartAnew
from checkpointer.core.runtime import Container, ContainerState, Runtime, Sandbox
from checkpointer.core.standing import Standing
from checkpointer.core.turns import Masters
from checkpointer.core.workload import Workload
from tests.unit.core.builders import (
    ACTIVATED,
    ACTIVE,
    ALONE,
    API,
    COPY_RUNS,
    EMPTY,
    NEW_KUBELET,
    NOW,
    OTHER_POD,
    PARENT_DIED_IN_PLACE,
    PARENT_RUNS,
    RULES,
    Node,
    both,
    checkpoint,
    container_of,
    copy_sandbox,
    dead,
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

FILE = manifest().file_name
READY = Release(API, FILE, "its parent is Ready", ("copy-uid-apiserver",))
SANDBOX = Release(
    API, FILE, "its parent is being started and needs the ports", ("copy-uid-apiserver",)
)

BACK = ACTIVE.but(contact=reachable(NOW), pods=Known((pod(ready=False), OTHER_POD)))
"""The API answers again; the parent is wanted and not up."""
NEW_SANDBOX = made(parent_sandbox(created_at=stamp(NOW)))
PARENT_BESIDE = both(COPY_RUNS, PARENT_RUNS)
MASTERS = Known(Masters(("node-1", "node-2", "node-3"), "node-1", ("https://node-2:6443",)))
WAY = HandOver(to="parent-uid", boot_id="boot-1", since=NOW)
"""What is kept of a hand-over to the parent that has just begun."""
SHARING = Known((checkpoint(API, revision(shares_ports=True, host_network=False)),))
SHARING_PORT = Known((checkpoint(API, revision(shares_ports=True)),))


def states(plan: Plan) -> list[Standing]:
    return list(plan.standings.values())


def test_a_copy_holds_while_the_api_is_away() -> None:
    """And is watched closely, since its parent's sandbox is the moment to give way."""
    plan = ACTIVE.decide()
    assert plan.actions == ()
    assert plan.records == {}
    assert states(plan) == [Standing("active", "the API")]
    assert plan.wake_in == RULES.watch_seconds


def test_a_copy_holds_while_there_is_no_parent() -> None:
    """An API server that answers is no reason by itself."""
    plan = BACK.but(pods=Known((OTHER_POD,))).decide()
    assert plan.actions == ()
    assert states(plan) == [Standing("active", "its parent to come back")]


READY_BESIDE = BACK.but(pods=Known((pod(), OTHER_POD)), runtime=Known(PARENT_BESIDE)).with_track(
    parent_running=frozenset({"parent-uid-apiserver"}),
    parent_since=NOW - 10.0,
)


def test_a_ready_parent_whose_containers_run_releases_its_copy() -> None:
    """And the copy is ended where the two would fight for the ports."""
    plan = READY_BESIDE.decide()
    assert plan.actions == (READY, Snapshot(API, "parent-uid"))
    assert states(plan) == [Standing("standby", "the parent to be Ready")]


def test_a_copy_that_shares_the_ports_is_released_without_a_kill() -> None:
    """The kubelet ends it with its own grace; there is no gap."""
    plan = READY_BESIDE.but(checkpoints=SHARING).decide()
    assert plan.actions[0] == replace(READY, kill=())


@pytest.mark.parametrize(
    "stale",
    [
        pod(container_ids=frozenset({"from-before"})),
        pod(container_ids=frozenset({"parent-uid-apiserver", "from-before"})),
        pod(container_ids=frozenset()),
        pod(uid="another-uid", container_ids=frozenset({"parent-uid-apiserver"})),
        pod(terminating=True),
        pod(ready=False),
    ],
)
@pytest.mark.parametrize("checkpoints", [Known((checkpoint(),)), SHARING])
def test_a_stale_ready_never_releases(
    stale: Pod, checkpoints: Known[tuple[Checkpoint, ...]]
) -> None:
    """The API remembers it from before the outage: it must speak of what runs now."""
    node = READY_BESIDE.but(pods=Known((stale, OTHER_POD)), checkpoints=checkpoints)
    assert node.decide().actions == ()


def test_a_ready_parent_that_died_with_the_machine_does_not_release() -> None:
    """Nothing of it is in the runtime, whatever the API says."""
    assert BACK.but(pods=Known((pod(), OTHER_POD))).decide().actions == ()


@pytest.mark.parametrize("contact", [suspect(), lost(), recovering(), denied()])
def test_ready_counts_only_while_the_api_is_reachable(contact: Contact) -> None:
    """Else it may be old."""
    assert READY_BESIDE.but(contact=contact).decide().actions == ()


SEEN = ACTIVE.but(runtime=Known(both(COPY_RUNS, NEW_SANDBOX)))


@pytest.mark.parametrize("contact", [reachable(NOW), suspect(), lost(), recovering()])
def test_a_new_sandbox_of_the_parent_releases_at_once(contact: Contact) -> None:
    """The kubelet has fetched all the pod needs: that is the proof, and the best moment."""
    plan = SEEN.but(contact=contact).decide()
    assert plan.actions == (SANDBOX,)


def test_only_the_copys_running_app_containers_are_killed() -> None:
    """Not its dead ones, not its sandbox, nothing of the parent's."""
    pair = checkpoint(API, revision(app_containers=("apiserver", "helper", "third")))
    containers = (
        container_of(copy_sandbox()),
        container_of(copy_sandbox(), "helper"),
        dead(container_of(copy_sandbox(), "third")),
        container_of(copy_sandbox(), "init"),
        replace(container_of(parent_sandbox()), state=ContainerState.CREATED),
    )
    runtime = Runtime((copy_sandbox(), *NEW_SANDBOX.sandboxes), containers)
    plan = SEEN.but(runtime=Known(runtime), checkpoints=Known((pair,))).decide()
    assert plan.actions == (replace(SANDBOX, kill=("copy-uid-apiserver", "copy-uid-helper")),)


def test_giving_way_is_kept_on_disk_before_it_is_done() -> None:
    """An agent that starts anew must know that the API's absence is expected."""
    plan = SEEN.decide()
    assert plan.records == {API: Record(parents=("parent-uid",), issue=4, hand_over=WAY)}
    assert states(plan) == [Standing("handing over", "its parent to serve")]


def test_a_dead_sandbox_of_the_parent_is_no_return() -> None:
    """It is from before the power cut."""
    runtime = both(COPY_RUNS, Runtime((parent_sandbox(ready=False),)))
    assert BACK.but(runtime=Known(runtime)).decide().actions == ()


def test_a_parent_that_has_run_in_its_sandbox_is_not_given_way_for_it() -> None:
    """Its moment is the next start of its container: the sandbox came before the copy."""
    node = BACK.but(runtime=Known(both(COPY_RUNS, PARENT_DIED_IN_PLACE)))
    assert node.with_track(parent_exits=frozenset({"parent-uid-apiserver"})).decide().actions == ()


INIT = Known((checkpoint(API, revision(has_init=True)),))


def with_containers(*containers: Container) -> Known[Runtime]:
    sandbox = parent_sandbox(created_at=stamp(NOW - 70))
    return Known(both(COPY_RUNS, Runtime((sandbox,), containers)))


def test_a_parent_with_init_containers_is_given_way_when_they_are_done() -> None:
    """They need no ports; the copy serves meanwhile."""
    waiting = Standing("active", "its parent's init containers")
    init = container_of(parent_sandbox(), "setup")
    for runtime in (with_containers(), with_containers(init)):
        plan = BACK.but(checkpoints=INIT, runtime=runtime).decide()
        assert plan.actions == ()
        assert states(plan) == [waiting]
        assert plan.wake_in == RULES.watch_seconds
    starting = replace(container_of(parent_sandbox()), state=ContainerState.CREATED)
    node = BACK.but(checkpoints=INIT, runtime=with_containers(dead(init), starting))
    assert node.decide().actions == (SANDBOX,)


def test_a_parent_that_shares_the_ports_is_waited_for_until_ready() -> None:
    """Its sandbox is not enough: it can become Ready beside the copy, without a gap."""
    assert SEEN.but(contact=reachable(), checkpoints=SHARING).decide().actions == ()


def test_on_a_shared_port_ready_counts_once_the_parent_has_run_for_a_while() -> None:
    """Until then the copy may have answered its probe."""
    node = READY_BESIDE.but(checkpoints=SHARING_PORT)
    assert node.decide().actions[0] == replace(READY, kill=())
    early = node.with_track(parent_since=NOW - 9.9).decide()
    assert [a for a in early.actions if isinstance(a, Release)] == []


def deaths(*lives: float) -> list[Plan]:
    """Return what is decided at each death of a parent that lives for so long each time."""
    node, plans = STUCK.but(checkpoints=SHARING_PORT), []
    for attempt, seconds in enumerate(lives, 5):
        began = NOW + 30.0 * attempt - 120.0
        runs = with_containers(died(attempt - 1, began - 29), started(attempt, began))
        node = node.then(node.but(runtime=runs).decide(began + 0.1))
        dead_now = with_containers(died(attempt, began))
        plans.append(node.but(runtime=dead_now).decide(began + seconds))
        node = node.then(plans[-1])
    return plans


def test_a_port_that_turns_out_not_to_be_shared_is_given_up_for_the_parent() -> None:
    """The parent dies beside its copy at once, and again, whatever its flags say."""
    first, second = deaths(0.7, 0.7)
    assert first.actions == ()
    assert second.actions == (DOWN,)


@pytest.mark.parametrize("lives", [(0.7,), (0.7, 25.0), (0.7, 2.0, 0.7), (2.0, 2.0, 2.0)])
def test_a_parent_that_dies_of_itself_beside_its_copy_on_a_shared_port_is_not_given_way(
    lives: tuple[float, ...],
) -> None:
    """The copy would be killed for it, and come back after the parent's next deaths."""
    plans = deaths(*lives)
    assert [plan.actions for plan in plans] == [()] * len(lives)
    assert states(plans[-1]) == [Standing("active", "its parent, which keeps dying beside it")]


def test_the_active_revision_tells_whether_ports_are_shared() -> None:
    """Not the newest one, which has not been started."""
    stored = checkpoint(API, revision(2, shares_ports=True), revision(1))
    assert SEEN.but(checkpoints=Known((stored,))).decide().actions == (SANDBOX,)
    stored = checkpoint(API, revision(2), revision(1, shares_ports=True))
    assert SEEN.but(checkpoints=Known((stored,))).decide().actions == ()


def test_an_unknown_runtime_holds_the_copy() -> None:
    """Even when its parent was about to return."""
    plan = SEEN.but(runtime=Unknown("no socket")).decide()
    assert plan.actions == ()
    assert states(plan) == [Standing("active", "the runtime: no socket")]


def test_a_parents_sandbox_counts_although_the_api_denies_us() -> None:
    """The kubelet made it with its own credentials; an API server that starts denies at first."""
    assert SEEN.but(contact=denied()).decide().actions == (SANDBOX,)


def test_credentials_that_are_accepted_again_hold_no_longer() -> None:
    """The sandbox's moment is not to be missed over the time that trust takes."""
    contact = replace(denied(), successes=1, is_answering=True)
    plan = SEEN.but(contact=contact).decide()
    assert plan.actions == (SANDBOX,)


def test_an_unknown_manifest_folder_freezes() -> None:
    """Nobody can tell whether anything is active."""
    plan = SEEN.but(manifests=Unknown("cannot be listed")).decide()
    assert plan.actions == ()
    assert states(plan) == [Standing("frozen", "the manifest folder: cannot be listed")]


def died(attempt: int, at: float) -> Container:
    """Return the parent's container that was started at that time and died at once."""
    container = container_of(parent_sandbox(), id=f"parent-{attempt}", created_at=stamp(at))
    return dead(container, attempt)


def started(attempt: int, at: float) -> Container:
    return replace(died(attempt, at), state=ContainerState.RUNNING)


STUCK = BACK.but(
    runtime=with_containers(died(4, NOW)), kubelet=Known(KubeletRun("run-2", stamp(NOW - 70), True))
).with_track(parent_exits=frozenset({"parent-4"}))
"""Its parent tried the ports beside the copy and waits for its next start, 80 s later."""
NOT_SURE = STUCK.but(pods=Unknown("the watch broke"))
RESTART = replace(SANDBOX, reason="its parent is being started and needs the ports")
DOWN = replace(SANDBOX, reason="its parent is down and needs the ports")


def test_a_parent_in_backoff_is_given_way_at_once() -> None:
    """The kubelet will start it anew as soon as the copy is gone."""
    plan = STUCK.decide(NOW + 1)
    assert plan.actions == (DOWN,)
    assert plan.records[API].hand_over == replace(WAY, since=NOW + 1)


def test_a_parent_that_was_given_way_in_its_backoff_is_started_anew() -> None:
    """Once its copy has ended: without its dead containers and its sandbox it has no backoff."""
    plan = STUCK.decide(NOW + 1)
    node = STUCK.then(plan).but(manifests=Known(()), contact=lost(NOW + 2))
    assert [type(action) for action in node.decide(NOW + 1.1).actions] == [Kill]
    alone = Runtime((parent_sandbox(),), (died(3, NOW - 50), died(4, NOW)))
    plan = node.but(runtime=Known(alone)).decide(NOW + 1.2)
    assert plan.actions == (StartAnew(API, "parent-uid-sandbox", ("parent-3", "parent-4")),)


def test_a_parent_that_waits_in_an_empty_sandbox_is_in_its_backoff_too() -> None:
    """Its dead container is of the sandbox before, and of this kubelet's run."""
    older = replace(died(4, NOW), sandbox_id="older")
    assert STUCK.but(runtime=with_containers(older)).decide(NOW + 1).actions == (DOWN,)
    before = STUCK.but(
        runtime=with_containers(older), kubelet=Known(KubeletRun("run-2", stamp(NOW + 0.5), True))
    )
    assert states(before.decide(NOW + 1)) == [
        Standing("active", "its parent's containers to be made")
    ]


def test_what_may_be_done_with_its_work_is_waited_for() -> None:
    """A bare pod's container may have ended for good."""
    bare = Workload("kube-system", "Pod", "kube-apiserver")
    node = STUCK.but(
        checkpoints=Known((checkpoint(bare),)),
        manifests=Known((manifest(bare),)),
        pods=Known((pod(bare, ready=False), OTHER_POD)),
        runtime=Known(
            Runtime(
                (copy_sandbox(bare), parent_sandbox()),
                (container_of(copy_sandbox(bare)), died(4, NOW)),
            )
        ),
    )
    plan = node.decide(NOW + 1)
    assert plan.actions == ()
    assert states(plan) == [Standing("active", "its parent to be started again by the kubelet")]


SIDECAR = replace(started(1, NOW), id="sidecar", name="sidecar")


@pytest.mark.parametrize(
    "node",
    [
        NOT_SURE,
        STUCK.but(contact=recovering()),
        STUCK.but(pods=Known((OTHER_POD,))),
        STUCK.but(pods=Known((pod(ready=False, terminating=True), OTHER_POD))),
        STUCK.but(kubelet=Unknown("no socket")),
        STUCK.but(kubelet=Known(KubeletRun("run-2", stamp(NOW - 70), False))),
        STUCK.but(kubelet=Known(KubeletRun("run-3", stamp(NOW + 0.5), True))),
        STUCK.but(runtime=with_containers(died(4, NOW), SIDECAR)),
    ],
    ids=[
        "pods not known",
        "contact not settled",
        "no such pod",
        "on its way out",
        "kubelet not known",
        "kubelet not there",
        "another kubelet's",
        "not all of it is down",
    ],
)
def test_a_parent_in_backoff_is_waited_for_where_its_start_is_not_sure(node: Node) -> None:
    """The copy would be gone, and nobody would start its parent."""
    assert node.decide(NOW + 1).actions == ()


@pytest.mark.parametrize(
    "container",
    [started(5, NOW + 90), replace(started(5, NOW + 90), state=ContainerState.CREATED)],
)
def test_a_parent_in_backoff_is_given_way_when_it_is_started_again(container: Container) -> None:
    """Before it has tried its ports: they are free by then, and nothing is lost."""
    plan = NOT_SURE.decide(NOW + 1)
    assert plan.actions == ()
    assert plan.wake_in == RULES.backoff_watch_seconds
    assert states(plan) == [Standing("active", "its parent to be started again by the kubelet")]
    node = NOT_SURE.then(plan).but(runtime=with_containers(died(4, NOW), container))
    plan = node.decide(NOW + 90)
    assert plan.actions == (RESTART,)
    assert plan.records[API].hand_over == replace(WAY, since=NOW + 90)


@pytest.mark.parametrize("contact", [lost(NOW), suspect(NOW)])
def test_a_restart_is_given_way_to_only_while_the_api_answers(contact: Contact) -> None:
    """With the API away the kubelet starts it for what it knew before; the copy is all there is."""
    again = with_containers(died(4, NOW), started(5, NOW + 90))
    node = STUCK.but(contact=contact, runtime=again)
    assert node.decide(NOW + 90).actions == ()


def test_a_fresh_agent_does_not_take_a_running_parent_for_a_starting_one() -> None:
    """It may have run for hours; the next look tells."""
    node = STUCK.but(runtime=with_containers(started(5, NOW))).with_track(parent_exits=None)
    assert node.decide(NOW + 1).actions == ()


def with_failures(count: int, **changes: object) -> Known[tuple[Checkpoint, ...]]:
    way = replace(HandOver(boot_id="boot-1", since=NOW, failures=count), **changes)
    return Known((checkpoint(record=Record(parents=("parent-uid",), issue=4, hand_over=way)),))


@pytest.mark.parametrize(
    ("failed", "wait"),
    [(1, 120), (2, 240), (3, 480), (6, 3840), (7, 3840), (1000, 3840)],
)
def test_each_hand_over_that_failed_doubles_the_wait_for_the_next(failed: int, wait: int) -> None:
    """Up to an hour; it is kept on disk, and a reboot ends it."""
    node = SEEN.but(contact=reachable(NOW), checkpoints=with_failures(failed))
    plan = node.decide(NOW + wait - 1)
    assert plan.actions == ()
    assert states(plan) == [Standing("active", "the next try to hand over, 1 s more")]
    assert node.decide(NOW + wait).actions == (SANDBOX,)
    other_boot = node.but(checkpoints=with_failures(failed, boot_id="boot-0"))
    assert other_boot.decide(NOW).actions == (SANDBOX,)


def test_a_refused_parent_waits_for_the_next_try_like_any_other() -> None:
    """Its copy would come and go every minute beside a parent that is refused for good."""
    refused = pod(ready=False, is_parent=False, finished=True)
    record = with_failures(1).value[0].record
    later = Known((checkpoint(API, revision(stage=1), record=record),))
    node = BACK.but(pods=Known((refused, OTHER_POD)), checkpoints=later)
    node = node.with_track(refused="the one before")
    assert states(node.decide(NOW + 119)) == [
        Standing("active", "the next try to hand over, 1 s more")
    ]
    assert [action.reason for action in node.decide(NOW + 120).actions] == [
        "its parent was refused beside the copy and made anew"
    ]


def test_a_master_waits_for_its_turn_when_its_revision_is_gone() -> None:
    """The disk lost what the copy was made of: it is an API server's all the same."""
    masters = Known(Masters(("node-0", "node-1"), "node-1", ("https://node-0:6443",)))
    gone = Known((replace(checkpoint(API), revisions=()),))
    node = SEEN.but(masters=masters, checkpoints=gone)
    plans = [node.decide(NOW + second) for second in range(60)]
    assert len([plan for plan in plans if plan.actions]) == 15


def test_a_master_waits_for_its_turn_with_its_api_server() -> None:
    """The others have theirs; whatever else is released at its own moment."""
    masters = Known(Masters(("node-0", "node-1"), "node-1", ("https://node-0:6443",)))
    waits = [SEEN.but(masters=masters).decide(NOW + second) for second in range(60)]
    assert len([plan for plan in waits if plan.actions]) == 15
    reasons = {plan.standings[API].waits_for[:26] for plan in waits if not plan.actions}
    assert reasons == {"its turn among the masters"}
    later = Known((checkpoint(API, revision(stage=1)),))
    for second in range(60):
        plan = SEEN.but(masters=masters, checkpoints=later).decide(NOW + second)
        assert plan.actions == (SANDBOX,)


def with_refused(template: str = "hash-0", **changes: object) -> Known[tuple[Checkpoint, ...]]:
    """Return the checkpoint of a revision of this template whose parent has been refused."""
    refused = {"refused": "parent-uid", "refused_template": "hash-1", **changes}
    record = with_failures(1, **refused).value[0].record
    return Known(
        (checkpoint(API, revision(template=template, parent_uid="older-uid"), record=record),)
    )


def test_a_template_that_the_copy_proves_gets_another_try() -> None:
    """What failed was around it, etcd say, and may be well again without a sign."""
    node = SEEN.but(contact=reachable(NOW), runtime=labelled("parent-uid", "hash-1"))
    node = node.but(checkpoints=with_refused("hash-1"))
    assert node.decide(NOW + 119).actions == ()
    assert [type(action) for action in node.decide(NOW + 120).actions] == [Release]


def test_a_refused_parent_whose_content_changes_is_tried_again() -> None:
    """Its content is learnt when it is told first, and compared from then on.

    Neither a renewed token, which changes its other signature, nor a look that cannot tell what
    it mounts is a change.
    """
    node = SEEN.but(contact=reachable(NOW), runtime=labelled("parent-uid", "hash-1"))
    node = node.but(checkpoints=with_refused(), pods=Known((pod(ready=False), OTHER_POD)))
    plan = node.decide(NOW + 1)
    assert plan.actions == ()
    assert plan.records[API].hand_over.refused_signature == "content-1"
    node = node.then(plan)
    assert node.decide(NOW + 200).actions == ()
    for same in ({"signature": "spec-2"}, {"content_signature": ""}):
        unchanged = node.but(pods=Known((pod(ready=False, **same), OTHER_POD)))
        assert unchanged.decide(NOW + 200).actions == ()
    changed = node.but(pods=Known((pod(ready=False, content_signature="content-2"), OTHER_POD)))
    assert [type(action) for action in changed.decide(NOW + 200).actions] == [Release]


def labelled(uid: str, template: str) -> Known[Runtime]:
    labels = {"k8s-app": "kube-apiserver", "controller-revision-hash": template}
    sandbox = parent_sandbox(uid, labels=labels, created_at=stamp(NOW))
    return Known(both(COPY_RUNS, made(sandbox)))


@pytest.mark.parametrize(
    ("uid", "template", "waits"),
    [
        ("parent-uid", "hash-1", True),
        ("parent-uid", "", True),
        ("new-uid", "hash-1", True),
        ("new-uid", "hash-2", False),
        ("new-uid", "", False),
    ],
)
def test_a_parent_that_failed_is_not_given_way_again_before_it_has_changed(
    uid: str, template: str, waits: bool
) -> None:
    """Nor another pod of the same template; a rollout's next one is tried at once."""
    node = SEEN.but(checkpoints=with_refused())
    node = node.but(contact=reachable(NOW), runtime=labelled(uid, template))
    plan = node.decide(NOW + 1)
    if not waits:
        assert [type(action) for action in plan.actions] == [Release]
        return
    assert plan.actions == ()
    assert node.decide(NOW + 9999).actions == ()
    reason = "its parent to be changed: it failed when it was given way"
    assert states(plan) == [Standing("active", reason)]


REFUSED = pod(ready=False, is_parent=False, finished=True)


def test_a_parent_refused_beside_its_copy_gets_its_turn() -> None:
    """The kubelet fails a pod whose host port the copy has: no sandbox ever comes."""
    node = BACK.but(pods=Known((REFUSED, OTHER_POD)), masters=MASTERS)
    assert node.decide(NOW + 59.9).actions == ()
    reason = "its parent was refused beside the copy"
    plans = [node.decide(NOW + 60 + second) for second in range(90)]
    assert {plan.actions for plan in plans} == {(), (replace(SANDBOX, reason=reason),)}
    waiting = {plan.standings[API].waits_for for plan in plans if not plan.actions}
    assert waiting == {"its turn among the masters"}
    (record,) = {plan.records[API].hand_over.to for plan in plans if plan.actions}
    assert record == "parent-uid", "it has a deadline, and no other master begins meanwhile"


@pytest.mark.parametrize("masters", [ALONE, Unknown("may not be read")])
def test_the_only_api_server_stays_although_its_parent_was_refused(masters: Fact[Masters]) -> None:
    """Nobody could make the parent anew without it: it would go and come back without end."""
    node = BACK.but(pods=Known((REFUSED, OTHER_POD)), masters=masters)
    assert node.decide(NOW + 9999).actions == ()


def test_a_refused_parent_of_a_deployment_gets_its_turn() -> None:
    """Its controller leaves what has failed and makes the next one beside it: nobody deletes it."""
    tunnel = Workload("kube-system", "Deployment", "tunnel")
    mine = checkpoint(tunnel, revision(stage=1), record=Record(parents=("parent-uid",)))
    node = BACK.but(
        pods=Known((replace(REFUSED, workload=tunnel), OTHER_POD)),
        manifests=Known((manifest(tunnel),)),
        checkpoints=Known((mine,)),
    )
    assert node.decide(NOW + 59.9).actions == ()
    (action,) = node.decide(NOW + 60).actions
    assert isinstance(action, Release)
    assert action.reason == "its parent was refused beside the copy"


def test_a_refused_pod_without_a_controller_keeps_its_copy() -> None:
    """Failed is final, and nobody makes it again."""
    alone = Workload("kube-system", "Pod", "gateway")
    refused = replace(REFUSED, workload=alone)
    mine = checkpoint(alone, revision(stage=1), record=Record(parents=("parent-uid",)))
    node = BACK.but(
        pods=Known((refused, OTHER_POD)),
        manifests=Known((manifest(alone),)),
        checkpoints=Known((mine,)),
        masters=MASTERS,
    )
    assert node.decide(NOW + 9999).actions == ()


def test_a_sandbox_that_stood_empty_before_the_copy_is_no_sign() -> None:
    """Its image is missing, say; the API would go each time and wait for the deadline."""
    node = BACK.but(runtime=Known(both(COPY_RUNS, Runtime((parent_sandbox(),)))))
    plan = node.decide()
    assert plan.actions == ()
    assert states(plan) == [Standing("active", "its parent's containers to be made")]
    assert plan.wake_in == RULES.backoff_watch_seconds
    starting = replace(container_of(parent_sandbox()), state=ContainerState.CREATED)
    made = both(COPY_RUNS, Runtime((parent_sandbox(),), (starting,)))
    reason = "its parent is being started and needs the ports"
    assert node.but(runtime=Known(made)).decide().actions == (replace(SANDBOX, reason=reason),)
    assert node.but(runtime=Known(made), contact=lost()).decide().actions == ()


def test_a_fresh_sandbox_is_no_sign_before_a_container_is_made_in_it() -> None:
    """The kubelet cannot make one before it has read the services, from the API that would go."""
    node = BACK.but(
        runtime=Known(both(COPY_RUNS, Runtime((parent_sandbox(created_at=stamp(NOW)),))))
    )
    plan = node.decide()
    assert plan.actions == ()
    assert states(plan) == [Standing("active", "its parent's containers to be made")]
    assert plan.wake_in == RULES.watch_seconds, "its first start comes a moment later"
    assert node.but(runtime=Known(both(COPY_RUNS, NEW_SANDBOX))).decide().actions == (SANDBOX,)


def test_a_ready_parent_with_a_container_that_no_revision_knows_releases_its_copy() -> None:
    """A rollout has added it; that it runs is told by the runtime alone."""
    added = container_of(parent_sandbox(), "audit")
    up = pod(container_ids=frozenset({"parent-uid-apiserver", added.id}))
    runs = both(PARENT_BESIDE, Runtime((), (added,)))
    for checkpoints in (Known((checkpoint(),)), SHARING):
        node = READY_BESIDE.but(checkpoints=checkpoints, pods=Known((up, OTHER_POD)))
        assert [type(a) for a in node.decide().actions] == []
        released = node.but(runtime=Known(runs)).decide().actions[0]
        assert isinstance(released, Release)


def test_a_finished_pod_beside_a_live_one_is_no_sign() -> None:
    """Evicted pods lie about for long; the live one is what counts."""
    evicted = pod(uid="old", ready=False, is_parent=False, finished=True)
    node = BACK.but(pods=Known((evicted, pod(ready=False), OTHER_POD)))
    assert node.decide(NOW + 9999).actions == ()


UNSELECTED = Known((pod(ready=False, is_parent=False), OTHER_POD))


@pytest.mark.parametrize("stage", [0, 1])
def test_a_parent_that_is_not_selected_any_more_releases_a_copy_that_shares_its_ports(
    stage: int,
) -> None:
    """Nothing can be lost by it, but of stage 0: the copy may be what serves the API."""
    stored = checkpoint(API, revision(shares_ports=True, host_network=False, stage=stage))
    plan = BACK.but(pods=UNSELECTED, checkpoints=Known((stored,))).decide()
    released = (Release(API, FILE, "its parent is not selected any more"),)
    assert plan.actions == (released if stage else ())


def test_a_parent_that_is_not_selected_any_more_must_still_come_up() -> None:
    """Else the API server would go with its copy, come back by activation, and go again."""
    assert BACK.but(pods=UNSELECTED).decide(NOW + 200).actions == ()


def test_a_finished_parent_is_not_an_unselected_one() -> None:
    """What has finished is never selected; its controller makes the next one."""
    finished = Known((pod(ready=False, is_parent=False, finished=True), OTHER_POD))
    assert BACK.but(pods=finished, checkpoints=SHARING).decide().actions == ()


def test_a_ready_that_the_copy_may_have_answered_does_not_count() -> None:
    """On one port the copy answers the parent's probe until the parent fails on the port."""
    fresh = BACK.but(pods=Known((pod(), OTHER_POD)), runtime=Known(PARENT_BESIDE)).with_track(
        parent_exits=None
    )
    plan = fresh.decide()
    assert [a for a in plan.actions if isinstance(a, Release)] == []
    later = fresh.then(plan)
    assert [a for a in later.decide(NOW + 9.9).actions if isinstance(a, Release)] == []
    assert [type(a) for a in later.decide(NOW + 10.0).actions] == [Release]


def test_a_release_forgets_failed_revisions() -> None:
    """What failed as a copy may be good in the next outage."""
    record = Record(parents=("parent-uid",), issue=4, failed=(2,))
    plan = READY_BESIDE.but(checkpoints=Known((checkpoint(record=record),))).decide()
    assert plan.records == {API: replace(record, failed=())}


def test_a_parent_that_was_given_way_to_counts_although_its_record_was_not_written() -> None:
    """The disk is full. What was leaving is another one: this one runs, and none starts beside."""
    node = SEEN.with_track(was_leaving=True)
    plan = node.decide()
    assert plan.actions == (SANDBOX,)
    after = node.but(memory=plan.memory, manifests=Known(()), runtime=Known(PARENT_RUNS))
    assert after.decide(NOW + 1).actions == ()


def test_a_release_that_could_not_be_done_is_planned_again() -> None:
    """With what was known before, so that it does not turn into another decision."""
    plan = SEEN.decide()
    assert SEEN.then(plan).decide(NOW + 1).actions == plan.actions


NOT_STARTED = ACTIVE.but(runtime=Known(EMPTY))
"""The manifest lies there, and the kubelet has made nothing of it."""


def issued(node: Node, seconds: int, step: float = 1.0) -> list[tuple[float, int]]:
    """Return when it is issued anew and under which number, the manifest being rewritten."""
    found, now = [], ACTIVATED
    while now <= ACTIVATED + seconds:
        plan = node.decide(now)
        node = node.then(plan)
        for action in plan.actions:
            assert isinstance(action, Activate)
            found.append((now - ACTIVATED, action.issue))
            active = manifest(issue=action.issue, uid=f"uid-{action.issue}")
            node = node.but(manifests=Known((active,)))
        now += step
    return found


def test_a_manifest_that_the_kubelet_refused_is_issued_anew_with_backoff() -> None:
    """As a new pod, for the kubelet never retries a refused one; ten minutes apart at most."""
    assert issued(NOT_STARTED, 3000, step=10.0) == [
        (30.0, 5),
        (90.0, 6),
        (210.0, 7),
        (450.0, 8),
        (930.0, 9),
        (1530.0, 10),
        (2130.0, 11),
        (2730.0, 12),
    ]


def test_the_new_issue_is_said_and_written_first() -> None:
    """So that the number is never used twice, even if the agent dies right after."""
    plan = NOT_STARTED.decide(ACTIVATED + 30)
    assert plan.actions == (
        Activate(API, 1, 5, "the kubelet has not started it for 30 s: issued anew"),
    )
    assert plan.records == {API: Record(parents=("parent-uid",), issue=5, issued_in="boot-1")}


def test_a_lost_record_does_not_bring_an_old_issue_back() -> None:
    """The manifest's own number counts too."""
    node = NOT_STARTED.but(checkpoints=Known((checkpoint(record=Record()),)))
    assert [a.issue for a in node.decide(ACTIVATED + 30).actions if isinstance(a, Activate)] == [5]


@pytest.mark.parametrize(
    ("changes", "waits_for"),
    [
        (
            {"kubelet": Known(replace(NEW_KUBELET, listening=False))},
            "the kubelet, which is not running",
        ),
        ({"contact": recovering()}, "the kubelet to start it"),
        ({"contact": suspect()}, "the kubelet to start it"),
        ({"contact": reachable()}, "the kubelet to start it"),
        ({"contact": denied()}, "the kubelet to start it"),
        ({"runtime": Unknown("no socket")}, "the runtime: no socket"),
        ({"runtime": Known(Runtime((copy_sandbox(),)))}, "the kubelet to start its containers"),
    ],
)
def test_nothing_is_issued_anew_without_need(changes: dict[str, object], waits_for: str) -> None:
    """Not while the kubelet is down, nor once the API answers, nor when it has been taken."""
    node = NOT_STARTED.but(**changes)
    for later in (30, 300, 3000):
        plan = node.decide(ACTIVATED + later)
        assert plan.actions == ()
        assert states(plan) == [Standing("active", waits_for)]
        node = node.then(plan)


def test_the_kubelet_gets_its_time_from_when_it_listens() -> None:
    """It was down for an hour; its first half minute is its own."""
    down = NOT_STARTED.but(kubelet=Known(replace(NEW_KUBELET, listening=False)))
    node = down.then(down.decide(NOW)).but(kubelet=Known(NEW_KUBELET))
    assert node.decide(NOW + 29).actions == ()
    assert len(node.decide(NOW + 30).actions) == 1


def test_a_copy_that_vanishes_after_an_hour_is_the_kubelets_to_make_again() -> None:
    """Not refused: a new issue would make it terminate what it is about to start."""
    node = ACTIVE.then(ACTIVE.decide(NOW + 3600)).but(runtime=Known(EMPTY))
    assert node.decide(NOW + 3601).actions == ()


@pytest.mark.parametrize(
    ("sandbox", "is_taken"),
    [
        (copy_sandbox(), True),
        (copy_sandbox(ready=False), True),
        (copy_sandbox(ready=False, created_at=NEW_KUBELET.started_at - 1), False),
        (copy_sandbox(created_at=NEW_KUBELET.started_at - 1), False),
        (copy_sandbox(uid="of-another-issue"), False),
    ],
)
def test_a_sandbox_of_the_kubelets_run_shows_that_it_took_the_manifest(
    sandbox: Sandbox, is_taken: bool
) -> None:
    """One from before it shows nothing, dead by a reboot or ready; nor does another issue's."""
    node = NOT_STARTED.but(runtime=Known(Runtime((sandbox,))))
    assert (node.decide(ACTIVATED + 30).actions == ()) is is_taken


REFUSED_LATER = copy_sandbox(created_at=NEW_KUBELET.started_at - 1)
"""The copy ran on while the kubelet started anew; its containers have died since."""


@pytest.mark.parametrize(("made", "is_taken"), [(-0.5, False), (20.0, True)])
def test_a_container_of_the_kubelets_run_shows_that_it_took_the_manifest(
    made: float, is_taken: bool
) -> None:
    """It restarts what it took within seconds, whichever run of it made the sandbox."""
    created = NEW_KUBELET.started_at + round(made * 1e9)
    container = dead(container_of(REFUSED_LATER, created_at=created))
    node = NOT_STARTED.but(runtime=Known(Runtime((REFUSED_LATER,), (container,))))
    anew = [a for a in node.decide(ACTIVATED + 30).actions if isinstance(a, Activate)]
    assert [a.stop_sandboxes for a in anew] == ([] if is_taken else [(REFUSED_LATER.id,)])


def test_with_a_clock_that_went_back_since_the_kubelets_start_a_ready_sandbox_counts() -> None:
    """What the kubelet has made looks older than its start."""
    later = Known(replace(NEW_KUBELET, started_at=stamp(NOW + 3600)))
    ready = NOT_STARTED.but(runtime=Known(Runtime((copy_sandbox(),))), kubelet=later)
    assert ready.decide(ACTIVATED + 30).actions == ()
    gone = NOT_STARTED.but(runtime=Known(Runtime((copy_sandbox(ready=False),))), kubelet=later)
    assert len(gone.decide(ACTIVATED + 30).actions) == 1


def test_nothing_is_issued_anew_beside_a_parent_that_runs() -> None:
    """Its copy was refused; it would fight for the ports. Its time begins when the parent dies."""
    beside = NOT_STARTED.but(runtime=Known(PARENT_RUNS))
    plan = beside.decide(ACTIVATED + 300)
    assert plan.actions == ()
    assert states(plan) == [Standing("active", "its parent, which runs")]
    alone = beside.then(plan).but(runtime=Known(PARENT_DIED_IN_PLACE))
    assert alone.decide(ACTIVATED + 329).actions == ()
    assert len(alone.decide(ACTIVATED + 330).actions) == 1


def test_an_api_server_that_was_taken_away_is_not_waited_for() -> None:
    """It has closed its port, and ends when its connections do."""
    node = NOT_STARTED.but(runtime=Known(PARENT_RUNS)).with_track(was_leaving=True)
    assert len(node.decide(ACTIVATED + 30).actions) == 1


def test_a_dead_sandbox_of_the_future_is_from_before_the_clock_went_back() -> None:
    """It looks younger than the kubelet and shows nothing of what the kubelet took."""
    for created, anew in ((NOW + 0.9, False), (NOW + 3600, True)):
        sandbox = copy_sandbox(ready=False, created_at=stamp(created))
        node = ACTIVE.but(runtime=Known(Runtime((sandbox,))), kubelet=Known(NEW_KUBELET))
        assert bool(node.decide().actions) is anew


def test_without_the_kubelets_start_any_sandbox_counts() -> None:
    """What cannot be told changes nothing."""
    dead_one = Runtime((copy_sandbox(ready=False, created_at=0),))
    node = NOT_STARTED.but(runtime=Known(dead_one), kubelet=Unknown("no socket"))
    assert node.decide(ACTIVATED + 30).actions == ()


def test_a_revision_that_does_not_verify_any_more_is_not_issued_anew() -> None:
    """The one before serves; with none left the manifest is left as it is."""
    older = checkpoint(API, revision(1))
    node = NOT_STARTED.but(manifests=Known((manifest(revision=2),)), checkpoints=Known((older,)))
    plan = node.decide(ACTIVATED + 30)
    assert [a.revision for a in plan.actions if isinstance(a, Activate)] == [1]
    none = node.but(checkpoints=Known((replace(older, revisions=()),)))
    assert none.decide(ACTIVATED + 30).actions == ()


THREE = Known((checkpoint(API, revision(3), revision(2), revision(1)),))


def crashed(attempt: int, uid: str = "copy-uid") -> Runtime:
    sandbox = copy_sandbox(uid=uid)
    return Runtime((sandbox,), (dead(container_of(sandbox), attempt),))


CRASHING = ACTIVE.but(checkpoints=THREE, manifests=Known((manifest(revision=3),)))


@pytest.mark.parametrize(("attempt", "falls_back"), [(0, False), (2, False), (3, True), (7, True)])
def test_a_copy_that_keeps_crashing_is_replaced_by_the_revision_before(
    attempt: int, falls_back: bool
) -> None:
    """Its sandbox is stopped, since with the API away the kubelet would not do it."""
    plan = CRASHING.but(runtime=Known(crashed(attempt))).decide()
    if not falls_back:
        assert plan.actions == ()
        return
    assert plan.actions == (
        Activate(API, 2, 5, "revision 3 keeps crashing", ("copy-uid-sandbox",)),
    )
    record = Record(parents=("parent-uid",), issue=5, issued_in="boot-1", failed=(3,))
    assert plan.records == {API: record}


def test_a_copy_that_runs_is_not_crashing() -> None:
    """Whatever it did before."""
    runtime = both(crashed(7), Runtime((), (container_of(copy_sandbox(), id="again", attempt=8),)))
    assert CRASHING.but(runtime=Known(runtime)).decide().actions == ()


@pytest.mark.parametrize(("up", "falls_back"), [(3.0, True), (20.0, False)])
def test_a_copy_that_dies_beside_a_parent_that_is_up_is_not_to_blame(
    up: float, falls_back: bool
) -> None:
    """Its ports are taken. But a parent that keeps dying, too, runs in between."""
    node = CRASHING.but(runtime=Known(both(crashed(2), PARENT_RUNS)))
    for now, attempt in ((NOW, 2), (NOW + up, 7)):
        plan = node.but(runtime=Known(both(crashed(attempt), PARENT_RUNS))).decide(now)
        assert plan.actions == ()
        node = node.then(plan)
    alone = both(crashed(7), PARENT_DIED_IN_PLACE)
    plan = node.but(runtime=Known(alone)).decide(NOW + up + 1)
    assert bool(plan.actions) is falls_back


@pytest.mark.parametrize("contact", [reachable(), suspect(), recovering(), denied()])
def test_no_revision_is_exchanged_once_the_api_answers(contact: Contact) -> None:
    """Its parent is what the node waits for then."""
    assert CRASHING.but(contact=contact, runtime=Known(crashed(9))).decide().actions == ()


def test_each_revision_is_tried_once_and_never_for_ever() -> None:
    """All of them crash: down to the oldest, and there it stays."""
    node, now, tried = CRASHING, NOW, []
    uid = "copy-uid"
    for _ in range(50):
        now += 60.0
        plan = node.but(runtime=Known(crashed(5, uid))).decide(now)
        node = node.then(plan)
        for action in plan.actions:
            assert isinstance(action, Activate)
            tried.append((action.revision, action.issue))
            uid = f"uid-{action.issue}"
            active = manifest(revision=action.revision, issue=action.issue, uid=uid)
            node = node.but(manifests=Known((active,)))
    assert tried == [(2, 5), (1, 6)]
    assert states(plan) == [Standing("active", "it keeps crashing and there is no other revision")]
    assert plan.records == {}


def test_after_the_last_known_good_comes_the_one_before() -> None:
    """Not the newest, whose parent was refused when it was given way to."""
    way = HandOver(boot_id="boot-1", since=NOW, failures=1, refused="x", refused_template="v3")
    record = Record(parents=("parent-uid",), issue=4, good=(2, 1), hand_over=way)
    stored = checkpoint(API, revision(3, template="v3"), revision(2), revision(1), record=record)
    node = CRASHING.but(checkpoints=Known((stored,)), manifests=Known((manifest(revision=2),)))
    plan = node.but(runtime=Known(crashed(3))).decide()
    assert [a.revision for a in plan.actions if isinstance(a, Activate)] == [1]


GIVEN_UP = Record(parents=("parent-uid",), issue=4, failed=(3,))
"""Of an agent that died, or could not write, between this and the manifest of another revision."""


@pytest.mark.parametrize(
    ("runtime", "failed", "contact", "falls_back"),
    [
        (crashed(0), (3,), lost(), True),
        (EMPTY, (3,), lost(), True),
        (COPY_RUNS, (3,), lost(), True),
        (COPY_RUNS, (3,), reachable(), False),
        (COPY_RUNS, (3,), recovering(), False),
        (both(COPY_RUNS, PARENT_RUNS), (3,), lost(), False),
        (crashed(0), (1, 2, 3), lost(), False),
        (COPY_RUNS, (1, 2, 3), lost(), False),
        (crashed(0), (2,), lost(), False),
    ],
)
def test_a_revision_that_was_given_up_is_replaced_at_once(
    runtime: Runtime, failed: tuple[int, ...], contact: Contact, falls_back: bool
) -> None:
    """However its copy fares at that moment, if there is another one and the API is gone."""
    stored = checkpoint(
        API, revision(3), revision(2), revision(1), record=replace(GIVEN_UP, failed=failed)
    )
    fresh = CRASHING.with_track(excused_attempts=None, activated_at=None)
    node = fresh.but(checkpoints=Known((stored,)), runtime=Known(runtime), contact=contact)
    revisions = [a.revision for a in node.decide().actions if isinstance(a, Activate)]
    assert revisions == ([2] if falls_back else [])


def test_containers_that_died_with_the_machine_are_no_crashes() -> None:
    """A node that loses its power again and again in one outage: the attempts add up for ever."""
    node = CRASHING.with_track(excused_attempts=None).but(runtime=Known(crashed(4)))
    for now, attempt in ((NOW, 4), (NOW + 10, 5), (NOW + 30, 6)):
        plan = node.but(runtime=Known(crashed(attempt))).decide(now)
        assert plan.actions == ()
        node = node.then(plan)
    assert len(node.but(runtime=Known(crashed(7))).decide(NOW + 60).actions) == 1


def test_a_fresh_agent_judges_by_the_first_containers_it_sees() -> None:
    """None are there yet when it starts; those that come continue the old count."""
    fresh = CRASHING.with_track(excused_attempts=None, activated_at=NOW).but(runtime=Known(EMPTY))
    node = fresh.then(fresh.decide(NOW))
    assert node.but(runtime=Known(crashed(9))).decide(NOW + 5).actions == ()


OURS = Record(parents=("parent-uid",), issue=4, issued_in="boot-1")
"""Of a copy that was issued in this boot."""


@pytest.mark.parametrize(
    ("record", "beside", "age", "falls_back"),
    [
        (OURS, EMPTY, 300.0, True),
        (replace(OURS, issued_in="boot-0"), EMPTY, 300.0, False),
        (replace(OURS, issued_in=""), EMPTY, 300.0, False),
        (replace(OURS, issue=3), EMPTY, 300.0, False),
        (OURS, PARENT_DIED_IN_PLACE, 300.0, True),
        (OURS, PARENT_RUNS, 300.0, False),
        (OURS, EMPTY, STEADY_SECONDS, False),
    ],
)
def test_crashes_that_no_agent_saw_count_where_they_can_be_nothing_else(
    record: Record, beside: Runtime, age: float, falls_back: bool
) -> None:
    """Of a copy that was issued in this boot, beside no parent that is up, and that has not run for
    long."""
    fresh = CRASHING.with_track(excused_attempts=None, activated_at=None)
    stored = checkpoint(API, revision(3), revision(2), revision(1), record=record)
    (sandbox,), (container,) = crashed(3).sandboxes, crashed(3).containers
    copy = Runtime((sandbox,), (replace(container, created_at=stamp(NOW - age)),))
    node = fresh.but(checkpoints=Known((stored,)), runtime=Known(both(copy, beside)))
    assert bool(node.decide().actions) is falls_back


@pytest.mark.parametrize(("up", "falls_back"), [(3.0, True), (20.0, False)])
def test_crashes_that_no_agent_saw_are_judged_when_its_parent_has_shown_itself(
    up: float, falls_back: bool
) -> None:
    """One that keeps crashing, too, may run at the first look; one that is up had the ports."""
    stored = checkpoint(API, revision(3), revision(2), revision(1), record=OURS)
    fresh = CRASHING.with_track(excused_attempts=None, activated_at=None)
    node = fresh.but(checkpoints=Known((stored,)), runtime=Known(both(crashed(7), PARENT_RUNS)))
    for now in (NOW, NOW + up):
        plan = node.decide(now)
        assert plan.actions == ()
        node = node.then(plan)
    plan = node.but(runtime=Known(both(crashed(7), PARENT_DIED_IN_PLACE))).decide(NOW + up + 1)
    assert bool(plan.actions) is falls_back


def running(attempt: int) -> Runtime:
    sandbox = copy_sandbox()
    container: Container = container_of(sandbox, attempt=attempt)
    return Runtime((sandbox,), (container,))


@pytest.mark.parametrize(("up", "falls_back"), [(10.0, True), (STEADY_SECONDS, False)])
def test_restarts_of_a_copy_that_ran_for_long_are_forgiven(up: float, falls_back: bool) -> None:
    """Three restarts in a month are no crash loop."""
    node = CRASHING.but(runtime=Known(running(2)))
    for now in (NOW, NOW + up):
        node = node.then(node.decide(now))
    plan = node.but(runtime=Known(crashed(3))).decide(NOW + up + 1)
    assert bool(plan.actions) is falls_back


def test_a_manifest_without_a_checkpoint_is_released_like_any_other() -> None:
    """Somebody has emptied the store; the copy must not stand in its parent's way for ever."""
    node = SEEN.but(
        contact=reachable(NOW), pods=Known((pod(ready=False), OTHER_POD)), checkpoints=Known(())
    )
    plan = node.decide()
    assert plan.actions == (SANDBOX,)
    assert plan.records == {}


@pytest.mark.parametrize(
    "checkpoints", [(), (checkpoint(),), (checkpoint(API, revision(2, stage=1)),)]
)
def test_an_api_server_is_never_switched_off_for_want_of_a_parent(
    checkpoints: tuple[Checkpoint, ...],
) -> None:
    """It may be what tells that there is none. The same where its stage cannot be told."""
    node = ACTIVE.but(
        contact=reachable(NOW), pods=Known((OTHER_POD,)), checkpoints=Known(checkpoints)
    )
    plans = []
    for number in range(30):
        plans.append(node.decide(NOW + 30 * number))
        node = node.then(plans[-1])
    assert [plan.actions for plan in plans] == [()] * 30
    told = Standing("active", "a parent, and nobody makes one: only a hand takes it out")
    assert states(plans[-1]) == [told]


def test_nothing_is_written_about_a_manifest_without_a_checkpoint() -> None:
    """There is no place for it."""
    node = ACTIVE.but(contact=reachable(NOW), pods=Known((OTHER_POD,)), checkpoints=Known(()))
    plans = []
    for number in range(11):
        plans.append(node.decide(NOW + 30 * number))
        node = node.then(plans[-1])
    assert all(plan.records == {} for plan in plans)


def test_a_manifest_without_a_checkpoint_is_never_issued_anew() -> None:
    """There is nothing to write it from."""
    node = NOT_STARTED.but(checkpoints=Known(()))
    assert node.decide(ACTIVATED + 9999).actions == ()
