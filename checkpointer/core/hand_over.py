"""The hand-over: the copy has made way, and the parent is to be back before a deadline.

It is kept in the workload's record, so that an agent that starts anew knows of it. Until the
deadline the absence of the API is what was to be expected, not a loss. A parent that is not back
in time gets its copy back, and the next try waits twice as long. One that had its ports and
failed all the same is not given way to again until something about it has changed: its template,
or, for the same pod, its spec or what it mounts. But where the copy that runs was made of the
same template, the template is proved: what failed was around it, and that may change unseen.
"""

from __future__ import annotations

from collections.abc import Iterable

from checkpointer.core.checkpoint import (
    Checkpoint,
    HandOver,
    Record,
    Revision,
    main_container,
)
from checkpointer.core.facts import Fact, Known
from checkpointer.core.observation import Pod
from checkpointer.core.occupancy import Occupancy
from checkpointer.core.plan import Track
from checkpointer.core.short_lives import is_short_lived
from checkpointer.core.situation import Situation
from checkpointer.core.workload import template_of
from checkpointer.values import replace

CRASHES = 2
"""Deaths of the parent that end a hand-over before its deadline. One may be a lost race for the
port: the copy was still there when the parent first tried."""

LONGEST_WAIT = 6
"""Failed hand-overs that double the wait for the next one; then it stays as long."""


def begun(last: HandOver, uid: str, template: str, situation: Situation) -> HandOver:
    """Return the hand-over to this parent; `last` tells what failed before."""
    return replace(
        last,
        to=uid,
        template=template,
        boot_id=situation.boot_id,
        since=situation.now,
        is_owed=False,
    )


def ended(way: HandOver) -> HandOver:
    """Return what stays of one that is not under way any more."""
    return replace(way, to="", is_owed=False) if way.to else way


def is_under_way(hand_over: HandOver, boot_id: str) -> bool:
    """Tell whether one is under way; a reboot ends it."""
    return bool(hand_over.to) and hand_over.boot_id == boot_id


def time_left(hand_over: HandOver, situation: Situation) -> float:
    """Return the seconds until the deadline of one that is under way.

    One that began later than now is of another boot, though the boots could not be told apart.
    """
    if hand_over.since > situation.now:
        return 0.0
    return hand_over.since + situation.rules.hand_over_seconds - situation.now


def with_hand_overs(situation: Situation, checkpoints: Iterable[Checkpoint]) -> Situation:
    """Return the situation with every hand-over of stage 0 that the records tell of."""
    for checkpoint in checkpoints:
        situation = with_hand_over(situation, checkpoint, checkpoint.record)
    return situation


def with_hand_over(situation: Situation, checkpoint: Checkpoint, record: Record) -> Situation:
    """Return the situation with a hand-over of stage 0 that is under way, or has just begun."""
    left = stage_zero_left(checkpoint, record, situation)
    if left <= situation.hand_over_left:
        return situation
    return replace(situation, hand_over_left=left)


def stage_zero_left(checkpoint: Checkpoint, record: Record, situation: Situation) -> float:
    """Return the seconds until the deadline of a hand-over of stage 0; 0 when none is under way."""
    is_stage_zero = bool(checkpoint.revisions) and checkpoint.revisions[0].stage == 0
    if not is_stage_zero or not is_under_way(record.hand_over, situation.boot_id):
        return 0.0
    return max(0.0, time_left(record.hand_over, situation))


def failed(
    checkpoint: Checkpoint, occupancy: Occupancy, track: Track, situation: Situation
) -> HandOver:
    """Return what to remember of a parent that was not back in time; its copy is owed from now on.

    What failed is the parent that is there: a rollout may have put it in the place of the one that
    was given way to. One that never got to start, or lost one race for the port, may be fine; so
    may one of which only a plugin runs.
    """
    hand_over = checkpoint.record.hand_over
    uid, template = hand_over.to, hand_over.template
    if occupancy.parent_sandboxes:
        newest = max(occupancy.parent_sandboxes, key=lambda sandbox: sandbox.created_at)
        uid, template = newest.uid, template_of(newest.labels)
    way = replace(
        hand_over,
        to=uid,
        template=template,
        boot_id=situation.boot_id,
        since=situation.now,
        failures=hand_over.failures + 1,
        is_owed=True,
    )
    mains = {main_container(checkpoint.workload, r) for r in checkpoint.revisions}
    runs = any(None in mains or c.name in mains for c in occupancy.parent_running)
    had_its_chance = track.parent_crashes >= CRASHES or runs
    if not had_its_chance and not is_short_lived(track, situation.rules):
        return way
    return replace(way, refused=uid, refused_template=template, refused_signature="")


def informed(hand_over: HandOver, pods: Fact[tuple[Pod, ...]]) -> HandOver:
    """Return it with what the API tells of the refused parent; forget it once it has changed.

    Once it is gone, with another in its place, one of its template may be tried after the wait:
    whoever has mended what it mounts has deleted it.
    """
    if not hand_over.refused or not isinstance(pods, Known):
        return hand_over
    pod = _find(pods.value, hand_over.refused)
    if pod is None and hand_over.refused_template and any(p.stays for p in pods.value):
        return replace(hand_over, refused="", refused_signature="")
    if pod is None or not pod.content_signature:
        return hand_over
    if not hand_over.refused_signature:
        return replace(hand_over, refused_signature=pod.content_signature)
    if hand_over.refused_signature == pod.content_signature:
        return hand_over
    return replace(hand_over, refused="", refused_template="", refused_signature="", failures=0)


def objection(
    hand_over: HandOver, active: Revision | None, uid: str, template: str, situation: Situation
) -> tuple[str, float] | None:
    """Return what the copy waits for before it may make way for this parent, and how long.

    `active` is the copy's revision. The time is 0 where only a change of the parent can end it.
    None when nothing stands against it.
    """
    if has_refused(hand_over):
        is_like = bool(template) and template == hand_over.refused_template
        if uid != hand_over.refused and not is_like:
            return None
        if hand_over.refused and (active is None or not _is_made_of(active, uid, template)):
            return "its parent to be changed: it failed when it was given way", 0.0
    wait = _wait_left(hand_over, situation)
    return (f"the next try to hand over, {wait:.0f} s more", wait) if wait > 0 else None


def has_refused(hand_over: HandOver) -> bool:
    """Tell whether a parent has failed that had all it needed, be it there still or not."""
    return bool(hand_over.refused or hand_over.refused_template)


def _is_made_of(revision: Revision, uid: str, template: str) -> bool:
    return revision.template == template if template else revision.parent_uid == uid


def _wait_left(hand_over: HandOver, situation: Situation) -> float:
    is_of_another_boot = hand_over.boot_id != situation.boot_id or hand_over.since > situation.now
    if not hand_over.failures or is_of_another_boot:
        return 0.0
    doubled = 2.0 ** min(hand_over.failures, LONGEST_WAIT)
    return hand_over.since + situation.rules.hand_over_seconds * doubled - situation.now


def _find(pods: Iterable[Pod], uid: str) -> Pod | None:
    return next((pod for pod in pods if pod.uid == uid), None)
