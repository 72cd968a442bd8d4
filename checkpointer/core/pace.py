"""How soon the next look is due: closely where a parent may come back at any moment."""

from __future__ import annotations

from collections.abc import Mapping

from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Unknown
from checkpointer.core.observation import Observation
from checkpointer.core.plan import Memory
from checkpointer.core.rules import Rules
from checkpointer.core.situation import Step
from checkpointer.core.workload import Workload

CLOSE_SECONDS = 600.0
"""For how long a parent's first start is looked for as closely as it goes by."""


def watch_in(seen: Observation, steps: Mapping[Workload, Step], rules: Rules, now: float) -> float:
    """Return how soon to look again.

    Closely while a parent may come back beside its copy: from its container's start to its ports it
    takes a moment only. That is while the API answers, and for a while after an activation,
    which may be what brings the API back. A parent that has not come for long is looked for less
    closely: at worst it loses its first start.
    """
    is_lost = seen.contact.state in (ContactState.LOST, ContactState.DENIED)
    has_contact = not is_lost or seen.contact.is_answering
    wake_in = rules.lost_watch_seconds if steps and is_lost else rules.tick_seconds
    for step in steps.values():
        if step.standing.state == "handing over":
            wake_in = min(wake_in, rules.backoff_watch_seconds)
        if step.standing.state != "active":
            continue
        at = step.track.activated_at
        is_fresh = at is not None and now - at < rules.hand_over_seconds
        if step.is_patient or not (is_fresh or has_contact):
            wake_in = min(wake_in, rules.lost_watch_seconds)
            continue
        began = now if is_lost else max(seen.contact.since, at or 0.0)
        is_long = now - began >= CLOSE_SECONDS
        wake_in = min(wake_in, rules.backoff_watch_seconds if is_long else rules.watch_seconds)
    return wake_in


def noting_in(seen: Observation, memory: Memory, rules: Rules) -> float:
    """Return how soon to look whether the kubelet's new run has had contact.

    The probe that tells is under way; noted only with the next tick, a loss of contact before
    that would have what this kubelet restarts by itself activated beside it.
    """
    is_noted = (
        isinstance(seen.kubelet, Unknown)
        or not seen.kubelet.value.listening
        or seen.kubelet.value.identity == memory.contact_kubelet
    )
    is_reachable = seen.contact.state is ContactState.REACHABLE
    return rules.lost_watch_seconds if is_reachable and not is_noted else rules.tick_seconds
