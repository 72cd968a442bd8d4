"""Snapshots that somebody asked for: who waits, and what became of each parent.

The loop takes them, in its own thread and by its own rules; whoever asked waits for its answer,
not longer than he likes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from checkpointer.config import API_VERSION
from checkpointer.core.checkpoint import Checkpoint
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.observation import Observation, Pod
from checkpointer.core.plan import Plan, Snapshot
from checkpointer.core.workload import Workload

KIND = "SnapshotReport"


class SnapshotRequests:
    """Those who wait. The loop looks at `is_waited_for` and calls `answer`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked = self._answered = 0
        self._report: dict[str, Any] = {}

    def ask(self) -> int:
        """Ask for snapshots; return a number to wait with."""
        with self._changed:
            self._asked += 1
            return self._asked

    def wait(self, number: int, seconds: float) -> dict[str, Any] | None:
        """Return the report of snapshots that were begun after `ask`, or None in time."""
        with self._changed:
            if self._changed.wait_for(lambda: self._answered >= number, seconds):
                return self._report
            return None

    @property
    def newest(self) -> int | None:
        """Return the number up to which somebody waits, None when nobody does."""
        with self._changed:
            return self._asked if self._asked > self._answered else None

    def answer(self, number: int, report: dict[str, Any]) -> None:
        """Answer everybody who had asked up to this number."""
        with self._changed:
            self._answered, self._report = number, report
            self._changed.notify_all()


def report(
    seen: Observation, plan: Plan, failures: Mapping[str, str], stored: Fact[tuple[Checkpoint, ...]]
) -> dict[str, Any]:
    """Return what became of every parent in a cycle that was to snapshot all of them.

    `stored` is what the store holds afterwards, `failures` the reasons by UID. `complete` is
    whether every parent has a revision that is as fresh as now.
    """
    reason = _impossible(seen)
    rows = [] if reason else _rows(seen, plan, failures, stored)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "complete": not reason and all(row["reason"] is None for row in rows),
        "reason": reason or None,
        "pods": rows,
    }


def late_report(seconds: float) -> dict[str, Any]:
    """Return the report for one who did not want to wait any longer."""
    reason = f"the agent did not finish within {seconds:g} s"
    kind = {"apiVersion": API_VERSION, "kind": KIND}
    return {**kind, "complete": False, "reason": reason, "pods": []}


def _impossible(seen: Observation) -> str:
    if seen.contact.state is not ContactState.REACHABLE:
        return f"contact is {seen.contact.state.value} ({seen.contact.reason})"
    for what, fact in (("pods", seen.pods), ("checkpoints", seen.checkpoints)):
        if isinstance(fact, Unknown):
            return f"the {what} are not known: {fact.reason}"
    if seen.is_own_cluster == Known(False):
        return "the API that answers is not that of the cluster whose pods are stored"
    return ""


def _rows(
    seen: Observation, plan: Plan, failures: Mapping[str, str], stored: Fact[tuple[Checkpoint, ...]]
) -> list[dict[str, Any]]:
    before, after = _newest(seen.checkpoints), _newest(stored)
    taken = {action.workload: action.uid for action in plan.actions if isinstance(action, Snapshot)}
    pods = seen.pods.value if isinstance(seen.pods, Known) else ()
    rows = []
    for pod in sorted(pods, key=lambda one: (one.workload, one.name)):
        if pod.finished or not (pod.is_parent or pod.excluded):
            continue
        reason = _reason(pod, taken, failures)
        number = after.get(pod.workload)
        rows.append(
            {
                "namespace": pod.workload.namespace,
                "kind": pod.workload.kind,
                "name": pod.workload.name,
                "pod": pod.name,
                "revision": number,
                "new": number is not None and number != before.get(pod.workload),
                "reason": reason,
            }
        )
    return rows


def _newest(checkpoints: Fact[tuple[Checkpoint, ...]]) -> dict[Workload, int]:
    found = checkpoints.value if isinstance(checkpoints, Known) else ()
    return {c.workload: c.revisions[0].number for c in found if c.revisions}


def _reason(pod: Pod, taken: Mapping[Workload, str], failures: Mapping[str, str]) -> str | None:
    """Return why there is no fresh revision of this pod, or None when there is."""
    if pod.excluded or pod.fault:
        return pod.excluded or pod.fault
    if pod.terminating:
        return "it is terminating"
    uid = taken.get(pod.workload)
    if uid is not None:
        return failures.get(uid)
    return "it is not Ready" if not pod.ready else "it has not been Ready for long enough"
