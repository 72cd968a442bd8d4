"""When something is: one reading of the node's clocks.

Durations are measured on the monotonic clock, which counts through suspend but starts again at
each boot; it means something only together with the boot it belongs to. The wall clock is for
people: it may jump by hours in either direction.
"""

from __future__ import annotations

from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading: the boot's id, seconds since that boot, seconds of the Unix epoch."""

    boot_id: str
    monotonic: float
    wall: float
