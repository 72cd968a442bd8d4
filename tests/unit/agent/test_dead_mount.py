"""The agent and the commands beside folders that do not answer: on a real mount that hangs.

The mount is a FUSE whose program is stopped: like a hard NFS mount whose server is gone, it lets
every call wait that the kernel has no answer for. Without FUSE a pipe that nobody writes to
stands for it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from checkpointer.errors import CheckpointerError
from checkpointer.report.agent_socket import ask_agent
from checkpointer.simulation import pod_status
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.control_plane import CHECKPOINT
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.waiting import wait_until

SECONDS = 30.0
QUICK: dict[str, Any] = {
    "timing": {"ready": "0s", "grace": "1s"},
    "contact": {"recovery": "0s", "healthyInterval": "300ms"},
    "probe": {"timeout": "300ms", "jitter": "0s"},
}

IMPATIENT = """
import sys
import checkpointer.cli.loop as loop
import checkpointer.node.patience as patience
loop.END_SECONDS = 0.5
patience.SECONDS = 0.5
from checkpointer.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
"""The program with less patience, so that a test of a second has the sequence of a minute."""

needs_fuse = pytest.mark.skipif(
    shutil.which("bindfs") is None or not os.access("/dev/fuse", os.R_OK | os.W_OK),
    reason="needs bindfs and /dev/fuse",
)


class Mount:
    """A folder that shows another one, as long as its program runs."""

    def __init__(self, source: Path, path: Path) -> None:
        self.path = path
        path.mkdir()
        no_cache = "attr_timeout=0,entry_timeout=0,negative_timeout=0"
        self._program = subprocess.Popen(
            ["bindfs", "-f", "-o", no_cache, str(source), str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: os.path.ismount(path) or self._program.poll(), SECONDS, "the mount")

    @property
    def is_there(self) -> bool:
        return self._program.poll() is None

    def hang(self) -> None:
        self._program.send_signal(signal.SIGSTOP)

    def answer(self) -> None:
        self._program.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.answer()
        subprocess.run(["umount", "--lazy", str(self.path)], check=False, capture_output=True)
        self._program.kill()
        self._program.wait()


class Program:
    """The program with little patience, in a process of its own."""

    def __init__(self, log: Path, arguments: tuple[str, ...]) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", IMPATIENT, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._process.pid

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def terminate(self) -> int:
        """Ask it to end; return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Return the exit status.

        That of a zombie, too: of a process that has ended the kernel keeps the thread that waits
        for an answer of the mount, and nothing in the world can end that one.
        """
        wait_until(lambda: self._status() is not None, SECONDS, "the end")
        status = self._status()
        assert status is not None
        return status

    def _status(self) -> int | None:
        status = self._process.poll()
        if status is not None:
            return status
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[49]) >> 8 if fields[0] == "Z" else None

    def close(self) -> None:
        """End it, when no mount hangs any more."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Program]]:
    """Start programs; what is left is killed after the test."""
    started: list[Program] = []

    def begin(*arguments: str) -> Program:
        started.append(Program(folder / f"program-{len(started)}.log", arguments))
        return started[-1]

    yield begin
    for process in started:
        process.close()


@pytest.fixture
def mount(folder: Path, start: object) -> Iterator[Callable[[Path], Mount]]:
    """Show folders through mounts that can be made to hang; gone before programs are waited for."""
    made: list[Mount] = []

    def begin(source: Path) -> Mount:
        found = Mount(source, folder / f"mount-{len(made)}")
        made.append(found)
        if not found.is_there:
            pytest.skip("FUSE does not work here")
        return found

    yield begin
    for one in made:
        one.close()


def add_pod(node: SimulatedNode, name: str) -> None:
    pod = {
        "metadata": {"name": name, "namespace": "kube-system", "annotations": dict(CHECKPOINT)},
        "spec": {"nodeName": node.name, "containers": [{"name": name, "image": name}]},
    }
    node.cluster.create("pods", pod)
    wait_until(lambda: any(pod_status.is_ready(p) for p in node.pods(name)), SECONDS, name)


def status(node: SimulatedNode) -> dict[str, Any]:
    """Return what the running agent tells, or nothing while none answers."""
    try:
        _, content = ask_agent(node.store_folder, "/statusz", 2.0)
    except CheckpointerError:
        return {"checkpoints": [], "unknown": [], "contact": {"state": ""}}
    return json.loads(content)  # type: ignore[no-any-return]


def has_checkpoint(node: SimulatedNode, name: str) -> bool:
    return any(one["name"] == name for one in status(node)["checkpoints"])


def is_silent(node: SimulatedNode) -> bool:
    return any("has not answered in time" in one["reason"] for one in status(node)["unknown"])


@needs_fuse
def test_manifest_folder_that_hangs_holds_nothing_else_up(
    node: SimulatedNode, mount: Callable[[Path], Mount], start: Callable[..., Program]
) -> None:
    """Probes, status, health and other pods' snapshots go on, in a bounded number of threads;
    when the folder answers again, what is due in it is done."""
    place = mount(node.manifest_folder)
    config = node.write_agent_config(manifestDirectory=str(place.path), **QUICK)
    add_pod(node, "first")
    agent = start("run", "--config", str(config))
    wait_until(lambda: has_checkpoint(node, "first"), SECONDS, "the first checkpoint")

    place.hang()
    add_pod(node, "second")
    wait_until(lambda: is_silent(node), SECONDS, "the folder's silence in the status")
    wait_until(lambda: has_checkpoint(node, "second"), SECONDS, "the second checkpoint")
    assert ask_agent(node.store_folder, "/healthz", 2.0) == (200, b"ok\n")
    before = agent.threads
    node.power_off()
    node.cut_network(Mode.REFUSED)
    node.power_on()
    wait_until(lambda: status(node)["contact"]["state"] == "lost", SECONDS, "the loss of contact")
    assert is_silent(node)
    assert agent.threads <= before + 2  # not one for each cycle
    assert node.manifests() == set()

    place.answer()
    wait_until(lambda: len(node.manifests()) == 2, SECONDS, "the manifests")
    assert agent.terminate() == 0


@needs_fuse
def test_commands_end_beside_a_manifest_folder_that_hangs(
    node: SimulatedNode, mount: Callable[[Path], Mount], start: Callable[..., Program]
) -> None:
    """They name the folder, with and without an agent; a signal ends that one well."""
    place = mount(node.manifest_folder)
    config = str(node.write_agent_config(manifestDirectory=str(place.path), **QUICK))
    add_pod(node, "first")
    agent = start("run", "--config", config)
    wait_until(lambda: has_checkpoint(node, "first"), SECONDS, "the first checkpoint")
    place.hang()
    wait_until(lambda: is_silent(node), SECONDS, "the folder's silence in the status")
    assert start("status", "--config", config).wait() == 0
    assert agent.terminate() == 0
    for command, expected in (
        (("status",), 3),
        (("doctor", "--timeout", "500ms"), 2),
        (("activate", "first"), 1),
    ):
        program = start(*command, "--config", config)
        assert program.wait() == expected, program.output
        assert str(place.path) in program.output
        assert "Traceback" not in program.output


@needs_fuse
@pytest.mark.parametrize("key", ["storeDirectory", "kubeletDirectory"])
def test_signal_ends_an_agent_whose_other_folders_hang(
    node: SimulatedNode, mount: Callable[[Path], Mount], start: Callable[..., Program], key: str
) -> None:
    """It can do nothing without them, but it can be ended, and the lock is free."""
    node.store_folder.mkdir(parents=True, exist_ok=True)
    place = mount(node.store_folder if key == "storeDirectory" else node.kubelet_folder)
    config = str(node.write_agent_config(**{key: str(place.path)}, **QUICK))
    agent = start("run", "--config", config)
    wait_until((node.store_folder / "agent.sock").exists, SECONDS, "the agent")
    place.hang()
    for command in (("status",), ("doctor", "--timeout", "500ms"), ("list",)):
        program = start(*command, "--config", config)
        status = program.wait()
        assert "Traceback" not in program.output
        if key == "storeDirectory":
            assert status in (1, 2)
            assert str(place.path) in program.output
    agent.terminate()
    second = start("run", "--once", "--config", config)
    second.terminate()
    assert "parked" not in second.output


POD = """
apiVersion: v1
kind: Pod
metadata: {name: first, namespace: kube-system}
spec: {containers: [{name: c, image: c}]}
"""


def check_named(program: Program, line: str, expected: int, place: Mount) -> None:
    """Assert that the command ends with this status and names the folder that hangs."""
    assert program.wait() == expected, f"{line}: {program.output}"
    assert str(place.path) in program.output, f"{line}: {program.output}"
    assert "Traceback" not in program.output


@needs_fuse
def test_no_command_hangs_with_the_store(
    node: SimulatedNode, mount: Callable[[Path], Mount], start: Callable[..., Program], folder: Path
) -> None:
    """Each names the folder; one that only a shell asks for words says nothing."""
    node.store_folder.mkdir(parents=True, exist_ok=True)
    (folder / "pod.yaml").write_text(POD)
    place = mount(node.store_folder)
    config = str(node.write_agent_config(storeDirectory=str(place.path), **QUICK))
    place.hang()
    for line, expected in (
        ("list", 1),
        ("show first", 1),
        ("diff first", 1),
        ("verify", 1),
        ("activate first", 1),
        ("release first", 1),
        ("restart first", 1),
        ("logs first", 1),
        ("history", 1),
        ("gc --dry-run", 1),
        ("import", 1),
        ("import --yes", 1),
        (f"explain -f {folder / 'pod.yaml'}", 1),
        ("explain kube-system/first", 1),
        ("doctor --timeout 500ms", 2),
        ("prepare-reboot --timeout 500ms --dry-run", 3),
    ):
        check_named(start(*line.split(), "--config", config), line, expected, place)


@needs_fuse
def test_no_command_hangs_with_the_kubelets_folder(
    node: SimulatedNode, mount: Callable[[Path], Mount], start: Callable[..., Program]
) -> None:
    """Those that look into it name it; the others do without it."""
    add_pod(node, "first")
    path = str(node.write_agent_config(**QUICK))
    agent = start("run", "--config", path)
    wait_until(lambda: has_checkpoint(node, "first"), SECONDS, "the checkpoint")
    assert agent.terminate() == 0
    place = mount(node.kubelet_folder)
    config = str(node.write_agent_config(kubeletDirectory=str(place.path), **QUICK))
    place.hang()
    for line, expected in (
        ("diff first", 1),
        ("verify", 1),
        ("restart first", 1),
        ("activate first --force", 1),
        ("import", 1),
        ("explain kube-system/first", 1),
    ):
        check_named(start(*line.split(), "--config", config), line, expected, place)
    for line in ("list", "show first", "history", "gc --dry-run"):
        program = start(*line.split(), "--config", config)
        assert program.wait() == 0, f"{line}: {program.output}"


def test_signal_ends_a_loop_that_hangs(
    node: SimulatedNode, folder: Path, start: Callable[..., Program]
) -> None:
    """It is told what may be the cause, and the next instance finds the lock free."""
    pipe = folder / "boot-id"
    os.mkfifo(pipe)
    config = node.write_agent_config(bootIDFile=str(pipe), **QUICK)
    for _ in range(2):
        agent = start("run", "--config", str(config))
        wait_until(lambda pid=agent.pid: is_waiting_for_a_pipe(pid), SECONDS, "the loop to hang")
        assert agent.terminate() == 1
        assert "the loop hangs and is given up: is " in agent.output
        assert "parked" not in agent.output


def is_waiting_for_a_pipe(pid: int) -> bool:
    with suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return any("wait_for_partner" in (task / "wchan").read_text() for task in tasks)
    return False
