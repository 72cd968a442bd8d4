"""Keeping an active copy alive: a manifest that the kubelet refused is issued anew, a copy that
keeps crashing gives its place to another revision.

A manifest is written again only while the API is gone: once it answers, the parent is what the
node waits for. But a copy of stage 0 that keeps crashing is replaced while another master answers,
too. Nor beside a parent that runs: it would fight it for its ports.
"""

from __future__ import annotations

from checkpointer.core.checkpoint import (
    ActiveManifest,
    Checkpoint,
    Revision,
    active_revision,
    choose_revision,
    main_container,
)
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.occupancy import Occupancy
from checkpointer.core.parent import (
    UP_SECONDS,
    has_lost_its_main,
    has_run_for,
    is_in_place,
    is_partly_dead,
)
from checkpointer.core.plan import Activate, Track
from checkpointer.core.runtime import Container, ContainerState
from checkpointer.core.situation import Situation, Step
from checkpointer.core.standing import Standing
from checkpointer.values import replace

STEADY_SECONDS = 600.0
"""How long a copy must run for its restarts to be forgiven: the kubelet's backoff resets then."""

BARE_SECONDS = 120.0
"""How long the kubelet may take from a copy's sandbox to its containers: it may pull an image."""


def keep_alive(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    occupancy: Occupancy,
    track: Track,
    situation: Situation,
) -> Step:
    """Have the kubelet take a refused manifest anew; replace a copy that keeps crashing."""
    now = situation.now
    containers = [c for c in occupancy.copy_containers if c.pod_uid == manifest.uid]
    if track.excused_attempts is None:
        track = _with_first_look(checkpoint, manifest, occupancy, containers, track, situation)
    running = {c.name for c in containers if c.state is ContainerState.RUNNING}
    dead = [c for c in containers if c.state is ContainerState.EXITED and c.name not in running]
    standing = Standing("active", _release_waits_for(situation))
    made = {c.name for c in containers}
    track = _with_bareness(checkpoint, manifest, occupancy, made, track, situation)
    fault = _fault(checkpoint, manifest, track, situation)
    if running and not dead and not fault:
        return Step(standing, _running(track, containers, now))
    if track.running_since is not None:
        track = replace(track, running_since=None)
    active = active_revision(checkpoint, manifest)
    stage = active.stage if active else 1
    if is_in_place(stage, track, occupancy) and not _is_down(
        checkpoint, active, occupancy, situation
    ):
        return Step(Standing("active", "its parent, which runs"), _beside(track, containers, now))
    if running and not situation.contact.is_gone:  # its main one may serve
        main = main_container(checkpoint.workload, active) if active else None
        dead = [c for c in dead if c.name == main]
    if not fault and _is_crashing(dead, track, situation.rules.crash_limit):
        fault = "keeps crashing"
    if fault:
        return _fall_back(checkpoint, manifest, fault, occupancy, track, situation)
    is_taken = _is_taken(manifest, occupancy, situation)
    if running and (is_taken or not dead or not situation.contact.is_gone):
        return Step(standing, _again(track, now))
    if is_taken:
        return Step(Standing("active", "the kubelet to start its containers"), _again(track, now))
    kubelet = situation.kubelet
    if isinstance(kubelet, Known) and not kubelet.value.listening:
        return Step(Standing("active", "the kubelet, which is not running"), _again(track, now))
    return _issue_anew(checkpoint, manifest, occupancy, track, situation)


def _is_down(
    checkpoint: Checkpoint, active: Revision | None, occupancy: Occupancy, situation: Situation
) -> bool:
    """Tell whether the parent, of which some runs, is no reason to leave its copy dead.

    While nobody answers, whatever of it is dead may be what serves.
    """
    if active is None or active.stage > 0:
        return False
    if situation.contact.is_gone and is_partly_dead(occupancy):
        return True
    is_known = main_container(checkpoint.workload, active) is not None
    return is_known and has_lost_its_main(occupancy, checkpoint.workload, active)


def _may_replace(active: Revision | None, situation: Situation) -> bool:
    """Tell whether another revision may take the place of a copy that keeps crashing.

    With the API there, of stage 0 only, where another master may be what serves it. What is of a
    later stage waits for its parent then, which can be made.
    """
    is_first = active is not None and active.stage == 0
    is_reachable = situation.contact.state is ContactState.REACHABLE
    return situation.contact.is_gone or (is_first and is_reachable and situation.has_other_masters)


def _issue_anew(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    occupancy: Occupancy,
    track: Track,
    situation: Situation,
) -> Step:
    rules, now = situation.rules, situation.now
    waiting = Standing("active", "the kubelet to start it")
    revision = active_revision(checkpoint, manifest)
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
        to_stop(occupancy),
    )
    track = replace(track, activated_at=now, issues=track.issues + 1, excused_attempts=0)
    return Step(waiting, track, action)


def _next_issue(checkpoint: Checkpoint, manifest: ActiveManifest) -> int:
    return max(checkpoint.record.issue, manifest.issue) + 1


def to_stop(occupancy: Occupancy) -> tuple[str, ...]:
    """Return the sandboxes of copies that the next one replaces."""
    return tuple(s.id for s in occupancy.copy_sandboxes if s.ready)


def _again(track: Track, now: float) -> Track:
    """Return the track in which the kubelet's time to start the copy begins anew."""
    return replace(track, confirmed_at=now, issues=0)


def _is_taken(manifest: ActiveManifest, occupancy: Occupancy, situation: Situation) -> bool:
    """Tell whether the kubelet has accepted the manifest: it made something in its current run.

    What was made before proves nothing: the sandbox may have died in a reboot, or be ready still,
    of a copy that ran on while the kubelet started anew and refused it. Where the clock has gone
    back with a reboot, as on a board without a battery, what is of the past looks younger than the
    kubelet; where it has since the kubelet's start, nothing can be compared.
    """
    mine = [s for s in occupancy.copy_sandboxes if s.uid == manifest.uid]
    kubelet = situation.kubelet
    if isinstance(kubelet, Unknown):
        return bool(mine)
    now = (situation.wall + 1.0) * 1e9  # the clocks are not read at the same moment
    started_at = kubelet.value.started_at
    if started_at > now:
        return any(s.ready for s in mine)
    made = [s.created_at for s in mine]
    made += [c.created_at for c in occupancy.copy_containers if c.pod_uid == manifest.uid]
    return any(started_at < created_at <= now for created_at in made)


def _with_first_look(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    occupancy: Occupancy,
    containers: list[Container],
    track: Track,
    situation: Situation,
) -> Track:
    """Return the track with the deaths that this run of the agent finds excused, or counted.

    Attempts add up over power cuts, so that those of a copy that was issued in an earlier boot say
    nothing, nor of one that ran for long since. Any others are crashes that nobody was there to
    see, but for those beside a parent that is up: where one runs, time tells whether it is. The
    kubelet is minutes deep in its backoff by then, and three more would take as many times longer.
    """
    record = checkpoint.record
    was_told = bool(record.issued_in) and record.issue == manifest.issue
    newest = max((c.created_at for c in containers), default=0)
    is_recent = situation.wall - newest / 1e9 < STEADY_SECONDS
    if was_told and record.issued_in == situation.boot_id and is_recent:
        return track if occupancy.parent_running else replace(track, excused_attempts=0)
    return _excused(track, containers)


def _excused(track: Track, containers: list[Container]) -> Track:
    """Return the track in which no death of the copy so far is held against its revision."""
    if not containers:
        return track
    return replace(track, excused_attempts=max(c.attempt for c in containers))


def _beside(track: Track, containers: list[Container], now: float) -> Track:
    """Return the track of a copy that does not run while its parent does.

    What it died of beside one that is up, its ports taken, says nothing of its revision.
    """
    track = _again(track, now)
    return _excused(track, containers) if has_run_for(track, UP_SECONDS, now) else track


def _running(track: Track, containers: list[Container], now: float) -> Track:
    since = now if track.running_since is None else track.running_since
    track = replace(track, confirmed_at=now, issues=0, running_since=since)
    return _excused(track, containers) if now - since >= STEADY_SECONDS else track


def _is_crashing(dead: list[Container], track: Track, limit: int) -> bool:
    return bool(dead) and max(c.attempt for c in dead) - (track.excused_attempts or 0) >= limit


def _with_bareness(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    occupancy: Occupancy,
    made: set[str],
    track: Track,
    situation: Situation,
) -> Track:
    """Return the track with since when the kubelet has taken the copy and not made all of it.

    `made` are the names of its app containers. Only while the API is gone: nothing else brings it
    then. Not where it may still be at the init containers.
    """
    revision = active_revision(checkpoint, manifest)
    is_bare = (
        revision is not None
        and not made.issuperset(revision.app_containers)
        and situation.contact.is_gone
        and (bool(made) or not revision.has_init)
        and _is_taken(manifest, occupancy, situation)
    )
    since = track.bare_since
    if is_bare and (since is None or since[0] != manifest.uid):
        return replace(track, bare_since=(manifest.uid, situation.now))
    return track if is_bare or since is None else replace(track, bare_since=None)


def _fault(
    checkpoint: Checkpoint, manifest: ActiveManifest, track: Track, situation: Situation
) -> str:
    """Return why the active revision gives its place to another one, whatever of it runs; or "".

    The record that gives it up is written before the other one's manifest: whoever died in between,
    or could not write it, has left it so. One of which no container is made (its image is gone)
    is left only for one that is known to be good: it may be on its way.
    """
    record = checkpoint.record
    others = [r.number for r in checkpoint.revisions if r.number != manifest.revision]
    sound = [number for number in others if number not in record.failed]
    if manifest.revision in record.failed and situation.contact.is_gone and sound:
        return "has failed as a copy"
    bare_for = situation.now - track.bare_since[1] if track.bare_since else 0.0
    if bare_for >= BARE_SECONDS and any(number in record.good for number in sound):
        return f"has lacked a container for {BARE_SECONDS:.0f} s"
    return ""


def _fall_back(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    fault: str,
    occupancy: Occupancy,
    track: Track,
    situation: Situation,
) -> Step:
    failed = tuple(sorted({*checkpoint.record.failed, manifest.revision}))
    record = replace(checkpoint.record, failed=failed)
    revision = choose_revision(replace(checkpoint, record=record))
    if revision is None or revision.number in failed:
        return Step(Standing("active", "it keeps crashing and there is no other revision"), track)
    if not _may_replace(active_revision(checkpoint, manifest), situation):
        return Step(Standing("active", "the API to bring its parent: it keeps crashing"), track)
    action = Activate(
        checkpoint.workload,
        revision.number,
        _next_issue(checkpoint, manifest),
        f"revision {manifest.revision} {fault}",
        to_stop(occupancy),
    )
    track = replace(track, activated_at=situation.now, issues=0, excused_attempts=0)
    return Step(Standing("active", "the kubelet to start it"), track, action, record=record)


def _release_waits_for(situation: Situation) -> str:
    if situation.contact.state is ContactState.REACHABLE:
        return "its parent to come back"
    return "the API"
