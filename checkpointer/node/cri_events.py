"""Waking the loop when a container changes, where the runtime can tell.

Never more than a hint: an event is not looked into, it only makes the caller look. Whoever
must not miss a change also polls, at leisure while `supported` is True.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from checkpointer.errors import RuntimeCallError
from checkpointer.node import cri_v1_pb2 as pb
from checkpointer.node.cri_connection import (
    Connection,
    Method,
    RuntimeUnimplementedError,
    Stream,
)
from checkpointer.node.cri_messages import RuntimeVersion, version_of

VERSION = Method("RuntimeService", "Version", pb.VersionResponse)
KUBELET_API_VERSION = "0.1.0"
"""What the kubelet asks for and must be answered with (kuberuntime_manager.go)."""

_GET_EVENTS = Method("RuntimeService", "GetContainerEvents", pb.ContainerEventResponse)
_FIRST_SHARING = {"containerd": (2, 0), "cri-o": (1, 28)}
_RECONNECT_SECONDS = 1.0
_ASK_AGAIN_SECONDS = 600.0


def shares_events(version: RuntimeVersion) -> bool:
    """Tell whether the runtime gives each event to every subscriber.

    Older ones hand an event to one of them: watching would take from a kubelet with Evented
    PLEG what it lives on (containerd#7318, fixed in 2.0; cri-o#6466, fixed in 1.28).
    """
    first = _FIRST_SHARING.get(version.name)
    if first is None:
        return True
    number = re.match(r"v?(\d+)\.(\d+)", version.version)
    return number is not None and (int(number[1]), int(number[2])) >= first


class Watch:
    """A thread that calls `wake` on each container event until it is closed.

    It also wakes whenever a stream opens, since events may have been missed, and whenever one
    breaks, since the runtime may be gone. `wake` is called in the watch's own thread.
    """

    def __init__(
        self, endpoint: str, wake: Callable[[], None], deadline_seconds: float = 2.0
    ) -> None:
        self._endpoint = endpoint
        self._wake = wake
        self._deadline_seconds = deadline_seconds
        self._supported: bool | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._stream: Stream[pb.ContainerEventResponse] | None = None
        self._thread = threading.Thread(target=self._run, name="runtime-events", daemon=True)
        self._thread.start()

    @property
    def supported(self) -> bool | None:
        """Whether events come: None until the runtime showed it by an event or a refusal."""
        return self._supported

    def close(self) -> None:
        """Stop waking, end the stream and the thread."""
        self._closed.set()
        with self._lock:
            if self._stream is not None:
                self._stream.cancel()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            pause = _RECONNECT_SECONDS
            try:
                with Connection(self._endpoint) as connection:
                    self._follow(connection)
            except RuntimeUnimplementedError:
                self._supported = False
            except RuntimeCallError:
                pass  # the caller's own calls tell what is wrong; here it is only retried
            if self._supported is False:
                # Not for ever: a node's runtime is upgraded in place, under a running agent.
                pause = _ASK_AGAIN_SECONDS
            self._closed.wait(pause)

    def _follow(self, connection: Connection) -> None:
        """Wake on events until the stream ends; note when there will be none."""
        request = pb.VersionRequest(version=KUBELET_API_VERSION)
        version = version_of(connection.call(VERSION, request, self._deadline_seconds))
        if not shares_events(version):
            self._supported = False
            return
        with self._lock:
            if self._closed.is_set():
                return
            self._stream = connection.stream(_GET_EVENTS, pb.GetEventsRequest())
        self._wake()
        try:
            if not self._read(self._stream):
                # CRI-O with enable_pod_events=false ends the stream at once, without an error.
                self._supported = False
        finally:
            with self._lock:
                self._stream = None
            if not self._closed.is_set():
                self._wake()

    def _read(self, stream: Stream[pb.ContainerEventResponse]) -> bool:
        """Wake on each event; tell at the stream's end whether there was one."""
        any_came = False
        for _ in stream:
            if self._closed.is_set():
                return True
            any_came = self._supported = True
            self._wake()
        return any_came
