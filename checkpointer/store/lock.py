"""One writer per node: the agent runs twice, as a DaemonSet's pod and as its own checkpoint.

The second instance waits here for as long as the first one lives, in a process that has nothing
else loaded (`checkpointer.parked`); so this module imports next to nothing. The kernel drops the
lock with the process, so a crash leaves nothing to clean up.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat

from checkpointer.store.errors import StoreError, UnsafePathError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

DEFAULT_PATH = "/run/pod-checkpointer/lock"


class LockWaitEndedError(StoreError):
    """A signal ended the wait for the other instance; `signal_number` says which."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number} while another instance held the lock")
        self.signal_number = signal_number


class StoreTakenError(StoreError):
    """An agent with another lock file works on the store; `path` is its folder."""

    def __init__(self, path: str, lock_file: str) -> None:
        super().__init__(
            f"another agent works on {path}, and its lockFile is not {lock_file}: all agents of a "
            "node need the same"
        )
        self.path = path


class _SignalledError(BaseException):
    """Raised by our handler: a handler that returned would have the kernel's wait resumed."""


class InstanceLock:
    """A lock file that at most one process holds."""

    def __init__(self, path: str | os.PathLike[str] = DEFAULT_PATH) -> None:
        self.path = os.fspath(path)
        self._handle: int | None = None

    @property
    def is_held(self) -> bool:
        """Tell whether this object holds the lock."""
        return self._handle is not None

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it; return whether it is ours. Raises StoreError."""
        return self._handle is not None or self._take(fcntl.LOCK_EX | fcntl.LOCK_NB)

    def acquire(self, signals: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT)) -> bool:
        """Take the lock, waiting for it if need be; return whether it had to wait.

        Only for the main thread: the wait sits in the kernel, and a signal ends it by
        LockWaitEndedError, also one that was blocked until then. Raises StoreError.
        """
        if self.try_acquire():
            return False
        received: list[int] = []
        waiting = False

        def handler(number: int, _: FrameType | None) -> None:
            received.append(number)
            if waiting:
                raise _SignalledError

        before = {number: signal.signal(number, handler) for number in signals}
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        try:
            waiting = True
            while not received and not self._take(fcntl.LOCK_EX):
                pass  # the file was replaced while we waited for it
            waiting = False
        except _SignalledError:
            waiting = False
        finally:
            waiting = False
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, old in before.items():
                signal.signal(number, signal.SIG_DFL if old is None else old)
        if received:
            self.release()
            raise LockWaitEndedError(received[0])
        return True

    def keep(self) -> int:
        """Have the lock that we hold outlive this program; return its handle for `adopt`."""
        assert self._handle is not None  # noqa: S101 - for the type checker
        os.set_inheritable(self._handle, True)
        return self._handle

    def adopt(self, handle: int) -> bool:
        """Take the lock over from the program before in this process; False if it is not that."""
        try:
            if not _is_at(handle, self.path):
                return False
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.set_inheritable(handle, False)
        except OSError:
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        """Let the next one have it. The file stays: removing it would let two hold "the" lock."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def remove(self) -> None:
        """Remove the file that we hold, when the agent leaves the node for good.

        One that waits for it finds it replaced and makes its own; ours ends with this process.
        Raises OSError.
        """
        if self._handle is not None and _is_at(self._handle, self.path):
            os.unlink(self.path)

    def _take(self, operation: int) -> bool:
        """Lock the file that the path names; False when somebody holds it or it was replaced."""
        try:
            handle = self._open()
            try:
                fcntl.flock(handle, operation)
                if _is_at(handle, self.path):
                    self._handle, handle = handle, -1
                    return True
                return False
            finally:
                if handle >= 0:
                    os.close(handle)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreError(f"cannot lock {self.path}: {error.strerror}") from error

    def _open(self) -> int:
        folder = os.path.dirname(self.path)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            status = os.lstat(folder)
            if status.st_uid == 0 and os.geteuid() != 0:
                raise UnsafePathError(f"{folder} belongs to root: try sudo") from None
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                raise UnsafePathError(f"{folder} is not a folder of ours") from None
            if status.st_mode & 0o022:
                raise UnsafePathError(f"{folder} is writable by others") from None
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self.path, flags, 0o600)


class FolderLock(InstanceLock):
    """A lock on a folder itself, which has to be there: nothing is made in it.

    Whatever path a container has it under, it is the same folder to the kernel.
    """

    def _open(self) -> int:
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _is_at(handle: int, path: str) -> bool:
    try:
        here, there = os.fstat(handle), os.lstat(path)
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
