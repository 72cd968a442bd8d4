"""The agent's loop in a thread of its own, so that a signal always ends the process.

Python handles signals in the main thread, between two of its steps: had that one to wait for a
dead mount, it would heed none.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from checkpointer.config import Config
from checkpointer.errors import CheckpointerError
from checkpointer.store.errors import StoreError
from checkpointer.store.lock import FolderLock, StoreTakenError

if TYPE_CHECKING:
    from checkpointer.agent import Agent

log = logging.getLogger(__name__)

END_SECONDS = 20.0
"""How long a loop may take to end: a cycle under way goes to its end, and what it stops in the
runtime takes its time. Less than the grace of the agent's own pod."""


LET_GO_SECONDS = 1.0
"""How long it may take to let go of the store, which may be on a dead mount."""


class Loop:
    """One run of the agent. `run` and `stop` are for the main thread, `stop` for its handlers."""

    def __init__(self, config: Config, once: bool, dry_run: bool) -> None:
        self._config, self._once, self._dry_run = config, once, dry_run
        self._store_lock = FolderLock(config.store_directory)
        self._agent: Agent | None = None
        self.is_stopping = False
        self._error: BaseException | None = None
        self._is_over = False
        self._near, self._far = socket.socketpair()
        """What is written to the far end wakes the main thread."""
        for end in (self._near, self._far):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self.is_well = False
        """Whether the last cycle could be carried through."""

    @property
    def has_left(self) -> bool:
        """Tell whether all of ours is gone from the node, for good."""
        return self._agent is not None and self._agent.has_left

    def run(self) -> bool:
        """Run until it is done or stopped; tell whether it ended: it hangs if not.

        Raises what the loop raised: StoreTakenError where another agent works on the store.
        """
        self._thread.start()
        self._wait()
        self._thread.join(END_SECONDS)
        self._near.close()
        self._far.close()
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Have it end after the cycle that is under way. Safe in a signal handler."""
        self.is_stopping = True
        if self._agent is not None:
            self._agent.stop()
        self._end_wait()

    def let_go(self) -> None:
        """Let the next one have the store, as far as that hangs not, too.

        A thread in the kernel would keep it beyond the end of the process.
        """
        release = threading.Thread(target=self._store_lock.release, daemon=True)
        release.start()
        release.join(LET_GO_SECONDS)

    def _wait(self) -> None:
        """Wait for the loop's end, or until a signal's handler stops it.

        The kernel may give a signal to another thread than this one, which would sleep on: Python
        writes to the socket in whichever thread it is, and the handler runs in this one.
        """
        before = signal.set_wakeup_fd(self._far.fileno(), warn_on_full_buffer=False)
        try:
            while not self._is_over:
                select.select([self._near], [], [])
                with suppress(BlockingIOError):
                    self._near.recv(4096)
        finally:
            signal.set_wakeup_fd(before)

    def _end_wait(self) -> None:
        self._is_over = True
        with suppress(OSError):  # full, or closed: nobody waits any more
            self._far.send(b"\0")

    def _run(self) -> None:
        try:
            self._agent = self._start()
            if self.is_stopping:
                self._agent.stop()
            self.is_well = self._agent.run(once=self._once)
        except BaseException as error:  # the main thread's to tell
            self._error = error
        finally:
            self._end_wait()

    def _start(self) -> Agent:
        from checkpointer.report.log import configure
        from checkpointer.store.safety import check_folder

        store = self._config.store_directory
        try:
            is_there = check_folder(store) is not None
        except OSError as error:
            raise CheckpointerError(
                f"storeDirectory: {error.filename}: {error.strerror}"
            ) from error
        configure(self._config.log.level, self._config.log.format)
        if not self._dry_run:
            self._lock_store(is_there)
        from checkpointer.node.probe import prober_of

        prober = prober_of(self._config)
        prober.start()  # the first answers come in while all else is imported
        from checkpointer.agent import Agent

        return Agent(self._config, dry_run=self._dry_run, prober=prober)

    def _lock_store(self, is_there: bool) -> None:
        """Keep agents with another lock file off the store. Raises StoreTakenError.

        A disk that takes no new folder, or no lock, is no reason not to work.
        """
        try:
            if not is_there:
                from checkpointer.store.revisions import Store

                Store(self._config.store_directory).prepare()
            is_ours = self._store_lock.try_acquire()
        except StoreError as error:
            log.warning("%s; nothing keeps agents with another lockFile off it", error)
            return
        if not is_ours:
            raise StoreTakenError(self._store_lock.path, str(self._config.lock_file))
