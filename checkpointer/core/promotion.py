"""When a revision becomes known good: its parent has stayed Ready with it for long enough.

A revision is stored after a few seconds of Ready, so that a node is protected soon. What crashes
a minute later must not be all that is left then: the last known good is kept and preferred when
what came after it fails. In a rollout two pods of a workload are there at once: that the old one
stays Ready proves nothing about the revision that was taken of the new one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from checkpointer.core.checkpoint import Checkpoint, Record
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Unknown
from checkpointer.core.observation import Pod
from checkpointer.core.plan import Attempt, Memory
from checkpointer.core.situation import Situation
from checkpointer.core.workload import Workload
from checkpointer.values import replace


def settled(
    memory: Memory,
    checkpoints: Iterable[Checkpoint],
    pods: Fact[tuple[Pod, ...]],
    failed_snapshots: Collection[str],
) -> Memory:
    """Return the memory with the revision that each new snapshot has come to.

    To be asked before another snapshot is planned: then the newest revision of a workload is what
    its last snapshot stored, or was found equal to.
    """
    is_new = any(not attempt.revision for attempt in memory.attempts.values())
    if isinstance(pods, Unknown) or not is_new:
        return memory
    newest = {
        c.workload: c.revisions[0].number for c in checkpoints if c.revisions and c.is_current
    }
    workloads = {pod.uid: pod.workload for pod in pods.value}
    attempts = {
        uid: _settled(attempt, workloads.get(uid), newest)
        if uid not in failed_snapshots
        else attempt
        for uid, attempt in memory.attempts.items()
    }
    return replace(memory, attempts=attempts) if attempts != memory.attempts else memory


def _settled(
    attempt: Attempt, workload: Workload | None, newest: Mapping[Workload, int]
) -> Attempt:
    if attempt.revision or workload is None or workload not in newest:
        return attempt
    return replace(attempt, revision=newest[workload])


def promoted(
    checkpoint: Checkpoint,
    pods: Iterable[Pod],
    memory: Memory,
    failed_snapshots: Collection[str],
    situation: Situation,
) -> Record:
    """Return the checkpoint's record, with its newest revision known good if it has become so.

    Only by a pod whose own last snapshot is that revision, after `settled`.
    For a stage-0 workload contact must have been Reachable all the while, too.
    """
    record = checkpoint.record
    newest = next(iter(checkpoint.revisions), None)
    if newest is None or newest.number in record.good or newest.number in record.failed:
        return record
    long_ago = situation.now - situation.rules.good_seconds
    has_contact = situation.contact.state is ContactState.REACHABLE
    if not has_contact or (newest.stage == 0 and situation.contact.since > long_ago):
        return record
    for pod in pods:
        attempt, since = memory.attempts.get(pod.uid), memory.ready_since.get(pod.uid)
        if attempt is None or since is None or pod.uid in failed_snapshots:
            continue
        is_newest = (
            pod.ready and attempt.signature == pod.signature and attempt.revision == newest.number
        )
        if is_newest and max(since, attempt.at) <= long_ago:
            stored = {revision.number for revision in checkpoint.revisions}
            older = tuple(number for number in record.good if number in stored)
            return replace(record, good=(newest.number, *older))
    return record
