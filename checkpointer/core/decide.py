"""The decision of one cycle: a pure function of what is seen, stored, remembered, and the time.

It composes the decisions on single checkpoints (activation, release), on parents (snapshots)
and on what nobody wants any more (retention). It is level-driven: called again with the same
facts after its plan was applied, it plans nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from checkpointer.core.activation import activation
from checkpointer.core.checkpoint import ActiveManifest, Checkpoint, Record
from checkpointer.core.contact import Contact, ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.hand_over import (
    ended,
    informed,
    is_under_way,
    stage_zero_left,
    with_hand_over,
    with_hand_overs,
)
from checkpointer.core.held import held
from checkpointer.core.hold import has_hold, hold_of
from checkpointer.core.itself import (
    Own,
    gave_way,
    leave,
    own_of,
    own_step,
    remember_itself,
    taken_along,
)
from checkpointer.core.lease import Turn, turn_of
from checkpointer.core.moment import Moment
from checkpointer.core.observation import Observation, Pod
from checkpointer.core.occupancy import Occupancy, is_current, occupancies
from checkpointer.core.pace import noting_in, watch_in
from checkpointer.core.plan import (
    Action,
    Activate,
    Leave,
    Memory,
    Plan,
    Release,
    Remove,
    Track,
)
from checkpointer.core.promotion import promoted, settled
from checkpointer.core.release import release
from checkpointer.core.rest import AT_REST, resting
from checkpointer.core.retention import is_unwanted, with_absence, with_absence_recorded
from checkpointer.core.rules import Rules
from checkpointer.core.runtime import ContainerState
from checkpointer.core.sentence import in_one_line, ordered, sentence
from checkpointer.core.situation import Situation, Step, situation_of
from checkpointer.core.snapshots import due_snapshots
from checkpointer.core.standing import Standing
from checkpointer.core.workload import Workload
from checkpointer.values import replace

_UNINSTALLED_TICK_SECONDS = 5.0
"""How soon to look again while the installation is gone: the grace is counted while looking."""

_UNTOLD = Unknown("there are pods of which it cannot be told whose they are")
_STRANGERS = Unknown("they are another cluster's")


def needs_runtime(
    contact: Contact,
    manifests: Fact[tuple[ActiveManifest, ...]],
    checkpoints: Fact[tuple[Checkpoint, ...]],
    own: Workload | None = None,
) -> bool:
    """Tell whether a decision on these facts asks for the runtime's: at rest it does not.

    While contact is not good, while a copy is active (but for the agent's own), until a hand-over
    has ended, and while anything is held by hand.
    """
    if contact.state is not ContactState.REACHABLE or not isinstance(manifests, Known):
        return True
    is_amid = isinstance(checkpoints, Known) and any(
        c.record.hand_over.to for c in checkpoints.value
    )
    return is_amid or has_hold(checkpoints) or any(m.workload != own for m in manifests.value)


def decide(
    seen: Observation,
    memory: Memory,
    rules: Rules,
    failed_snapshots: frozenset[str],
    now: Moment,
    node_name: str = "",
) -> Plan:
    """Decide what to do now; `failed_snapshots` are the UIDs of parents whose last one failed."""
    if isinstance(seen.checkpoints, Unknown):
        frozen = in_one_line(f"frozen: {seen.checkpoints.reason}")
        is_lost = seen.contact.state is ContactState.LOST
        wake_in = rules.lost_watch_seconds if is_lost else rules.tick_seconds
        return Plan(frozen, memory, wake_in=wake_in, turn=Turn.KEPT)
    memory = _remember_removal(_remember_kubelet(seen, memory, now.monotonic), now.monotonic)
    memory = remember_itself(seen, memory, rules, now.monotonic)
    memory = settled(
        _without_strangers(seen, memory), seen.checkpoints.value, seen.pods, failed_snapshots
    )
    own = own_of(seen, memory, failed_snapshots, now.monotonic)
    stored = frozenset(c.workload for c in seen.checkpoints.value)
    checkpoints = (*seen.checkpoints.value, *_without_store(seen, stored))
    by_workload = _by_workload(seen.pods)
    by_digest = _occupancies(seen, checkpoints, by_workload)
    manifests = (
        {m.workload: m for m in seen.manifests.value} if isinstance(seen.manifests, Known) else None
    )
    mine = own.workload if own is not None else None
    situation = situation_of(seen, memory, rules, now, node_name, mine)
    idle = [c for c in checkpoints if c.record.hand_over.to and c.workload not in (manifests or {})]
    situation = with_hand_overs(situation, idle)
    elapsed = 0.0 if memory.last_cycle is None else now.monotonic - memory.last_cycle
    told = _told(seen)
    at_rest = resting(seen, memory, checkpoints, by_workload, own)
    builder = _PlanBuilder(memory, rules, now, stored, seen.contact.since, own)
    for checkpoint in checkpoints:
        workload = checkpoint.workload
        if workload in at_rest:
            builder.add_resting(workload, at_rest[workload])
            continue
        track = memory.tracks.get(workload) or Track(
            absent_seconds=checkpoint.record.absent_seconds
        )
        pods = _pods_of(workload, seen, by_workload)
        if own is not None and workload == own.workload:
            builder.add_own(checkpoint, pods, manifests, situation, own)
            continue
        track = with_absence(track, checkpoint.record, told, pods, elapsed, situation)
        track = _with_leaving(track, pods, situation)
        stored_record = checkpoint.record
        is_active = manifests is not None and workload in manifests
        checkpoint = _informed(checkpoint, track, pods, is_active, now.boot_id)
        if isinstance(pods, Known):
            good = promoted(checkpoint, pods.value, memory, failed_snapshots, situation)
            checkpoint = _with_record(checkpoint, good)
        if isinstance(seen.manifests, Unknown):
            step = Step(Standing("frozen", f"the manifest folder: {seen.manifests.reason}"), track)
        else:
            manifest = (manifests or {}).get(workload)
            step = _step(checkpoint, manifest, pods, by_digest(workload), track, situation)
            is_held = hold_of(checkpoint, now) is not None
            if not is_held and is_unwanted(track, told, situation):
                step = _farewell(checkpoint, manifest, step, builder)
            if own is not None and own.is_leaving:
                step = taken_along(checkpoint, manifest, step)
        builder.add(checkpoint, stored_record, step)
        if isinstance(step.action, Release) and step.record is not None:
            situation = with_hand_over(situation, checkpoint, step.record)
    if own is not None and own.is_leaving:
        builder.add_leave(leave(own, seen.manifests, {c.workload for c in checkpoints}))
    elif isinstance(seen.pods, Known) and seen.contact.state is ContactState.REACHABLE:
        whole = {c.workload for c in seen.checkpoints.value if c.revisions and c.is_current}
        builder.add_snapshots(_believed(seen.pods.value, seen, now), failed_snapshots, whole)
    return builder.plan(seen, _turn(builder, checkpoints, situation))


def _step(
    checkpoint: Checkpoint,
    manifest: ActiveManifest | None,
    pods: Fact[tuple[Pod, ...]],
    occupancy: Fact[Occupancy],
    track: Track,
    situation: Situation,
) -> Step:
    """Decide on one checkpoint: by an operator's hold, else active or not."""
    by_hand = held(checkpoint, manifest, occupancy, track, situation)
    if by_hand is not None:
        return by_hand
    if manifest is not None:
        return release(checkpoint, manifest, pods, occupancy, track, situation)
    return activation(checkpoint, pods, occupancy, track, situation)


def _turn(builder: _PlanBuilder, checkpoints: tuple[Checkpoint, ...], situation: Situation) -> Turn:
    """Return what is wanted of the other masters, by the hand-overs as they are after all steps."""
    left = [
        stage_zero_left(c, builder.records.get(c.workload, c.record), situation)
        for c in checkpoints
        if c.workload in builder.steps
    ]
    wants_turn = any(step.wants_turn for step in builder.steps.values())
    return turn_of(wants_turn, max(left, default=0.0))


class _PlanBuilder:
    """Collects the steps of one decision; nothing outlives it but the plan."""

    def __init__(
        self,
        memory: Memory,
        rules: Rules,
        now: Moment,
        stored: frozenset[Workload],
        contact_since: float,
        own: Own | None,
    ) -> None:
        self.memory, self.rules, self.stored = memory, rules, stored
        self.now, self.boot_id = now.monotonic, now.boot_id
        self.own = own.workload if own is not None else None
        self.contact_since = contact_since
        self.actions: list[Action] = []
        self.records: dict[Workload, Record] = {}
        self.steps: dict[Workload, Step] = {}
        """Of the checkpoints that are not at rest."""
        self.tracks: dict[Workload, Track] = {}
        self.standings: dict[Workload, Standing] = {}
        self.ready_since, self.attempts = memory.ready_since, memory.attempts
        self.wake_in = rules.tick_seconds
        self.may_remove = (
            memory.last_removal is not None
            and self.now - memory.last_removal >= rules.removal_interval_seconds
        )

    def add(self, checkpoint: Checkpoint, stored: Record, step: Step) -> None:
        workload, record = checkpoint.workload, step.record or checkpoint.record
        if isinstance(step.action, Activate):
            record = replace(record, issue=step.action.issue, issued_in=self.boot_id)
            stage = next(
                (r.stage for r in checkpoint.revisions if r.number == step.action.revision), 1
            )
            if stage == 0 and workload != self.own and not self._was_tried_in_this_outage():
                self.memory = replace(self.memory, stage_zero_at=self.now)
        if record != stored and workload in self.stored:
            self.records[workload] = record
        if step.action is not None:
            self.actions.append(step.action)
        if step.wake_in is not None:
            self.wake_in = min(self.wake_in, step.wake_in)
        self.steps[workload] = step
        self.tracks[workload], self.standings[workload] = step.track, step.standing

    def add_resting(self, workload: Workload, track: Track) -> None:
        self.tracks[workload], self.standings[workload] = track, AT_REST

    def add_own(
        self,
        checkpoint: Checkpoint,
        pods: Fact[tuple[Pod, ...]],
        manifests: Mapping[Workload, ActiveManifest] | None,
        situation: Situation,
        own: Own,
    ) -> None:
        """Add the agent's own checkpoint: it follows rules of its own."""
        if manifests is None:
            step = Step(Standing("frozen", "the manifest folder"), Track())
        else:
            step = own_step(checkpoint, manifests.get(checkpoint.workload), situation, own)
        record = gave_way(self.memory.own, step, checkpoint, situation.contact.state)
        self.memory = replace(self.memory, own=record)
        informed = replace(checkpoint, record=_with_parents(checkpoint.record, pods))
        self.add(informed, checkpoint.record, step)

    def add_leave(self, action: Leave | None) -> None:
        if action is not None:
            self.actions.append(action)

    def use_removal(self) -> None:
        self.may_remove = False
        self.memory = replace(self.memory, last_removal=self.now)

    def _was_tried_in_this_outage(self) -> bool:
        """Tell whether stage 0 has had its turn: one that cannot start must not hold the rest."""
        tried = self.memory.stage_zero_at
        return tried is not None and tried >= self.contact_since

    def add_snapshots(
        self, pods: tuple[Pod, ...], failed: frozenset[str], whole: set[Workload]
    ) -> None:
        memory = self.memory
        due = due_snapshots(
            pods, memory.ready_since, memory.attempts, failed, whole, self.rules, self.now
        )
        self.actions.extend(due.actions)
        self.wake_in = min(self.wake_in, due.wake_in)
        self.ready_since, self.attempts = due.ready_since, due.attempts

    def plan(self, seen: Observation, turn: Turn) -> Plan:
        actions = ordered(self.actions)
        memory = replace(
            self.memory,
            tracks=self.tracks,
            ready_since=self.ready_since,
            attempts=self.attempts,
            last_cycle=self.now,
        )
        others = {w: step for w, step in self.steps.items() if w != self.own}
        if memory.is_uninstalled:
            self.wake_in = min(self.wake_in, _UNINSTALLED_TICK_SECONDS)
        wake_in = min(
            self.wake_in,
            watch_in(seen, others, self.rules, self.now),
            noting_in(seen, memory, self.rules),
        )
        wake_in = max(wake_in, self.rules.watch_seconds)
        return Plan(
            sentence(seen, actions, self.standings, self.own),
            memory,
            actions,
            self.records,
            self.standings,
            wake_in,
            turn,
        )


def _farewell(
    checkpoint: Checkpoint, manifest: ActiveManifest | None, step: Step, builder: _PlanBuilder
) -> Step:
    """Take what nothing wants any more out of the folder, later out of the store: one by one."""
    if step.action is not None:
        return step
    if manifest is not None and not _may_go(checkpoint, manifest):
        standing = Standing("active", "a parent, and nobody makes one: only a hand takes it out")
        return replace(step, standing=standing)
    if not builder.may_remove:
        return replace(step, standing=replace(step.standing, waits_for="its removal, one by one"))
    builder.use_removal()
    standing = Standing("standby", "its removal")
    reason = "nothing of it has been wanted here"
    if manifest is not None:
        return Step(standing, step.track, Release(checkpoint.workload, manifest.file_name, reason))
    return Step(standing, step.track, Remove(checkpoint.workload, reason))


def _may_go(checkpoint: Checkpoint, manifest: ActiveManifest) -> bool:
    """Tell whether an active copy may go because nobody wants its workload any more.

    Not one of stage 0, nor one of which that cannot be told: the API that says so may be served
    by this very copy, and would be gone with it.
    """
    stages = {r.stage for r in checkpoint.revisions if r.number == manifest.revision}
    return bool(stages) and 0 not in stages


def _without_store(seen: Observation, stored: frozenset[Workload]) -> list[Checkpoint]:
    """Return what stands for active manifests of which the store has nothing: they are released
    like any other, though never issued anew."""
    if isinstance(seen.manifests, Unknown):
        return []
    orphans = {m.workload for m in seen.manifests.value} - stored
    return [Checkpoint(workload, ()) for workload in sorted(orphans)]


def _remember_kubelet(seen: Observation, memory: Memory, now: float) -> Memory:
    """Remember which run of the kubelet there has been contact with.

    Only an answer that is younger than the run counts: contact may have been lost, unnoticed as
    yet, before the kubelet started, and then it does not know the parents.
    """
    if isinstance(seen.kubelet, Unknown):
        return memory
    identity = seen.kubelet.value.identity
    if memory.kubelet_seen is None or memory.kubelet_seen[0] != identity:
        memory = replace(memory, kubelet_seen=(identity, now))
    if memory.kubelet_seen is None or identity == memory.contact_kubelet:
        return memory
    answered = seen.contact.last_answer
    is_known = (
        seen.contact.state is ContactState.REACHABLE
        and seen.kubelet.value.listening
        and answered is not None
        and answered > memory.kubelet_seen[1]
    )
    return replace(memory, contact_kubelet=identity) if is_known else memory


def _remember_removal(memory: Memory, now: float) -> Memory:
    """Remember when something was removed last: the run of the agent before this one may have."""
    return memory if memory.last_removal is not None else replace(memory, last_removal=now)


def _without_strangers(seen: Observation, memory: Memory) -> Memory:
    """Forget what pods have proved while another cluster answers: they may be its own."""
    if seen.is_own_cluster != Known(False):
        return memory
    return replace(memory, ready_since={}, attempts={})


def _occupancies(
    seen: Observation,
    checkpoints: tuple[Checkpoint, ...],
    by_workload: Mapping[Workload, tuple[Pod, ...]],
) -> Callable[[Workload], Fact[Occupancy]]:
    """Return who is up, by the parents that the API tells of now or that were last told of."""
    if isinstance(seen.runtime, Unknown):
        unknown = seen.runtime
        return lambda _workload: unknown
    told = [
        _with_record(c, _with_parents(c.record, Known(by_workload[c.workload])))
        if c.workload in by_workload
        else c
        for c in checkpoints
    ]
    found = occupancies(told, seen.runtime.value)
    return lambda workload: Known(found[workload.digest])


def _by_workload(pods: Fact[tuple[Pod, ...]]) -> Mapping[Workload, tuple[Pod, ...]]:
    found: dict[Workload, tuple[Pod, ...]] = {}
    if isinstance(pods, Known):
        for pod in pods.value:
            workload = pod.workload
            found[workload] = (*found[workload], pod) if workload in found else (pod,)
    return found


def _pods_of(
    workload: Workload, seen: Observation, by_workload: Mapping[Workload, tuple[Pod, ...]]
) -> Fact[tuple[Pod, ...]]:
    """Return the API's pods of a workload here; that there are none is not said by a list with
    pods of which it cannot be told whose they are, nor by one that is empty as a whole."""
    if isinstance(seen.pods, Unknown):
        return seen.pods
    if seen.is_own_cluster == Known(False):
        return _STRANGERS
    if not seen.pods.value:
        return Unknown("the API lists no pod at all on this node")
    found = by_workload.get(workload, ())
    return _UNTOLD if seen.has_untold_pods and not found else Known(found)


def _told(seen: Observation) -> Fact[tuple[Pod, ...]]:
    """Return the pods as far as something may be removed on their account."""
    if seen.is_own_cluster != Known(True):
        return Unknown("of another cluster")
    return _UNTOLD if seen.has_untold_pods else seen.pods


def _informed(
    checkpoint: Checkpoint,
    track: Track,
    pods: Fact[tuple[Pod, ...]],
    is_active: bool,
    boot_id: str,
) -> Checkpoint:
    """Return it with what this look tells in its record, before anything is decided on it.

    A hand-over of a copy whose manifest is there did not get far: it begins anew. One of an
    earlier boot is over.
    """
    record = _with_parents(with_absence_recorded(checkpoint.record, track), pods)
    way = informed(record.hand_over, pods)
    if is_active or not is_under_way(way, boot_id):
        way = ended(way)
    if way is not record.hand_over:
        record = replace(record, hand_over=way)
    return _with_record(checkpoint, record)


def _with_record(checkpoint: Checkpoint, record: Record) -> Checkpoint:
    return checkpoint if record is checkpoint.record else replace(checkpoint, record=record)


def _with_leaving(track: Track, pods: Fact[tuple[Pod, ...]], situation: Situation) -> Track:
    """Remember whether the API, when it last had a parent here, had none that stays.

    A list without any says nothing: another cluster's has none, and a pod is told to end before it
    is gone.
    """
    if isinstance(pods, Unknown) or not pods.value:
        return track
    if situation.contact.state not in (ContactState.REACHABLE, ContactState.SUSPECT):
        return track
    stays = any(p.stays for p in pods.value)
    return track if track.was_leaving is not stays else replace(track, was_leaving=not stays)


def _with_parents(record: Record, pods: Fact[tuple[Pod, ...]]) -> Record:
    """Return the record with the UIDs that the runtime may show as this workload's."""
    if isinstance(pods, Unknown) or not pods.value:
        return record
    parents = tuple(sorted(p.uid for p in pods.value if not p.finished))
    return record if not parents or parents == record.parents else replace(record, parents=parents)


def _believed(pods: tuple[Pod, ...], seen: Observation, now: Moment) -> tuple[Pod, ...]:
    """Return the pods with no Ready that may be from before a power cycle.

    A snapshot of such a parent would take what it is about to try for what it has proved. Of
    another cluster's pods none is believed.
    """
    if seen.is_own_cluster == Known(False):
        return ()
    if isinstance(seen.kubelet, Known):
        age = max(0.0, now.wall - seen.kubelet.value.started_at / 1e9)
        pods = tuple(p if p.ready_seconds <= age else replace(p, ready_seconds=age) for p in pods)
    if isinstance(seen.runtime, Known):
        containers = seen.runtime.value.containers
        running = {(c.pod_uid, c.id) for c in containers if c.state is ContainerState.RUNNING}
        pods = tuple(
            replace(p, ready=False) if p.ready and not is_current(p, running) else p for p in pods
        )
    return pods
