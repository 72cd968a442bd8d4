"""Whether an inactive checkpoint must be activated: all conditions of the design's section 7.

Every condition that cannot be told holds the decision: a copy beside a running parent fights
it for its ports, so "could not tell" never starts one. A checkpoint whose copy has just made way
for its parent goes by the hand-over's own rules: its deadline, not the loss of contact.
"""

from __future__ import annotations

from checkpointer.core import hand_over
from checkpointer.core.backoff import is_made_since
from checkpointer.core.checkpoint import Checkpoint, Revision, choose_revision
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.observation import Pod
from checkpointer.core.occupancy import Occupancy
from checkpointer.core.parent import (
    UP_SECONDS,
    has_lost_its_main,
    has_run_for,
    is_in_place,
    is_partly_dead,
    with_parent,
)
from checkpointer.core.plan import Kill, Track
from checkpointer.core.short_lives import is_short_lived, with_short_lives
from checkpointer.core.situation import Situation, Step
from checkpointer.core.standing import Standing
from checkpointer.core.under_way import grace_left, start_copy, under_way
from checkpointer.values import replace


def activation(
    checkpoint: Checkpoint,
    pods: Fact[tuple[Pod, ...]],
    occupancy: Fact[Occupancy],
    track: Track,
    situation: Situation,
) -> Step:
    """Decide on a checkpoint that has no manifest in the kubelet's folder.

    `pods` are the API's pods of this workload on this node.
    """
    contact = situation.contact
    revision = choose_revision(checkpoint)
    if revision is None:
        return Step(Standing("unusable", "no stored revision verifies"), track)
    if isinstance(occupancy, Known):
        before, track = track, with_parent(track, occupancy.value, situation.now)
        track = with_short_lives(checkpoint, occupancy.value, before, track, situation)
        track = _with_successor(track, occupancy.value, situation)
        interrupted = _rest_of_release(checkpoint, revision, occupancy.value)
        if interrupted is not None:
            return Step(Standing("standby", "the released copy to end"), track, interrupted)
    if hand_over.is_under_way(checkpoint.record.hand_over, situation.boot_id):
        return under_way(checkpoint, revision, pods, occupancy, track, situation)
    if contact.state is not ContactState.LOST:
        return Step(Standing("standby"), _at_rest(track))
    if not contact.is_gone:
        return Step(Standing("waiting", "the API, which answers again"), track)
    if isinstance(occupancy, Unknown):
        return Step(Standing("frozen", f"the runtime: {occupancy.reason}"), track)
    found = occupancy.value
    is_up = is_in_place(revision.stage, track, found) and not _is_lost_in_part(
        checkpoint, revision, found, track, situation
    )
    if found.is_copy_whole or is_up:
        standing = Standing("standby", "nothing: its containers run")
        return Step(standing, _up(revision.stage, track, found, situation))
    track = replace(
        track, down_since=situation.now if track.down_since is None else track.down_since
    )
    waiting = _wait(revision, found, track, situation)
    if waiting is not None:
        seconds, reason = waiting
        return Step(Standing("waiting", f"{reason}, {seconds:.0f} s more"), track, wake_in=seconds)
    return _activate(checkpoint, revision.stage, found, track, situation)


def _with_successor(track: Track, occupancy: Occupancy, situation: Situation) -> Track:
    """Return the track in which no parent is leaving where another one has begun since.

    What was made after the API's last word is not what it took away.
    """
    told = situation.contact.last_answer
    if not track.was_leaving or told is None:
        return track
    told_at = situation.wall - (situation.now - told)
    is_new = any(c.created_at / 1e9 > told_at for c in occupancy.parent_running)
    return replace(track, was_leaving=False) if is_new else track


def _at_rest(track: Track) -> Track:
    """Return the track of a workload that is not missed; the same object when it is so already."""
    if track.down_since is None and not track.parent_crashes:
        return track
    return replace(track, down_since=None, parent_crashes=0)


def _wait(
    revision: Revision, occupancy: Occupancy, track: Track, situation: Situation
) -> tuple[float, str] | None:
    """Return for how many seconds the activation waits, and for what; None when it is time."""
    patience = _patience(revision, occupancy, track, situation)
    if patience > 0:
        return patience, "the kubelet to restart it"
    assert track.down_since is not None  # noqa: S101 - the caller has just set it
    grace = grace_left(revision, occupancy, track.down_since, situation)
    if grace > 0:
        return grace, "the released copy to end"
    if situation.hand_over_left > 0:
        return situation.hand_over_left, "the hand-over of stage 0 to be over"
    if revision.stage > 0 and situation.stage_opens_in > 0:
        return situation.stage_opens_in, "stage 0 to bring contact back"
    return None


def _activate(
    checkpoint: Checkpoint, stage: int, occupancy: Occupancy, track: Track, situation: Situation
) -> Step:
    record, reason = checkpoint.record, f"contact lost ({situation.contact.reason})"
    is_crashing = _is_crashing(stage, track, situation)
    if is_crashing:
        way = hand_over.failed(checkpoint, occupancy, track, situation)
        record = replace(record, hand_over=way)
        reason += " and its parent keeps crashing"
    elif occupancy.copy_running:
        reason += " and its copy that was taken out is partly dead"
    elif occupancy.parent_running:
        reason += " and its parent is partly dead"
    else:
        reason += " and nothing of it runs"
    return start_copy(checkpoint, record, reason, is_crashing, occupancy, track, situation)


def _up(stage: int, track: Track, occupancy: Occupancy, situation: Situation) -> Track:
    """Return the track of a workload that runs: in stage 0 it is up once it has for a while."""
    has_run = has_run_for(track, UP_SECONDS, situation.now)
    if track.down_since is not None and (stage > 0 or occupancy.is_copy_whole or has_run):
        return replace(track, down_since=None)
    return track


def _patience(
    revision: Revision, occupancy: Occupancy, track: Track, situation: Situation
) -> float:
    """Return for how many seconds more the kubelet may bring the parent back by itself.

    It will not when it started after our last contact: then it does not know the pod. Nor when
    the API took the pod away before it went itself, as in the rollout of an API server: its
    successor cannot be made without it. A later stage's container that keeps dying while its
    sandbox lives is one that the kubelet keeps restarting, in its longest backoff at worst.
    """
    assert track.down_since is not None  # noqa: S101 - the caller has just set it
    if revision.stage == 0 and track.was_leaving:
        return 0.0
    if _is_crashing(revision.stage, track, situation) or not _kubelet_may_know_parent(
        occupancy, situation
    ):
        return 0.0
    grace = situation.rules.grace_seconds
    if revision.stage > 0 and occupancy.parent_sandboxes:
        grace = max(grace, situation.rules.backoff_limit_seconds)
    return track.down_since + grace - situation.now


def _is_crashing(stage: int, track: Track, situation: Situation) -> bool:
    """Tell whether the parent keeps dying by itself.

    What is not stage 0 dies for the API's absence, and so would its copy.
    """
    is_crashing = track.parent_crashes >= situation.rules.parent_crash_limit
    return stage == 0 and (is_crashing or is_short_lived(track, situation.rules))


def _is_lost_in_part(
    checkpoint: Checkpoint,
    revision: Revision,
    occupancy: Occupancy,
    track: Track,
    situation: Situation,
) -> bool:
    """Tell whether what runs of a stage-0 parent is not enough: its main container does not.

    The kubelet is left the same time to start that as one that is dead as a whole. A crash loop
    of which only the end is seen may have minutes to its next death. Where no more than a plugin
    is dead, the main one may serve: only if that keeps dying, or nobody starts it again.
    """
    if revision.stage > 0:
        return False
    if has_lost_its_main(occupancy, checkpoint.workload, revision):
        return True
    is_crashing = _is_crashing(revision.stage, track, situation)
    is_left = is_crashing or not _kubelet_may_know_parent(occupancy, situation)
    return is_left and is_partly_dead(occupancy)


def _kubelet_may_know_parent(occupancy: Occupancy, situation: Situation) -> bool:
    kubelet = situation.kubelet
    if isinstance(kubelet, Unknown):
        return True
    if kubelet.value.identity == situation.contact_kubelet:
        return True
    started_at = kubelet.value.started_at
    return any(is_made_since(started_at, s, situation) for s in occupancy.parent_sandboxes)


def _rest_of_release(
    checkpoint: Checkpoint, revision: Revision, occupancy: Occupancy
) -> Kill | None:
    may_stay = revision.shares_ports or revision.graceful
    if may_stay or not occupancy.parent_sandboxes or not occupancy.copy_running:
        return None
    return Kill(checkpoint.workload, tuple(c.id for c in occupancy.copy_running))
