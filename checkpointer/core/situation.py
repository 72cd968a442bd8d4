"""What the decisions on single checkpoints are given alike, and what they return."""

from __future__ import annotations

from dataclasses import dataclass

from checkpointer.core.checkpoint import Record
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
    boot_id: str
    wall: float
    """Seconds of the Unix epoch, by the node's clock: only to compare with the runtime's times."""
    now: float
    stage_opens_in: float
    """Seconds until checkpoints of the later stage may be activated; 0 when they may."""
    turn_in: float = 0.0
    """Seconds until this node may begin to hand over stage 0: not two masters at once."""
    turn_waits_for: str = ""
    """What has to be asked for at the very moment before it may begin; empty when it may."""
    has_other_masters: bool = False
    """Whether other nodes are known to run the control plane, too."""
    hand_over_left: float = 0.0
    """Seconds until the last deadline of a stage-0 hand-over that is under way: until then the
    API's absence is no loss to anybody else. 0 when there is none."""


@dataclass(frozen=True, slots=True)
class Step:
    """The decision on one checkpoint."""

    standing: Standing
    track: Track
    action: Action | None = None
    wake_in: float | None = None
    is_patient: bool = False
    """Whether an active copy needs no close look at the runtime: nothing is about to happen."""
    record: Record | None = None
    """What is to be kept on disk, where the decision changes it."""
    wants_turn: bool = False
    """Whether a release waits for nothing but its turn, and that can be asked for now."""
