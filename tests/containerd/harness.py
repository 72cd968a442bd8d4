"""A containerd of our own: own root, state, socket and cgroup, gone without a trace afterwards.

The machine's containerd, if one runs, is not touched. What containerd keeps at fixed places
whatever its configuration says (the sockets of its shims in /run/containerd/s) is removed too,
as far as it is ours.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from checkpointer.core.facts import Known
from checkpointer.node.cri import ContainerRuntime
from tests.containerd.images import busybox, write_image

PAUSE_IMAGE = "docker.io/library/checkpointer-test-pause:1"
TEST_IMAGE = "docker.io/library/checkpointer-test-busybox:1"
START_SECONDS = 20.0

_SHIM_FOLDER = Path("/run/containerd")
_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [{disabled}]
[grpc]
  address = "{folder}/c.sock"
[ttrpc]
  address = "{folder}/c.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE nobody may lower an OOM score, and sandboxes get -998.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{folder}/runc"
"""
_NEVER_NEEDED = (
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
)


def missing() -> str:
    """Return in one sentence what this machine lacks, or nothing."""
    if os.geteuid() != 0:
        return "needs root"
    lacking = [name for name in ("containerd", "ctr", "runc", "busybox") if not shutil.which(name)]
    return f"not installed: {', '.join(lacking)} (see .ci/prepare)" if lacking else ""


class RealContainerd:
    """A containerd process that can be started, killed and started again over one state.

    `close` ends everything; it works from any state in between.
    """

    def __init__(self, *, disabled_plugins: tuple[str, ...] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="containerd-", dir="/tmp"))
        self.socket = self.folder / "c.sock"
        self.endpoint = f"unix://{self.socket}"
        self.cgroup_parent = f"/checkpointer-{self.folder.name}"
        self.snapshotter = "overlayfs" if _has_overlay(self.folder) else "native"
        self._process: subprocess.Popen[bytes] | None = None
        self._had_shim_folder = _SHIM_FOLDER.exists()
        self._foreign_shim_sockets = _shim_sockets()
        (self.folder / "cni").mkdir()
        (self.folder / "config.toml").write_text(
            _CONFIG.format(
                folder=self.folder,
                pause=PAUSE_IMAGE,
                snapshotter=self.snapshotter,
                disabled=", ".join(f'"{name}"' for name in (*_NEVER_NEEDED, *disabled_plugins)),
            )
        )

    def __enter__(self) -> RealContainerd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log(self) -> str:
        """Return what containerd wrote, for the message of a failure."""
        path = self.folder / "containerd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def launch(self) -> None:
        """Start the process and wait until its socket takes connections."""
        assert self._process is None, "runs already"
        # It dies with us even when we are killed, so that an aborted test run leaves no daemon.
        prefix = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with (self.folder / "containerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*prefix, "containerd", "--config", str(self.folder / "config.toml")],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._until(lambda: self._ctr_answers(), "containerd did not start")

    def start(self) -> None:
        """Start the process and wait until its CRI answers."""
        self.launch()
        runtime = ContainerRuntime(self.endpoint)
        try:
            self._until(lambda: isinstance(runtime.observe(), Known), "the CRI did not answer")
        finally:
            runtime.close()

    def kill(self) -> None:
        """Kill the process as a crash does; shims and containers go on."""
        self.signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """End the process as a service manager does; shims and containers go on."""
        self.signal(signal.SIGTERM)
        self._reap()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to containerd itself."""
        assert self._process is not None, "does not run"
        self._process.send_signal(number)

    def import_images(self) -> None:
        """Import the pause image and the busybox image."""
        source = busybox()
        assert source is not None
        files = {"/bin/busybox": source}
        for name, command in (
            (PAUSE_IMAGE, ["/bin/busybox", "sleep", "2147483647"]),
            (TEST_IMAGE, ["/bin/sh"]),
        ):
            links = {"/bin/sh": "busybox", "/bin/sleep": "busybox"} if name == TEST_IMAGE else {}
            self.import_image(
                write_image(self.folder / "image.tar", name, files, command, links), name
            )

    def import_image(self, archive: Path, name: str) -> None:
        """Import a docker-archive and wait until the CRI shows it under its name."""
        self.ctr("images", "import", "--snapshotter", self.snapshotter, str(archive))
        runtime = ContainerRuntime(self.endpoint)
        try:
            self._until(
                lambda: (
                    (found := runtime.has_image(name)) != Known(None) and isinstance(found, Known)
                ),
                f"the CRI does not show {name}",
            )
        finally:
            runtime.close()

    def ctr(self, *arguments: str) -> str:
        """Run ctr in the CRI's namespace and return its output."""
        done = subprocess.run(
            ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"ctr {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def close(self) -> None:
        """Kill containerd, its shims and containers; remove mounts, cgroups, sockets and files."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self.kill()
        self._kill_containers()
        for mount in self._mounts():
            subprocess.run(["umount", "--lazy", str(mount)], check=False, capture_output=True)
        self._remove_cgroups()
        for path in _shim_sockets() - self._foreign_shim_sockets:
            if not _is_listened_on(path):
                path.unlink(missing_ok=True)
        if not self._had_shim_folder:
            _remove_empty(_SHIM_FOLDER)
        shutil.rmtree(self.folder)

    def traces(self) -> list[str]:
        """Return what there is of this containerd: processes, mounts, cgroups, sockets, files."""
        return [
            *(f"process {pid}" for pid in (*self._shims(), *self._contained())),
            *(f"mount {path}" for path in self._mounts()),
            *(f"cgroup {path}" for path in self._cgroups()),
            *(f"socket {path}" for path in _shim_sockets() - self._foreign_shim_sockets),
            *([f"folder {self.folder}"] if self.folder.exists() else []),
        ]

    def is_running(self, *command: str) -> bool:
        """Tell whether a process with this command runs in one of our containers."""
        return any(_command_of(pid)[:-1] == list(command) for pid in self._contained())

    def _ctr_answers(self) -> bool:
        try:
            self.ctr("version")
        except RuntimeError:
            return False
        return True

    def _until(self, holds: Callable[[], bool], complaint: str) -> None:
        end = time.monotonic() + START_SECONDS
        while not holds():
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"{complaint}: it ended; its log:\n{self.log}")
            if time.monotonic() > end:
                raise RuntimeError(f"{complaint} in {START_SECONDS} s; its log:\n{self.log}")
            time.sleep(0.02)

    def _reap(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _kill_containers(self) -> None:
        """Kill every shim of this containerd and every process in its pods' cgroup."""
        end = time.monotonic() + START_SECONDS
        while pids := {*self._shims(), *self._contained()}:
            for pid in pids:
                _kill(pid)
            if time.monotonic() > end:
                raise RuntimeError(f"processes that do not die: {sorted(pids)}")
            time.sleep(0.02)

    def _shims(self) -> Iterator[int]:
        """Yield the shims that were started for our socket."""
        for pid in _pids():
            command = _command_of(pid)
            if command and "containerd-shim" in command[0] and str(self.socket) in command:
                yield pid

    def _contained(self) -> Iterator[int]:
        """Yield the processes in our pods' cgroups."""
        for folder in self._cgroups():
            for tasks in folder.rglob("cgroup.procs"):
                try:
                    yield from map(int, tasks.read_text().split())
                except OSError:
                    continue  # the cgroup went with its last process

    def _cgroups(self) -> list[Path]:
        """Return our cgroup in each hierarchy (v1, hybrid or v2) that has it."""
        root = Path("/sys/fs/cgroup")
        name = self.cgroup_parent.lstrip("/")
        candidates = [root / name, *(hierarchy / name for hierarchy in root.iterdir())]
        return [folder for folder in candidates if folder.is_dir()]

    def _remove_cgroups(self) -> None:
        for folder in self._cgroups():
            below = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
            for path in (*below, folder):
                _remove_cgroup(path)

    def _mounts(self) -> list[Path]:
        """Return the mount points under our folder, the innermost first."""
        inside = f"{self.folder}/"
        with Path("/proc/self/mounts").open() as mounts:
            points = [line.split()[1].encode().decode("unicode_escape") for line in mounts]
        return [Path(point) for point in reversed(points) if point.startswith(inside)]


def _has_overlay(folder: Path) -> bool:
    """Tell whether an overlay can be mounted there; not on top of another overlay, as in CI."""
    parts = {name: folder / f"overlay-{name}" for name in ("lower", "upper", "work", "merged")}
    for part in parts.values():
        part.mkdir()
    options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(parts["merged"])]
    works = subprocess.run(command, check=False, capture_output=True).returncode == 0
    if works:
        subprocess.run(["umount", str(parts["merged"])], check=True)
    for part in parts.values():
        shutil.rmtree(part)
    return works


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _command_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _shim_sockets() -> set[Path]:
    folder = _SHIM_FOLDER / "s"
    return set(folder.iterdir()) if folder.is_dir() else set()


def _is_listened_on(path: Path) -> bool:
    """Tell whether a process listens at a socket: another containerd's shim, then."""
    return any(line.endswith(f" {path}") for line in Path("/proc/net/unix").read_text().split("\n"))


def _remove_empty(folder: Path) -> None:
    """Remove a folder of empty folders; leave everything else."""
    below = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    for path in (*below, folder):
        try:
            path.rmdir()
        except OSError:
            continue


def _remove_cgroup(folder: Path) -> None:
    """Remove a cgroup; its last process may still be on its way out."""
    end = time.monotonic() + START_SECONDS
    while folder.exists():
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
