"""One of two agents works; the other one waits without cost and takes over at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpointer.store.errors import StoreError, UnsafePathError
from checkpointer.store.lock import InstanceLock, LockWaitEndedError

WAITER = """
import sys
from checkpointer.store.lock import InstanceLock, LockWaitEndedError
try:
    lock = InstanceLock(sys.argv[1])
    if not lock.try_acquire():
        print("waiting", flush=True)
    waited = lock.acquire()
except LockWaitEndedError as error:
    print(error, flush=True)
    sys.exit(7)
print("waited" if waited else "at once", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run/lock"


@pytest.fixture
def waiter(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that waits for the lock which this one holds."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "waiting\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def held(path: Path) -> Iterator[InstanceLock]:
    lock = InstanceLock(path)
    assert lock.acquire() is False
    yield lock
    lock.release()


def in_kernel(process: subprocess.Popen[str]) -> bool:
    """Tell whether the process sleeps in flock."""
    try:
        return "lock" in Path(f"/proc/{process.pid}/wchan").read_text()
    except OSError:
        return True


def wait_until_parked(process: subprocess.Popen[str]) -> None:
    """Wait until it sleeps, for at most five seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        state = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        if state == "S" and in_kernel(process):
            return
        time.sleep(0.01)
    pytest.fail("the waiter does not sleep")


def test_free_lock_is_taken_at_once(path):
    """Nobody waits when nobody holds it; folder and file are for root alone."""
    lock = InstanceLock(path)
    assert lock.acquire() is False
    assert lock.is_held
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    lock.release()
    assert not lock.is_held
    lock.release()


def test_second_one_does_not_get_it(path, held):
    """Not even within one process, and asking again does not lose it."""
    assert held.try_acquire() is True
    assert InstanceLock(path).try_acquire() is False


def test_waiter_takes_over_when_the_holder_goes(held, waiter):
    """It says that it had to wait: the world may have changed meanwhile."""
    wait_until_parked(waiter)
    held.release()
    assert waiter.stdout.readline() == "waited\n"
    assert waiter.wait(5) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_wait_promptly(held, waiter, number):
    """A pod that is deleted while it waits does not sit out its grace period."""
    wait_until_parked(waiter)
    sent = time.monotonic()
    waiter.send_signal(number)
    assert waiter.wait(5) == 7
    assert time.monotonic() - sent < 1
    assert f"stopped by signal {number:d} while" in waiter.stdout.readline()


def test_waiter_needs_little_memory(held, waiter):
    """The parked twin holds next to nothing: under 16 MB, and no module that is heavy."""
    wait_until_parked(waiter)
    status = Path(f"/proc/{waiter.pid}/status").read_text()
    resident_kib = int(status.split("VmRSS:")[1].split()[0])
    assert resident_kib < 16 * 1024


def test_importing_the_lock_imports_nothing_heavy():
    """What Python itself has not loaded at its start is not loaded for it."""
    code = (
        "import sys; before = set(sys.modules); import checkpointer.store.lock;"
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    light = {"__future__", "_signal", "enum", "fcntl", "functools", "operator", "signal", "types"}
    own = {name for name in loaded if name.startswith("checkpointer")}
    assert own == {
        "checkpointer",
        "checkpointer.errors",
        "checkpointer.store",
        "checkpointer.store.errors",
        "checkpointer.store.lock",
    }
    assert set(loaded) - own - light <= {"_collections", "_functools", "_operator", "collections"}


def test_file_that_was_replaced_is_not_the_lock(path, held):
    """Somebody removed the file: a lock on the old one would keep nobody away."""
    path.unlink()
    fresh = InstanceLock(path)
    assert fresh.try_acquire() is True
    fresh.release()


def test_waiter_of_a_replaced_file_waits_for_the_new_one(path, held, waiter):
    """It wakes on the old file, sees that it is not the lock any more, and waits on."""
    wait_until_parked(waiter)
    path.unlink()
    fresh = InstanceLock(path)
    assert fresh.try_acquire() is True
    held.release()
    wait_until_parked(waiter)
    assert waiter.poll() is None
    fresh.release()
    assert waiter.wait(5) == 0


def test_folder_or_file_that_others_control_is_refused(path):
    """A link or an open folder could have the agent lock, or create, anything."""
    path.parent.mkdir(mode=0o700)
    path.parent.chmod(0o777)
    with pytest.raises(UnsafePathError, match="run is writable by others"):
        InstanceLock(path).acquire()
    path.parent.chmod(0o700)
    path.symlink_to("elsewhere")
    with pytest.raises(StoreError, match=r"cannot lock .*/run/lock: Too many levels of symbolic"):
        InstanceLock(path).acquire()
    path.unlink()
    path.parent.rename(path.parent.with_name("real"))
    path.parent.symlink_to("real")
    with pytest.raises(UnsafePathError, match="run is not a folder of ours"):
        InstanceLock(path).acquire()


def test_handlers_of_signals_are_as_before(path, held):
    """The wait borrows them and gives them back, whichever way it ends."""
    before = signal.getsignal(signal.SIGUSR1)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    with pytest.raises(LockWaitEndedError) as error:
        InstanceLock(path).acquire(signals=(signal.SIGUSR1,))
    timer.join()
    assert error.value.signal_number == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == before


def test_lock_is_not_inherited_by_children(path, held):
    """A child that outlives the agent must not keep the next one out."""
    child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        held.release()
        other = InstanceLock(path)
        assert other.try_acquire() is True
        other.release()
    finally:
        child.kill()
        child.wait()


def test_lock_that_is_kept_is_taken_over_by_the_program_after(path, held):
    """There is no moment at which another instance could have it."""
    handle, other = held.keep(), InstanceLock(path)
    assert os.get_inheritable(handle)
    assert other.adopt(handle) is True
    assert not os.get_inheritable(handle)
    assert InstanceLock(path).adopt(0) is False
    assert InstanceLock(path).adopt(9999) is False
    with path.open() as another:
        assert InstanceLock(path).adopt(another.fileno()) is False
    assert other.is_held


def test_an_agent_that_leaves_takes_the_lock_file_along(tmp_path: Path) -> None:
    """And only a file that it holds: one that was put there since is somebody else's."""
    path = tmp_path / "run" / "lock"
    lock = InstanceLock(path)
    lock.remove()
    lock.acquire()
    lock.remove()
    assert not path.exists()
    other = InstanceLock(path)
    assert other.try_acquire()
    lock.remove()
    assert path.exists()
    lock.release()
    other.release()
