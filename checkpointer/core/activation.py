"""Whether an inactive checkpoint must be activated: all conditions of the design's section 7.

Every condition that cannot be told holds the decision: a copy beside a running parent fights
it for its ports, so "could not tell" never starts one.
"""

from __future__ import annotations

from dataclasses import replace

from checkpointer.core.checkpoint import Checkpoint, Revision
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.occupancy import Occupancy
from checkpointer.core.plan import Activate, Kill, Standing, Track
from checkpointer.core.situation import Situation, Step


def choose_revision(checkpoint: Checkpoint) -> Revision | None:
    """Return the newest revision that has not failed, or the newest when every one has."""
    sound = [r for r in checkpoint.revisions if r.number not in checkpoint.record.failed]
    return next(iter(sound or checkpoint.revisions), None)


def activation(
    checkpoint: Checkpoint, occupancy: Fact[Occupancy], track: Track, situation: Situation
) -> Step:
    """Decide on a checkpoint that has no manifest in the kubelet's folder."""
    contact, rules, now = situation.contact, situation.rules, situation.now
    revision = choose_revision(checkpoint)
    if revision is None:
        return Step(Standing("unusable", "no stored revision verifies"), track)
    if isinstance(occupancy, Known):
        interrupted = _rest_of_release(checkpoint, revision, occupancy.value)
        if interrupted is not None:
            return Step(Standing("standby", "the released copy to end"), track, interrupted)
    if contact.state is not ContactState.LOST:
        return Step(Standing("standby"), replace(track, down_since=None))
    if not contact.is_gone:
        return Step(Standing("waiting", "the API, which answers again"), track)
    if isinstance(occupancy, Unknown):
        return Step(Standing("frozen", f"the runtime: {occupancy.reason}"), track)
    if occupancy.value.is_running:
        return Step(
            Standing("standby", "nothing: its containers run"),
            _up(track, occupancy.value, situation),
        )
    track = replace(track, down_since=now if track.down_since is None else track.down_since)
    patience = _patience(track, occupancy.value, situation)
    if patience > 0:
        waiting = Standing("waiting", f"the kubelet to restart it, {patience:.0f} s more")
        return Step(waiting, track, wake_in=patience)
    if revision.stage > 0 and situation.stage_opens_in > 0:
        wait = situation.stage_opens_in
        waiting = Standing("waiting", f"stage 0 to bring contact back, {wait:.0f} s more")
        return Step(waiting, track, wake_in=wait)
    action = Activate(
        checkpoint.workload,
        revision.number,
        checkpoint.record.issue + 1,
        f"contact lost ({contact.reason}) and nothing of it runs",
    )
    track = replace(
        track,
        activated_at=now,
        confirmed_at=None,
        issues=0,
        known_sandboxes=frozenset(s.id for s in occupancy.value.parent_sandboxes),
        excused_attempts=0,
        running_since=None,
        released_at=None,
        failed_hand_overs=track.failed_hand_overs + 1 if _is_hand_over(track, situation) else 0,
    )
    return Step(Standing("active", "the kubelet to start it"), track, action, rules.watch_seconds)


def _up(track: Track, occupancy: Occupancy, situation: Situation) -> Track:
    """Return the track of a workload that runs; it ends a hand-over only at its deadline.

    Before that the parent may be crashing, one start after the other.
    """
    track = replace(track, down_since=None)
    if occupancy.parent_running and _hand_over_left(track, situation) <= 0:
        return replace(track, released_at=None)
    return track


def _patience(track: Track, occupancy: Occupancy, situation: Situation) -> float:
    """Return for how many seconds more the kubelet may bring the parent back by itself.

    It will not when it started after our last contact: then it does not know the pod. After a
    hand-over the parent was known to be starting, and its API may be away until it serves.
    """
    if _is_hand_over(track, situation):
        return _hand_over_left(track, situation)
    assert track.down_since is not None  # noqa: S101 - the caller has just set it
    if not _kubelet_may_know_parent(occupancy, situation):
        return 0.0
    return track.down_since + situation.rules.grace_seconds - situation.now


def _is_hand_over(track: Track, situation: Situation) -> bool:
    """Tell whether contact was lost, or not regained, before a release's deadline."""
    if track.released_at is None:
        return False
    return situation.contact.since < track.released_at + situation.rules.hand_over_seconds


def _hand_over_left(track: Track, situation: Situation) -> float:
    if track.released_at is None:
        return 0.0
    return track.released_at + situation.rules.hand_over_seconds - situation.now


def _kubelet_may_know_parent(occupancy: Occupancy, situation: Situation) -> bool:
    kubelet = situation.kubelet
    if isinstance(kubelet, Unknown):
        return True
    if kubelet.value.identity == situation.contact_kubelet:
        return True
    return any(s.created_at > kubelet.value.started_at for s in occupancy.parent_sandboxes)


def _rest_of_release(
    checkpoint: Checkpoint, revision: Revision, occupancy: Occupancy
) -> Kill | None:
    if revision.shares_ports or not occupancy.parent_sandboxes or not occupancy.copy_running:
        return None
    return Kill(checkpoint.workload, tuple(c.id for c in occupancy.copy_running))
