"""What runs, asked of the container runtime while something else is done.

For a command that has little time: a runtime that hangs takes its share of it while the command
imports and reads, and not after it.
"""

from __future__ import annotations

import threading

from checkpointer.core.facts import Fact, Unknown
from checkpointer.core.runtime import Runtime
from checkpointer.node.cri import ContainerRuntime, find_endpoint


class Inquiry:
    """One look at the runtime, in a thread of its own, begun when this is made."""

    def __init__(self, endpoint: str, seconds: float) -> None:
        """An empty `endpoint` is the first well-known one that exists; `seconds` end the look."""
        self._seconds = seconds
        self._answer: Fact[Runtime] = Unknown("no container runtime socket was found")
        self._thread = threading.Thread(target=self._ask, args=(endpoint,), name="runtime")
        self._thread.start()

    def answer(self) -> Fact[Runtime]:
        """Wait for the answer, no longer than its look may take, and return it."""
        self._thread.join()
        return self._answer

    def _ask(self, endpoint: str) -> None:
        if found := endpoint or find_endpoint():
            self._answer = ContainerRuntime(found, self._seconds).observe()
