"""Process 1 of a machine: gives it its own disk and network, then buries the dead.

Runs inside fresh namespaces, where whatever it mounts is seen by nobody else and goes with the
last process. Arguments: the folder that is the machine's disk, and its address.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

# A kubelet insists on these. Without files of our own in their place it would set the host's.
SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def main(disk: Path, address: str) -> None:
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _mount_disk(disk)
    _mount_kernel_files(disk)
    _run("mount", "--make-rshared", "/")  # among the machine's processes, as on any node
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{address}/32", "dev", "lo")
    print("ready", flush=True)  # noqa: T201 - what the other side waits for
    while True:
        _bury_the_dead()
        signal.sigwait({signal.SIGCHLD})


def _mount_disk(disk: Path) -> None:
    """Put the machine's own folders where a node has them: no host folder is written to."""
    _run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run")
    if not Path("/var/run").is_symlink():
        _run("mount", "--bind", "/run", "/var/run")
    for path in ("/var/lib", "/var/log"):
        _run("mount", "--bind", str(disk / path.strip("/")), path)
    upper, work = Path("/run/etc/upper"), Path("/run/etc/work")
    upper.mkdir(parents=True)
    work.mkdir()
    layers = f"lowerdir=/etc,upperdir={upper},workdir={work}"
    _run("mount", "-t", "overlay", "-o", layers, "overlay", "/etc")
    Path("/etc/kubernetes").mkdir(exist_ok=True)
    _run("mount", "--bind", str(disk / "etc/kubernetes"), "/etc/kubernetes")


def _mount_kernel_files(disk: Path) -> None:
    _run("mount", "--bind", str(disk / "boot_id"), "/proc/sys/kernel/random/boot_id")
    folder = Path("/run/sysctl")
    folder.mkdir()
    for name, value in SYSCTLS.items():
        file = folder / name.replace("/", ".")
        file.write_text(value + "\n")
        _run("mount", "--bind", str(file), f"/proc/sys/{name}")


def _bury_the_dead() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    main(Path(sys.argv[1]), sys.argv[2])
