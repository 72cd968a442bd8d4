"""Whether an agent runs, seen from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpointer.core.facts import Known, Unknown
from checkpointer.node.agent_lock import AgentLock, find_agent
from checkpointer.store.lock import InstanceLock


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A lock that somebody holds."""
    lock = InstanceLock(tmp_path / "run/lock")
    assert lock.try_acquire()
    yield Path(lock.path)
    lock.release()


def proc_of(folder: Path, lock: Path, cgroup: str) -> Path:
    """Return a /proc in which process 42 holds the lock."""
    status = lock.stat()
    major, minor = status.st_dev >> 8 & 0xFFF, status.st_dev & 0xFF
    place = folder / "proc"
    (place / "42").mkdir(parents=True)
    (place / "locks").write_text(
        "1: POSIX  ADVISORY  WRITE 7 08:01:1 0 EOF\n"
        f"2: FLOCK  ADVISORY  WRITE 42 {major:02x}:{minor:02x}:{status.st_ino} 0 EOF\n"
    )
    (place / "42/cgroup").write_text(cgroup)
    return place


def test_no_lock_file_is_no_agent_and_makes_none(tmp_path: Path) -> None:
    """Looking leaves nothing behind."""
    assert find_agent(tmp_path / "run/lock") == Known(AgentLock(is_held=False))
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_nobody_holds_is_no_agent_and_can_be_had_afterwards(tmp_path: Path) -> None:
    """The look does not keep an agent out."""
    lock = InstanceLock(tmp_path / "run/lock")
    lock.try_acquire()
    lock.release()
    assert find_agent(Path(lock.path)) == Known(AgentLock(is_held=False))
    assert lock.try_acquire()
    lock.release()


@pytest.mark.parametrize(
    ("cgroup", "service", "is_in_pod"),
    [
        ("0::/system.slice/pod-checkpointer.service\n", "pod-checkpointer.service", False),
        ("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-x.scope\n", "", True),
        ("0::/system.slice/containerd.service/kubepods-burstable-pod1\n", "", True),
        ("0::/user.slice/user-0.slice/session-1.scope\n", "", False),
    ],
)
def test_the_holders_control_group_tells_how_he_was_started(
    tmp_path: Path, held: Path, cgroup: str, service: str, is_in_pod: bool
) -> None:
    """A service comes up at boot by itself, a pod of the API does not."""
    found = find_agent(held, proc_of(tmp_path, held, cgroup))
    assert found == Known(AgentLock(True, service, is_in_pod))


def test_a_holder_out_of_sight_still_holds_it(tmp_path: Path, held: Path) -> None:
    """From a pod of its own the holder's process cannot be seen."""
    assert find_agent(held, tmp_path / "none") == Known(AgentLock(is_held=True))


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    """Nobody's lock can be told from it."""
    (tmp_path / "lock").symlink_to("/dev/null")
    assert isinstance(find_agent(tmp_path / "lock"), Unknown)
