"""The decision on a checkpoint that an operator holds: see `core.hold`.

While it is held active it is kept up like any active checkpoint; only its parent's return does
not release it. While it is held released nothing activates it, whatever contact is.
"""

from __future__ import annotations

from checkpointer.core.checkpoint import (
    ActiveManifest,
    Checkpoint,
    HandOver,
    Revision,
    choose_revision,
)
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.hold import ACTIVE, HELD, Hold, hold_of
from checkpointer.core.keeping import to_stop
from checkpointer.core.moment import Moment
from checkpointer.core.occupancy import Occupancy
from checkpointer.core.plan import Activate, Kill, Release, Track
from checkpointer.core.release import release
from checkpointer.core.situation import Situation, Step
from checkpointer.core.standing import Standing
from checkpointer.values import replace

KILL_AFTER_SECONDS = 30.0
"""How long the kubelet may take to stop a copy whose manifest was taken out by hand. One that has
not reached the API since it started never does (kubelet-facts.md 4.2)."""

LOOK_AGAIN_SECONDS = 1.0


def held(
    checkpoint: Checkpoint,
    manifest: ActiveManifest | None,
    occupancy: Fact[Occupancy],
    track: Track,
    situation: Situation,
) -> Step | None:
    """Decide on a checkpoint that is held now; None when it is not."""
    now = Moment(situation.boot_id, situation.now, situation.wall)
    hold = hold_of(checkpoint, now)
    if hold is None:
        return None
    if hold.wanted == ACTIVE:
        if manifest is None:
            step = _activate(checkpoint, hold, occupancy, track, situation)
        else:
            step = _keep(checkpoint, manifest, occupancy, track, situation)
    else:
        step = _take_out(checkpoint, manifest, occupancy, track, situation)
    wakes = [step.wake_in] if step.wake_in is not None else []
    if hold.until:
        wakes.append(hold.seconds_left(now))
    standing = Standing(HELD, step.standing.waits_for or _told(hold))
    return replace(step, standing=standing, wake_in=min(wakes, default=None))


def _told(hold: Hold) -> str:
    return f"its hold to be lifted ({hold})"


def _activate(
    checkpoint: Checkpoint,
    hold: Hold,
    occupancy: Fact[Occupancy],
    track: Track,
    situation: Situation,
) -> Step:
    revision = _revision_of(checkpoint, hold)
    if revision is None:
        return Step(Standing(HELD, _nothing_to_activate(hold)), track)
    if isinstance(occupancy, Unknown):
        waiting = Standing(HELD, f"the runtime: {occupancy.reason}")
        return Step(waiting, track, wake_in=LOOK_AGAIN_SECONDS)
    track = _with_release(track, occupancy.value, situation.now)
    if not hold.force and _is_in_the_way(revision, occupancy.value, track, situation.now):
        waiting = Standing(HELD, "what runs of it to end: it is held active")
        return Step(waiting, track, wake_in=LOOK_AGAIN_SECONDS)
    action = Activate(
        checkpoint.workload,
        revision.number,
        checkpoint.record.issue + 1,
        f"by hand, {hold.by}" + (f": {hold.reason}" if hold.reason else ""),
        to_stop(occupancy.value),
    )
    track = replace(
        track,
        activated_at=situation.now,
        confirmed_at=None,
        issues=0,
        excused_attempts=0,
        running_since=None,
        released_at=None,
        down_since=None,
    )
    failed = tuple(n for n in checkpoint.record.failed if n != revision.number)
    record = replace(checkpoint.record, failed=failed)  # a hand knows better: it is tried again
    waiting = Standing(HELD, "the kubelet to start it")
    return Step(waiting, track, action, LOOK_AGAIN_SECONDS, record=record)


def _with_release(track: Track, occupancy: Occupancy, now: float) -> Track:
    """Return the track with the time from which a copy without its manifest is to end."""
    if track.released_at is not None or not occupancy.copy_running:
        return track
    return replace(track, released_at=now)


def _is_in_the_way(revision: Revision, occupancy: Occupancy, track: Track, now: float) -> bool:
    """Tell whether what runs is to end by itself before a copy is activated by hand.

    A copy that was taken out is waited for as long as the kubelet may take to stop it; not one of
    which a container is dead, since nobody starts that again, unless it is never to be killed.
    """
    if occupancy.parent_running:
        return True
    may_end = bool(occupancy.copy_running) and (occupancy.is_copy_whole or revision.graceful)
    return may_end and now - (track.released_at or now) < KILL_AFTER_SECONDS


def _keep(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    occupancy: Fact[Occupancy],
    track: Track,
    situation: Situation,
) -> Step:
    """Keep it up as `release` does for one whose parent shows no sign of life."""
    alone = occupancy
    if isinstance(occupancy, Known):
        alone = Known(replace(occupancy.value, parent_sandboxes=(), parent_running=()))
    step = release(checkpoint, manifest, Unknown("it is held active"), alone, track, situation)
    if isinstance(occupancy, Known) and occupancy.value.copy_running:
        return replace(step, standing=Standing(HELD))
    return replace(step, wake_in=min(step.wake_in or LOOK_AGAIN_SECONDS, LOOK_AGAIN_SECONDS))


def _take_out(
    checkpoint: Checkpoint,
    manifest: ActiveManifest | None,
    occupancy: Fact[Occupancy],
    track: Track,
    situation: Situation,
) -> Step:
    """Take the manifest out; the kubelet stops the copy in its own way, or else it is killed."""
    now = situation.now
    if manifest is not None:
        action = Release(checkpoint.workload, manifest.file_name, "by hand")
        track = replace(track, released_at=now, down_since=None)
        waiting = Standing(HELD, "the released copy to end")
        record = replace(checkpoint.record, failed=(), hand_over=HandOver())
        return Step(waiting, track, action, LOOK_AGAIN_SECONDS, record=record)
    if isinstance(occupancy, Unknown) or not occupancy.value.copy_running:
        if isinstance(occupancy, Known):
            track = replace(track, released_at=None, down_since=None)
        return Step(Standing(HELD), track)
    track = _with_release(track, occupancy.value, now)
    waiting = Standing(HELD, "the released copy to end")
    assert track.released_at is not None  # noqa: S101 - for the type checker
    left = track.released_at + KILL_AFTER_SECONDS - now
    if left > 0:
        return Step(waiting, track, wake_in=min(left, LOOK_AGAIN_SECONDS))
    kill = Kill(checkpoint.workload, tuple(c.id for c in occupancy.value.copy_running))
    return Step(waiting, track, kill, LOOK_AGAIN_SECONDS)


def _revision_of(checkpoint: Checkpoint, hold: Hold) -> Revision | None:
    if not hold.revision:
        return choose_revision(checkpoint)
    return next((r for r in checkpoint.revisions if r.number == hold.revision), None)


def _nothing_to_activate(hold: Hold) -> str:
    if hold.revision:
        return f"revision {hold.revision}, which is not stored or does not verify"
    return "a revision that verifies: none does"
