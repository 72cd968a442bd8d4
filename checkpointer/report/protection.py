"""Which workloads of the node would not come back without the API, as far as the agent knows.

The status, the node's condition and the metric that an alert goes by all tell this. It is judged
by what a cycle knows anyway; `checkpointer doctor` looks at more. While the pods are not known,
only what is stored is judged.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from checkpointer.core.checkpoint import Checkpoint
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.hold import RELEASED, hold_of
from checkpointer.core.moment import Moment
from checkpointer.core.observation import Observation, Pod
from checkpointer.core.workload import Workload
from checkpointer.manifest.verdict import Outcome, Verdict
from checkpointer.values import dataclass

GRACE_SECONDS = 60.0
"""How long a selected pod may be on the node before it counts that nothing of it is stored: it
has to start, and to be Ready for `timing.ready`, before its first snapshot."""


@dataclass(frozen=True, slots=True)
class Unprotected:
    """A workload that would not come back, and why: one sentence."""

    workload: Workload
    reason: str


@dataclass(frozen=True, slots=True)
class Protection:
    """What the node's condition tells of its workloads."""

    count: int
    """How many have a checkpoint or a copy that runs, the agent itself not counted."""
    unprotected: tuple[Workload, ...]
    refused: tuple[Workload, ...]
    """Those that run as copies because their parent failed."""
    unknown: str
    """Why nothing can be told; empty when it can."""


def find_unprotected(
    seen: Observation,
    checkpoints: Iterable[Checkpoint],
    refused: Mapping[Workload, str],
    verdicts: Mapping[Workload, Verdict],
    now: Moment,
) -> tuple[Unprotected, ...]:
    """Return them, sorted. `refused` has why a pod that is there cannot be checkpointed.

    An older revision of such a pod serves: it is stale, and would come back. Nothing can be told
    while the store cannot: then none is returned.
    """
    if isinstance(seen.checkpoints, Unknown):
        return ()
    found: dict[Workload, str] = {}
    stored = set()
    for checkpoint in checkpoints:
        workload = checkpoint.workload
        if checkpoint.revisions:
            stored.add(workload)
        if reason := _obstacle(checkpoint, verdicts.get(workload), now):
            found[workload] = reason
    found |= {w: reason for w, reason in refused.items() if w not in stored}
    known = stored | found.keys()
    found |= dict(_missing(seen, known, now))
    return tuple(Unprotected(workload, found[workload]) for workload in sorted(found))


def _obstacle(checkpoint: Checkpoint, verdict: Verdict | None, now: Moment) -> str:
    """Return why this checkpoint could not run; empty when nothing speaks against it."""
    if not checkpoint.revisions:
        return ": ".join(("no revision of it verifies", *checkpoint.problems[:1]))
    failed = checkpoint.record.failed
    if failed and all(revision.number in failed for revision in checkpoint.revisions):
        return "every stored revision kept crashing as a copy"
    hold = hold_of(checkpoint, now)
    if hold is not None and hold.wanted == RELEASED:
        return f"it is held {hold}"
    if verdict is None or not verdict.obstacles:
        return ""
    if verdict.outcome is Outcome.REFUSED:  # that is of no stored revision
        return ""
    return f"{verdict.obstacles[0].path}: {verdict.obstacles[0].reason}"


def _missing(
    seen: Observation, known: Collection[Workload], now: Moment
) -> Iterator[tuple[Workload, str]]:
    """Yield each other parent that has been there for long enough to have been snapshotted."""
    for pod in seen.pods.value if isinstance(seen.pods, Known) else ():
        if not pod.is_parent or not pod.stays or pod.workload in known:
            continue
        if _age(pod, now) > GRACE_SECONDS:
            state = "it is Ready" if pod.ready else "it is not Ready"
            yield pod.workload, f"no snapshot of it was taken yet: pod {pod.name}, {state}"


def _age(pod: Pod, now: Moment) -> float:
    """Return for how long the pod is known to have been on this node, in seconds."""
    since_start = 0.0 if pod.started_at is None else now.wall - pod.started_at
    return max(since_start, pod.ready_seconds)
