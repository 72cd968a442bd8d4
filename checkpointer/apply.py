"""Applying a plan: the only place from which the node is changed.

Every action is idempotent; one that fails, for whatever reason, is logged once, held back for a
while that doubles, and otherwise left to the next cycle: no workload's fault may keep another one
down. Records are written before the actions that count on them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from checkpointer.core.checkpoint import Checkpoint, Record, Revision
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.moment import Moment
from checkpointer.core.observation import Observation
from checkpointer.core.plan import (
    Action,
    Activate,
    GiveWay,
    Kill,
    Leave,
    Plan,
    Release,
    Remove,
    ReplaceParent,
    Snapshot,
    StartAnew,
)
from checkpointer.core.workload import Workload
from checkpointer.errors import CheckpointerError, NotCheckpointableError, RuntimeSilentError
from checkpointer.manifest.legible import uid_of
from checkpointer.manifest.render import render
from checkpointer.node.manifests import ManifestFolder
from checkpointer.observe import RawPod
from checkpointer.store.errors import DiskError
from checkpointer.store.revisions import Store
from checkpointer.values import dataclass

if TYPE_CHECKING:
    from checkpointer.node.cri import ContainerRuntime
    from checkpointer.snapshot import Snapshooter

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS = 1.0
DELAY_LIMIT_SECONDS = 60.0

_UNRECORDED = "its manifest stays, for its hand-over cannot be recorded"
_KILLED = "; its copy, killed before that was known, is started again by the kubelet"

_Key = tuple[type[Action], Workload, int]


@dataclass(frozen=True, slots=True)
class _Failure:
    message: str
    count: int
    retry_at: float


class Applier:
    """Carries plans out; `failed_snapshots` are the UIDs of parents whose last one failed."""

    def __init__(
        self,
        store: Store,
        folder: ManifestFolder,
        node_name: str,
        dry_run: bool = False,
    ) -> None:
        self._store, self._folder = store, folder
        self.runtime: ContainerRuntime | None = None
        """Set once the runtime's socket has been found."""
        self._node_name, self._dry_run = node_name, dry_run
        self._failures: dict[_Key, _Failure] = {}
        self._record_problems: dict[Workload, str] = {}
        self.snapshooter: Snapshooter | None = None
        """Set once the API has been reached: only then is there anything to snapshot."""
        self.failed_snapshots: dict[str, str] = {}
        self.on_done: Callable[[Action, Revision | None], None] = lambda _, __: None
        """Told of each action that was carried out, with the revision that a snapshot stored."""
        self.on_failed: Callable[[Action, str], None] = lambda _, __: None
        """Told of each action that failed, when that is new or its reason is."""
        self._is_runtime_silent = False
        """Whether the runtime let a stop time out: it is asked to stop no more in this cycle, which
        would take as long again for each container."""
        self._foretold: dict[Workload, str] = {}
        """What a dry run has said of each parent's snapshot."""
        self._unfinished: dict[Store | ManifestFolder, str] = {}
        """The last reason for which a failed change could not be had on disk."""
        self._killed: set[str] = set()
        """The containers that were killed in this cycle."""
        self._unreleased: set[Workload] = set()
        """Whose last release failed, however long ago: it may have lost its copy for nothing."""
        self.delete_pod: Callable[[str, str, str], None] = _cannot_delete
        """Deletes a pod by namespace, name and UID through the API."""
        self.is_overtaken: Callable[[], bool] = lambda: False
        """Tells whether contact is no longer what the plan was made on: hundreds of snapshots may
        be left, and what contact asks for is more urgent."""
        self.is_giving_way = False
        """Whether this instance is to end, so that the parked one may work."""
        self.has_left = False
        """Whether all that was ours is gone from the node."""

    def apply(
        self, plan: Plan, seen: Observation, pods: Fact[tuple[RawPod, ...]], now: Moment
    ) -> bool:
        """Carry the plan out as far as possible; return whether all of it succeeded."""
        self._is_runtime_silent = False
        self._killed.clear()
        if self._dry_run:
            self._foretell(plan, pods)
            return True
        held = {
            action.workload
            for action in plan.actions
            if (failure := self._failures.get(_key(action))) and now.monotonic < failure.retry_at
        }
        self._free_ports(action for action in plan.actions if action.workload not in held)
        is_stored = self._finish(self._store)
        unrecorded = {
            workload
            for workload, record in plan.records.items()
            if workload not in held and not self._try_record(workload, record)
        }
        done = is_stored and not unrecorded
        if not is_stored:  # it may be an earlier record of theirs
            unrecorded.update(action.workload for action in plan.actions)
        unbegun = {w for w in unrecorded if _record(w, plan, seen).hand_over.to}
        for action in plan.actions:
            if isinstance(action, Release) and action.workload in unbegun:
                told = _UNRECORDED + (_KILLED if action.kill else "")
                self._failed(action, CheckpointerError(told), now)
            elif isinstance(action, Snapshot) and self.is_overtaken():
                self.failed_snapshots[action.uid] = "contact changed before its turn came"
                done = False
            elif action.workload not in held:
                done &= self._try(action, seen, pods, now)
        done &= self._finish(self._folder)
        self._forget(plan, pods, now)
        return done and not held

    def _free_ports(self, actions: Iterable[Action]) -> None:
        """Kill the copies that make way before anything is written.

        The parent tries its ports a quarter of a second after its container is made (seen on
        1.36), and does not wait for a slow disk. What fails here is tried again, and told, once the
        manifest is gone; a copy that the kubelet starts anew in between is for the next cycle. Not
        where the last release has failed: that may be the removal of its manifest, and its copy
        would be killed with every try; it may be what serves the API that asks for the next. A run
        of the agent that does not know of the failure kills it once more.
        """
        for action in actions:
            if isinstance(action, Release) and action.workload not in self._unreleased:
                with suppress(Exception):
                    self._kill(action.kill)

    @property
    def has_failed(self) -> bool:
        """Tell whether an action waits to be tried again: it may need all facts to be planned."""
        return bool(self._failures)

    def _forget(self, plan: Plan, pods: Fact[tuple[RawPod, ...]], now: Moment) -> None:
        """Forget failures of what nobody wants any more; pods that are Unknown are not gone."""
        wanted = {_key(action) for action in plan.actions}
        self._failures = {
            key: failure
            for key, failure in self._failures.items()
            if key in wanted or now.monotonic < failure.retry_at
        }
        if self.failed_snapshots and isinstance(pods, Known):
            present = {uid_of(pod) for pod in pods.value}
            self.failed_snapshots = {
                uid: message for uid, message in self.failed_snapshots.items() if uid in present
            }

    def _foretell(self, plan: Plan, pods: Fact[tuple[RawPod, ...]]) -> None:
        """Say of each snapshot whether it would succeed, and why not; the same only once."""
        if self.snapshooter is None or not isinstance(pods, Known):
            return
        uids = {action.uid for action in plan.actions if isinstance(action, Snapshot)}
        for pod in pods.value:
            if uid_of(pod) in uids:
                verdict = self.snapshooter.explain(pod)[0]
                if verdict.manifest is not None:
                    verdict = self.snapshooter.judge_volumes(pod, verdict)
                found = "; ".join(f"{f.path}: {f.reason}" for f in verdict.refusals)
                line = f"{verdict.outcome.value}{': ' if found else ''}{found}"
                if self._foretold.get(verdict.workload) != line:
                    log.info("dry run: %s is %s", verdict.workload, line)
                self._foretold[verdict.workload] = line

    def _finish(self, changed: Store | ManifestFolder) -> bool:
        """Have on disk what failed in an earlier cycle and is seen as done; tell if that is so."""
        try:
            changed.finish()
        except DiskError as error:
            if self._unfinished.get(changed) != str(error):
                log.error("%s; trying again", error)
            self._unfinished[changed] = str(error)
            return False
        self._unfinished.pop(changed, None)
        return True

    def _try_record(self, workload: Workload, record: Record) -> bool:
        try:
            self._store.write_record(workload, record)
        except CheckpointerError as error:
            if self._record_problems.get(workload) != str(error):
                log.error("%s: %s", workload, error)
            self._record_problems[workload] = str(error)
            return False
        self._record_problems.pop(workload, None)
        return True

    def _try(
        self, action: Action, seen: Observation, pods: Fact[tuple[RawPod, ...]], now: Moment
    ) -> bool:
        try:
            stored = self._apply(action, seen, pods, now)
        except Exception as error:  # one workload's fault must not keep the others down
            if isinstance(action, Snapshot):
                self._snapshot_failed(action, error)
            elif isinstance(action, ReplaceParent):
                self._not_replaced(action, error)
            else:
                self._failed(action, error, now)
            return False
        self._failures.pop(_key(action), None)
        if isinstance(action, Release | Activate):
            self._unreleased.discard(action.workload)
        self.on_done(action, stored)
        return True

    def _failed(self, action: Action, error: Exception, now: Moment) -> None:
        if isinstance(action, Release):
            self._unreleased.add(action.workload)
        before = self._failures.get(_key(action))
        message = _told(error)
        count = before.count + 1 if before else 1
        delay = min(FIRST_DELAY_SECONDS * 2.0 ** (count - 1), DELAY_LIMIT_SECONDS)
        if before is None or before.message != message:
            log.error(
                "%s: %s; trying again in %.0f s",
                action.workload,
                message,
                delay,
                exc_info=_unforeseen(error),
            )
            self.on_failed(action, message)
        self._failures[_key(action)] = _Failure(message, count, now.monotonic + delay)

    def _apply(
        self, action: Action, seen: Observation, pods: Fact[tuple[RawPod, ...]], now: Moment
    ) -> Revision | None:
        match action:
            case Snapshot():
                return self._snapshot(action, seen, pods, now)
            case Activate():
                self._activate(action)
            case Release(workload, file_name, reason, kill):
                self._folder.remove(file_name)
                log.info("released %s: %s", workload, reason)
                self._kill(kill)
            case Kill(_, kill):
                self._kill(kill)
            case StartAnew():
                self._start_anew(action)
            case ReplaceParent(workload, name, uid, reason):
                self.delete_pod(workload.namespace, name, uid)
                log.info("deleted pod %s of %s: %s", name, workload, reason)
            case Remove(workload, reason):
                self._folder.settle()
                self._store.remove(workload)
                log.info("removed %s: %s", workload, reason)
            case GiveWay(_, reason):
                log.info("giving way to the parked instance: %s", reason)
                self.is_giving_way = True
            case Leave():
                self._leave(action)
        return None

    def _leave(self, action: Leave) -> None:
        """Remove the last of ours. Its manifest goes before what tells why: a copy that was
        started anew in between would otherwise not know that it is to go."""
        self._store.remove(action.workload)
        if action.file_name is not None:
            self._folder.remove(action.file_name)
        for problem in self._store.dissolve():
            log.warning("%s", problem)
        log.warning("left this node: %s", action.reason)
        self.has_left = True

    def _activate(self, action: Activate) -> None:
        workload, number = action.workload, action.revision
        problems = self._store.verify(workload, number)
        if problems:
            self._store.invalidate(workload)
            raise CheckpointerError(f"revision {number} does not verify: {problems[0]}")
        manifest = self._store.manifest(workload, number)
        digest = str(self._store.provenance(workload, number)["revision"]["digest"])
        rendered = render(manifest, workload, self._node_name, digest, number, action.issue)
        self._folder.write(rendered.file_name, rendered.content)
        log.warning(
            "activated %s revision %d as pod %s-%s: %s",
            workload,
            number,
            rendered.pod_name,
            self._node_name,
            action.reason,
        )
        if self.runtime is not None:
            self._stop_each(self.runtime.stop_sandbox, action.stop_sandboxes)

    def _kill(self, containers: tuple[str, ...]) -> None:
        if (runtime := self.runtime) is None:
            return

        def kill(container: str) -> None:
            runtime.stop_container(container, 0)
            self._killed.add(container)

        self._stop_each(kill, tuple(c for c in containers if c not in self._killed))

    def _start_anew(self, action: StartAnew) -> None:
        if (runtime := self.runtime) is None:
            return
        self._stop_each(runtime.remove_container, action.containers)
        self._stop_each(runtime.stop_sandbox, (action.sandbox,))
        log.info("had the parent of %s started anew", action.workload)

    def _stop_each(self, stop: Callable[[str], None], ids: tuple[str, ...]) -> None:
        """Stop every one of them, also after one failed; then raise the first failure."""
        failures: list[CheckpointerError] = []
        for one in ids:
            try:
                if self._is_runtime_silent:
                    raise RuntimeSilentError(f"{one[:13]} is not stopped: the runtime is silent")
                stop(one)
            except CheckpointerError as error:
                self._is_runtime_silent |= isinstance(error, RuntimeSilentError)
                failures.append(error)
        if failures:
            raise failures[0]

    def _not_replaced(self, action: ReplaceParent, error: Exception) -> None:
        """Tell it; no second try is planned: after a while it is given way, as without it."""
        message = f"pod {action.name} is not replaced: {_told(error)}"
        log.warning("%s: %s", action.workload, message, exc_info=_unforeseen(error))
        self.on_failed(action, message)

    def _snapshot(
        self, action: Snapshot, seen: Observation, pods: Fact[tuple[RawPod, ...]], now: Moment
    ) -> Revision | None:
        if self.snapshooter is None or not isinstance(pods, Known):
            raise CheckpointerError("the API cannot be read from")
        pod = next((p for p in pods.value if uid_of(p) == action.uid), None)
        if pod is None:
            return None
        active = _active_revision(action.workload, seen)
        if isinstance(active, Known):
            try:
                self._folder.settle()
            except DiskError as error:
                active = Unknown(str(error))
        checkpoint = _of(action.workload, seen)
        stored = self.snapshooter.take(pod, checkpoint, active, now.wall)
        self.failed_snapshots.pop(action.uid, None)
        if stored is not None:
            log.info("stored %s revision %d", action.workload, stored.number)
        return stored

    def _snapshot_failed(self, action: Snapshot, error: Exception) -> None:
        message = _told(error)
        if self.failed_snapshots.get(action.uid) != message:
            level = logging.WARNING if isinstance(error, NotCheckpointableError) else logging.ERROR
            log.log(
                level,
                "no snapshot of %s: %s",
                action.workload,
                message,
                exc_info=_unforeseen(error),
            )
            self.on_failed(action, message)
        self.failed_snapshots[action.uid] = message


def _cannot_delete(_namespace: str, _name: str, _uid: str) -> None:
    raise CheckpointerError("the API cannot be written to")


def _key(action: Action) -> _Key:
    """Return what a failure is remembered under: another revision may well succeed."""
    return type(action), action.workload, action.revision if isinstance(action, Activate) else 0


def _told(error: Exception) -> str:
    """Return an error for the log; one that nobody foresaw may say anything, even a secret."""
    return str(error) if isinstance(error, CheckpointerError) else type(error).__name__


def _unforeseen(error: Exception) -> Exception | None:
    return None if isinstance(error, CheckpointerError) else error


def _of(workload: Workload, seen: Observation) -> Checkpoint | None:
    if not isinstance(seen.checkpoints, Known):
        return None
    return next((c for c in seen.checkpoints.value if c.workload == workload), None)


def _record(workload: Workload, plan: Plan, seen: Observation) -> Record:
    """Return the record that the plan counts on: a new one, or what was stored before."""
    checkpoint = _of(workload, seen)
    return plan.records.get(workload) or (checkpoint.record if checkpoint else Record())


def _active_revision(workload: Workload, seen: Observation) -> Fact[int | None]:
    if isinstance(seen.manifests, Unknown):
        return seen.manifests
    found: Mapping[Workload, int] = {m.workload: m.revision for m in seen.manifests.value}
    return Known(found.get(workload))
