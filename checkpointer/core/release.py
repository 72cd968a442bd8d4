"""Whether an active checkpoint must be released, issued anew, or replaced by the one before.

Release is for the parent's sake, at the moment that costs least:

    parent and copy share no ports   once the parent is Ready: no gap
    a fresh parent                   when its container is made, before it has tried its ports; its
                                     sandbox is no sign: the kubelet may still need the API to make
                                     a container in it
    a parent in crash-loop backoff   at its next start, before it has tried its ports; where one
                                     such start was lost already, just ahead of it
    a parent that runs, not Ready    when the API has been there for long
    a parent that was refused        when the API has been there for long: the copy has its place;
                                     a DaemonSet's when its controller has deleted it, which shows
                                     that there is one at work to make the next; not where nobody
                                     would make it anew once the copy is gone

`hand_over` says which parent is not given way to, and what becomes of one that was. A manifest is
written again, as a new issue or with another revision, only while the API is gone: once it
answers, the parent is what the node waits for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from checkpointer.core import hand_over
from checkpointer.core.backoff import start_in
from checkpointer.core.checkpoint import (
    ActiveManifest,
    Checkpoint,
    HandOver,
    Revision,
    choose_revision,
)
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.lease import ASK_AGAIN_SECONDS
from checkpointer.core.observation import Pod
from checkpointer.core.occupancy import Occupancy, is_current
from checkpointer.core.parent import with_parent
from checkpointer.core.plan import Activate, Release, Track
from checkpointer.core.replacement import with_replacement
from checkpointer.core.runtime import Container, ContainerState, Sandbox
from checkpointer.core.situation import Situation, Step
from checkpointer.core.standing import Standing
from checkpointer.core.workload import template_of

STEADY_SECONDS = 600.0
"""How long a copy must run for its restarts to be forgiven: the kubelet's backoff resets then."""

FALSE_READY_SECONDS = 10.0
"""How long a parent must have run for its Ready to count beside a copy on the same ports: until
it fails on the port, its probe is answered by the copy (seen on 1.36: Ready, dead 0.7 s later)."""

AHEAD_SECONDS = 1.0
"""How long before a parent's expected start its ports are freed for it."""


@dataclass(frozen=True, slots=True)
class _Moment:
    """Why the copy may go now, and to which parent it makes way; None when that one is up."""

    reason: str
    parent: Sandbox | None = None
    refused: Pod | None = None
    """The pod that the kubelet refused beside the copy: its controller's next one is let in."""


@dataclass(frozen=True, slots=True)
class _Wait:
    """What stands against a release, and for how long at least; 0 when no time ends it."""

    reason: str
    seconds: float = 0.0
    is_long: bool = True
    """Whether there is time to hear of its end; else it must be looked for closely."""
    start: tuple[str, float] | None = None
    """UID of a parent in its backoff, and in how many seconds the kubelet starts it again."""
    wants_turn: bool = False
    """Whether nothing else stands against it, and it can be asked for now."""


def release(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    pods: Fact[tuple[Pod, ...]],
    occupancy: Fact[Occupancy],
    track: Track,
    situation: Situation,
) -> Step:
    """Decide on a checkpoint whose manifest lies in the kubelet's folder.

    `pods` are the API's pods of this workload on this node.
    """
    if track.activated_at is None:
        track = replace(track, activated_at=situation.now)
    if isinstance(occupancy, Unknown):
        return Step(Standing("active", f"the runtime: {occupancy.reason}"), track)
    before = track
    track = _with_refusal(with_parent(track, occupancy.value, situation.now), pods)
    found = _moment(checkpoint, manifest, pods, occupancy.value, before, track, situation)
    if isinstance(found, _Moment):
        return _release(checkpoint, manifest, occupancy.value, found, track, situation)
    active = _revision_of(checkpoint, manifest)
    step = _keep_alive(checkpoint, manifest, occupancy.value, track, situation)
    if step.action is not None:
        return step
    if found is None:
        shares = active is not None and active.shares_ports and not track.parent_crashes
        return replace(step, is_patient=shares or _has_no_parent(pods, situation))
    waiting = replace(step.standing, waits_for=found.reason)
    wake_in = found.seconds or step.wake_in
    step = with_replacement(step, checkpoint, pods, found.start, situation)
    step = replace(step, wants_turn=found.wants_turn)
    return replace(step, standing=waiting, wake_in=wake_in, is_patient=found.is_long)


def _release(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    occupancy: Occupancy,
    moment: _Moment,
    track: Track,
    situation: Situation,
) -> Step:
    record, way = checkpoint.record, HandOver()
    standing = Standing("standby", "the parent to be Ready")
    if moment.parent is not None:
        template = template_of(moment.parent.labels)
        way = hand_over.begun(record.hand_over, moment.parent.uid, template, situation)
    elif moment.refused is not None:
        pod = moment.refused
        way = hand_over.begun(record.hand_over, pod.uid, pod.template, situation)
    if way.to:
        standing = Standing("handing over", "its parent to serve")
    record = replace(record, hand_over=way)
    action = Release(
        checkpoint.workload,
        manifest.file_name,
        moment.reason,
        _to_kill(_revision_of(checkpoint, manifest), moment, occupancy),
    )
    track = replace(track, down_since=None, parent_crashes=0, refused="")
    return Step(standing, track, action, record=replace(record, failed=()))


def _moment(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    pods: Fact[tuple[Pod, ...]],
    occupancy: Occupancy,
    before: Track,
    track: Track,
    situation: Situation,
) -> _Moment | _Wait | None:
    """Return why the copy may go, or what it waits for; None while nothing of a parent is seen.

    A Ready that the API remembers from before the outage does not count: the status must speak
    of containers that the runtime shows running. A parent that cannot become Ready beside its
    copy is given way as soon as its container is made. Until then the kubelet needs the API: for
    images' credentials, and for the services (seen on 1.36: "services have not yet been read at
    least once, cannot construct envvars" for ever, in a sandbox that was given way to).
    What shares no ports waits for such a sign: released without one, and the parent not coming
    up, it would be activated and released in turn. Ports that were thought to be shared are not
    when the parent dies beside its copy.
    """
    is_reachable = situation.contact.state is ContactState.REACHABLE
    wanted = [p for p in pods.value if not p.terminating] if isinstance(pods, Known) else []
    active = _revision_of(checkpoint, manifest)
    answers_alone = active is not None and not active.host_network and active.shares_ports
    can_trust = answers_alone or _has_run_for(track, FALSE_READY_SECONDS, situation.now)
    if (
        is_reachable
        and can_trust
        and any(p.ready and is_current(p, occupancy.parent_up) for p in wanted)
    ):
        return _Moment("its parent is Ready")
    if active is not None and active.shares_ports and not track.parent_crashes:
        if is_reachable and wanted and not any(p.is_parent or p.finished for p in wanted):
            return _Moment("its parent is not selected any more")
        return None
    waits: list[_Wait] = []
    for sandbox in occupancy.parent_sandboxes:
        found = _way_for(checkpoint, manifest, sandbox, occupancy, before, track, situation)
        if isinstance(found, _Moment):
            return _in_turn(found, active, situation)
        waits += [found] if found else []
    refused = _refused(checkpoint, pods, wanted, active, track, situation) if is_reachable else None
    if isinstance(refused, _Moment):
        return _in_turn(refused, active, situation)
    return waits[0] if waits else refused


def _refused(
    checkpoint: Checkpoint,
    pods: Fact[tuple[Pod, ...]],
    wanted: list[Pod],
    active: Revision | None,
    track: Track,
    situation: Situation,
) -> _Moment | _Wait | None:
    """Return whether a parent that the kubelet refused is made anew once the copy is gone.

    A DaemonSet's controller that is at work deletes it at once. The next one is not bound to this
    node beside the copy (seen on 1.36: the scheduler knows of the copy's port), or it is and is
    refused as well. Stage 0 has a deadline instead, which needs the parent that it is for.
    """
    if not _is_made_anew(checkpoint, active, situation):
        return None
    reason = "its parent was refused beside the copy"
    is_later = active is not None and active.stage > 0
    if is_later and isinstance(pods, Known) and not pods.value and track.refused:
        return _Moment(f"{reason} and taken away")
    if not wanted or not all(p.finished for p in wanted):
        return None
    refused, last = wanted[0], checkpoint.record.hand_over
    against = hand_over.objection(last, active, refused.uid, refused.template, situation)
    if against is not None:
        return _Wait(*against)
    if is_later and any(p.awaits_controller for p in wanted):
        if any(p.uid == track.refused for p in wanted):
            return _Wait("its controller to take away the parent that was refused")
        return _Moment(f"{reason} and made anew", refused=refused)
    is_settled = situation.now - situation.contact.since >= situation.rules.hand_over_seconds
    return _Moment(reason, refused=refused) if is_settled else None


def _with_refusal(track: Track, pods: Fact[tuple[Pod, ...]]) -> Track:
    """Remember the first that was refused: that it is gone shows that somebody is at work."""
    if track.refused or isinstance(pods, Unknown) or not pods.value:
        return track
    if not all(p.finished for p in pods.value):
        return track
    return replace(track, refused=pods.value[0].uid)


def _in_turn(moment: _Moment, active: Revision | None, situation: Situation) -> _Moment | _Wait:
    """Return the moment, or what stage 0 waits for to use it: one at a time, here and elsewhere."""
    if active is None or active.stage > 0:
        return moment
    if situation.hand_over_left > 0:
        return _Wait("another hand-over of stage 0 to be over", situation.hand_over_left)
    if situation.turn_in > 0:
        return _Wait("its turn among the masters", situation.turn_in, situation.turn_in > 1.0)
    if situation.turn_waits_for:
        return _Wait(situation.turn_waits_for, ASK_AGAIN_SECONDS, False, wants_turn=True)
    return moment


def _way_for(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    sandbox: Sandbox,
    occupancy: Occupancy,
    before: Track,
    track: Track,
    situation: Situation,
) -> _Moment | _Wait | None:
    """Return why it is the moment to make way for this parent, or what it is waited for."""
    mine = [c for c in occupancy.parent_running if c.sandbox_id == sandbox.id]
    idle = [c for c in occupancy.parent_others if c.sandbox_id == sandbox.id]
    active = _revision_of(checkpoint, manifest)
    template = template_of(sandbox.labels)
    against = hand_over.objection(
        checkpoint.record.hand_over, active, sandbox.uid, template, situation
    )
    if against is not None:
        return _Wait(*against)
    if active is not None and active.has_init and not idle and not _have_app(mine, active):
        return _Wait("its parent's init containers", is_long=False)
    is_fresh = sandbox.created_at > manifest.written_at
    if not mine and not idle:
        watch = 0.0 if is_fresh else situation.rules.backoff_watch_seconds
        return _Wait("its parent's containers to be made", watch, is_long=not is_fresh)
    is_answering = situation.contact.is_answering
    is_starting = any(c.state is ContainerState.CREATED for c in idle)
    is_starting = is_starting or any(_has_just_started(c, before) for c in mine)
    is_first = is_fresh and not any(c.state is ContainerState.EXITED for c in idle)
    if is_starting and (is_first or is_answering):
        return _Moment("its parent is being started and needs the ports", sandbox)
    if not is_answering:
        return None
    is_settled = situation.now - situation.contact.since >= situation.rules.hand_over_seconds
    if mine:
        if is_settled and _has_run_for(track, situation.rules.hand_over_seconds, situation.now):
            return _Moment("its parent runs and does not become Ready beside the copy", sandbox)
        return _Wait("its parent, which runs beside it, to be Ready")
    has_lost = checkpoint.record.hand_over.failures % 2 == 1 or track.parent_crashes > 0
    return _in_backoff(sandbox, idle, has_lost, situation)


def _in_backoff(
    sandbox: Sandbox, dead: list[Container], has_lost: bool, situation: Situation
) -> _Moment | _Wait | None:
    """Make way just ahead of the next start of a parent that has lost a start before.

    It takes its ports, or fails to, more quickly than any look at the runtime can tell.
    """
    if not dead:
        return None
    due_in = start_in(sandbox, dead, situation)
    if has_lost and due_in <= AHEAD_SECONDS:
        return _Moment("its parent is due to start and needs the ports", sandbox)
    rules = situation.rules
    ahead = max(due_in - AHEAD_SECONDS, rules.watch_seconds)
    watch = min(rules.backoff_watch_seconds, ahead)
    start = (sandbox.uid, due_in)
    return _Wait("its parent to be started again by the kubelet", watch, start=start)


def _is_made_anew(checkpoint: Checkpoint, active: Revision | None, situation: Situation) -> bool:
    """Tell whether a parent that the kubelet has refused is made anew once the copy is gone.

    Nobody makes a pod without a controller again. Nor does anybody make an API server's pod while
    it is itself the only one.
    """
    if not checkpoint.workload.has_controller:
        return False
    is_last_api = active is None or active.stage == 0
    return not is_last_api or situation.has_other_masters


def _have_app(running: list[Container], active: Revision) -> bool:
    return any(container.name in active.app_containers for container in running)


def _has_just_started(container: Container, before: Track) -> bool:
    """Tell whether this start of the parent is news: until now the agent saw it not running.

    Not for an agent that looks for the first time; the container may have run for long.
    """
    return before.parent_exits is not None and container.id not in before.parent_running


def _has_no_parent(pods: Fact[tuple[Pod, ...]], situation: Situation) -> bool:
    """Tell whether the API says that no parent will come up here before it says otherwise."""
    if situation.contact.state is not ContactState.REACHABLE or not isinstance(pods, Known):
        return False
    return not any(not p.terminating and not p.finished for p in pods.value)


def _has_run_for(track: Track, seconds: float, now: float) -> bool:
    return track.parent_since is not None and now - track.parent_since >= seconds


def _revision_of(checkpoint: Checkpoint, manifest: ActiveManifest) -> Revision | None:
    """Return the revision that is active, or the one to take when it does not verify any more."""
    active = (r for r in checkpoint.revisions if r.number == manifest.revision)
    return next(active, None) or choose_revision(checkpoint)


def _to_kill(active: Revision | None, moment: _Moment, occupancy: Occupancy) -> tuple[str, ...]:
    is_in_nobodys_way = moment.parent is None and active is not None and active.shares_ports
    if is_in_nobodys_way or (active is not None and active.graceful):
        return ()
    return tuple(c.id for c in occupancy.copy_running)


def _keep_alive(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    occupancy: Occupancy,
    track: Track,
    situation: Situation,
) -> Step:
    """Have the kubelet take a refused manifest anew; replace a copy that keeps crashing."""
    now = situation.now
    containers = [c for c in occupancy.copy_containers if c.pod_uid == manifest.uid]
    track = _with_excuse(track, containers)
    if any(c.state is ContainerState.RUNNING for c in containers):
        standing = Standing("active", _release_waits_for(situation))
        return Step(standing, _running(track, containers, now))
    track = replace(track, running_since=None)
    if _is_crashing(containers, track, situation.rules.crash_limit):
        return _fall_back(checkpoint, manifest, occupancy, track, situation)
    if _is_taken(manifest, occupancy, situation):
        return Step(Standing("active", "the kubelet to start its containers"), _again(track, now))
    kubelet = situation.kubelet
    if isinstance(kubelet, Known) and not kubelet.value.listening:
        return Step(Standing("active", "the kubelet, which is not running"), _again(track, now))
    return _issue_anew(checkpoint, manifest, track, situation)


def _issue_anew(
    checkpoint: Checkpoint, manifest: ActiveManifest, track: Track, situation: Situation
) -> Step:
    rules, now = situation.rules, situation.now
    waiting = Standing("active", "the kubelet to start it")
    revision = _revision_of(checkpoint, manifest)
    if not situation.contact.is_gone or revision is None:
        return Step(waiting, _again(track, now))
    assert track.activated_at is not None  # noqa: S101 - set by `release`
    patience = min(
        rules.confirm_seconds * 2.0 ** min(track.issues, 30), rules.confirm_limit_seconds
    )
    left = max(track.activated_at, track.confirmed_at or track.activated_at) + patience - now
    if left > 0:
        return Step(waiting, track, wake_in=left)
    action = Activate(
        checkpoint.workload,
        revision.number,
        _next_issue(checkpoint, manifest),
        f"the kubelet has not started it for {patience:.0f} s: issued anew",
    )
    track = replace(track, activated_at=now, issues=track.issues + 1, excused_attempts=0)
    return Step(waiting, track, action)


def _next_issue(checkpoint: Checkpoint, manifest: ActiveManifest) -> int:
    return max(checkpoint.record.issue, manifest.issue) + 1


def _again(track: Track, now: float) -> Track:
    return replace(track, confirmed_at=now, issues=0)


def _is_taken(manifest: ActiveManifest, occupancy: Occupancy, situation: Situation) -> bool:
    """Tell whether the kubelet has accepted the manifest: it made a sandbox in its current run.

    A dead sandbox from before a reboot proves nothing. Where the clock has gone back with it, as on
    a board without a battery, it looks younger than the kubelet, and is not of the past.
    """
    mine = [s for s in occupancy.copy_sandboxes if s.uid == manifest.uid]
    kubelet = situation.kubelet
    if isinstance(kubelet, Unknown):
        return bool(mine)
    now = (situation.wall + 1.0) * 1e9  # the clocks are not read at the same moment
    return any(s.ready or kubelet.value.started_at < s.created_at <= now for s in mine)


def _with_excuse(track: Track, containers: list[Container]) -> Track:
    if track.excused_attempts is not None or not containers:
        return track
    return replace(track, excused_attempts=max(c.attempt for c in containers))


def _running(track: Track, containers: list[Container], now: float) -> Track:
    since = now if track.running_since is None else track.running_since
    track = replace(track, confirmed_at=now, issues=0, running_since=since)
    if now - since < STEADY_SECONDS:
        return track
    return replace(track, excused_attempts=max(c.attempt for c in containers))


def _is_crashing(containers: list[Container], track: Track, limit: int) -> bool:
    exited = [c for c in containers if c.state is ContainerState.EXITED]
    return bool(exited) and max(c.attempt for c in exited) - (track.excused_attempts or 0) >= limit


def _fall_back(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    occupancy: Occupancy,
    track: Track,
    situation: Situation,
) -> Step:
    failed = tuple(sorted({*checkpoint.record.failed, manifest.revision}))
    sound = [r for r in checkpoint.revisions if r.number not in failed]
    if not sound:
        return Step(Standing("active", "it keeps crashing and there is no other revision"), track)
    if not situation.contact.is_gone:
        return Step(Standing("active", "the API to bring its parent: it keeps crashing"), track)
    action = Activate(
        checkpoint.workload,
        sound[0].number,
        _next_issue(checkpoint, manifest),
        f"revision {manifest.revision} keeps crashing",
        tuple(s.id for s in occupancy.copy_sandboxes if s.ready),
    )
    track = replace(track, activated_at=situation.now, issues=0, excused_attempts=0)
    record = replace(checkpoint.record, failed=failed)
    return Step(Standing("active", "the kubelet to start it"), track, action, record=record)


def _release_waits_for(situation: Situation) -> str:
    if situation.contact.state is ContactState.REACHABLE:
        return "its parent to come back"
    return "the API"
