"""The node's condition `CheckpointsReady`: would its workloads come back without the API?

It is what `kubectl describe node` and tools that follow nodes see of the agent. It is written
when it changes, by a thread of its own, while the API answers; an identity that may not write it
costs one warning. The kubelet's identity may, for its own node (NodeRestriction allows
`nodes/status`), and the kubelet leaves conditions alone that are not its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

from checkpointer.core.facts import Fact, Known
from checkpointer.core.workload import Workload
from checkpointer.errors import ApiError
from checkpointer.report import events
from checkpointer.report.events import DELAY_LIMIT_SECONDS, FIRST_DELAY_SECONDS
from checkpointer.report.protection import Protection
from checkpointer.values import dataclass

log = logging.getLogger(__name__)

TYPE = "CheckpointsReady"
MESSAGE_BYTES = 1024

_FORBIDDEN, _NOT_FOUND = 403, 404
_REMOVAL = {"status": {"conditions": [{"type": TYPE, "$patch": "delete"}]}}


class Api(events.Api, Protocol):
    """What is asked of the API."""

    def find(self, path: str) -> Fact[Mapping[str, Any] | None]: ...

    def patch(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Condition:
    """What the condition says; `status` is `True`, `False` or `Unknown`."""

    status: str
    reason: str
    message: str


def condition_of(found: Protection) -> Condition:
    """Return what it means for the node. No secret, and no time: it seldom changes."""
    if found.unknown:
        return Condition("Unknown", "StoreUnreadable", found.unknown)
    if found.unprotected:
        what = "would not come back without the API"
        return _listing("Unprotected", what, found.unprotected)
    if found.refused:
        return _listing("ParentRefused", "runs as a copy: its parent failed", found.refused)
    if not found.count:
        return Condition("False", "NothingCheckpointed", "no pod of this node is checkpointed")
    things = "1 workload" if found.count == 1 else f"{found.count} workloads"
    return Condition("True", "Protected", f"{things} would come back without the API")


def _listing(reason: str, what: str, workloads: Iterable[Workload]) -> Condition:
    message = f"{what}: {', '.join(map(str, workloads))}; see checkpointer status on the node"
    return Condition("False", reason, events.cut(message, MESSAGE_BYTES))


REMOVAL_DELAYS_SECONDS = (0.5, 1.0, 2.0)
"""Between tries to take it away: what fails then for a moment would tell a lie for ever."""

REMOVAL_SECONDS = 15.0
"""How long a write under way is waited for; longer than a request to a silent API takes."""


class NodeCondition:
    """Takes what the condition should be from the loop; writes it from a thread of its own."""

    def __init__(self, api: Api, node_name: str) -> None:
        self._api = api
        self._path = f"/api/v1/nodes/{quote(node_name, safe='')}"
        self._wanted: Condition | None = None
        self._written: Condition | None = None
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def take(self, wanted: Condition) -> None:
        """Have it written, unless it is what was written last."""
        with self._changed:
            if self._is_closed or wanted == self._wanted:
                return
            self._wanted = wanted
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="condition", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop; the next run writes what is not written yet."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def remove(self) -> None:
        """Take the condition off the node: nobody keeps it any more. Waits for the API."""
        self.close()
        if self._thread is not None:  # what it is just writing would come after
            self._thread.join(REMOVAL_SECONDS)
        for delay in (*REMOVAL_DELAYS_SECONDS, None):
            try:
                self._api.patch(f"{self._path}/status", _REMOVAL)
            except ApiError as error:
                if delay is None or not events.is_passing(error):
                    self._tell_that_it_stays(error)
                    return
                time.sleep(delay)
            else:
                return

    def _tell_that_it_stays(self, error: ApiError) -> None:
        if events.status_of(error) in (_FORBIDDEN, _NOT_FOUND):
            return  # it was never written, or went with the node
        log.warning(
            "the node's condition %s stays behind, and nobody keeps it any more (%s): remove it, "
            "see docs/uninstall.md",
            TYPE,
            error,
        )

    def _run(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while (wanted := self._next()) is not None:
            try:
                self._write(wanted)
            except Exception as error:  # whatever goes wrong here, the agent goes on
                if not events.is_passing(error):
                    self._give_up(error)
                    return
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed, delay)
                delay = min(2 * delay, DELAY_LIMIT_SECONDS)
            else:
                self._written, delay = wanted, FIRST_DELAY_SECONDS

    def _next(self) -> Condition | None:
        with self._changed:
            self._changed.wait_for(lambda: self._wanted != self._written or self._is_closed)
            return None if self._is_closed else self._wanted

    def _write(self, wanted: Condition) -> None:
        """Patch the node unless it says so already, as after a restart. Raises ApiError."""
        node = self._api.find(self._path)  # without an answer it is written all the same
        if node == Known(None):
            raise ApiError("the node is not registered yet")
        there = _condition_in(node.value) if isinstance(node, Known) and node.value else None
        if there is not None and _said(there) == wanted:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        since = there.get("lastTransitionTime") if there is not None else None
        is_same = there is not None and there.get("status") == wanted.status
        condition = {
            "type": TYPE,
            "status": wanted.status,
            "reason": wanted.reason,
            "message": wanted.message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": since if is_same and since else now,
        }
        self._api.patch(f"{self._path}/status", {"status": {"conditions": [condition]}})

    def _give_up(self, error: Exception) -> None:
        status = events.status_of(error)
        if status == _FORBIDDEN:
            log.warning(
                "this identity may not write the node's condition %s (PATCH nodes/status: HTTP "
                "403): the node does not show whether it is protected; allow it to, see "
                "docs/identity.md",
                TYPE,
            )
            return
        what = f"HTTP {status}" if status else type(error).__name__
        log.warning("the node's condition %s is not written any more: %s", TYPE, what)


def _condition_in(node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == TYPE), None)


def _said(condition: Mapping[str, Any]) -> Condition:
    return Condition(*(str(condition.get(key, "")) for key in ("status", "reason", "message")))
