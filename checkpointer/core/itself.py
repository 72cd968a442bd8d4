"""The agent itself: its own checkpoint, which is always active, and when it leaves the node.

Two instances run on a node, the controller's pod and its copy; one works and the other is parked
behind the lock. A new revision of the agent may be broken in a way that a parked pod does not
show, so the copy of the old one stays until the new one has worked: the old one gives way to the
pod that is parked, and what has worked for a while writes its own manifest. If it cannot work,
its lock is free again and the old copy goes on.

Leaving is for good, so it takes a positive answer: the controller or the installation's marker
is asked for and the API of the same cluster says that there is none, for long enough. A list
without our pod proves nothing, for it is as empty while the controller-manager is down.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from checkpointer.core.checkpoint import ActiveManifest, Checkpoint, OwnRecord, choose_revision
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Known
from checkpointer.core.observation import Itself, Observation, Pod
from checkpointer.core.plan import (
    Activate,
    Attempt,
    GiveWay,
    Kill,
    Leave,
    Memory,
    Remove,
    Track,
)
from checkpointer.core.rules import Rules
from checkpointer.core.situation import Situation, Step
from checkpointer.core.standing import Standing
from checkpointer.core.workload import Workload
from checkpointer.values import dataclass, replace

TRIES = 3
"""How often the agent gives way to a revision of itself that then does not come to work."""

RECORD_STEP_SECONDS = 10.0
"""How much of the installation's absence may be forgotten with the agent."""

REFUSED_SECONDS = 60.0
LONGEST_DOUBLING = 6
"""A copy that is refused gives way after a minute, which doubles each time to about an hour."""

UNINSTALLED = "the agent is not installed any more"


def recognise(
    pod_uid: str,
    pods: Fact[tuple[Pod, ...]],
    manifests: Fact[tuple[ActiveManifest, ...]],
    checkpoints: Fact[tuple[Checkpoint, ...]],
) -> Workload | None:
    """Return whose pod has this UID: the API's, a copy's, or one that a checkpoint was taken of."""
    if not pod_uid:
        return None
    if isinstance(pods, Known):
        for pod in pods.value:
            if pod.uid == pod_uid:
                return pod.workload
    if isinstance(manifests, Known):
        for manifest in manifests.value:
            if manifest.uid == pod_uid:
                return manifest.workload
    if isinstance(checkpoints, Known):
        for checkpoint in checkpoints.value:
            if pod_uid in _parents(checkpoint):
                return checkpoint.workload
    return None


def _parents(checkpoint: Checkpoint) -> set[str]:
    return {*checkpoint.record.parents, *(r.parent_uid for r in checkpoint.revisions)}


@dataclass(frozen=True, slots=True)
class Own:
    """What the decisions on the agent itself go by."""

    seen: Itself
    record: OwnRecord
    pods: tuple[Pod, ...]
    """The API's pods of the agent's own controller on this node."""
    is_snapshotted: bool
    """Whether the newest revision is what the pod that this instance runs in consists of."""
    worked_seconds: float
    is_leaving: bool

    @property
    def workload(self) -> Workload:
        return self.seen.workload

    @property
    def is_parent(self) -> bool:
        """Tell whether this instance is the controller's pod, not its copy."""
        return any(pod.uid == self.seen.pod_uid for pod in self.pods)


def remember_itself(seen: Observation, memory: Memory, rules: Rules, now: float) -> Memory:
    """Return the memory with what this cycle tells about the agent's installation."""
    memory = memory if memory.began is not None else replace(memory, began=now)
    itself, own = seen.itself, memory.own
    if itself is None or seen.contact.state is not ContactState.REACHABLE:
        return replace(memory, is_uninstalled=False) if memory.is_uninstalled else memory
    if own.refusals:
        own = replace(own, refusals=0)
    if not isinstance(seen.pods, Known):
        return replace(memory, own=own, is_uninstalled=False)
    mine = [p for p in seen.pods.value if p.workload == itself.workload]
    if any(p.stays for p in mine):
        own = replace(
            own,
            workload=itself.workload,
            cluster=itself.cluster,
            has_marker=_has_marker(own, itself),
            gone_seconds=0.0,
            leaving=False,
        )
        return replace(memory, own=own, is_uninstalled=False)
    answer = None if mine or seen.has_untold_pods else _is_installed(itself, own)
    if answer is None:
        return replace(memory, own=own, is_uninstalled=False)
    if answer:
        own = replace(own, gone_seconds=0.0)
        return replace(memory, own=own, is_uninstalled=False)
    if memory.is_uninstalled and memory.last_cycle is not None:
        lived = max(0.0, min(now - memory.last_cycle, 2 * rules.tick_seconds))
        own = replace(own, gone_seconds=own.gone_seconds + lived)
    leaving = own.leaving or own.gone_seconds >= rules.leave_seconds
    return replace(memory, own=replace(own, leaving=leaving), is_uninstalled=True)


def to_record(before: OwnRecord, after: OwnRecord) -> bool:
    """Tell whether the record has changed by enough to be written: the absence seldom is."""
    if after is before:
        return False
    if replace(after, gone_seconds=before.gone_seconds) != before:
        return True
    change = after.gone_seconds - before.gone_seconds
    return change < 0 or change >= RECORD_STEP_SECONDS


def _has_marker(own: OwnRecord, itself: Itself) -> bool:
    is_same_cluster = own.cluster == itself.cluster and own.workload == itself.workload
    return (own.has_marker and is_same_cluster) or itself.marker == Known(True)


def _is_installed(itself: Itself, own: OwnRecord) -> bool | None:
    """Return what the API of the same cluster says of the installation; None if it says nothing."""
    if not own.cluster or (own.workload, own.cluster) != (itself.workload, itself.cluster):
        return None
    if isinstance(itself.owner, Known):
        return itself.owner.value
    if own.has_marker and isinstance(itself.marker, Known):
        return itself.marker.value
    return None


def own_of(
    seen: Observation,
    memory: Memory,
    failed_snapshots: frozenset[str],
    now: float,
) -> Own | None:
    """Return what the decisions on the agent itself go by; None when it runs in no pod."""
    itself = seen.itself
    if itself is None:
        return None
    pods = seen.pods.value if isinstance(seen.pods, Known) else ()
    attempts: Mapping[str, Attempt] = memory.attempts
    may_leave = seen.contact.state in (ContactState.REACHABLE, ContactState.LOST)
    return Own(
        seen=itself,
        record=memory.own,
        pods=tuple(p for p in pods if p.workload == itself.workload and not p.finished),
        is_snapshotted=itself.pod_uid in attempts and itself.pod_uid not in failed_snapshots,
        worked_seconds=0.0 if memory.began is None else now - memory.began,
        is_leaving=memory.own.leaving and may_leave and memory.own.cluster == itself.cluster,
    )


def own_step(
    checkpoint: Checkpoint, manifest: ActiveManifest | None, situation: Situation, own: Own
) -> Step:
    """Decide on the agent's own checkpoint: always active, and never replaced without contact."""
    track = Track()
    if own.is_leaving:
        return Step(Standing("standby", "everything else of ours to be removed"), track)
    newest = checkpoint.revisions[0] if checkpoint.revisions else None
    if newest is None:
        return Step(Standing("unusable", "no stored revision verifies"), track)
    if manifest is None:
        return _first(checkpoint, situation, own, track)
    if situation.contact.state is ContactState.DENIED:
        return _refused(checkpoint, manifest, situation, own)
    if manifest.revision == newest.number:
        return Step(Standing("active"), track)
    if situation.contact.state is not ContactState.REACHABLE:
        return Step(Standing("active", "the API: its newer revision comes later"), track)
    wait = max(0.0, situation.rules.ready_seconds - own.worked_seconds)
    if own.is_parent:
        if not own.is_snapshotted or wait > 0:
            waiting = Standing("active", "this revision to have worked for a while")
            return Step(waiting, track, wake_in=wait or None)
        reason = "this revision of the agent has worked"
        action = _activate(checkpoint, newest.number, manifest.issue, reason)
        return Step(Standing("active"), track, action)
    if _tries(own, newest.number) >= TRIES:
        return Step(Standing("active", f"revision {newest.number}, which does not work"), track)
    if not any(p.ready and not p.terminating for p in own.pods):
        return Step(Standing("active", "the agent's new pod to be Ready"), track)
    if wait > 0:
        return Step(Standing("active", "its turn to give way"), track, wake_in=wait)
    reason = f"revision {newest.number} of the agent is to prove itself"
    return Step(Standing("active"), track, GiveWay(checkpoint.workload, reason))


def gave_way(
    own: OwnRecord, step: Step, checkpoint: Checkpoint, contact: ContactState
) -> OwnRecord:
    """Return the record after this step: how often the agent has given way, and to what."""
    if isinstance(step.action, Activate):
        return replace(own, gave_way_to=0, tries=0)
    if not isinstance(step.action, GiveWay):
        return own
    if contact is ContactState.DENIED:
        return replace(own, refusals=own.refusals + 1)
    number = checkpoint.revisions[0].number
    tries = own.tries if own.gave_way_to == number else 0
    return replace(own, gave_way_to=number, tries=tries + 1)


def taken_along(checkpoint: Checkpoint, manifest: ActiveManifest | None, step: Step) -> Step:
    """Decide on another checkpoint while the agent leaves: what does its parent's work stays.

    A copy that is active is released when its parent is back, as ever; what is not goes.
    """
    if manifest is not None or isinstance(step.action, Kill):
        return step
    standing = Standing("standby", "its removal")
    return Step(standing, step.track, Remove(checkpoint.workload, UNINSTALLED))


def leave(
    own: Own, manifests: Fact[tuple[ActiveManifest, ...]], left: Set[Workload]
) -> Leave | None:
    """Return the last step, once of all checkpoints and copies only the agent's own is left."""
    if left - {own.workload} or not isinstance(manifests, Known):
        return None
    mine = next((m for m in manifests.value if m.workload == own.workload), None)
    return Leave(own.workload, mine.file_name if mine else None, UNINSTALLED)


def _tries(own: Own, number: int) -> int:
    return own.record.tries if own.record.gave_way_to == number else 0


def _first(checkpoint: Checkpoint, situation: Situation, own: Own, track: Track) -> Step:
    revision = choose_revision(checkpoint)
    assert revision is not None  # noqa: S101 - the caller has seen one
    is_wanted = situation.contact.state is ContactState.REACHABLE and any(
        not p.terminating for p in own.pods
    )
    if not is_wanted and not situation.contact.is_gone:
        return Step(Standing("standby", "the agent's own pod"), track)
    reason = "the agent has to be there after a reboot"
    return Step(Standing("active"), track, _activate(checkpoint, revision.number, 0, reason))


def _refused(
    checkpoint: Checkpoint, manifest: ActiveManifest, situation: Situation, own: Own
) -> Step:
    """Let the controller's pod try: a copy's token ends with the pod that it was taken from."""
    standing = Standing("active", "the API to accept its credentials")
    if manifest.uid != own.seen.pod_uid:
        return Step(standing, Track())
    patience = REFUSED_SECONDS * 2.0 ** min(own.record.refusals, LONGEST_DOUBLING)
    wait = situation.contact.since + patience - situation.now
    if wait > 0:
        return Step(standing, Track(), wake_in=wait)
    reason = "its credentials are refused, the parked instance's may not be"
    return Step(standing, Track(), GiveWay(checkpoint.workload, reason))


def _activate(checkpoint: Checkpoint, number: int, issue: int, reason: str) -> Activate:
    return Activate(checkpoint.workload, number, max(checkpoint.record.issue, issue) + 1, reason)
