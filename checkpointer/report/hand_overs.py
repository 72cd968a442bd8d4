"""How a checkpoint stands with the parent that it makes way for: under way, failed, refused.

The decisions are `core.hand_over`'s; here is what people and programs are told of them.
"""

from __future__ import annotations

from checkpointer.core.checkpoint import Checkpoint, HandOver
from checkpointer.core.moment import Moment
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class HandOverStatus:
    """A hand-over that is under way, or what earlier ones have left behind."""

    to: str
    """UID of the pod that the copy has made way for; empty when none is under way."""
    since: float | None
    """Seconds of the Unix epoch: when it began; with none under way, when the last one failed.
    None when that was before the last boot."""
    failures: int
    """How many failed in a row."""
    refused: str
    """UID of a parent that failed and is not given way to again until it changes."""


def hand_over_status(way: HandOver, now: Moment) -> HandOverStatus | None:
    """Return what there is to tell; None when none is under way and none has failed."""
    if not (way.to or way.failures or way.refused):
        return None
    is_of_this_boot = bool(way.boot_id) and way.boot_id == now.boot_id
    since = now.wall - (now.monotonic - way.since) if is_of_this_boot else None
    return HandOverStatus(way.to if is_of_this_boot else "", since, way.failures, way.refused)


def refusal(checkpoint: Checkpoint, active: int | None) -> str:
    """Return the sentence on a parent that is not given way to again; empty without one.

    `active` is the revision that runs in its place.
    """
    if not checkpoint.record.hand_over.refused:
        return ""
    instead = "" if active is None else f"; revision {active} goes on in its place"
    return (
        f"its parent failed when it was given way, and gets no other try until it changes{instead}"
    )
