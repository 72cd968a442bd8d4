"""Whether an active checkpoint must be released, issued anew, or replaced by the one before.

The first is `giving_way`'s to tell, the others `keeping`'s; `hand_over` says what becomes of a
parent that was given way to.
"""

from __future__ import annotations

from checkpointer.core import hand_over
from checkpointer.core.checkpoint import (
    ActiveManifest,
    Checkpoint,
    HandOver,
    Revision,
    active_revision,
    main_container,
)
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.giving_way import Moment, moment_of
from checkpointer.core.keeping import keep_alive
from checkpointer.core.observation import Pod
from checkpointer.core.occupancy import Occupancy
from checkpointer.core.parent import finds_ports_taken, with_parent, with_quick_deaths
from checkpointer.core.plan import Release, Track
from checkpointer.core.replacement import with_replacement
from checkpointer.core.situation import Situation, Step
from checkpointer.core.standing import Standing
from checkpointer.core.workload import template_of
from checkpointer.values import replace


def release(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    pods: Fact[tuple[Pod, ...]],
    occupancy: Fact[Occupancy],
    track: Track,
    situation: Situation,
) -> Step:
    """Decide on a checkpoint whose manifest lies in the kubelet's folder.

    `pods` are the API's pods of this workload on this node.
    """
    if track.activated_at is None:
        track = replace(track, activated_at=situation.now)
    if isinstance(occupancy, Unknown):
        return Step(Standing("active", f"the runtime: {occupancy.reason}"), track)
    before = track
    track = _with_refusal(with_parent(track, occupancy.value, situation.now), pods)
    active = active_revision(checkpoint, manifest)
    main = main_container(checkpoint.workload, active) if active is not None else None
    track = with_quick_deaths(before, track, occupancy.value, main, situation.wall)
    found = moment_of(checkpoint, manifest, pods, occupancy.value, before, track, situation)
    if isinstance(found, Moment):
        return _release(checkpoint, manifest, occupancy.value, found, track, situation)
    step = keep_alive(checkpoint, manifest, occupancy.value, track, situation)
    if step.action is not None:
        return step
    if found is None:
        shares = active is not None and active.shares_ports and not finds_ports_taken(track)
        is_patient = shares or _has_no_parent(pods, situation)
        return replace(step, is_patient=True) if is_patient else step
    waiting = replace(step.standing, waits_for=found.reason)
    wake_in = found.seconds or step.wake_in
    step = with_replacement(step, checkpoint, pods, found.start, situation)
    return replace(
        step,
        standing=waiting,
        wake_in=wake_in,
        is_patient=found.is_long,
        wants_turn=found.wants_turn,
    )


def _release(
    checkpoint: Checkpoint,
    manifest: ActiveManifest,
    occupancy: Occupancy,
    moment: Moment,
    track: Track,
    situation: Situation,
) -> Step:
    record, way = checkpoint.record, HandOver()
    standing = Standing("standby", "the parent to be Ready")
    if moment.parent is not None:
        track = replace(track, was_leaving=False)  # whoever was leaving: this one is being started
        template = template_of(moment.parent.labels)
        way = hand_over.begun(record.hand_over, moment.parent.uid, template, situation)
    elif moment.refused is not None:
        pod = moment.refused
        way = hand_over.begun(record.hand_over, pod.uid, pod.template, situation)
    if way.to:
        standing = Standing("handing over", "its parent to serve")
    record = replace(record, hand_over=way)
    action = Release(
        checkpoint.workload,
        manifest.file_name,
        moment.reason,
        _to_kill(active_revision(checkpoint, manifest), moment, occupancy),
    )
    track = replace(
        track,
        down_since=None,
        parent_crashes=0,
        quick_deaths=0,
        started_anew=(0, 0.0),
        refused="",
        copy_ran_at=None,
    )
    if not way.to:  # until a parent is Ready, what kept crashing as a copy is not tried again
        record = replace(record, failed=())
    return Step(standing, track, action, record=record)


def _with_refusal(track: Track, pods: Fact[tuple[Pod, ...]]) -> Track:
    """Remember the first that was refused: that it is gone shows that somebody is at work."""
    if track.refused or isinstance(pods, Unknown) or not pods.value:
        return track
    if not all(p.finished for p in pods.value):
        return track
    return replace(track, refused=pods.value[0].uid)


def _has_no_parent(pods: Fact[tuple[Pod, ...]], situation: Situation) -> bool:
    """Tell whether the API says that no parent will come up here before it says otherwise."""
    if situation.contact.state is not ContactState.REACHABLE or not isinstance(pods, Known):
        return False
    return not any(p.stays for p in pods.value)


def _to_kill(active: Revision | None, moment: Moment, occupancy: Occupancy) -> tuple[str, ...]:
    is_in_nobodys_way = moment.parent is None and active is not None and active.shares_ports
    if is_in_nobodys_way or (active is not None and active.graceful):
        return ()
    return tuple(c.id for c in occupancy.copy_running)
