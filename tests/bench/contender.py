"""Who is measured: this checkout's agent, and any other by its command line.

Both run on the same kind of node, turn by turn in the same run. A command names what it needs of
the node in braces: {config} (the agent's configuration file), {kubeconfig}, {manifests}, {store},
{kubelet}, {runtime}, {lock}, {node}, {folder}. It is started without a shell.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.node import BenchNode

_TAIL = 5
_CPU_OF_PROCESS = 2
"""CPUCLOCK_SCHED in the kernel's clock IDs: all threads of a process, those that ended too."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A name for the table, and the words of a command."""

    name: str
    words: tuple[str, ...]

    @contextmanager
    def running(self, node: BenchNode) -> Iterator[Process]:
        """Run it on the node; it is ended afterwards."""
        words = [word.format(**node.places()) for word in self.words]
        with tempfile.TemporaryFile("w+") as log:
            began = time.perf_counter()
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Not here: `python -m` would take this checkout's agent for any other one.
                cwd=node.folder,
                env=_environment(),
            )
            found = Process(process, began)
            try:
                yield found
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                log.seek(0)
                found.last_words = " | ".join(log.read().splitlines()[-_TAIL:])


class Process:
    """A contender that runs, and what the kernel tells of it. `began` is on perf_counter."""

    def __init__(self, process: subprocess.Popen[bytes], began: float) -> None:
        self.began = began
        self.last_words = ""
        """The end of what it wrote, once it has ended."""
        self._process = process

    def is_running(self) -> bool:
        """Tell whether it is there."""
        return self._process.poll() is None

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used, to the nanosecond."""
        return time.clock_gettime((~self._process.pid << 3) | _CPU_OF_PROCESS)

    def resident_mib(self) -> float:
        """Return its resident memory in MiB."""
        return self._status("VmRSS") / 1024

    def private_mib(self) -> float:
        """Return the part of it that would be free without it: no file that others map too."""
        lines = self._read("smaps_rollup").splitlines()
        private = (line.split()[1] for line in lines if line.startswith("Private_"))
        return sum(map(int, private)) / 1024

    def switches(self) -> int:
        """Return the context switches of the threads that are there now."""
        found = 0
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            text = (task / "status").read_text()
            found += sum(int(line.split()[1]) for line in text.splitlines() if "ctxt" in line)
        return found

    def written_bytes(self) -> int:
        """Return what it has had written to disks; what goes to memory only is not in it."""
        fields = dict(line.split(": ") for line in self._read("io").splitlines())
        return int(fields["write_bytes"])

    def _status(self, key: str) -> int:
        line = next(x for x in self._read("status").splitlines() if x.startswith(f"{key}:"))
        return int(line.split()[1])

    def _read(self, name: str) -> str:
        return Path(f"/proc/{self._process.pid}/{name}").read_text()


def _environment() -> dict[str, str]:
    """Return ours without what configures an agent or Python."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("CHECKPOINTER_", "PYTHON"))}
    return ours | {"PYTHONPATH": str(Path(__file__).parents[2])}


def this() -> Contender:
    """Return this checkout's agent."""
    return Contender("this", (sys.executable, "-m", "checkpointer", "run", "--config", "{config}"))


def other(command: str) -> Contender:
    """Return what a command line runs."""
    return Contender("versus", tuple(shlex.split(command)))
