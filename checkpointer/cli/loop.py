"""The agent's loop in a thread of its own, so that a signal always ends the process.

Python handles signals in the main thread, between two of its steps: had that one to wait for a
dead mount, it would heed none.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from checkpointer.config import Config
from checkpointer.errors import CheckpointerError

if TYPE_CHECKING:
    from checkpointer.agent import Agent

END_SECONDS = 20.0
"""How long a loop may take to end: a cycle under way goes to its end, and what it stops in the
runtime takes its time. Less than the grace of the agent's own pod."""

AWAKE_SECONDS = 10.0
"""How often the main thread looks whether a signal has come that did not wake it."""


class Loop:
    """One run of the agent. `run` and `stop` are for the main thread, `stop` for its handlers."""

    def __init__(self, config: Config, once: bool, dry_run: bool) -> None:
        self._config, self._once, self._dry_run = config, once, dry_run
        self._agent: Agent | None = None
        self._is_stopping = False
        self._error: BaseException | None = None
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        """Ends the main thread's wait; putting something there is safe in a signal handler."""
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self.is_well = False
        """Whether the last cycle could be carried through."""

    @property
    def has_left(self) -> bool:
        """Tell whether all of ours is gone from the node, for good."""
        return self._agent is not None and self._agent.has_left

    def run(self) -> bool:
        """Run until it is done or stopped; tell whether it ended: it hangs if not.

        Raises what the loop raised.
        """
        self._thread.start()
        self._wait()
        self._thread.join(END_SECONDS)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Have it end after the cycle that is under way. Safe in a signal handler."""
        self._is_stopping = True
        if self._agent is not None:
            self._agent.stop()
        self._wake.put(None)

    def _wait(self) -> None:
        """Wait for the loop's end or a signal.

        The kernel may give a signal to another thread than this one, which then sleeps on: its
        handler runs when it is awake.
        """
        while True:
            with suppress(queue.Empty):
                return self._wake.get(timeout=AWAKE_SECONDS)

    def _run(self) -> None:
        try:
            self._agent = self._start()
            if self._is_stopping:
                self._agent.stop()
            self.is_well = self._agent.run(once=self._once)
        except BaseException as error:  # the main thread's to tell
            self._error = error
        finally:
            self._wake.put(None)

    def _start(self) -> Agent:
        from checkpointer.store.safety import check_folder

        store = self._config.store_directory
        try:
            check_folder(store)
        except OSError as error:
            raise CheckpointerError(
                f"storeDirectory: {error.filename}: {error.strerror}"
            ) from error
        from checkpointer.node.probe import prober_of
        from checkpointer.report.log import configure

        configure(self._config.log.level, self._config.log.format)
        prober = prober_of(self._config)
        prober.start()  # the first answers come in while all else is imported
        from checkpointer.agent import Agent

        return Agent(self._config, dry_run=self._dry_run, prober=prober)
