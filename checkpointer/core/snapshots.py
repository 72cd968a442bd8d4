"""Which parents to snapshot now: those Ready for long enough whose content may have changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from checkpointer.core.observation import Pod
from checkpointer.core.plan import Attempt, Snapshot
from checkpointer.core.rules import Rules
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The snapshots to take, what to remember, and when the next one may be due (seconds)."""

    actions: tuple[Snapshot, ...]
    ready_since: Mapping[str, float]
    attempts: Mapping[str, Attempt]
    wake_in: float


def due_snapshots(
    pods: Iterable[Pod],
    ready_since: Mapping[str, float],
    attempts: Mapping[str, Attempt],
    failed: frozenset[str],
    rules: Rules,
    now: float,
) -> Snapshots:
    """Choose the parents to snapshot; `failed` are the UIDs whose last snapshot did not succeed.

    Of several Ready pods of one workload the one with the smallest UID is the parent, so that
    two replicas on a node do not overwrite each other's checkpoint in turn.
    """
    seen: dict[str, float] = {}
    kept: dict[str, Attempt] = {}
    chosen: dict[object, tuple[Pod, float]] = {}
    wake_in = rules.tick_seconds
    for pod in pods:
        if not (pod.is_parent and pod.stays and pod.ready):
            continue
        since = seen[pod.uid] = ready_since.get(pod.uid, now - pod.ready_seconds)
        if pod.uid in attempts:
            kept[pod.uid] = attempts[pod.uid]
        steady_in = since + rules.ready_seconds - now
        if steady_in > 0:
            wake_in = min(wake_in, steady_in)
            continue
        other = chosen.get(pod.workload)
        if other is None or pod.uid < other[0].uid:
            chosen[pod.workload] = (pod, since)
    actions = []
    for pod, _ in chosen.values():
        if _is_due(pod, kept.get(pod.uid), pod.uid in failed, rules, now):
            kept[pod.uid] = Attempt(pod.signature, now)
            actions.append(Snapshot(pod.workload, pod.uid))
    return Snapshots(tuple(actions), seen, kept, wake_in)


def _is_due(pod: Pod, last: Attempt | None, failed: bool, rules: Rules, now: float) -> bool:
    if last is None or last.signature != pod.signature:
        return True
    return now - last.at >= (rules.snapshot_retry_seconds if failed else rules.resync_seconds)
