"""Telling verdicts as Events on the pods: once per change, also over restarts of the agent.

Posting is done by a thread of its own, so nothing here waits for the API. What was told is kept
in the store and written when it changes; an Event's name is made of its content, so one that was
posted just before the agent died is not posted again. A verdict holds no secret, nor does a note.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

from checkpointer.core.facts import Unknown
from checkpointer.core.workload import Workload
from checkpointer.errors import ApiError, CheckpointerError, printable
from checkpointer.manifest.verdict import Finding, Outcome, Verdict
from checkpointer.report.verdicts import gist
from checkpointer.store.revisions import Store
from checkpointer.values import dataclass

log = logging.getLogger(__name__)

CONTROLLER = "checkpointer.alpha.coreos.com"
STATE = "events"
"""Name of the state in the store that holds what was told last of each workload."""

NOTE_BYTES = 1024
"""Limit of the API (pkg/apis/core/validation/events.go:NoteLengthLimit)."""
WORKLOADS_KEPT = 1000
"""What was told of so many workloads is remembered."""

FIRST_DELAY_SECONDS = 1.0
DELAY_LIMIT_SECONDS = 60.0

_INSTANCE_LENGTH = 128
_NAME_LENGTH = 253
_CONFLICT, _FORBIDDEN = 409, 403
_PASSING = frozenset({401, 408, 429})
"""Answers after which the same request may succeed, besides those of 500 and more."""

_REASONS = {
    Outcome.CHECKPOINTABLE: ("Checkpointable", "Normal"),
    Outcome.WITH_WARNINGS: ("CheckpointableWithWarnings", "Warning"),
    Outcome.REFUSED: ("CheckpointRefused", "Warning"),
}


class Api(Protocol):
    """What is asked of the API."""

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class _Told:
    """What was told last of one workload, and the how-manieth telling that was."""

    gist: str
    count: int


@dataclass(frozen=True, slots=True)
class _Telling:
    """An Event that is still to be posted."""

    body: Mapping[str, Any]
    told: _Told


class Events:
    """Takes verdicts from the loop and posts what is new; only the newest of a workload counts."""

    def __init__(self, store: Store, api: Api, node_name: str) -> None:
        self._store, self._api, self._node_name = store, api, node_name
        self._told: dict[str, _Told] = {}
        self._kept: dict[str, _Told] = {}
        """Of that, what a later start is to know of too."""
        self._pending: dict[str, _Telling] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._was_read = self._has_warned = False

    def tell(self, pod: Mapping[str, Any], verdict: Verdict) -> None:
        """Have the verdict on a pod told, unless it is what was told last of its workload."""
        key, said = _key(verdict.workload), gist(verdict)
        with self._changed:
            if not self._was_read:
                self._was_read = True
                self._kept = self._read()
                self._told = self._kept.copy()
            last = self._told.get(key)
            if last is not None and last.gist == said:
                self._pending.pop(key, None)
                return
            pending = self._pending.get(key)
            if self._is_closed or (pending is not None and pending.told.gist == said):
                return
            told = _Told(said, last.count + 1 if last else 1)
            self._pending[key] = _Telling(_event(pod, verdict, self._node_name, told), told)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="events", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Return how many Events are still to be posted."""
        return len(self._pending)

    def close(self, seconds: float) -> None:
        """Give what is pending so long, then stop."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending, seconds)
            self._is_closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while (found := self._next()) is not None:
            try:
                self._api.post(path_of(found[1].body), found[1].body)
            except Exception as error:  # whatever goes wrong here, the agent goes on
                if is_passing(error):
                    self._wait(delay)
                    delay = min(2 * delay, DELAY_LIMIT_SECONDS)
                    continue
                self._warn(found[1].body, error)
                self._settle(*found, is_kept=status_of(error) != _FORBIDDEN)
            else:
                self._settle(*found, is_kept=True)
            delay = FIRST_DELAY_SECONDS

    def _next(self) -> tuple[str, _Telling] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._is_closed)
            return None if self._is_closed else next(iter(self._pending.items()))

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, seconds)

    def _settle(self, key: str, telling: _Telling, is_kept: bool) -> None:
        """Remember what was told, on disk too unless the next start is to try it again."""
        with self._changed:
            _remember(self._told, key, telling.told)
            if is_kept:
                _remember(self._kept, key, telling.told)
        if is_kept:
            state = {name: {"gist": t.gist, "count": t.count} for name, t in self._kept.items()}
            try:
                self._store.write_state(STATE, state)
            except CheckpointerError as error:
                log.warning("what was told in Events may be told again: %s", error)
        with self._changed:
            if self._pending.get(key) is telling:
                del self._pending[key]
            self._changed.notify_all()

    def _warn(self, body: Mapping[str, Any], error: Exception) -> None:
        status, namespace = status_of(error), body["metadata"]["namespace"]
        if status == _CONFLICT:
            return  # it was posted before the agent could remember it
        if status == _FORBIDDEN:
            if not self._has_warned:
                self._has_warned = True
                log.warning(
                    "this identity may not create Events (HTTP 403 in namespace %s): verdicts "
                    "are told in the log only; allow it to create events.events.k8s.io",
                    namespace,
                )
            return
        what = f"HTTP {status}" if status else type(error).__name__
        pod = body["regarding"]["name"]
        log.warning("no Event on pod %s/%s: %s", namespace, pod, what)

    def _read(self) -> dict[str, _Told]:
        state = self._store.read_state(STATE)
        if isinstance(state, Unknown):
            log.warning("what was told in Events may be told again: %s", state.reason)
            return {}
        return {
            key: _Told(value["gist"], value["count"])
            for key, value in state.value.items()
            if isinstance(value, dict)
            and isinstance(value.get("gist"), str)
            and type(value.get("count")) is int
        }


def _remember(memory: dict[str, _Told], key: str, told: _Told) -> None:
    memory.pop(key, None)
    memory[key] = told
    while len(memory) > WORKLOADS_KEPT:
        del memory[next(iter(memory))]


def note(pod_name: str, verdict: Verdict) -> str:
    """Return what is said of a pod, with reasons and cures, in as much as an Event can hold."""
    findings = verdict.refusals or verdict.warnings
    if not findings:
        return "checkpointable: a copy can run here as a static pod when the API is away"
    text = verdict.outcome.value
    for index, finding in enumerate(findings):
        longer = f"{text}{'; ' if index else ': '}{_sentence(finding)}"
        command = f"checkpointer explain {printable(f'{verdict.workload.namespace}/{pod_name}')}"
        rest = f" (and {len(findings) - index} more, see: {command})"
        is_last = index == len(findings) - 1
        if len(longer.encode()) + (0 if is_last else len(rest.encode())) > NOTE_BYTES:
            return cut(longer if index == 0 else text, NOTE_BYTES - len(rest.encode())) + rest
        text = longer
    return text


def _sentence(finding: Finding) -> str:
    cure = f" (cure: {finding.cure})" if finding.cure else ""
    return printable(f"{finding.path}: {finding.reason}{cure}")


def cut(text: str, size: int) -> str:
    """Return the text in at most so many bytes of UTF-8."""
    content = text.encode()
    if len(content) <= size:
        return text
    return content[: max(size - 3, 0)].decode(errors="ignore") + "…"


def _event(pod: Mapping[str, Any], verdict: Verdict, node_name: str, told: _Told) -> dict[str, Any]:
    metadata = pod["metadata"]
    name, namespace, uid = (str(metadata[key]) for key in ("name", "namespace", "uid"))
    reason, kind = _REASONS[verdict.outcome]
    regarding = {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": namespace,
        "name": name,
        "uid": uid,
    }
    identity = f"{uid}\0{told.gist}\0{told.count}"
    body = event_body(regarding, namespace, identity, datetime.now(UTC), node_name)
    return {**body, "reason": reason, "type": kind, "note": note(name, verdict)}


def event_body(
    regarding: Mapping[str, Any], namespace: str, identity: str, when: datetime, node_name: str
) -> dict[str, Any]:
    """Return what all our Events have alike; the same identity makes the same name."""
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    stem = re.sub(r"[-.]+$", "", regarding["name"][: _NAME_LENGTH - 1 - len(digest)])
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{stem}.{digest}", "namespace": namespace},
        "eventTime": when.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": CONTROLLER,
        "reportingInstance": f"pod-checkpointer-{node_name}"[:_INSTANCE_LENGTH],
        "action": "Checkpoint",
        "regarding": dict(regarding),
    }


def path_of(body: Mapping[str, Any]) -> str:
    """Return where an Event is created."""
    namespace = quote(body["metadata"]["namespace"], safe="")
    return f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"


def _key(workload: Workload) -> str:
    return f"{workload.namespace}/{workload.kind}/{workload.name}"


def status_of(error: Exception) -> int | None:
    """Return the HTTP status that the API answered with, or None."""
    return error.status if isinstance(error, ApiError) else None


def is_passing(error: Exception) -> bool:
    """Tell whether the same request may succeed later."""
    if not isinstance(error, ApiError):
        return False
    return error.status is None or error.status in _PASSING or error.status >= 500
