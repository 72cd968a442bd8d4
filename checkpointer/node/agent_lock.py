"""Whether an agent runs here, seen from outside: who holds its lock, and how he was started."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.values import dataclass

PROC = Path("/proc")
_SERVICE = re.compile(r"([^/]+\.service)$", re.MULTILINE)
_POD = re.compile(r"kubepods|/pod[0-9a-f]{8}[-_]")


@dataclass(frozen=True, slots=True)
class AgentLock:
    """Whether an agent holds the lock, and how it was started where that can be seen."""

    is_held: bool
    service: str = ""
    """The systemd unit that it is part of."""
    is_in_pod: bool = False


def find_agent(path: Path, proc: Path = PROC) -> Fact[AgentLock]:
    """Tell whether somebody holds the lock. It is tried for a moment, and never created."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return Known(AgentLock(is_held=False))
    except OSError as error:
        return Unknown(f"cannot open {path}: {error.strerror}")
    try:
        # A shared lock, let go at once: an agent that starts this moment waits for it.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return Known(AgentLock(is_held=False))
    except BlockingIOError:
        return Known(_holder(os.fstat(handle), proc))
    except OSError as error:
        return Unknown(f"cannot try {path}: {error.strerror}")
    finally:
        os.close(handle)


def _holder(status: os.stat_result, proc: Path) -> AgentLock:
    """Return the lock as held, with what the kernel tells of its holder (proc_locks(5))."""
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        for line in (proc / "locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and device in fields:
                cgroup = (proc / fields[4] / "cgroup").read_text()
                service = _SERVICE.search(cgroup)
                is_in_pod = _POD.search(cgroup) is not None
                return AgentLock(True, service[1] if service and not is_in_pod else "", is_in_pod)
    except (OSError, IndexError):
        pass  # he is out of sight, or gone by now
    return AgentLock(is_held=True)
