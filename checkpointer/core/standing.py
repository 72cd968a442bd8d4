"""Where a checkpoint stands; apart from plans, for whoever tells of it and decides nothing."""

from __future__ import annotations

from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one checkpoint stands after a decision: a word and what it waits for."""

    state: str
    """`standby`, `waiting`, `frozen`, `active`, `handing over`, `held`, `unusable`."""
    waits_for: str = ""
