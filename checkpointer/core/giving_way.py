"""Whether it is the moment for an active copy to make way, and to which parent.

It is chosen for the parent's sake, at the moment that costs least:

    parent and copy share no ports   once the parent is Ready: no gap
    a fresh parent                   when its container is made, before it has tried its ports; its
                                     sandbox is no sign: the kubelet may still need the API to make
                                     a container in it; nor is a plugin's, while the image of the
                                     main one is pulled
    a parent in crash-loop backoff   at once, where the API says that it is wanted and the kubelet
                                     starts it: it is started anew then, see `backoff`; else at its
                                     next start
    a parent that runs, not Ready    when the API has been there for long
    a parent that was refused        when the API has been there for long: the copy has its place;
                                     a DaemonSet's when its controller has deleted it, which shows
                                     that there is one at work to make the next; not where nobody
                                     would make it anew once the copy is gone

`hand_over` says which parent is not given way to, and what becomes of one that was.
"""

from __future__ import annotations

from collections.abc import Sequence

from checkpointer.core import hand_over
from checkpointer.core.backoff import dead_main_of, dead_of, is_in_use, kubelet_knows, start_in
from checkpointer.core.checkpoint import (
    ActiveManifest,
    Checkpoint,
    Revision,
    active_revision,
    main_container,
)
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Known
from checkpointer.core.lease import ASK_AGAIN_SECONDS
from checkpointer.core.observation import Pod
from checkpointer.core.occupancy import Occupancy, is_current
from checkpointer.core.parent import UP_SECONDS, finds_ports_taken, has_lost_its_main, has_run_for
from checkpointer.core.plan import Track
from checkpointer.core.replacement import is_replaced
from checkpointer.core.runtime import Container, ContainerState, Sandbox
from checkpointer.core.situation import Situation
from checkpointer.core.workload import template_of
from checkpointer.values import dataclass

FALSE_READY_SECONDS = 10.0
"""How long a parent must have run for its Ready to count beside a copy on the same ports: until
it fails on the port, its probe is answered by the copy (seen on 1.36: Ready, dead 0.7 s later)."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Why the copy may go now, and to which parent it makes way; None when that one is up."""

    reason: str
    parent: Sandbox | None = None
    refused: Pod | None = None
    """The pod that the kubelet refused beside the copy: its controller's next one is let in."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What stands against a release, and for how long at least; 0 when no time ends it."""

    reason: str
    seconds: float = 0.0
    is_long: bool = True
    """Whether there is time to hear of its end; else it must be looked for closely."""
    start: tuple[str, float] | None = None
    """UID of a parent in its backoff, and in how many seconds the kubelet starts it again."""
    wants_turn: bool = False
    """Whether nothing else stands against it, and it can be asked for now."""


def moment_of(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    pods: Fact[tuple[Pod, ...]],
    occupancy: Occupancy,
    before: Track,
    track: Track,
    situation: Situation,
) -> Moment | Wait | None:
    """Return why the copy may go, or what it waits for; None while nothing of a parent is seen.

    A Ready that the API remembers from before the outage does not count: the status must speak
    of containers that the runtime shows running. A parent that cannot become Ready beside its
    copy is given way as soon as its container is made. Until then the kubelet needs the API: for
    images' credentials, and for the services (seen on 1.36: "services have not yet been read at
    least once, cannot construct envvars" for ever, in a sandbox that was given way to).
    What shares no ports waits for such a sign: released without one, and the parent not coming
    up, it would be activated and released in turn. Ports that were thought to be shared are not
    when the parent dies at once beside its copy, and again; one that dies otherwise is broken, and
    the copy serves on.
    """
    is_reachable = situation.contact.state is ContactState.REACHABLE
    wanted = [p for p in pods.value if not p.terminating] if isinstance(pods, Known) else []
    active = active_revision(checkpoint, manifest)
    answers_alone = active is not None and not active.host_network and active.shares_ports
    can_trust = answers_alone or has_run_for(track, FALSE_READY_SECONDS, situation.now)
    if (
        is_reachable
        and can_trust
        and any(p.ready and is_current(p, occupancy.parent_up) for p in wanted)
    ):
        return Moment("its parent is Ready")
    if active is not None and active.shares_ports and not finds_ports_taken(track):
        is_meant = any(p.is_parent or p.finished for p in wanted)
        if active.stage > 0 and is_reachable and wanted and not is_meant:
            return Moment("its parent is not selected any more")
        is_up = has_run_for(track, UP_SECONDS, situation.now)
        is_failing = bool(track.parent_crashes) and not is_up
        return Wait("its parent, which keeps dying beside it") if is_failing else None
    waits: list[Wait] = []
    for sandbox in occupancy.parent_sandboxes:
        found = _way_for(
            checkpoint, active, manifest, sandbox, pods, occupancy, before, track, situation
        )
        if isinstance(found, Moment):
            return _in_turn(found, checkpoint, active, situation)
        waits += [found] if found else []
    refused = _refused(checkpoint, pods, wanted, active, track, situation) if is_reachable else None
    if isinstance(refused, Moment):
        return _in_turn(refused, checkpoint, active, situation)
    return waits[0] if waits else refused


def _refused(
    checkpoint: Checkpoint,
    pods: Fact[tuple[Pod, ...]],
    wanted: list[Pod],
    active: Revision | None,
    track: Track,
    situation: Situation,
) -> Moment | Wait | None:
    """Return whether a parent that the kubelet refused is made anew once the copy is gone.

    A DaemonSet's controller that is at work deletes it at once. The next one is not bound to this
    node beside the copy (seen on 1.36: the scheduler knows of the copy's port), or it is and is
    refused as well. Stage 0 has a deadline instead, which needs the parent that it is for.
    """
    if not _is_made_anew(checkpoint, active, situation):
        return None
    reason = "its parent was refused beside the copy"
    is_later = active is not None and active.stage > 0
    is_taken = isinstance(pods, Known) and not pods.value and situation.is_own_cluster
    if is_later and is_taken and track.refused:
        return Moment(f"{reason} and taken away")
    if not wanted or not all(p.finished for p in wanted):
        return None
    refused, last = wanted[0], checkpoint.record.hand_over
    against = hand_over.objection(last, active, refused.uid, refused.template, situation)
    if against is not None:
        return Wait(*against)
    if is_later and any(p.awaits_controller for p in wanted):
        if any(p.uid == track.refused for p in wanted):
            return Wait("its controller to take away the parent that was refused")
        return Moment(f"{reason} and made anew", refused=refused)
    is_settled = situation.now - situation.contact.since >= situation.rules.hand_over_seconds
    return Moment(reason, refused=refused) if is_settled else None


def _in_turn(
    moment: Moment, checkpoint: Checkpoint, active: Revision | None, situation: Situation
) -> Moment | Wait:
    """Return the moment, or what stage 0 waits for to use it: one at a time, here and elsewhere.

    An API server is of stage 0, be its copy's revision damaged or gone.
    """
    is_seen = checkpoint.workload.is_api_server
    is_first = is_seen if active is None else active.stage == 0
    if not is_first:
        return moment
    if situation.hand_over_left > 0:
        return Wait("another hand-over of stage 0 to be over", situation.hand_over_left)
    turn_in = situation.turn_in if is_seen else situation.unseen_turn_in
    if turn_in > 0:
        return Wait("its turn among the masters", turn_in, turn_in > 1.0)
    if situation.turn_waits_for:
        return Wait(situation.turn_waits_for, ASK_AGAIN_SECONDS, False, wants_turn=True)
    return moment


def _way_for(
    checkpoint: Checkpoint,
    active: Revision | None,
    manifest: ActiveManifest,
    sandbox: Sandbox,
    pods: Fact[tuple[Pod, ...]],
    occupancy: Occupancy,
    before: Track,
    track: Track,
    situation: Situation,
) -> Moment | Wait | None:
    """Return why it is the moment to make way for this parent, or what it is waited for."""
    mine = [c for c in occupancy.parent_running if c.sandbox_id == sandbox.id]
    idle = [c for c in occupancy.parent_others if c.sandbox_id == sandbox.id]
    template = template_of(sandbox.labels)
    against = hand_over.objection(
        checkpoint.record.hand_over, active, sandbox.uid, template, situation
    )
    if against is not None:
        return Wait(*against)
    if active is not None and active.has_init and not idle and not _have_app(mine, active):
        return Wait("its parent's init containers", is_long=False)
    is_answering = situation.contact.is_answering
    dead, in_use = dead_of(sandbox, occupancy), is_in_use(sandbox, occupancy)
    if dead and not in_use and is_answering and kubelet_knows(dead, situation):
        return _in_backoff(checkpoint, sandbox, dead, pods, situation)
    is_fresh = sandbox.created_at > manifest.written_at
    if not mine and not idle:
        watch = 0.0 if is_fresh else situation.rules.backoff_watch_seconds
        return Wait("its parent's containers to be made", watch, is_long=not is_fresh)
    main = _main(checkpoint, active, (*idle, *mine))
    is_starting = any(
        c.state is ContainerState.CREATED or _has_just_started(c, before)
        for c in (*idle, *mine)
        if main in (None, c.name)
    )
    is_first = is_fresh and not any(c.state is ContainerState.EXITED for c in idle)
    if is_starting and (is_first or is_answering):
        return Moment("its parent is being started and needs the ports", sandbox)
    if not is_answering:
        return None
    if dead_main := dead_main_of(sandbox, occupancy, main):
        return _wait_for_start(sandbox, dead_main, situation)
    if main and active and has_lost_its_main(occupancy, checkpoint.workload, active):
        return Wait("its parent's main container to be made", situation.rules.backoff_watch_seconds)
    is_settled = situation.now - situation.contact.since >= situation.rules.hand_over_seconds
    if mine:
        if is_settled and has_run_for(track, situation.rules.hand_over_seconds, situation.now):
            return Moment("its parent runs and does not become Ready beside the copy", sandbox)
        return Wait("its parent, which runs beside it, to be Ready")
    return _wait_for_start(sandbox, dead, situation) if dead else None


def _in_backoff(
    checkpoint: Checkpoint,
    sandbox: Sandbox,
    dead: Sequence[Container],
    pods: Fact[tuple[Pod, ...]],
    situation: Situation,
) -> Moment | Wait:
    """Make way at once for a parent that is sure to be started anew; else await its next start."""
    wait = _wait_for_start(sandbox, dead, situation)
    is_reachable = situation.contact.state is ContactState.REACHABLE
    is_wanted = isinstance(pods, Known) and any(
        p.uid == sandbox.uid and p.stays for p in pods.value
    )
    is_sure = is_reachable and is_wanted and checkpoint.workload.always_restarts
    if not is_sure or is_replaced(checkpoint, pods, wait.start, situation):
        return wait
    return Moment("its parent is down and needs the ports", sandbox)


def _wait_for_start(sandbox: Sandbox, dead: Sequence[Container], situation: Situation) -> Wait:
    start = (sandbox.uid, start_in(sandbox, dead, situation))
    watch = situation.rules.backoff_watch_seconds
    return Wait("its parent to be started again by the kubelet", watch, start=start)


def _is_made_anew(checkpoint: Checkpoint, active: Revision | None, situation: Situation) -> bool:
    """Tell whether a parent that the kubelet has refused is made anew once the copy is gone.

    Nobody makes a pod without a controller again. Nor does anybody make an API server's pod while
    it is itself the only one.
    """
    if not checkpoint.workload.has_controller:
        return False
    is_last_api = active is None or active.stage == 0
    return not is_last_api or situation.has_other_masters


def _main(
    checkpoint: Checkpoint, active: Revision | None, containers: Sequence[Container]
) -> str | None:
    """Return the name of the parent's main container; None where a rollout may have changed it."""
    if active is None or not any(c.name in active.app_containers for c in containers):
        return None
    return main_container(checkpoint.workload, active)


def _have_app(running: list[Container], active: Revision) -> bool:
    return any(container.name in active.app_containers for container in running)


def _has_just_started(container: Container, before: Track) -> bool:
    """Tell whether this start of the parent is news: until now the agent saw it not running.

    Not for an agent that looks for the first time; the container may have run for long.
    """
    is_running = container.state is ContainerState.RUNNING
    is_news = before.parent_exits is not None and container.id not in before.parent_running
    return is_running and is_news
