"""What an operator wants of one checkpoint by hand, until it is lifted.

A hold stands over the agent's own judgement: held active, the checkpoint is activated now and
never released; held released, it is taken out and never activated. It still starts no copy
beside what runs of the workload, unless it was forced: that would fight for the same ports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpointer.core.facts import Fact, Known
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
    """When it lifts itself; 0 for never."""
    revision: int = 0
    """The revision to activate; 0 for the one that the agent would take."""
    force: bool = False
    """Whether to activate although something of the workload runs."""

    def __str__(self) -> str:
        """Say it to people."""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.wanted} by hand, {self.by}{reason}"

    def is_in_force(self, wall: float) -> bool:
        """Tell whether it counts at this time of the node's clock."""
        return self.until == 0.0 or wall < self.until


def hold_of(checkpoint: Checkpoint, wall: float) -> Hold | None:
    """Return the checkpoint's hold while it is in force."""
    hold = checkpoint.hold
    return hold if hold is not None and hold.is_in_force(wall) else None


def has_hold(checkpoints: Fact[tuple[Checkpoint, ...]]) -> bool:
    """Tell whether any checkpoint is held: then the decision needs the runtime also at rest."""
    return isinstance(checkpoints, Known) and any(c.hold is not None for c in checkpoints.value)
