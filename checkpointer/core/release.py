"""Whether an active checkpoint must be released, issued anew, or replaced by the one before.

Release in its plain form: when the parent is back. What refines it (timing ahead of a parent's
backoff, hand-over slots across masters, the last known good) belongs here too: each is a
condition between `_parent_is_back` and the `Release` that follows.

A manifest is written again, as a new issue or with another revision, only while the API is gone:
once it answers, the parent is what the node waits for.
"""

from __future__ import annotations

from dataclasses import replace

from checkpointer.core.activation import choose_revision
from checkpointer.core.checkpoint import ActiveManifest, Checkpoint, Revision
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.observation import Pod
from checkpointer.core.occupancy import Occupancy, is_current
from checkpointer.core.plan import Activate, Release, Standing, Track
from checkpointer.core.runtime import Container, ContainerState, Sandbox
from checkpointer.core.situation import Situation, Step

STEADY_SECONDS = 600.0
"""How long a copy must run for its restarts to be forgiven: the kubelet's backoff resets then."""

FALSE_READY_SECONDS = 10.0
"""How long a parent must have run for its Ready to count beside a copy on the same ports: until
it fails on the port, its probe is answered by the copy (seen on 1.36: Ready, dead 0.7 s later)."""

LONGEST_WAIT = 6
"""Failed hand-overs that double the wait for the next one; then it stays as long."""


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
    track = _with_parent(track, occupancy.value, situation.now)
    reason = _parent_is_back(checkpoint, manifest, pods, occupancy.value, track, situation)
    if reason is not None:
        kill = _to_kill(checkpoint, manifest, occupancy.value)
        action = Release(checkpoint.workload, manifest.file_name, reason, kill)
        return Step(
            Standing("standby", "the parent to be Ready"),
            replace(track, released_at=situation.now, down_since=None),
            action,
            failed=(),
        )
    return _keep_alive(checkpoint, manifest, occupancy.value, track, situation)


def _parent_is_back(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    pods: Fact[tuple[Pod, ...]],
    occupancy: Occupancy,
    track: Track,
    situation: Situation,
) -> str | None:
    """Return why the copy may go, or None.

    A Ready that the API remembers from before the outage does not count: the status must speak
    of containers that the runtime shows running. A parent that cannot become Ready beside its
    copy is given way as soon as its sandbox appears: the kubelet makes it only after it has
    fetched and mounted what the pod needs, and its first start comes a fifth of a second later.
    What shares no ports waits for such a sign: released without one, and the parent not coming
    up, it would be activated and released in turn.
    """
    is_reachable = situation.contact.state is ContactState.REACHABLE
    wanted = [p for p in pods.value if not p.terminating] if isinstance(pods, Known) else []
    running = {(c.pod_uid, c.id) for c in occupancy.parent_running}
    shares_ports = _shares_ports(checkpoint, manifest)
    can_trust = shares_ports or _has_run_for(track, FALSE_READY_SECONDS, situation.now)
    if is_reachable and can_trust and any(p.ready and is_current(p, running) for p in wanted):
        return "its parent is Ready"
    if shares_ports:
        if is_reachable and wanted and not any(p.is_parent or p.finished for p in wanted):
            return "its parent is not selected any more"
        return None
    if any(_is_new(sandbox, manifest, track) for sandbox in occupancy.parent_sandboxes):
        return "its parent's sandbox is up and needs the ports"
    if is_reachable and wanted and _is_settled(track, situation):
        if occupancy.parent_sandboxes:
            return "its parent's sandbox is up and does not become Ready beside the copy"
        if all(p.finished for p in wanted):
            return "its parent was refused beside the copy"
    return None


def _with_parent(track: Track, occupancy: Occupancy, now: float) -> Track:
    running = frozenset(c.id for c in occupancy.parent_running)
    if running == track.parent_running:
        return track
    return replace(track, parent_running=running, parent_since=now if running else None)


def _has_run_for(track: Track, seconds: float, now: float) -> bool:
    return track.parent_since is not None and now - track.parent_since >= seconds


def _is_settled(track: Track, situation: Situation) -> bool:
    """Tell whether contact has lasted long enough to give way to a parent that is not up.

    Each hand-over that failed doubles the wait, so that a parent that cannot start does not
    take the copy down again and again.
    """
    wait = situation.rules.hand_over_seconds * 2.0 ** min(track.failed_hand_overs, LONGEST_WAIT)
    return situation.now - situation.contact.since >= wait


def _is_new(sandbox: Sandbox, manifest: ActiveManifest, track: Track) -> bool:
    """Tell whether a parent's sandbox was made after the activation.

    File times and the runtime's share the node's clock, but it may have jumped; what this run
    of the agent has seen needs no clock.
    """
    if track.known_sandboxes is None:
        return sandbox.created_at > manifest.written_at
    return sandbox.id not in track.known_sandboxes


def _revision_of(checkpoint: Checkpoint, manifest: ActiveManifest) -> Revision | None:
    """Return the revision that is active, or the one to take when it does not verify any more."""
    active = (r for r in checkpoint.revisions if r.number == manifest.revision)
    return next(active, None) or choose_revision(checkpoint)


def _shares_ports(checkpoint: Checkpoint, manifest: ActiveManifest) -> bool:
    revision = _revision_of(checkpoint, manifest)
    return revision is not None and revision.shares_ports


def _to_kill(
    checkpoint: Checkpoint, manifest: ActiveManifest, occupancy: Occupancy
) -> tuple[str, ...]:
    if _shares_ports(checkpoint, manifest):
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

    A dead sandbox from before a reboot proves nothing.
    """
    mine = [s for s in occupancy.copy_sandboxes if s.uid == manifest.uid]
    kubelet = situation.kubelet
    if isinstance(kubelet, Unknown):
        return bool(mine)
    return any(s.ready or s.created_at > kubelet.value.started_at for s in mine)


def _with_excuse(track: Track, containers: list[Container]) -> Track:
    if track.excused_attempts is not None or not containers:
        return track
    return replace(track, excused_attempts=max(c.attempt for c in containers))


def _running(track: Track, containers: list[Container], now: float) -> Track:
    since = now if track.running_since is None else track.running_since
    track = replace(_again(track, now), running_since=since)
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
    return Step(Standing("active", "the kubelet to start it"), track, action, failed=failed)


def _release_waits_for(situation: Situation) -> str:
    if situation.contact.state is ContactState.REACHABLE:
        return "its parent to come back"
    return "the API"
