"""What an operator wants of one checkpoint by hand, until it is lifted.

A hold stands over the agent's own judgement: held active, the checkpoint is activated now and
never released; held released, it is taken out and never activated. It still starts no copy
beside what runs of the workload, unless it was forced: that would fight for the same ports.

One that lifts itself counts its time on the monotonic clock of the boot it was made in: the wall
clock may jump. After a reboot the wall clock tells how long ago it was made, and at least the time
since that reboot has passed, so that a board without a clock keeps it no longer than was asked for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from checkpointer.core.facts import Fact, Known
from checkpointer.core.moment import Moment
from checkpointer.values import dataclass

if TYPE_CHECKING:
    from checkpointer.core.checkpoint import Checkpoint

ACTIVE = "active"
RELEASED = "released"
HELD = "held"
"""The state of a checkpoint with a hold in force."""


@dataclass(frozen=True, slots=True)
class Hold:
    """One workload's hold; times are seconds of the Unix epoch, by the node's clock."""

    wanted: str
    """ACTIVE or RELEASED."""
    since: float
    by: str
    """Who asked for it, for people."""
    reason: str = ""
    until: float = 0.0
    """When it lifts itself, by that clock as it was then; 0 for never."""
    revision: int = 0
    """The revision to activate; 0 for the one that the agent would take."""
    force: bool = False
    """Whether to activate although something of the workload runs."""
    boot_id: str = ""
    """The boot that it was made in; empty where nobody could tell, and in old files."""
    began: float = 0.0
    """Seconds since that boot: when it was made."""

    def __str__(self) -> str:
        """Say it to people."""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.wanted} by hand, {self.by}{reason}"

    def seconds_left(self, now: Moment) -> float:
        """Return for how long it still counts: never more than was asked for, infinite for ever."""
        if self.until == 0.0:
            return math.inf
        passed = now.wall - self.since
        if self.boot_id and self.boot_id == now.boot_id:
            passed = now.monotonic - self.began
        elif self.boot_id and now.boot_id:
            passed = max(passed, now.monotonic)
        return self.until - self.since - max(0.0, passed)

    def is_in_force(self, now: Moment) -> bool:
        """Tell whether it counts now."""
        return self.seconds_left(now) > 0.0


def hold_of(checkpoint: Checkpoint, now: Moment) -> Hold | None:
    """Return the checkpoint's hold while it is in force."""
    hold = checkpoint.hold
    return hold if hold is not None and hold.is_in_force(now) else None


def has_hold(checkpoints: Fact[tuple[Checkpoint, ...]]) -> bool:
    """Tell whether any checkpoint is held: then the decision needs the runtime also at rest."""
    return isinstance(checkpoints, Known) and any(c.hold is not None for c in checkpoints.value)
