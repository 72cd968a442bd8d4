"""This node's pods as the API has them: a list, then a watch that is resumed for ever.

The open watch is also the quickest sign that contact breaks: `on_break` is called at once. While
it cannot be told what the API has, `pods` is Unknown, never an old list: so no exception, of
whatever kind, may end the thread, and an answer that is not what it has to be is no answer.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.errors import ApiError, CheckpointerError
from checkpointer.manifest.legible import fault_of, shown, uid_of
from checkpointer.node.rights import Rights

if TYPE_CHECKING:
    from tenacity import RetryCallState, Retrying

    from checkpointer.node.api import ApiClient

log = logging.getLogger(__name__)

RawPod = Mapping[str, Any]

WATCH_SECONDS = (300, 600)
"""A watch ends after a random time in this range and is resumed, as client-go's do."""

SHORT_WATCH_SECONDS = 1.0
"""A watch that ends sooner without an event is a fault, as for client-go; else it would be
opened again without a pause."""

STEADY_SECONDS = 10.0
"""After pods were known for so long, the next failure's backoff begins anew."""

_PODS = "/api/v1/pods"
_UNUSED = ("managedFields",)
_FORBIDDEN, _CONFLICT = 403, 409


class PodsError(CheckpointerError):
    """The API's answer does not tell which pods there are; the message says why, and no more."""


class NodePods:
    """Follows the pods that are bound to one node, in a thread that imports the client itself."""

    def __init__(
        self,
        kubeconfig: Path,
        node_name: str,
        wake: Callable[[], None],
        on_break: Callable[[], None],
    ) -> None:
        self._kubeconfig, self._node_name = kubeconfig, node_name
        self._wake, self._on_break = wake, on_break
        self._fact: Fact[tuple[RawPod, ...]] = Unknown("the API has not been asked yet")
        self._pods: dict[str, RawPod] = {}
        self._known_since: float | None = None
        self._client: ApiClient | None = None
        self._was_asked = False
        self._rights = Rights()
        self._stopping = False
        self._interrupt = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pods", daemon=True)

    @property
    def pods(self) -> Fact[tuple[RawPod, ...]]:
        """Return this node's pods as the API sends them, or Unknown.

        Each is an object and nothing more is sure: one that is no v1 Pod has to be seen too.
        """
        return self._fact

    @property
    def was_asked(self) -> bool:
        """Tell whether the API has been asked once, with or without success."""
        return self._was_asked

    @property
    def client(self) -> ApiClient | None:
        """Return the client for single GETs; None before the first contact."""
        return self._client

    def find(self, path: str) -> Fact[Mapping[str, Any] | None]:
        """Return the API object at a path, None when it positively does not exist, or Unknown.

        While the pods are not known nothing is asked: each request would wait for its timeout.
        """
        api, pods = self._client, self._fact
        if api is None:
            return Unknown("the API has not been reached yet")
        return pods if isinstance(pods, Unknown) else api.find(path, self._rights.refused)

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Create an object through the API. Raises ApiError, with the status of an answer."""
        return self._reached(f"POST {path}").post(path, body)

    def get(self, path: str) -> Mapping[str, Any]:
        """Return the API object at a path. Raises ApiError, with the status of an answer."""
        return self._reached(f"GET {path}").get(path)

    def put(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Replace the API object at a path. Raises ApiError, with the status of an answer."""
        return self._reached(f"PUT {path}").put(path, body)

    def delete_pod(self, namespace: str, name: str, uid: str) -> None:
        """Delete a pod if it still is that one, with its own grace. Raises ApiError."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}"
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            self._reached(f"DELETE {path}").delete(path, options)
        except ApiError as error:
            if not error.says_not_found and error.status != _CONFLICT:
                raise

    def _reached(self, what: str) -> ApiClient:
        """Return the client while the pods are known: else each request waits for its timeout."""
        api, pods = self._client, self._fact
        if api is None or isinstance(pods, Unknown):
            raise ApiError(f"{what}: the API is not reached")
        return api

    def patch(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Merge into an object through the API. Raises ApiError, with the status of an answer."""
        return self._reached(f"PATCH {path}").patch(path, body)

    def start(self) -> None:
        self._thread.start()

    def retry_now(self) -> None:
        """Cut a backoff short: the API has answered a probe.

        A request that was sent before that may hang in a connection that is dead.
        """
        self._interrupt.set()
        if isinstance(self._fact, Unknown):
            self.interrupt()

    def drop(self, reason: str) -> None:
        """Give the watch up: the API does not answer, though the connection may look open."""
        self._fact = Unknown(reason)
        self.interrupt()

    def interrupt(self) -> None:
        """Break off every request under way. From any thread, and safe in a signal handler."""
        if self._client is not None:
            self._client.cut()

    def close(self) -> None:
        self._stopping = True
        self._interrupt.set()
        if self._client is not None:
            self._client.close()
        if self._thread.ident is not None:
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._attempts()(self._follow)
            except Exception as error:
                # A first failure after a steady time: the next attempt comes soon.
                self._lose(error)
                self._sleep(random.uniform(0.0, 0.5))  # noqa: S311 - spreads load

    def _attempts(self) -> Retrying:
        import tenacity

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda _: not self._was_steady()),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=30),
            sleep=self._sleep,
            stop=lambda _: self._stopping,
            before_sleep=self._lose_outcome,
            reraise=True,
        )

    def _was_steady(self) -> bool:
        since = self._known_since
        return since is not None and time.monotonic() - since >= STEADY_SECONDS

    def _sleep(self, seconds: float) -> None:
        if not self._stopping:
            self._interrupt.wait(seconds)
        self._interrupt.clear()

    def _lose_outcome(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        self._lose(error or PodsError("the watch ended"))

    def _lose(self, error: BaseException) -> None:
        if not isinstance(error, CheckpointerError):
            log.error("following the pods failed: %s", type(error).__name__, exc_info=error)
        reason = str(error) if isinstance(error, CheckpointerError) else type(error).__name__
        self._fact = Unknown(reason)
        self._known_since = None
        self._was_asked = True
        self._wake()

    def _follow(self) -> None:
        """List, then watch until that breaks or the agent stops; it always ends by raising."""
        from checkpointer.node.api import ApiClient

        if self._client is not None:
            self._client.close()
        api = self._client = ApiClient(self._kubeconfig)
        if self._stopping:  # since `close` has closed the client before this one
            raise PodsError("the agent stops")
        selector = {"fieldSelector": f"spec.nodeName={self._node_name}"}
        listed = self._list(api, selector)
        self._pods = {
            uid_of(pod) or f"#{index}": _lean(pod) for index, pod in enumerate(_items(listed))
        }
        version = _version(listed)
        self._publish()
        self._known_since = time.monotonic()
        while not self._stopping:
            version = self._watch(api, selector, version)
        raise PodsError("the agent stops")

    def _list(self, api: ApiClient, selector: Mapping[str, str]) -> Mapping[str, Any]:
        try:
            return api.get(_PODS, selector)
        except ApiError as error:
            if error.status == _FORBIDDEN:
                self._rights.refused(_PODS)
            raise

    def _watch(self, api: ApiClient, selector: Mapping[str, str], version: str) -> str:
        """Follow one watch to its end; return the version to resume from."""
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311 - spreads load, hides nothing
        query = {
            **selector,
            "resourceVersion": version,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        began, is_empty = time.monotonic(), True
        try:
            for line in api.lines(_PODS, query, seconds + 30.0):
                version = self._apply(line)
                is_empty = False
        finally:
            if not self._stopping:
                self._on_break()
        if is_empty and time.monotonic() - began < SHORT_WATCH_SECONDS:
            raise PodsError("watching pods: the watch ended at once")
        return version

    def _apply(self, line: str) -> str:
        """Take over one event; return the version that it brings us to."""
        try:
            event = json.loads(line)
            kind, pod = event["type"], event["object"]
        except (ValueError, TypeError, LookupError, RecursionError):
            raise PodsError("watching pods: an event is not what it has to be") from None
        match kind:
            case "BOOKMARK":
                return _version(pod)
            case "ADDED" | "MODIFIED":
                version = _version(pod)
                self._pods[_needed_uid(pod)] = _lean(pod)
            case "DELETED":
                version = _version(pod)
                self._pods.pop(_needed_uid(pod), None)
            case _:  # ERROR: most often 410, the version is too old to resume from
                raise PodsError(f"watching pods: HTTP {_code(pod)}")
        self._publish()
        return version

    def _publish(self) -> None:
        self._fact = Known(tuple(self._pods.values()))
        self._was_asked = True
        self._wake()


def list_pods(api: ApiClient, node_name: str) -> tuple[RawPod, ...]:
    """Return the pods that the API binds to a node, mirror pods too, once. Raises ApiError."""
    try:
        pods = _items(api.get("/api/v1/pods", {"fieldSelector": f"spec.nodeName={node_name}"}))
    except PodsError as error:
        raise ApiError(str(error)) from error
    for pod in pods:
        if fault := fault_of(pod):
            raise ApiError(f"listing pods: pod {shown(pod)} cannot be read: {fault}")
    return tuple(pods)


def _items(listed: Mapping[str, Any]) -> list[RawPod]:
    """Return the pods of a complete list; anything else is not "no pods". Raises PodsError."""
    items = listed.get("items", False)
    if listed.get("kind") != "PodList" or not isinstance(items, list | None):
        raise PodsError("listing pods: the answer is not a list of pods")
    metadata = listed.get("metadata")
    if isinstance(metadata, dict) and metadata.get("continue"):
        raise PodsError("listing pods: the answer is only the first part")
    return [pod if isinstance(pod, dict) else {} for pod in items or ()]


def _version(holder: Any) -> str:
    metadata = holder.get("metadata") if isinstance(holder, dict) else None
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not version:
        raise PodsError("the API's answer has no resource version")
    return version


def _needed_uid(pod: Any) -> str:
    """Return the UID, without which it cannot be told which pod an event is about.

    Raises PodsError.
    """
    if uid := uid_of(pod):
        return uid
    raise PodsError("watching pods: an event is about something that is not a pod")


def _code(status: Any) -> str:
    code = status.get("code") if isinstance(status, dict) else None
    return str(code) if isinstance(code, int) else "error"


def _lean(pod: RawPod) -> RawPod:
    if not isinstance(pod.get("metadata"), dict):
        return pod
    metadata = {k: v for k, v in pod["metadata"].items() if k not in _UNUSED}
    return {**pod, "metadata": metadata}
