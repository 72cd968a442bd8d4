"""Events on pods and on the node about what happened, delivered when the API is there again.

The journal is the queue: what was delivered up to which number is remembered in the store, so an
outage, or a restart in the middle of one, loses nothing but what is beyond the bound. Things of
one kind that happen to one workload again and again become one Event with a count. Each has the
time at which it happened, and a name made of that, so none is posted twice.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import Any

from checkpointer.core.facts import Known
from checkpointer.core.workload import Workload
from checkpointer.errors import CheckpointerError, printable
from checkpointer.report.events import (
    DELAY_LIMIT_SECONDS,
    FIRST_DELAY_SECONDS,
    NOTE_BYTES,
    Api,
    cut,
    event_body,
    is_passing,
    path_of,
    status_of,
)
from checkpointer.report.happenings import Happening, Kind, precise_timestamp
from checkpointer.report.history import read_history
from checkpointer.store.revisions import Store
from checkpointer.values import dataclass, replace

log = logging.getLogger(__name__)

STATE = "announced"
"""Name of the state in the store that holds the number up to which all was delivered."""

LIMIT = 100
"""Events that wait; of more, the oldest are given up."""

_REASONS = {
    Kind.ACTIVATED: ("CheckpointActivated", "Warning"),
    Kind.ISSUED_ANEW: ("CheckpointIssuedAnew", "Warning"),
    Kind.FELL_BACK: ("CheckpointFellBack", "Warning"),
    Kind.RELEASED: ("CheckpointReleased", "Normal"),
    Kind.HAND_OVER_FAILED: ("CheckpointHandOverFailed", "Warning"),
    Kind.PARENT_REFUSED: ("CheckpointParentRefused", "Warning"),
    Kind.STARTED_ANEW: ("CheckpointedPodStartedAnew", "Normal"),
    Kind.REPLACED: ("CheckpointedPodReplaced", "Normal"),
    Kind.REMOVED: ("CheckpointRemoved", "Normal"),
}
_CONTACT_REASONS = {
    "lost": ("APIContactLost", "Warning"),
    "denied": ("APIContactDenied", "Warning"),
    "reachable": ("APIContactRestored", "Normal"),
}
_NODE_NAMESPACE = "default"
"""Of Events on what has no namespace (pkg/apis/core/validation/events.go)."""
_FORBIDDEN = 403

_Key = tuple[Kind, Workload | None, str]


@dataclass(frozen=True, slots=True)
class _Waiting:
    first: Happening
    last: Happening
    count: int = 1


class Announcer:
    """Takes numbered happenings from the loop; delivers them from a thread of its own."""

    def __init__(self, store: Store, api: Api, node_name: str) -> None:
        self._store, self._api, self._node_name = store, api, node_name
        self._waiting: dict[_Key, _Waiting] = {}
        self._changed = threading.Condition()
        self._is_closed = self._has_warned = False
        self._newest = 0
        self._thread: threading.Thread | None = None
        self._was_away = False
        """Whether contact was lost or denied when it was last told of."""

    @property
    def waiting(self) -> int:
        """Return how many Events are still to be posted."""
        return len(self._waiting)

    def take(self, happenings: list[Happening]) -> None:
        """Deliver these, after what an earlier run of the agent could not."""
        if not happenings:
            return
        with self._changed:
            if self._is_closed:
                return
            if self._thread is None:
                before = happenings[0].number
                happenings = [*self._left_over(before), *happenings]
                self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
                self._thread.start()
            for happening in happenings:
                self._add(happening)
            self._changed.notify_all()

    def close(self) -> None:
        """Stop; what waits is delivered by the next run."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _left_over(self, before: int) -> list[Happening]:
        state = self._store.read_state(STATE)
        found = state.value.get("number") if isinstance(state, Known) else None
        delivered = found if type(found) is int and found < before else 0
        history = read_history(self._store.root).happenings
        for happening in history:
            if happening.number <= delivered and happening.kind is Kind.CONTACT:
                self._was_away = happening.state != "reachable"
        return [h for h in history if delivered < h.number < before]

    def _add(self, happening: Happening) -> None:
        self._newest = max(self._newest, happening.number)
        if not self._is_news(happening):
            return
        key = (happening.kind, happening.workload, happening.state)
        known = self._waiting.get(key)
        if known is not None:
            known = replace(known, last=happening, count=known.count + 1)
        self._waiting[key] = known or _Waiting(happening, happening)
        while len(self._waiting) > LIMIT:
            del self._waiting[next(iter(self._waiting))]

    def _is_news(self, happening: Happening) -> bool:
        """Tell whether an Event is made of it; contact that a start finds good is none."""
        if happening.kind is not Kind.CONTACT:
            return happening.kind in _REASONS and bool(happening.pod_uid)
        was_away, self._was_away = self._was_away, happening.state != "reachable"
        return self._was_away or was_away

    def _run(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while (found := self._next()) is not None:
            key, waiting = found
            try:
                body = event_of(waiting.first, waiting.last, waiting.count, self._node_name)
                self._api.post(path_of(body), body)
            except Exception as error:  # whatever goes wrong here, the agent goes on
                if is_passing(error):
                    self._wait(delay)
                    delay = min(2 * delay, DELAY_LIMIT_SECONDS)
                    continue
                self._warn(error)
            delay = FIRST_DELAY_SECONDS
            self._settle(key, waiting)

    def _next(self) -> tuple[_Key, _Waiting] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            return None if self._is_closed else next(iter(self._waiting.items()))

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, seconds)

    def _settle(self, key: _Key, delivered: _Waiting) -> None:
        with self._changed:
            now = self._waiting.get(key)
            if now is delivered:
                del self._waiting[key]
            elif now is not None:  # it happened again meanwhile: one more Event, for the rest
                self._waiting[key] = _Waiting(now.last, now.last, now.count - delivered.count)
            first = min((w.first.number for w in self._waiting.values()), default=None)
            number = self._newest if first is None else first - 1
        try:
            self._store.write_state(STATE, {"number": number})
        except CheckpointerError as error:
            log.debug("some Events may be posted again: %s", error)

    def _warn(self, error: Exception) -> None:
        status = status_of(error)
        if status == _FORBIDDEN and not self._has_warned:
            self._has_warned = True
            log.warning(
                "this identity may not create Events (HTTP 403): what happens is told in log and "
                "journal only; allow it to create events.events.k8s.io"
            )


def event_of(first: Happening, last: Happening, count: int, node_name: str) -> dict[str, Any]:
    """Return the Event on what happened, `count` times from the first to the last."""
    workload = first.workload
    if workload is None:
        namespace = _NODE_NAMESPACE
        regarding = {"apiVersion": "v1", "kind": "Node", "name": node_name, "uid": node_name}
        reason, kind = _CONTACT_REASONS[first.state]
        text = f"contact with the API: {first.state} ({last.reason})"
    else:
        namespace = workload.namespace
        regarding = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": namespace,
            "name": first.pod,
            "uid": first.pod_uid,
        }
        reason, kind = _REASONS[first.kind]
        revision = "" if last.revision is None else f" revision {last.revision}"
        text = f"{workload}{revision} on {node_name}: {last.reason}"
    identity = f"{node_name}\0{first.number}\0{first.kind.value}\0{first.at}\0{workload}"
    when = datetime.fromtimestamp(first.at, UTC)
    body = event_body(regarding, namespace, identity, when, node_name)
    if count > 1:
        body["series"] = {"count": count, "lastObservedTime": precise_timestamp(last.at)}
    return {**body, "reason": reason, "type": kind, "note": cut(printable(text), NOTE_BYTES)}
