"""The masters' Lease in the API: asked for when the loop wants it, never at rest.

Nothing is decided here but what the API's answers mean; `core.lease` has the rules.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

from checkpointer.core.lease import (
    LONGEST_SECONDS,
    Asking,
    Claim,
    claim,
    failed,
    is_due,
    may_take,
    needs_renewal,
    seen,
    try_again_in,
)
from checkpointer.core.moment import Moment
from checkpointer.errors import ApiError
from checkpointer.manifest.answers import object_misfit
from checkpointer.values import replace

log = logging.getLogger(__name__)

NAME = "pod-checkpointer-hand-over"
GIVEN_BACK_SECONDS = 1
"""The duration of a lease that nobody holds, as client-go writes it: 0 is refused."""

_CONFLICT = 409


class Api(Protocol):
    """What is asked of the API; every method raises ApiError."""

    def get(self, path: str) -> Mapping[str, Any]: ...
    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]: ...
    def put(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]: ...


class HandOverLease:
    """One node's hand on the lease. Without a namespace there is none: the time slots count."""

    def __init__(self, api: Api, namespace: str, node_name: str, hand_over_seconds: float) -> None:
        self._api, self._namespace, self._node_name = api, namespace, node_name
        self._seconds = max(1, round(min(hand_over_seconds, LONGEST_SECONDS)))
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace, safe='')}/leases"
        self._asking = Asking()

    def claim(self, now: float) -> Claim:
        """Return what it allows now; nothing is asked."""
        return claim(self._asking, now) if self._namespace else Claim.UNUSED

    @property
    def is_held(self) -> bool:
        """Tell whether this node has taken it and not given it back."""
        return self._asking.taken_at is not None

    def take(self, now: Moment) -> bool:
        """Take it if it is due and free; return whether anything was asked."""
        if not is_due(self._asking, now.monotonic):
            return False
        self._asking = replace(self._asking, asked_at=now.monotonic, taken_at=None)
        try:
            self._take(now)
        except ApiError as error:
            self._failed(error, now.monotonic)
        else:
            self._asking = replace(self._asking, failing_since=None)
        return True

    def try_again(self, now: Moment) -> float | None:
        """See whether it can be taken at all, where that failed, and give it back at once.

        Return in how many seconds to do so again; None when there is no need.
        """
        if try_again_in(self._asking, now.monotonic) == 0.0:
            self.take(now)
            if self.is_held:
                self.give_back(now)
        return try_again_in(self._asking, now.monotonic)

    def renew(self, now: Moment) -> None:
        """Hold it on, when that is due; where another master has taken it, it is ours no more."""
        if not needs_renewal(self._asking, now.monotonic):
            return
        self._asking = replace(self._asking, asked_at=now.monotonic)
        try:
            stored = self._read(now.monotonic)
            if stored is None or _spec(stored).get("holderIdentity") != self._node_name:
                self._asking = replace(self._asking, taken_at=None)
                return
            self._write(stored, self._node_name, self._seconds, now)
        except ApiError as error:
            log.debug("the lease is not renewed: %s", error)

    def give_back(self, now: Moment) -> None:
        """Let the next master have it; where that fails, it ends by itself."""
        self._asking = replace(self._asking, taken_at=None)
        try:
            stored = self._read(now.monotonic)
            if stored is not None and _spec(stored).get("holderIdentity") == self._node_name:
                self._write(stored, "", GIVEN_BACK_SECONDS, now)
        except ApiError as error:
            log.debug("the lease is not given back and ends by itself: %s", error)

    def _take(self, now: Moment) -> None:
        stored = self._read(now.monotonic)
        if not may_take(self._asking.lease, self._node_name, now.monotonic):
            return
        self._write(stored, self._node_name, self._seconds, now)
        self._asking = replace(self._asking, taken_at=now.monotonic)

    def _read(self, now: float) -> Mapping[str, Any] | None:
        try:
            stored = self._api.get(f"{self._path}/{NAME}")
        except ApiError as error:
            if not error.says_not_found:
                raise
            self._asking = replace(self._asking, lease=None)
            return None
        if misfit := object_misfit("leases", stored):
            raise ApiError(f"GET {self._path}/{NAME}: {misfit}")
        spec = _spec(stored)
        holder, seconds = spec.get("holderIdentity") or "", spec.get("leaseDurationSeconds")
        version = str((stored.get("metadata") or {}).get("resourceVersion"))
        duration = float(seconds) if isinstance(seconds, int) else LONGEST_SECONDS
        lease = seen(self._asking.lease, str(holder), version, duration, now)
        self._asking = replace(self._asking, lease=lease)
        return stored

    def _write(
        self, stored: Mapping[str, Any] | None, holder: str, seconds: int, now: Moment
    ) -> None:
        """Write it over what was read: the API refuses if another was quicker."""
        before = _spec(stored) if stored is not None else {}
        is_renewal = bool(holder) and before.get("holderIdentity") == holder
        when = datetime.fromtimestamp(now.wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        transitions = before.get("leaseTransitions")
        transitions = transitions if isinstance(transitions, int) else 0
        spec: dict[str, Any] = {
            "leaseDurationSeconds": seconds,
            "renewTime": when,
            "acquireTime": before.get("acquireTime", when) if is_renewal else when,
            "leaseTransitions": transitions + (1 if holder and not is_renewal else 0),
        }
        if holder:
            spec["holderIdentity"] = holder
        metadata: dict[str, Any] = {"name": NAME, "namespace": self._namespace}
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }
        if stored is None:
            self._api.post(self._path, body)
            return
        metadata["resourceVersion"] = (stored.get("metadata") or {}).get("resourceVersion")
        self._api.put(f"{self._path}/{NAME}", body)

    def _failed(self, error: ApiError, now: float) -> None:
        if error.status == _CONFLICT:  # another master was quicker, so it works
            self._asking = replace(self._asking, failing_since=None)
            return
        if self._asking.failing_since is None:
            log.warning(
                "the lease %s/%s by which masters take turns cannot be taken: %s; if that goes "
                "on, they take turns by time slots",
                self._namespace,
                NAME,
                error,
            )
        self._asking = failed(self._asking, now)


def _spec(lease: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = lease.get("spec")
    return spec if isinstance(spec, dict) else {}
