"""Watches: what a client is told from one resource version on, as the API's event stream has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from checkpointer.simulation.cluster import Change, Cluster, ExpiredError, Object, Resource
from checkpointer.simulation.connections import Passage
from checkpointer.simulation.selectors import Selector
from checkpointer.values import dataclass

_LOOK_SECONDS = 1.0
"""How often an idle watch looks whether its client is still there."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One watch request; `revision` 0 begins with all that is there."""

    cluster: Cluster
    resource: Resource
    selector: Selector
    revision: int
    seconds: float
    bookmark_seconds: float | None
    passage: Passage
    client_is_gone: Callable[[], bool]

    def events(self) -> Iterator[Object]:
        """Yield what happens until the time is up or the client has gone."""
        revision = self.revision
        if not revision:
            items, revision = self.cluster.snapshot(self.resource.name)
            yield from (_event("ADDED", item) for item in items if self.selector.matches(item))
        now = time.monotonic()
        deadline = now + self.seconds
        bookmark = now + (self.bookmark_seconds or self.seconds)
        while (now := time.monotonic()) < deadline and not self.client_is_gone():
            self.passage.go_on()
            try:
                changes = list(self.cluster.changes_since(revision))
            except ExpiredError as error:
                yield _event("ERROR", status_object(410, "Expired", str(error)))
                return
            for change in changes:
                revision = change.revision
                if change.resource == self.resource.name:
                    yield from self._seen(change)
            if self.bookmark_seconds and now >= bookmark:
                bookmark = now + self.bookmark_seconds
                yield _event("BOOKMARK", self._bookmark(revision))
            seconds = min(deadline - now, max(0.0, bookmark - now), _LOOK_SECONDS)
            self.cluster.wait(revision, seconds, lambda: self.passage.is_blocked)

    def _seen(self, change: Change) -> Iterator[Object]:
        """Translate a change: an object that begins or ceases to match comes or goes."""
        was, now = self.selector.matches(change.before), self.selector.matches(change.after)
        if now and change.after is not None:
            yield _event("MODIFIED" if was else "ADDED", change.after)
        elif was and change.before is not None:
            metadata = {**change.before["metadata"], "resourceVersion": str(change.revision)}
            yield _event("DELETED", {**change.before, "metadata": metadata})

    def _bookmark(self, revision: int) -> Object:
        return {
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version,
            "metadata": {"resourceVersion": str(revision), "creationTimestamp": None},
        }


def status_object(code: int, reason: str, message: str) -> Object:
    """Return a Status object that tells of a failure."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": int(code),
    }


def _event(kind: str, obj: Object) -> Object:
    return {"type": kind, "object": obj}
