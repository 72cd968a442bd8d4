"""What happened on the node: one small value for the journal, the metrics and the Events alike.

Only changes are happenings; a state that lasts is the status. None holds a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from checkpointer.core.workload import Workload
from checkpointer.errors import printable
from checkpointer.values import dataclass, replace


class Kind(Enum):
    """What can happen; the value is its name in the journal."""

    STARTED = "started"
    STOPPED = "stopped"
    CONTACT = "contact"
    SNAPSHOT = "snapshot"
    SNAPSHOT_FAILED = "snapshot-failed"
    ACTIVATED = "activated"
    ISSUED_ANEW = "issued-anew"
    FELL_BACK = "fell-back"
    RELEASED = "released"
    HANDED_OVER = "handed-over"
    HAND_OVER_FAILED = "hand-over-failed"
    PARENT_REFUSED = "parent-refused"
    STARTED_ANEW = "parent-started-anew"
    REPLACED = "parent-replaced"
    REMOVED = "removed"
    HELD = "held"
    LIFTED = "hold-lifted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened. `at` is in seconds of the Unix epoch, by the node's clock."""

    kind: Kind
    at: float
    reason: str = ""
    """One sentence for people; for contact what the probe saw."""
    workload: Workload | None = None
    pod: str = ""
    """Name of the parent that the revision was taken of."""
    pod_uid: str = ""
    revision: int | None = None
    issue: int | None = None
    state: str = ""
    """Of contact: the state that was entered."""
    seconds: float | None = None
    """Of a hand-over: from the release until the parent was Ready."""
    number: int = 0
    """Counts up over the agent's whole life on the node."""

    def numbered(self, number: int) -> Happening:
        """Return it with its number."""
        return replace(self, number=number)

    def as_entry(self) -> dict[str, Any]:
        """Return the journal's JSON form; what does not apply is left out."""
        entry: dict[str, Any] = {
            "seq": self.number,
            "time": precise_timestamp(self.at),
            "kind": self.kind.value,
        }
        if self.workload is not None:
            entry["workload"] = {
                "namespace": self.workload.namespace,
                "kind": self.workload.kind,
                "name": self.workload.name,
            }
        optional = {
            "pod": self.pod,
            "podUID": self.pod_uid,
            "revision": self.revision,
            "issue": self.issue,
            "state": self.state,
            "seconds": self.seconds,
            "reason": printable(self.reason),
        }
        return entry | {key: value for key, value in optional.items() if value not in ("", None)}


def from_entry(entry: Mapping[str, Any]) -> Happening | None:
    """Return what a line of the journal tells; None when it is not one that `as_entry` made."""
    try:
        workload = entry.get("workload")
        return Happening(
            kind=Kind(entry["kind"]),
            at=datetime.fromisoformat(entry["time"]).timestamp(),
            reason=str(entry.get("reason", "")),
            workload=Workload(*(str(workload[k]) for k in ("namespace", "kind", "name")))
            if workload
            else None,
            pod=str(entry.get("pod", "")),
            pod_uid=str(entry.get("podUID", "")),
            revision=_whole(entry.get("revision")),
            issue=_whole(entry.get("issue")),
            state=str(entry.get("state", "")),
            seconds=float(entry["seconds"]) if "seconds" in entry else None,
            number=int(entry.get("seq", 0)),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def precise_timestamp(seconds: float) -> str:
    """Return RFC 3339 with microseconds, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
