"""What the agent remembers of a parent from one look at the runtime to the next."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from checkpointer.core.occupancy import Occupancy
from checkpointer.core.plan import Track
from checkpointer.core.runtime import ContainerState


def with_parent(track: Track, occupancy: Occupancy, now: float) -> Track:
    """Return the track with what runs of the parent, since when, and how often it has died.

    The deaths that the first look finds are old ones. Containers that die together are one death
    of the pod. The kubelet keeps one dead container of each name, so between two looks more may
    have died than are counted.
    """
    running = frozenset(c.id for c in occupancy.parent_running)
    if running != track.parent_running:
        since = now if running else None
        track = replace(track, parent_running=running, parent_since=since)
    dead = [c for c in occupancy.parent_others if c.state is not ContainerState.CREATED]
    exits = frozenset(c.id for c in dead)
    if exits == track.parent_exits:
        return track
    crashes = 0
    if track.parent_exits is not None:
        died = Counter(c.name for c in dead if c.id not in track.parent_exits)
        crashes = max(died.values(), default=0)
    return replace(track, parent_exits=exits, parent_crashes=track.parent_crashes + crashes)
