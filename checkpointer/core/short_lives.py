"""A stage-0 pod that serves for a moment and dies, again and again.

Its Ready ends the loss of contact each time, and with it the count of its crashes: the limit for
those is never reached, and the copy that comes each time is of the revision that dies so. So lives
that ended before the pod could have become known good are counted beyond that. What is known good
is not given up for them: that dies of something around it (etcd, say), as would the one before.
"""

from __future__ import annotations

from checkpointer.core.checkpoint import Checkpoint, last_known_good
from checkpointer.core.occupancy import Occupancy
from checkpointer.core.parent import died_since
from checkpointer.core.plan import Track
from checkpointer.core.rules import Rules
from checkpointer.core.runtime import Container
from checkpointer.core.situation import Situation
from checkpointer.core.workload import template_of
from checkpointer.values import replace


def with_short_lives(
    checkpoint: Checkpoint, occupancy: Occupancy, before: Track, track: Track, situation: Situation
) -> Track:
    """Return the track with how often in a row the parent died soon after its start.

    `track` is `before` with what this look shows of the parent. A death beside a copy that runs is
    none: its ports were taken. Being Ready for a moment changes nothing; a longer life, another
    pod, or its revision known to be good does. Nothing is counted where no revision is known good,
    nor of the later stage, which dies for the API's absence.
    """
    if last_known_good(checkpoint) is None or checkpoint.revisions[0].stage > 0:
        return track
    uid, count = track.short_lives
    died = None if occupancy.copy_running else _death(occupancy, before, track)
    if died is not None:
        is_short = situation.wall - died.created_at / 1e9 < situation.rules.good_seconds
        count = (count if died.pod_uid == uid else 0) + 1 if is_short else 0
        uid = died.pod_uid
    if uid not in checkpoint.record.parents or _is_good(checkpoint, uid, occupancy):
        count = 0
    lives = (uid, count) if count else ("", 0)
    return track if lives == track.short_lives else replace(track, short_lives=lives)


def is_short_lived(track: Track, rules: Rules) -> bool:
    """Tell whether the parent has died so often that it is given up for the last known good."""
    return track.short_lives[1] >= rules.parent_crash_limit


def _death(occupancy: Occupancy, before: Track, track: Track) -> Container | None:
    """Return the newest container of the parent that has crashed since the look before."""
    if track.parent_crashes == before.parent_crashes:
        return None
    died = died_since(before, track, occupancy)
    return max(died, key=lambda container: container.created_at, default=None)


def _is_good(checkpoint: Checkpoint, uid: str, occupancy: Occupancy) -> bool:
    """Tell whether the newest revision is known good, and what this parent is made of."""
    newest = checkpoint.revisions[0]
    if newest.number not in checkpoint.record.good:
        return False
    templates = {template_of(s.labels) for s in occupancy.parent_sandboxes if s.uid == uid}
    return newest.parent_uid == uid or bool(newest.template and newest.template in templates)
