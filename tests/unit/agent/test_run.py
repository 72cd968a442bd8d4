"""`checkpointer run` as a process: signals, the second instance, exit status, start order."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpointer.__main__ import main
from checkpointer.core.facts import Known
from checkpointer.simulation import pod_status
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.control_plane import CHECKPOINT
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.waiting import wait_until
from checkpointer.store.lock import InstanceLock
from checkpointer.store.revisions import Store

QUICK: dict[str, Any] = {
    "timing": {"ready": "0s", "grace": "1s"},
    "contact": {"recovery": "0s", "healthyInterval": "300ms"},
    "probe": {"timeout": "300ms", "jitter": "0s"},
}
HEAVY = ("grpc", "requests", "kubernetes", "watchdog", "tenacity", "urllib3")

NOT_PARKED = ("shutil", "bz2", "lzma", "socket", "ssl", "logging", "threading", "json")
"""Of the standard library, what the parked instance has no use for."""

SPY = """
import json, os, sys
folder, log = sys.argv[1:3]
class Spy:
    def find_spec(self, name, path=None, target=None):
        if (library := name.partition(".")[0]) in ("kubernetes", "watchdog"):
            with open(log, "a") as file:
                print(json.dumps([library, os.listdir(folder)]), file=file)
sys.meta_path.insert(0, Spy())
from checkpointer.__main__ import main
sys.exit(main(["run", *sys.argv[3:]]))
"""


SLOW = """
import os, sys, time
if "POD_CHECKPOINTER_LOCK" in os.environ:
    print("taking over", flush=True)
    time.sleep(1.0)
from checkpointer.__main__ import main
sys.exit(main())
"""


class Process:
    """An agent in a process of its own."""

    def __init__(self, log: Path, *arguments: str, **environment: str) -> None:
        self.log = log
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CHECKPOINTER_")}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited, **environment},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self.log.read_text()

    def says(self, text: str, seconds: float = 10.0) -> None:
        wait_until(lambda: text in self.output, seconds, f"{text!r} in {self.output}")

    def signal(self, number: int) -> int:
        """Send a signal; return the exit status."""
        self._process.send_signal(number)
        return self._process.wait(10)

    def wait(self) -> int:
        return self._process.wait(20)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Process]]:
    """Start processes; those that are left are killed after the test."""
    started: list[Process] = []

    def begin(*arguments: str, **environment: str) -> Process:
        log = folder / f"agent-{len(started)}.log"
        started.append(Process(log, *arguments, **environment))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


@pytest.fixture
def web(node: SimulatedNode) -> SimulatedNode:
    """A node with a configuration and one Ready pod that holds secrets."""
    for name, key, secret in (("web", "a", "volume"), ("env", "b", "environment")):
        value = base64.b64encode(SECRETS[secret].encode()).decode()
        node.cluster.apply("secrets", {**named(name), "data": {key: value}})
    reference = {"secretKeyRef": {"name": "env", "key": "b"}}
    container = {
        "name": "web",
        "image": "web",
        "env": [{"name": "B", "valueFrom": reference}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    inline = {"checkpointer.alpha.coreos.com/inline-secrets": "true"}
    pod = named("web")
    pod["metadata"]["annotations"] = {**CHECKPOINT, **inline}
    volumes = [{"name": "v", "secret": {"secretName": "web"}}]
    pod["spec"] = {"nodeName": node.name, "containers": [container], "volumes": volumes}
    node.cluster.create("pods", pod)
    wait_until(lambda: any(pod_status.is_ready(p) for p in node.pods("web")), 5, "the pod")
    node.write_agent_config(**QUICK)
    return node


SECRETS = {"volume": "hunter2-in-a-volume", "environment": "hunter2-in-the-environment"}


def named(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "kube-system"}}


def run(node: SimulatedNode, *more: str) -> tuple[str, ...]:
    return "-m", "checkpointer", "run", "--config", str(node.agent_config_file), *more


def imports(log: Path) -> dict[str, list[str]]:
    """Return what lay in the manifest folder when each of the heavy modules was imported."""
    lines = log.read_text().splitlines() if log.exists() else []
    found: dict[str, list[str]] = {}
    for name, files in map(json.loads, lines):
        found.setdefault(name, files)
    return found


def stored(node: SimulatedNode) -> int:
    found = Store(node.store_folder).read()
    return len(found.value.checkpoints) if isinstance(found, Known) else 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_agent_well(web: SimulatedNode, start: Any, number: int) -> None:
    """A service manager's request ends it promptly, between two cycles, with status 0."""
    agent = start(*run(web))
    wait_until(lambda: stored(web), 10, "the checkpoint")
    began = time.monotonic()
    assert agent.signal(number) == 0
    assert time.monotonic() - began < 2.0
    assert "Traceback" not in agent.output


def test_signal_ends_the_agent_in_a_black_hole(web: SimulatedNode, start: Any) -> None:
    """No network holds it back."""
    agent = start(*run(web))
    wait_until(lambda: stored(web), 10, "the checkpoint")
    web.cut_network(Mode.BLACK_HOLE)
    agent.says("contact lost (timeout)")
    began = time.monotonic()
    assert agent.signal(signal.SIGTERM) == 0
    assert time.monotonic() - began < 2.0


def test_signal_during_the_start_is_heeded(web: SimulatedNode, start: Any) -> None:
    """A signal that comes while the agent still imports is not lost, and no crash."""
    agent = start(*run(web), PYTHONPROFILEIMPORTTIME="1")
    agent.says("checkpointer.core.decide")
    assert agent.signal(signal.SIGTERM) == 0
    assert stored(web) == 0


def test_secrets_are_never_told(web: SimulatedNode, start: Any) -> None:
    """At the most talkative level, through snapshot, outage and activation, no secret is told."""
    agent = start(*run(web, "--log-level", "debug", "--log-format", "json"))
    wait_until(lambda: stored(web), 10, "the checkpoint")
    web.cut_network(Mode.REFUSED)
    agent.says("contact lost")
    web.power_off()
    agent.kill()
    web.power_on()
    second = start(*run(web, "--log-level", "debug"))
    wait_until(web.manifests, 10, "the manifest")
    second.says("activated")
    web.restore_network()
    second.says("contact reachable")
    second.signal(signal.SIGTERM)
    manifest = next(web.store_folder.rglob("revisions/*/manifest*"))
    assert SECRETS["environment"] in manifest.read_text()
    material = [p for p in web.store_folder.rglob("*") if p.is_file() and p.name == "a"]
    assert material[0].read_text() == SECRETS["volume"]
    for output in (agent.output, second.output):
        for secret in SECRETS.values():
            assert secret not in output
            assert base64.b64encode(secret.encode()).decode() not in output
        assert "Traceback" not in output
    assert all(json.loads(line)["message"] for line in agent.output.splitlines())


def test_second_instance_waits_small_and_takes_over(web: SimulatedNode, start: Any) -> None:
    """It imports nothing heavy while it waits, and works as soon as the first is gone."""
    first = start(*run(web))
    wait_until(lambda: stored(web), 10, "the checkpoint")
    second = start(*run(web), PYTHONPROFILEIMPORTTIME="1")
    second.says("parked behind the other instance")
    imported = {line.split("|")[-1].strip() for line in second.output.splitlines() if "|" in line}
    assert "checkpointer.store.lock" in imported
    assert not {name for name in imported if name.split(".")[0] in (*HEAVY, *NOT_PARKED)}
    assert "checkpointer.agent" not in imported
    process = Path(f"/proc/{second.pid}")
    wait_until(lambda: b"parked.py" in (process / "cmdline").read_bytes(), 5, "the small process")
    wait_until(lambda: "lock" in (process / "wchan").read_text(), 5, "its wait for the lock")
    status = (process / "status").read_text()
    (resident,) = (int(line.split()[1]) for line in status.splitlines() if line[:6] == "VmRSS:")
    assert resident < 14 * 1024  # KiB; the interpreter takes most of it
    assert "site-packages" not in (process / "maps").read_text()
    first.signal(signal.SIGKILL)
    second.says("contact reachable")
    assert InstanceLock(web.folder / "run/checkpointer.lock").try_acquire() is False
    assert second.signal(signal.SIGTERM) == 0


def test_parked_instance_says_so_as_the_log_would(web: SimulatedNode, start: Any) -> None:
    """What reads the log by its form must not stumble over the line of the one that waits."""
    first = start(*run(web))
    wait_until(lambda: stored(web), 10, "the checkpoint")
    told = {}
    for form in ("json", "text"):
        second = start(*run(web, "--log-format", form))
        second.says("parked")
        assert second.signal(signal.SIGTERM) == 0
        (told[form],) = second.output.splitlines()
    found = json.loads(told["json"])
    assert found.pop("time")[-1] == "Z"
    assert found == {
        "level": "info",
        "logger": "checkpointer.cli.run",
        "message": "parked behind the other instance",
    }
    assert re.fullmatch(r"[\dT:.-]{23}Z INFO    parked behind the other instance", told["text"])
    assert first.signal(signal.SIGTERM) == 0


def test_parked_instance_ends_well(web: SimulatedNode, start: Any) -> None:
    """A signal ends the wait with status 0, and the first goes on."""
    first = start(*run(web))
    wait_until(lambda: stored(web), 10, "the checkpoint")
    second = start(*run(web), PYTHONUNBUFFERED="1")
    second.says("parked")
    assert second.signal(signal.SIGTERM) == 0
    assert first.signal(signal.SIGTERM) == 0


def test_an_agent_with_another_lock_file_waits_for_the_store(
    web: SimulatedNode, start: Any
) -> None:
    """Two would work on one store: it says why it waits, and its own twin waits behind it."""
    other = ("--set", f"lockFile={web.folder}/run/other.lock")
    first = start(*run(web))
    wait_until(lambda: stored(web), 10, "the checkpoint")
    second = start(*run(web, *other))
    second.says(f"parked: another agent works on {web.store_folder}, and its lockFile is not")
    process = Path(f"/proc/{second.pid}")
    wait_until(lambda: b"parked.py" in (process / "cmdline").read_bytes(), 5, "the small process")
    wait_until(lambda: "lock" in (process / "wchan").read_text(), 5, "its wait for the store")
    twin = start(*run(web, *other))
    twin.says("parked behind the other instance")
    first.signal(signal.SIGKILL)
    second.says("contact reachable")
    again = start(*run(web))
    again.says(f"parked: another agent works on {web.store_folder}")
    assert again.signal(signal.SIGTERM) == 0
    assert second.signal(signal.SIGTERM) == 0
    twin.says("contact reachable")
    assert twin.signal(signal.SIGTERM) == 0


def test_the_first_agent_of_a_node_has_its_store(web: SimulatedNode, start: Any) -> None:
    """There is none yet, and a second one may be minutes away."""
    shutil.rmtree(web.store_folder, ignore_errors=True)
    web.cut_network(Mode.REFUSED)
    first = start(*run(web))
    first.says("contact lost")
    second = start(*run(web, "--set", f"lockFile={web.folder}/run/other.lock"))
    second.says(f"parked: another agent works on {web.store_folder}")
    assert second.signal(signal.SIGTERM) == 0
    assert first.signal(signal.SIGTERM) == 0


def test_boot_activates_before_anything_heavy_is_imported(
    web: SimulatedNode, start: Any, folder: Path
) -> None:
    """With the API refused, the manifest is on disk before the client's import begins."""
    assert start(*run(web, "--once")).wait() == 0
    web.power_off()
    web.cut_network(Mode.REFUSED)
    web.power_on()
    log = folder / "imports"
    config = str(web.agent_config_file)
    agent = start("-c", SPY, str(web.manifest_folder), str(log), "--config", config)
    wait_until(web.manifests, 10, "the manifest")
    wait_until(lambda: "watchdog" in imports(log), 10, "the watch of folders")
    web.restore_network()
    wait_until(lambda: "kubernetes" in imports(log), 10, "the client")
    for files in imports(log).values():
        assert [name for name in files if name.startswith("pod-checkpointer-")]
    assert agent.signal(signal.SIGTERM) == 0


def test_once_and_dry_run_need_no_lock(web: SimulatedNode, kit: Any, start: Any) -> None:
    """A look at what would be done works beside the agent, and leaves no lock file."""
    before = kit.tree(web.folder / "etc")
    agent = start(*run(web, "--once", "--dry-run"))
    assert agent.wait() == 0
    assert "dry run: " in agent.output
    assert "snapshot kube-system/pod/web" in agent.output
    assert kit.tree(web.folder / "etc") == before
    assert not (web.folder / "run/checkpointer.lock").exists()


WRONG = [
    (("--set", "timing.grace=soon"), {}, "checkpointer: timing.grace: expected a duration"),
    (("--set", "grace"), {}, "checkpointer: --set grace: expected KEY=VALUE"),
    (("--log-level", "loud"), {}, "checkpointer: log.level: expected debug or info"),
    (("--kubeconfig", "x"), {}, "checkpointer: kubeconfig: expected an absolute path"),
    ((), {"CHECKPOINTER_TIMING_TICK": "0"}, "checkpointer: timing.tick: expected at least"),
    ((), {"CHECKPOINTER_TICK": "1"}, "checkpointer: CHECKPOINTER_TICK: no such setting"),
    (("--config", "/nonexistent"), {}, "/nonexistent"),
    ((), {"CHECKPOINTER_CONFIG": "/nonexistent"}, "/nonexistent"),
    (("--config", "/"), {}, "Is a directory"),
]


@pytest.mark.parametrize(("arguments", "environment", "expected"), WRONG)
def test_wrong_configuration_ends_with_status_2(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is wrong is told in a line on standard error, before anything is touched."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["run", *arguments]) == 2
    told = capsys.readouterr()
    assert expected in told.err
    assert told.out == ""
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stageZero: [{name: [a]}]", "stageZero[0].name: no such setting"),
        (
            "selection: {labelSelectors: [{matchLabels: 5}]}",
            "selection.labelSelectors[0].matchLabels: expected a mapping of texts",
        ),
        ("\ttabs: 1", "line 3: not valid YAML"),
    ],
)
def test_wrong_file_ends_with_status_2_before_the_lock(
    folder: Path, text: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong file is told at once, not when the other instance is gone."""
    header = "apiVersion: checkpointer.alpha.coreos.com/v1alpha1\nkind: CheckpointerConfiguration\n"
    path, lock = folder / "config.yaml", folder / "run/lock"
    path.write_text(header + text)
    assert main(["run", "--config", str(path), "--set", f"lockFile={lock}"]) == 2
    assert expected in capsys.readouterr().err
    assert not lock.parent.exists()


def test_file_that_is_no_text_ends_with_status_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of something else is refused without a trace of its content."""
    path = folder / "config.yaml"
    path.write_bytes(b"\xff\xfehunter2")
    assert main(["run", "--config", str(path)]) == 2
    assert "hunter2" not in capsys.readouterr().err


def test_lock_that_cannot_be_taken_ends_with_status_1(
    node: SimulatedNode, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder for the lock that others could write to is refused."""
    path = node.write_agent_config(lockFile=str(node.folder / "open/lock"))
    (node.folder / "open").mkdir()
    (node.folder / "open").chmod(0o777)
    assert main(["run", "--config", str(path), "--once"]) == 1
    assert "open is writable by others" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["link", "writable", "above"])
def test_store_that_others_could_replace_ends_with_status_1(
    folder: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    """Nothing is read from it: what lies there would be run as root. The cure is told."""
    store = folder / "above/store"
    store.mkdir(parents=True)
    if fault == "link":
        store.rename(folder / "above/real")
        store.symlink_to("real")
    else:
        (store if fault == "writable" else store.parent).chmod(0o777)
    settings = {"storeDirectory": store, "lockFile": folder / "run/lock"}
    arguments = [f"--set={key}={value}" for key, value in settings.items()]
    assert main(["run", "--once", *arguments]) == 1
    said = capsys.readouterr().err
    cure = "give the path that it leads to" if fault == "link" else "chmod go-w"
    assert said.startswith(f"checkpointer: {store.parent if fault == 'above' else store} is ")
    assert cure in said


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    """What can be given is told."""
    with pytest.raises(SystemExit) as caught:
        main(["run", "--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    for option in ("--config", "--set", "--once", "--dry-run", "--log-level", "--kubeconfig"):
        assert option in told


def test_signal_amid_the_take_over_is_not_lost(web: SimulatedNode, start: Any) -> None:
    """A node that shuts down ends both at once: the one that would take over must hear it, too."""
    first = start(*run(web))
    wait_until(lambda: stored(web), 10, "the checkpoint")
    second = start("-c", SLOW, "run", "--config", str(web.agent_config_file))
    second.says("parked")
    process = Path(f"/proc/{second.pid}")
    wait_until(lambda: "lock" in (process / "wchan").read_text(), 5, "its wait for the lock")
    assert first.signal(signal.SIGTERM) == 0
    second.says("taking over")
    assert second.signal(signal.SIGTERM) == 0


LIMITED = """
import resource, sys
soft, hard = map(int, sys.argv[1:3])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from checkpointer.__main__ import main
status = main(["run", "--once", "--config", sys.argv[3]])
print("limit", *resource.getrlimit(resource.RLIMIT_NOFILE))
sys.exit(status)
"""


def test_a_limit_of_open_files_that_is_too_low_is_told(
    node: SimulatedNode, start: Callable[..., Process]
) -> None:
    """It has the room that it may have; where that is too little it says so and ends."""
    config = str(node.write_agent_config(**QUICK))
    refused = start("-c", LIMITED, "18", "18", config)
    assert refused.wait() == 1
    assert "the limit of open files is 18: expected 128 or more" in refused.output
    raised = start("-c", LIMITED, "18", "500", config)
    assert raised.wait() == 0, raised.output
    assert raised.output.splitlines()[-1] == "limit 128 500"
