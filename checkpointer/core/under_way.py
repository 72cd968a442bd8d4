"""The hand-over that is under way: whether the parent is back, is helped, or has failed.

The copy has made way and its parent is to be Ready before a deadline (see `hand_over`). What fails
gets its copy back.
"""

from __future__ import annotations

from checkpointer.core import hand_over
from checkpointer.core.backoff import dead_main_of, dead_of, is_in_use, kubelet_knows, start_in
from checkpointer.core.checkpoint import (
    Checkpoint,
    HandOver,
    Record,
    Revision,
    choose_revision,
    main_container,
)
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.keeping import to_stop
from checkpointer.core.observation import Pod
from checkpointer.core.occupancy import Occupancy, is_current
from checkpointer.core.parent import has_lost_its_main, is_partly_dead
from checkpointer.core.plan import Activate, StartAnew, Track
from checkpointer.core.situation import Situation, Step
from checkpointer.core.standing import Standing
from checkpointer.values import replace

LAST_ANSWER_SECONDS = 5.0
"""How long after the end of the released copy an answer may still be its own."""

WORTH_SECONDS = 15.0
"""How near a parent's next start must be for the copy not to come back before it, where it is not
started anew: that takes the copy some seconds, and another hand-over as many."""

ANEW_TRIES, ANEW_SECONDS = 3, 3.0
"""How often a parent is to be started anew in one hand-over, and how long each try may take."""

LATE_SECONDS = 10.0
"""How long a hand-over lasts before a parent is given up whose next start is far: all tries take as
long."""


def under_way(
    checkpoint: Checkpoint,
    revision: Revision,
    pods: Fact[tuple[Pod, ...]],
    occupancy: Fact[Occupancy],
    track: Track,
    situation: Situation,
) -> Step:
    """Decide on a checkpoint whose copy has made way for its parent."""
    record, contact = checkpoint.record, situation.contact
    is_reachable = contact.state is ContactState.REACHABLE
    if isinstance(occupancy, Unknown):
        return Step(Standing("handing over", f"the runtime: {occupancy.reason}"), track)
    found = occupancy.value
    if found.copy_running:
        track = replace(track, copy_ran_at=situation.now)
    if is_reachable and isinstance(pods, Known):
        stays = [p for p in pods.value if p.stays]
        if not stays and _is_given_up_by_all(pods.value, record.hand_over, track, situation):
            gone = replace(record, hand_over=hand_over.ended(record.hand_over))
            return Step(Standing("standby", "a parent"), track, record=gone)
        if any(p.ready and is_current(p, found.parent_up) for p in stays):
            if (left := _unproved_for(record.hand_over, track, situation)) > 0:
                standing = Standing("handing over", f"its parent to stay Ready, {left:.0f} s more")
                return Step(standing, track, wake_in=left)
            done = replace(record, hand_over=HandOver(), failed=())
            return Step(Standing("standby"), replace(track, parent_crashes=0), record=done)
        if not stays and situation.is_own_cluster and not _has_to_be_here(revision, record):
            return Step(Standing("handing over", "a parent"), track)
    if _dies_for_the_api(revision, situation):
        track = replace(track, parent_crashes=0)
    elif not record.hand_over.is_owed:
        track, action = _start_anew(checkpoint, revision, found, track, situation)
        if action is not None:
            standing = Standing("handing over", "the kubelet to start its parent")
            return Step(standing, track, action, situation.rules.watch_seconds)
    waits_for = _parent_needs(checkpoint, revision, found, track, situation)
    if waits_for is not None:
        left = hand_over.time_left(record.hand_over, situation)
        return Step(Standing("handing over", waits_for), track, wake_in=left if left > 0 else None)
    return _bring_back(checkpoint, found, track, situation)


def _is_given_up_by_all(
    pods: tuple[Pod, ...], way: HandOver, track: Track, situation: Situation
) -> bool:
    """Tell whether no parent is to come, given that none of the API's pods here stays.

    Not by the first list without any: each update of a DaemonSet has its moment without a pod. Nor
    by another cluster's.
    """
    if not situation.is_own_cluster:
        return False
    is_refused = any(p.finished for p in pods) and hand_over.time_left(way, situation) <= 0
    return is_refused or track.absent_seconds >= situation.rules.absent_seconds


def _has_to_be_here(revision: Revision, record: Record) -> bool:
    """Tell whether a copy comes back in the place of a pod that is gone, be it only for a moment.

    What is not stage 0 may have moved, with the volume that one at a time is to write to.
    """
    return revision.stage == 0 or record.hand_over.is_owed


def _bring_back(
    checkpoint: Checkpoint, occupancy: Occupancy, track: Track, situation: Situation
) -> Step:
    """Activate the copy of a parent that failed; where that is on disk it is not counted again."""
    way = checkpoint.record.hand_over
    reason = "its parent was not back in time when it was given way"
    if not way.is_owed:
        if hand_over.time_left(way, situation) > 0:
            reason = "its parent died when it was given way, and is not started again soon"
        way = hand_over.failed(checkpoint, occupancy, track, situation)
    proven = hand_over.has_refused(way)
    if proven:
        reason = "its parent failed when it was given way"
    record = replace(checkpoint.record, hand_over=way)
    return start_copy(checkpoint, record, reason, proven, occupancy, track, situation)


def start_copy(
    checkpoint: Checkpoint,
    record: Record,
    reason: str,
    proven: bool,
    occupancy: Occupancy,
    track: Track,
    situation: Situation,
) -> Step:
    """Activate a revision; what is left of a copy before it ends with its sandbox."""
    revision = choose_revision(checkpoint, proven)
    assert revision is not None  # noqa: S101 - the caller has chosen one before
    action = Activate(
        checkpoint.workload,
        revision.number,
        checkpoint.record.issue + 1,
        reason,
        to_stop(occupancy),
    )
    track = replace(
        track,
        activated_at=situation.now,
        confirmed_at=None,
        issues=0,
        excused_attempts=0,
        running_since=None,
        released_at=None,
        parent_crashes=0,
        quick_deaths=0,
        refused="",
    )
    standing = Standing("active", "the kubelet to start it")
    return Step(standing, track, action, situation.rules.watch_seconds, record=record)


def _dies_for_the_api(revision: Revision, situation: Situation) -> bool:
    """Tell whether the API's absence may be what a parent dies for; its copy would, too."""
    return revision.stage > 0 and situation.contact.state is not ContactState.REACHABLE


def _start_anew(
    checkpoint: Checkpoint,
    revision: Revision,
    occupancy: Occupancy,
    track: Track,
    situation: Situation,
) -> tuple[Track, StartAnew | None]:
    """Have a parent that is down started at once, now that its ports are free.

    It was in its backoff when the hand-over began, or has lost its first start to the copy. Tried
    again for a while: the kubelet may look at the pod between the two steps, and start it in a
    sandbox that ends (seen on 1.36), or make it a sandbox only. An agent that was ended between
    the two left a sandbox without any container. Not what may be done with its work: forgotten
    by the runtime it would do it again.
    """
    way = checkpoint.record.hand_over
    sandbox = next((s for s in occupancy.parent_sandboxes if s.uid == way.to), None)
    if sandbox is None or is_in_use(sandbox, occupancy) or occupancy.copy_running:
        return track, None
    dead = dead_of(sandbox, occupancy)
    if dead is None or not checkpoint.workload.always_restarts or (revision.has_init and not dead):
        return track, None
    tries, last = track.started_anew
    is_first = bool(dead) and not tries
    is_due = is_first or situation.now - (last if tries else way.since) >= ANEW_SECONDS
    is_enough = tries == ANEW_TRIES or track.parent_crashes >= hand_over.CRASHES
    if not is_due or is_enough or not kubelet_knows((sandbox, *dead), situation):
        return track, None
    track = replace(track, started_anew=(tries + 1, situation.now), ended_sandbox=sandbox.id)
    return track, StartAnew(checkpoint.workload, sandbox.id, tuple(c.id for c in dead))


def _parent_needs(
    checkpoint: Checkpoint,
    revision: Revision,
    occupancy: Occupancy,
    track: Track,
    situation: Situation,
) -> str | None:
    """Return what a hand-over waits for, or None when it has failed and the copy must come back.

    A parent that runs past the deadline without having served counts as failed only where contact
    depends on it, and is gone: whichever gets the port then, one of the two serves. One of stage 0
    of which no more than a plugin runs is down, whoever else answers.
    """
    contact, way = situation.contact, checkpoint.record.hand_over
    main = main_container(checkpoint.workload, revision)
    left = 0.0 if way.is_owed else hand_over.time_left(way, situation)
    is_told = main is not None or contact.is_gone or situation.has_other_masters
    is_lost = revision.stage == 0 and has_lost_its_main(occupancy, checkpoint.workload, revision)
    is_lost = is_lost and is_told
    is_down = not occupancy.parent_running or is_lost
    is_missed = revision.stage == 0 and contact.is_gone
    is_failing = track.parent_crashes >= hand_over.CRASHES
    may_be_its_plugin = is_lost and main is None and not is_missed
    is_dead = is_failing and (
        (is_down and not may_be_its_plugin) or (is_missed and is_partly_dead(occupancy))
    )
    is_given_up = (
        situation.now - way.since >= LATE_SECONDS
        and not _dies_for_the_api(revision, situation)
        and _is_started_late(occupancy, main, situation)
    )
    if left > 0 and not is_dead and not is_given_up:
        return f"its parent to serve, {left:.0f} s more"
    tries, last = track.started_anew
    is_anew = bool(tries) and situation.now - last < ANEW_SECONDS
    is_settled = is_dead or way.is_owed
    if left <= 0 and is_anew and is_down and not is_settled:  # its copy took its time to end
        return "its parent, which was started anew"
    if occupancy.is_copy_whole or grace_left(revision, occupancy, way.since, situation) > 0:
        return "the released copy to end"
    if contact.state in (ContactState.SUSPECT, ContactState.DENIED):
        return f"contact, which is {contact.state.value}"
    if contact.state is ContactState.LOST and not contact.is_gone:
        return "the API, which answers again"
    served_at = contact.last_answer
    has_served = served_at is not None and served_at > _ended_at(way, track) + LAST_ANSWER_SECONDS
    if is_down or is_dead or (is_missed and not has_served):
        return None
    return "its parent to be Ready"


def _unproved_for(way: HandOver, track: Track, situation: Situation) -> float:
    """Return for how many seconds more a parent's readiness may be its copy's.

    Its first probe may have reached the copy just before that was killed; were it believed,
    another master would begin while neither of the two serves.
    """
    if way.is_owed or hand_over.time_left(way, situation) <= 0:
        return 0.0
    return _ended_at(way, track) + LAST_ANSWER_SECONDS - situation.now


def _ended_at(way: HandOver, track: Track) -> float:
    """Return when the copy that made way was last there."""
    return max(way.since, track.copy_ran_at or way.since)


def grace_left(
    revision: Revision, occupancy: Occupancy, since: float, situation: Situation
) -> float:
    """Return for how long what is left of a released copy that is never killed may still end.

    The kubelet gives it the pod's grace; one that has not reached the API since its start never
    stops it, and starts no dead container of it again.
    """
    if not revision.graceful or not occupancy.copy_running:
        return 0.0
    return since + situation.rules.hand_over_seconds - situation.now


def _is_started_late(occupancy: Occupancy, main: str | None, situation: Situation) -> bool:
    """Tell whether the parent's apps are down, or its main one, and not soon started again."""
    starts = [
        start_in(sandbox, dead, situation)
        for sandbox in occupancy.parent_sandboxes
        if (dead := dead_of(sandbox, occupancy) or dead_main_of(sandbox, occupancy, main))
    ]
    return bool(starts) and min(starts) > WORTH_SECONDS
