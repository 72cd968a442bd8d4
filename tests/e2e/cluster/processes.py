"""Processes of a machine: each with a log of its own, ended by its id and by nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e.cluster.waiting import wait_for


class Process:
    """A program running inside a machine, as seen from outside.

    What Python starts is `nsenter`, which forks into the machine's process namespace and waits;
    signals go to that one child.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        self.started = time.monotonic()
        """Just before the program was started, on the monotonic clock."""
        with log.open("ab") as output:
            self._entered = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        self.pid = wait_for(f"{name} to start", self._child, 10, interval=0.002)

    @property
    def running(self) -> bool:
        return self._entered.poll() is None

    def require(self) -> None:
        """Raise AssertionError, with the end of its log, if the process has ended."""
        if not self.running:
            raise AssertionError(
                f"{self.name} ended with {self._entered.returncode}; its log {self.log} ends:\n"
                + self.tail()
            )

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, seconds: float = 30) -> None:
        """Ask the process to end; kill it when it has not after `seconds`."""
        self._signal(signal.SIGTERM)
        try:
            self._entered.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._entered.wait(10)

    def freeze(self) -> None:
        """Have it hang: it is there, its sockets too, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, and `nsenter`, which stops with its child."""
        os.kill(self.pid, signal.SIGCONT)
        os.kill(self._entered.pid, signal.SIGCONT)

    def reap(self) -> None:
        """Take note of a process that ended with its machine."""
        self._entered.wait(10)

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)

    def _child(self) -> int | None:
        if not self.running:
            self.require()
        children = Path(f"/proc/{self._entered.pid}/task/{self._entered.pid}/children")
        first = children.read_text().split()
        return int(first[0]) if first else None
