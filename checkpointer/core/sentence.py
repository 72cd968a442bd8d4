"""What a plan is told as: its actions in order, and the one sentence of the cycle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from checkpointer.core.observation import Observation
from checkpointer.core.plan import (
    Action,
    Activate,
    GiveWay,
    Kill,
    Leave,
    Release,
    Remove,
    ReplaceParent,
    Snapshot,
    StartAnew,
)
from checkpointer.core.standing import Standing
from checkpointer.core.workload import Workload


def ordered(actions: Iterable[Action]) -> tuple[Action, ...]:
    """Put what restores contact first and what can wait last."""
    order = (Release, Kill, StartAnew, Activate, ReplaceParent, Snapshot, Remove, GiveWay, Leave)
    return tuple(sorted(actions, key=lambda action: order.index(type(action))))


def sentence(
    seen: Observation,
    actions: Sequence[Action],
    standings: Mapping[Workload, Standing],
    own: Workload | None = None,
) -> str:
    """Return it: contact, what is done, and how many checkpoints stand where.

    The agent's own is told apart: it is always active, and an active one is an alarm otherwise.
    """
    contact = seen.contact
    parts = [f"contact {contact.state.value} ({contact.reason})"]
    if actions:
        parts.append("; ".join(_phrase(action) for action in actions))
    counts: dict[str, int] = {}
    for workload, standing in standings.items():
        if workload != own:
            counts[standing.state] = counts.get(standing.state, 0) + 1
    stand = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    stand = stand or "no checkpoints"
    if own is not None and own in standings:
        stand += f", the agent's own {standings[own].state}"
    parts.append(stand)
    return in_one_line(": ".join((parts[0], "; ".join(parts[1:]))))


def in_one_line(text: str) -> str:
    """Return the text without ends of lines or doubled spaces."""
    return " ".join(text.split())


def _phrase(action: Action) -> str:
    match action:
        case Snapshot(workload):
            return f"snapshot {workload}"
        case Activate(workload, revision, issue, reason):
            return f"activate {workload} revision {revision} issue {issue}: {reason}"
        case Release(workload, _, reason):
            return f"release {workload}: {reason}"
        case Kill(workload):
            return f"end the released copy of {workload}"
        case StartAnew(workload):
            return f"have the parent of {workload} started anew"
        case ReplaceParent(workload, _, _, reason):
            return f"replace the parent of {workload}: {reason}"
        case Remove(workload, reason):
            return f"remove {workload}: {reason}"
        case GiveWay(_, reason):
            return f"give way: {reason}"
        case Leave(_, _, reason):
            return f"leave this node: {reason}"
