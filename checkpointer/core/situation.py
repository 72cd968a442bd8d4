"""What the decisions on single checkpoints are given alike, and what they return."""

from __future__ import annotations

from checkpointer.core.checkpoint import Record
from checkpointer.core.contact import Contact
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.lease import Claim
from checkpointer.core.moment import Moment
from checkpointer.core.observation import KubeletRun, Observation
from checkpointer.core.plan import Action, Memory, Track
from checkpointer.core.rules import Rules
from checkpointer.core.standing import Standing
from checkpointer.core.turns import has_company, has_others, must_take_turns, wait_for_turn
from checkpointer.core.workload import Workload
from checkpointer.values import dataclass


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
    """Seconds until this node may begin to hand over its API server: not two masters at once."""
    unseen_turn_in: float = 0.0
    """The same for anything else of stage 0, of which the other masters see nothing."""
    turn_waits_for: str = ""
    """What has to be asked for at the very moment before it may begin; empty when it may."""
    has_other_masters: bool = False
    """Whether other nodes are known to run the control plane, too."""
    hand_over_left: float = 0.0
    """Seconds until the last deadline of a stage-0 hand-over that is under way: until then the
    API's absence is no loss to anybody else. 0 when there is none."""
    is_own_cluster: bool = True
    """Whether the API's lists are known to be of the cluster that the store belongs to."""


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


def situation_of(
    seen: Observation,
    memory: Memory,
    rules: Rules,
    now: Moment,
    node_name: str,
    own: Workload | None,
) -> Situation:
    """Return it as far as no checkpoint has a say in it; `own` is the agent's own workload."""
    return Situation(
        seen.contact,
        seen.kubelet,
        memory.contact_kubelet,
        rules,
        now.boot_id,
        now.wall,
        now.monotonic,
        _stage_opens_in(seen, memory, rules, now.monotonic, own),
        _turn_in(seen, rules, now.wall, node_name, True),
        _turn_in(seen, rules, now.wall, node_name, False),
        _turn_waits_for(seen, rules, now.monotonic),
        has_others(seen.masters),
        is_own_cluster=seen.is_own_cluster == Known(True),
    )


def _turn_in(seen: Observation, rules: Rules, wall: float, node_name: str, is_seen: bool) -> float:
    """Return the seconds until this node's time slot, where the masters' lease does not count."""
    if seen.claim is not Claim.UNUSED:
        return 0.0
    return wait_for_turn(seen.masters, node_name, wall, rules.hand_over_seconds, is_seen)


def _turn_waits_for(seen: Observation, rules: Rules, now: float) -> str:
    """Return what one of several masters has to know or have before it hands over stage 0."""
    if not must_take_turns(seen.masters):
        return ""
    if not has_company(seen.others, seen.contact, now, rules.hand_over_seconds):
        return "another master's API server to answer"
    return "its turn among the masters" if seen.claim is Claim.OPEN else ""


def _stage_opens_in(
    seen: Observation, memory: Memory, rules: Rules, now: float, own: Workload | None
) -> float:
    """Return for how long the later stage waits: not at all on a node without a stage 0."""
    if isinstance(seen.checkpoints, Unknown):
        return rules.stage_delay_seconds
    others = (c for c in seen.checkpoints.value if c.workload != own)
    if not any(c.revisions and c.revisions[0].stage == 0 for c in others):
        return 0.0
    since = seen.contact.since
    if memory.stage_zero_at is not None:
        since = max(since, memory.stage_zero_at)
    return max(0.0, since + rules.stage_delay_seconds - now)
