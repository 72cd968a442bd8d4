"""When a checkpoint that nothing wants any more goes.

Never at once, never all together, never on a list that is empty as a whole: a restored or
foreign API server answers with one, and so does a fault. What counts is how long the API has
positively listed this node's pods without one of this workload; it survives restarts and is
counted in time that the agent has lived through, never read off a clock.
"""

from __future__ import annotations

from checkpointer.core.checkpoint import Record
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.observation import Pod
from checkpointer.core.plan import Track
from checkpointer.core.replacement import is_awaited
from checkpointer.core.situation import Situation
from checkpointer.values import replace

RECORD_STEP_SECONDS = 30.0
"""How much absence may be forgotten with the agent; less would write to disk more often."""


def with_absence(
    track: Track,
    record: Record,
    all_pods: Fact[tuple[Pod, ...]],
    own_pods: Fact[tuple[Pod, ...]],
    elapsed: float,
    situation: Situation,
) -> Track:
    """Return the track with the time since the last cycle counted as absence, or reset."""
    if isinstance(all_pods, Unknown) or isinstance(own_pods, Unknown):
        return track
    if situation.contact.state is not ContactState.REACHABLE:
        return track
    is_here = any((p.is_parent and not p.finished) or p.awaits_controller for p in own_pods.value)
    if is_here or is_awaited(record):
        return track if track.absent_seconds == 0.0 else replace(track, absent_seconds=0.0)
    if not all_pods.value:
        return track
    counted = max(track.absent_seconds, record.absent_seconds)
    lived = max(0.0, min(elapsed, 2 * situation.rules.tick_seconds))
    return replace(track, absent_seconds=counted + lived)


def with_absence_recorded(record: Record, track: Track) -> Record:
    """Return the record with the absence in it, unless it has hardly changed."""
    absent = track.absent_seconds
    if absent == 0.0 or absent - record.absent_seconds >= RECORD_STEP_SECONDS:
        return record if record.absent_seconds == absent else replace(record, absent_seconds=absent)
    return record


def is_unwanted(track: Track, all_pods: Fact[tuple[Pod, ...]], situation: Situation) -> bool:
    """Tell whether nothing of this workload has been wanted here for long enough.

    The API must say so now as well: while it is not asked, or lists nothing at all, nothing goes.
    """
    return (
        situation.contact.state is ContactState.REACHABLE
        and isinstance(all_pods, Known)
        and bool(all_pods.value)
        and track.absent_seconds >= situation.rules.absent_seconds
    )
