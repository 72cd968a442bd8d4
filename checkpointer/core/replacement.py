"""Whether a parent deep in its crash-loop backoff is deleted, so that its controller replaces it.

The kubelet's backoff goes with the pod's UID: the new pod's container is made within seconds, and
is given way to as any fresh parent's. The copy serves meanwhile. An option, off by default: it
deletes an object in the API, and the new pod is of whatever template is current. Only DaemonSets:
any other controller may put the new pod on another node.
"""

from __future__ import annotations

from checkpointer.core.checkpoint import Checkpoint, Record, Replaced
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Known
from checkpointer.core.observation import Pod
from checkpointer.core.plan import ReplaceParent
from checkpointer.core.situation import Situation, Step
from checkpointer.values import replace

BEYOND_SECONDS = 30.0
"""A parent whose next start is nearer is not deleted: a new pod takes some ten seconds."""

INTERVAL_SECONDS = 600.0
"""The shortest time between two replacements of one workload's parents, on one boot."""


def with_replacement(
    step: Step,
    checkpoint: Checkpoint,
    pods: Fact[tuple[Pod, ...]],
    start: tuple[str, float] | None,
    situation: Situation,
) -> Step:
    """Return the step, with the parent replaced if that is allowed and worth it.

    `start` is the UID of the parent that the copy waits for, and in how many seconds the kubelet
    will start it again. The record names it before it is deleted: no UID is tried twice.
    """
    pod = _to_replace(checkpoint, pods, start, situation)
    if pod is None or start is None:
        return step
    done = Replaced(pod.uid, situation.boot_id, situation.now)
    reason = f"its next start is {start[1]:.0f} s away; its controller makes it anew"
    return replace(
        step,
        action=ReplaceParent(checkpoint.workload, pod.name, pod.uid, reason),
        record=replace(step.record or checkpoint.record, replaced=done),
    )


def is_replaced(
    checkpoint: Checkpoint,
    pods: Fact[tuple[Pod, ...]],
    start: tuple[str, float] | None,
    situation: Situation,
) -> bool:
    """Tell whether the parent is to be deleted, or has been a moment ago and may still be seen."""
    last = checkpoint.record.replaced
    if start is not None and last.uid == start[0] and last.boot_id == situation.boot_id:
        return situation.now - last.at < situation.rules.hand_over_seconds
    return _to_replace(checkpoint, pods, start, situation) is not None


def is_awaited(record: Record) -> bool:
    """Tell whether the parent that was deleted last has no successor here yet.

    Until then its absence is our doing, and does not mean that it is not wanted.
    """
    return bool(record.replaced.uid) and record.parents == (record.replaced.uid,)


def _to_replace(
    checkpoint: Checkpoint,
    pods: Fact[tuple[Pod, ...]],
    start: tuple[str, float] | None,
    situation: Situation,
) -> Pod | None:
    if start is None or not isinstance(pods, Known) or not _may_replace(checkpoint, situation):
        return None
    uid, due_in = start
    if due_in < BEYOND_SECONDS or uid == checkpoint.record.replaced.uid:
        return None
    return next((p for p in pods.value if p.uid == uid and p.is_parent and p.stays), None)


def _may_replace(checkpoint: Checkpoint, situation: Situation) -> bool:
    if not situation.rules.replace_parents or checkpoint.workload.kind != "DaemonSet":
        return False
    if situation.contact.state is not ContactState.REACHABLE:
        return False
    last = checkpoint.record.replaced
    is_recent = last.boot_id == situation.boot_id and situation.now - last.at < INTERVAL_SECONDS
    return not (last.uid and is_recent)
