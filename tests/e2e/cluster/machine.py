"""A machine to be switched off and on: namespaces of its own, and a folder that is its disk.

Its processes live in their own process, mount and network namespaces under a process 1 of their
own. Switching it off is killing process 1: the kernel ends everything in it at once, and the
mounts (the tmpfs volumes of the pods, /run) and the packet filter go with it, as they do in a
power cut. The disk stays: /etc/kubernetes, /var/lib and /var/log of the machine. On the host
there is nothing to undo but that folder and a control group, even when the test run is killed:
process 1 dies with its parent.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.cluster import cgroups, machine_init
from tests.e2e.cluster.network import Network
from tests.e2e.cluster.processes import Process

ADDRESS = "10.99.0.1"
"""The machine's own address; the API is used through it by kubelet and agent."""

OTHER_ADDRESS = "10.99.0.2"
"""One that stands for another machine, where a test needs one."""

POD_BOOT_ID = "var/lib/kubelet/boot_id"
"""Where on a machine's disk a pod can read which boot this is."""

_ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
"""What a service manager would give: nothing of the shell that runs the tests."""


class Machine:
    """A computer: off at first."""

    def __init__(self, work: Path) -> None:
        self.disk = work / "disk"
        self.logs = work / "logs"
        for folder in ("etc/kubernetes/manifests", "var/lib", "var/log"):
            (self.disk / folder).mkdir(parents=True)
        self.logs.mkdir()
        self.boots = 0
        self.cgroup = cgroups.make()
        self._processes: list[Process] = []
        self._outside: subprocess.Popen[str] | None = None
        self._init_pid = 0

    @property
    def is_on(self) -> bool:
        return self._outside is not None

    @property
    def root(self) -> Path:
        """The machine's root folder as its processes see it, while it is on."""
        return Path(f"/proc/{self._init_pid}/root")

    @property
    def network(self) -> Network:
        return Network(self._init_pid, self.run)

    def switch_on(self) -> None:
        """Boot with a new boot id; the processes are started by whoever knows them."""
        self.boots += 1
        boot_id = f"{uuid.uuid4()}\n"
        (self.disk / "boot_id").write_text(boot_id)
        (self.disk / POD_BOOT_ID).parent.mkdir(parents=True, exist_ok=True)
        (self.disk / POD_BOOT_ID).write_text(boot_id)
        log = (self.logs / f"boot-{self.boots}-init.log").open("w")
        with log:
            self._outside = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *("unshare", "--mount", "--net", "--pid", "--propagation", "private"),
                    *("--fork", "--kill-child", "--mount-proc"),
                    *(sys.executable, machine_init.__file__, str(self.disk), ADDRESS),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._outside.stdout is not None
        if self._outside.stdout.readline() != "ready\n":
            self.switch_off()
            raise AssertionError("the machine did not boot:\n" + Path(log.name).read_text())
        children = Path(f"/proc/{self._outside.pid}/task/{self._outside.pid}/children")
        self._init_pid = int(children.read_text().split()[0])

    def switch_off(self) -> None:
        """Cut the power: all its processes end at once, its memory is lost, its disk stays."""
        if self._outside is None:
            return
        self._outside.kill()  # process 1 is bound to die with it
        self._outside.wait(10)
        if self._outside.stdout is not None:
            self._outside.stdout.close()
        self._outside = None
        for process in self._processes:
            process.reap()
        self._processes.clear()
        cgroups.remove(self.cgroup)
        cgroups.make(self.cgroup)

    def remove(self) -> None:
        """Switch off and leave nothing behind but the logs."""
        self.switch_off()
        cgroups.remove(self.cgroup)
        shutil.rmtree(self.disk)

    def start(self, name: str, *command: str | Path) -> Process:
        """Start a program that runs until it is stopped; its log is named after it."""
        log = self.logs / f"boot-{self.boots}-{name}.log"
        process = Process(name, self._inside(command), log, _ENVIRONMENT)
        self._processes.append(process)
        return process

    def run(self, *command: str | Path, text: str | None = None, seconds: float = 60) -> str:
        """Run a program to its end and return what it printed; AssertionError if it failed."""
        status, output, errors = self.try_to_run(*command, text=text, seconds=seconds)
        if status:
            raise AssertionError(f"{' '.join(map(str, command))}: {errors or output}")
        return output

    def try_to_run(
        self, *command: str | Path, text: str | None = None, seconds: float = 60
    ) -> tuple[int, str, str]:
        """Run a program to its end; return its exit status, its output and its errors."""
        done = subprocess.run(
            self._inside(command),
            input=text,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=_ENVIRONMENT,
        )
        return done.returncode, done.stdout, done.stderr

    def _inside(self, command: Sequence[str | Path]) -> list[str]:
        enter = ["nsenter", "-t", str(self._init_pid), "--mount", "--net", "--pid", "--"]
        return [*enter, *map(str, command)]
