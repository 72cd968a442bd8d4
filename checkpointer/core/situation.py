"""What the decisions on single checkpoints are given alike, and what they return."""

from __future__ import annotations

from dataclasses import dataclass

from checkpointer.core.contact import Contact
from checkpointer.core.facts import Fact
from checkpointer.core.observation import KubeletRun
from checkpointer.core.plan import Action, Standing, Track
from checkpointer.core.rules import Rules


@dataclass(frozen=True, slots=True)
class Situation:
    """What concerns every checkpoint of the node alike."""

    contact: Contact
    kubelet: Fact[KubeletRun]
    contact_kubelet: str | None
    rules: Rules
    now: float
    stage_opens_in: float
    """Seconds until checkpoints of the later stage may be activated; 0 when they may."""


@dataclass(frozen=True, slots=True)
class Step:
    """The decision on one checkpoint."""

    standing: Standing
    track: Track
    action: Action | None = None
    wake_in: float | None = None
    failed: tuple[int, ...] | None = None
    """Revisions that failed as copies, where that has changed; for the record."""
