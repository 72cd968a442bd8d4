"""The agent under test: the real one, as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class AgentProcess:
    """One agent at a time, started and ended like a service of the node; it logs to a file."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        self.stop_seconds = 5.0
        """How long the agent may take to end on SIGTERM."""
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the process ID while it runs."""
        return self._process.pid if self._process is not None and self.is_running else None

    @property
    def is_running(self) -> bool:
        """Tell whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def has_died(self) -> bool:
        """Tell whether it was started and has ended by itself."""
        return self._process is not None and not self.is_running

    def start(self) -> None:
        """Start the agent; what it writes goes to the log."""
        self.kill()
        self._output = self.log.open("ab")
        with _signals_deferred():
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                env={**_without_settings(os.environ), "PYTHONUNBUFFERED": "1"},
            )

    def stop(self) -> int | None:
        """End it as a service manager does: SIGTERM, in time SIGKILL. Return its exit status."""
        if self._process is not None and self.is_running:
            self._process.terminate()
            try:
                self._process.wait(self.stop_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._reap()

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None and self.is_running:
            self._process.kill()
        self._reap()

    def last_lines(self, count: int = 15) -> list[str]:
        """Return the last lines of the log."""
        if not self.log.exists():
            return []
        return self.log.read_text(errors="replace").splitlines()[-count:]

    def _reap(self) -> int | None:
        status = self._process.wait() if self._process is not None else None
        self._process = None
        if self._output is not None:
            self._output.close()
            self._output = None
        return status


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Handle signals afterwards: a handler that raises between the process and its name would
    leave a process that nobody ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {n: signal.signal(n, lambda number, _: received.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for one in received:
            signal.raise_signal(one)


def agent_arguments(config: Path) -> tuple[str, ...]:
    """Return the interpreter's arguments that run the real agent."""
    return ("-m", "checkpointer", "run", "--config", str(config))


def _without_settings(environment: os._Environ[str]) -> dict[str, str]:
    """Return the environment without settings that are meant for another agent."""
    return {key: value for key, value in environment.items() if not key.startswith("CHECKPOINTER_")}
