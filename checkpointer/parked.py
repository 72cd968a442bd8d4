"""Waiting for the other instance's end, in an interpreter that has next to nothing loaded.

On every master one of the two instances waits, for weeks. When it knows that it has to, it has
read its command line and its settings, and a Python process does not give back what that took.
So it is replaced by this file, run as a script without site-packages; and once the lock is had,
by the agent anew, which reads its settings as they are by then. The lock is held all the while,
and a signal that comes amid this waits until somebody handles it.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT)

HELD = "POD_CHECKPOINTER_LOCK"
"""Environment variable by which the agent is told the handle of the lock that it has already."""


def park(lock_file: str | os.PathLike[str], tell: Callable[[], None]) -> None:
    """Become a process that waits for the lock and then is this command again.

    Where `HELD` names the lock that it has already, the wait is for the store, a folder, which is
    taken anew afterwards. `tell` says so, once a signal finds it ready to end. Returns only when it
    cannot be done.
    """
    wait = [sys.executable, "-I", "-S", __file__, os.fspath(lock_file)]
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    tell()
    try:
        os.execv(sys.executable, [*wait, sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - it is us
    except (OSError, ValueError):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def main(arguments: list[str]) -> int:
    """Wait for the lock that the first argument names, then become the command of the others.

    Return the exit status where there is nothing to become: 0 after a signal.
    """
    from checkpointer.store.errors import StoreError
    from checkpointer.store.lock import FolderLock, InstanceLock, LockWaitEndedError

    lock_file, *command = arguments
    has_lock = HELD in os.environ
    lock = FolderLock(lock_file) if has_lock else InstanceLock(lock_file)
    try:
        lock.acquire(signals=SIGNALS)
        if not has_lock:
            os.environ[HELD] = str(lock.keep())
        os.execv(command[0], command)  # noqa: S606 - what `park` was
    except LockWaitEndedError:
        return 0
    except (StoreError, OSError) as error:
        sys.stderr.write(f"checkpointer: {error}\n")
    return 1


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.exit(main(sys.argv[1:]))
