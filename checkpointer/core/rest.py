"""Rest: nearly all checkpoints are at rest nearly always, and nothing is to be decided on them.

Contact is good, no copy is there, the parent is, and the record says all that there is to say.
Every rule then leaves checkpoint and track as they are. To ask them all the same, for each of a
thousand checkpoints in each cycle, would be most of what the agent costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from checkpointer.core.checkpoint import Checkpoint
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.itself import Own
from checkpointer.core.observation import Observation, Pod
from checkpointer.core.plan import Memory, Track
from checkpointer.core.standing import Standing
from checkpointer.core.workload import Workload

AT_REST = Standing("standby")


def resting(
    seen: Observation,
    memory: Memory,
    checkpoints: Iterable[Checkpoint],
    pods: Mapping[Workload, tuple[Pod, ...]],
    own: Own | None = None,
) -> dict[Workload, Track]:
    """Return the tracks of the checkpoints at rest; they stay as they are.

    There are none while the runtime is asked: what it shows is followed in every track. The
    agent's own has rules of its own.
    """
    if own is not None and own.is_leaving:
        return {}
    is_good = seen.contact.state is ContactState.REACHABLE and isinstance(seen.pods, Known)
    if not is_good or isinstance(seen.runtime, Known) or isinstance(seen.manifests, Unknown):
        return {}
    others = {manifest.workload for manifest in seen.manifests.value}
    if own is not None:
        others.add(own.workload)
    return dict(_resting(memory.tracks, checkpoints, pods, others))


def _resting(
    tracks: Mapping[Workload, Track],
    checkpoints: Iterable[Checkpoint],
    pods: Mapping[Workload, tuple[Pod, ...]],
    others: set[Workload],
) -> Iterator[tuple[Workload, Track]]:
    for checkpoint in checkpoints:
        workload = checkpoint.workload
        track, here = tracks.get(workload), pods.get(workload, ())
        if track is None or len(here) != 1 or workload in others:
            continue
        if _is_settled(checkpoint, here[0]) and _is_still(track):
            yield workload, track


def _is_settled(checkpoint: Checkpoint, parent: Pod) -> bool:
    """Tell whether the record knows this parent, and the newest revision by it for good."""
    record, revisions = checkpoint.record, checkpoint.revisions
    return (
        parent.is_parent
        and parent.stays
        and record.parents == (parent.uid,)
        and not record.absent_seconds
        and not record.hand_over.to
        and not record.hand_over.refused
        and checkpoint.hold is None
        and bool(revisions)
        and revisions[0].number in record.good
    )


def _is_still(track: Track) -> bool:
    """Tell whether nothing is counted of it: neither absence nor crashes."""
    return (
        track.down_since is None
        and not track.parent_crashes
        and not track.was_leaving
        and not track.absent_seconds
    )
