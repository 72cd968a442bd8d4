"""Which parents to snapshot now: those Ready for long enough whose content may have changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from checkpointer.core.observation import Pod
from checkpointer.core.plan import Attempt, Snapshot
from checkpointer.core.rules import Rules
from checkpointer.core.workload import Workload
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
    whole: Collection[Workload],
    rules: Rules,
    now: float,
) -> Snapshots:
    """Choose the parents to snapshot; `failed` are the UIDs whose last snapshot did not succeed.

    `whole` are the workloads whose last snapshot is there and verifies. Any other one is protected
    by less than could be, or by nothing: it is due at once, or as soon after its last try as one
    that failed.

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
        is_whole = pod.workload in whole
        wait = rules.snapshot_retry_seconds if pod.uid in failed else rules.resync_seconds
        if not is_whole:
            wait = min(wait, rules.snapshot_retry_seconds)
        due_in = _due_in(pod, kept.get(pod.uid), wait, now)
        if due_in > 0 and not is_whole:
            wake_in = min(wake_in, due_in)
        elif due_in <= 0:
            kept[pod.uid] = Attempt(pod.signature, now)
            actions.append(Snapshot(pod.workload, pod.uid))
    return Snapshots(tuple(actions), seen, kept, wake_in)


def _due_in(pod: Pod, last: Attempt | None, wait: float, now: float) -> float:
    if last is None or last.signature != pod.signature:
        return 0.0
    return last.at + wait - now
