"""From what the loop sees and does to what happened: for journal, metrics and Events.

It looks and never decides. A hand-over is followed from the release of a checkpoint until its
parent is Ready by a status from after the release; a copy that is activated before that tells
that it failed.
"""

from __future__ import annotations

from collections.abc import Callable

from checkpointer.core.checkpoint import Revision
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Known
from checkpointer.core.hand_over import is_under_way
from checkpointer.core.hold import Hold, hold_of
from checkpointer.core.moment import Moment
from checkpointer.core.observation import Observation, Pod
from checkpointer.core.occupancy import is_current
from checkpointer.core.plan import (
    Action,
    Activate,
    Release,
    Remove,
    ReplaceParent,
    Snapshot,
    StartAnew,
)
from checkpointer.core.workload import Workload
from checkpointer.report.hand_overs import refusal
from checkpointer.report.happenings import Happening, Kind
from checkpointer.values import dataclass

LONGEST_HAND_OVER_SECONDS = 600.0
"""After which a parent that did not come back is no hand-over any more."""

_TIMESTAMP_SECONDS = 1.0
"""The API's times are cut to the second."""


@dataclass(frozen=True, slots=True)
class _Released:
    at: Moment
    is_over: bool
    """Whether the parent was Ready already."""


class Recorder:
    """Follows the loop's cycles, in its thread; `tell` takes what happened, once per cycle."""

    def __init__(self, tell: Callable[[list[Happening], Moment], None]) -> None:
        self._tell = tell
        self._found: list[Happening] = []
        self._seen: Observation | None = None
        self._now = Moment("", 0.0, 0.0)
        self._contact: ContactState | None = None
        self._released: dict[Workload, _Released] = {}
        self._refused: dict[Workload, str] | None = None
        """By workload: the UID of the parent that is not given way to. None before the first look:
        of what is on disk by then an earlier run has told."""

        self._holds: dict[Workload, Hold] | None = None
        """Those in force; None before the first look, as above."""

    def started(self, now: Moment, version: str) -> None:
        """The agent has begun its work."""
        self._found.append(Happening(Kind.STARTED, now.wall, f"version {version}"))

    def stopped(self, now: Moment) -> None:
        """The agent ends by itself; one that has told nothing yet says nothing now."""
        if self._contact is not None:
            self._tell([*self._found, Happening(Kind.STOPPED, now.wall)], now)

    def begin(self, seen: Observation, now: Moment) -> None:
        """Take over what a cycle sees, before its actions are carried out."""
        self._seen, self._now = seen, now
        contact = seen.contact
        if contact.state is not ContactState.SUSPECT and contact.state is not self._contact:
            self._contact = contact.state
            at = now.wall - (now.monotonic - contact.since)
            self._found.append(
                Happening(Kind.CONTACT, at, contact.cause, state=contact.state.value)
            )
        self._follow_records(now)
        self._follow_holds(now)
        self._follow_hand_overs(now)

    def done(self, action: Action, stored: Revision | None = None) -> None:
        """An action was carried out; `stored` is the revision that a snapshot made, if any."""
        match action:
            case Snapshot(workload) if stored is not None:
                reason = f"taken of pod {stored.parent_name}"
                self._add(Kind.SNAPSHOT, workload, reason, stored)
            case Activate(workload, number, issue, reason):
                if self._released.pop(workload, None) is not None:
                    self._add(Kind.HAND_OVER_FAILED, workload, "its parent did not come up")
                kind = self._kind_of(workload, number)
                self._add(kind, workload, reason, self._revision(workload, number), issue)
            case Release(workload, _, reason):
                active = self._active(workload)
                self._add(Kind.RELEASED, workload, reason, self._revision(workload, active))
                self._released[workload] = _Released(self._now, self._is_ready(workload))
            case StartAnew(workload):
                self._add(Kind.STARTED_ANEW, workload, "it was down when its copy had made way")
            case ReplaceParent(workload, _, _, reason):
                self._add(Kind.REPLACED, workload, reason)
            case Remove(workload, reason):
                self._released.pop(workload, None)
                self._add(Kind.REMOVED, workload, reason)

    def failed(self, action: Action, message: str) -> None:
        """An action failed, in other words than the last time."""
        is_snapshot = isinstance(action, Snapshot)
        kind = Kind.SNAPSHOT_FAILED if is_snapshot else Kind.FAILED
        self._add(kind, action.workload, message)

    def end(self) -> None:
        """Tell what the cycle brought; nothing is written before contact has been judged.

        At boot every write would hold the first activation up.
        """
        if self._contact is None:
            return
        found, self._found = self._found, []
        self._tell(found, self._now)

    def _add(
        self,
        kind: Kind,
        workload: Workload,
        reason: str,
        revision: Revision | None = None,
        issue: int | None = None,
        seconds: float | None = None,
        about: Pod | None = None,
    ) -> None:
        parent = revision or self._revision(workload, None)
        name, uid = (parent.parent_name, parent.parent_uid) if parent else ("", "")
        self._found.append(
            Happening(
                kind,
                self._now.wall,
                reason,
                workload,
                pod=about.name if about else name,
                pod_uid=about.uid if about else uid,
                revision=revision.number if revision else None,
                issue=issue,
                seconds=seconds,
            )
        )

    def _follow_records(self, now: Moment) -> None:
        """Tell of parents that get no other try; follow what an earlier run had begun."""
        seen = self._seen
        if seen is None or not isinstance(seen.checkpoints, Known):
            return
        told, self._refused = self._refused, {}
        for checkpoint in seen.checkpoints.value:
            workload, way = checkpoint.workload, checkpoint.record.hand_over
            if way.refused:
                self._refused[workload] = way.refused
            if told is None:
                if is_under_way(way, now.boot_id) and self._active(workload) is None:
                    at = now.wall - (now.monotonic - way.since)
                    self._released[workload] = _Released(Moment(now.boot_id, way.since, at), False)
            elif way.refused and way.refused != told.get(workload):
                pods = seen.pods.value if isinstance(seen.pods, Known) else ()
                pod = next((pod for pod in pods if pod.uid == way.refused), None)
                reason = refusal(checkpoint, self._active(workload))
                self._add(Kind.PARENT_REFUSED, workload, reason, about=pod)

    def _follow_holds(self, now: Moment) -> None:
        """Tell of what is held by hand, and of what is not any more."""
        seen = self._seen
        if seen is None or not isinstance(seen.checkpoints, Known):
            return
        stored = seen.checkpoints.value
        holds = {c.workload: hold for c in stored if (hold := hold_of(c, now)) is not None}
        told = holds if self._holds is None else self._holds
        self._holds = holds
        for workload, hold in holds.items():
            if told.get(workload) != hold:
                self._add(Kind.HELD, workload, str(hold))
        lifted = {workload: hold for workload, hold in told.items() if workload not in holds}
        for checkpoint in stored if lifted else ():
            if (hold := lifted.get(checkpoint.workload)) is not None:
                self._add(Kind.LIFTED, checkpoint.workload, f"it was held {hold}")

    def _follow_hand_overs(self, now: Moment) -> None:
        for workload, released in tuple(self._released.items()):
            seconds = now.monotonic - released.at.monotonic
            if released.is_over or self._is_ready_since(workload, released.at, now):
                del self._released[workload]
                taken = 0.0 if released.is_over else round(seconds, 3)
                reason = f"its parent was Ready after {taken:.1f} s"
                self._add(Kind.HANDED_OVER, workload, reason, seconds=taken)
            elif seconds > LONGEST_HAND_OVER_SECONDS:
                del self._released[workload]

    def _is_ready_since(self, workload: Workload, released: Moment, now: Moment) -> bool:
        """Tell whether a parent is Ready by what was written after the release.

        The API goes on telling the status from before an outage until there is another one.
        """
        if self._seen is None or not isinstance(self._seen.pods, Known):
            return False
        longest = now.monotonic - released.monotonic + _TIMESTAMP_SECONDS
        return any(
            pod.ready and not pod.terminating and pod.ready_seconds <= longest
            for pod in self._seen.pods.value
            if pod.workload == workload
        )

    def _is_ready(self, workload: Workload) -> bool:
        """Tell whether a parent is Ready in containers that run now."""
        seen = self._seen
        if seen is None or not isinstance(seen.pods, Known) or not isinstance(seen.runtime, Known):
            return False
        containers = seen.runtime.value.containers
        running = {(c.pod_uid, c.id) for c in containers if c.state.value == "running"}
        return any(
            pod.ready and is_current(pod, running)
            for pod in seen.pods.value
            if pod.workload == workload
        )

    def _kind_of(self, workload: Workload, number: int) -> Kind:
        """Return which kind of activation it was, by what was active before."""
        active = self._active(workload)
        if active is None:
            return Kind.ACTIVATED
        return Kind.ISSUED_ANEW if active == number else Kind.FELL_BACK

    def _active(self, workload: Workload) -> int | None:
        if self._seen is None or not isinstance(self._seen.manifests, Known):
            return None
        found = (m.revision for m in self._seen.manifests.value if m.workload == workload)
        return next(found, None)

    def _revision(self, workload: Workload, number: int | None) -> Revision | None:
        """Return a stored revision, the newest one without a number."""
        if self._seen is None or not isinstance(self._seen.checkpoints, Known):
            return None
        return next(
            (
                revision
                for checkpoint in self._seen.checkpoints.value
                if checkpoint.workload == workload
                for revision in checkpoint.revisions
                if number is None or revision.number == number
            ),
            None,
        )
