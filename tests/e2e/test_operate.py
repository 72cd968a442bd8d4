"""A shell on the node: every command, as an operator types it, on a real kubelet and runtime.

What was typed and printed is in `operate.log` beside the other logs (E2E_WORK keeps them).
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import shlex
import shutil
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import images
from tests.e2e.cluster.agent import CONFIG, command
from tests.e2e.cluster.api import ApiError, Object
from tests.e2e.cluster.control_plane import (
    API_SERVER,
    CHECKPOINT_ANNOTATION,
    NAMESPACE,
    SCHEDULER,
    WORKLOADS,
)
from tests.e2e.cluster.kubelet import NODE
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.waiting import wait_for
from tests.e2e.summary import Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

UNINSTALL = (Path(__file__).parents[2] / "docs" / "uninstall.md").read_text()
CONDITION = "CheckpointsReady"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
NOT_WELL = {"clock-sync", "agent-at-boot", "tokens"}
"""Checks of the doctor that the machine of the tests cannot pass; see test_doctor."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and how long it took; `cpu_seconds` is what it worked."""

    out: str
    errors: str
    seconds: float
    cpu_seconds: float

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def row(self, word: str) -> list[str]:
        """Return the cells of the one row of a table that has this word."""
        (line,) = [line for line in self.lines if word in line]
        return re.split(r"\s{3,}", line.strip())


class Shell:
    """A root shell on the node, in which `checkpointer` is typed."""

    def __init__(self, node: Node) -> None:
        self._machine = node.machine
        self._log = node.machine.logs / "operate.log"

    def __call__(
        self, line: str, *, status: int | None = 0, text: str | None = None, limit: str = ""
    ) -> Said:
        """Type `checkpointer LINE`; it has to end with this status, if with any.

        `limit` is what timeout(1) takes.
        """
        timeout = ("timeout", limit) if limit else ()
        used, began = _cpu_seconds(), time.monotonic()
        ended, out, errors = self._type(line, *timeout, text=text)
        said = Said(out, errors, time.monotonic() - began, _cpu_seconds() - used)
        with self._log.open("a") as log:
            log.write(f"$ checkpointer {line}\n{out}{errors}# status {ended}\n\n")
        assert "Traceback" not in errors
        assert status in (ended, None), f"checkpointer {line}: exit status {ended}\n{out}{errors}"
        return said

    def succeeds(self, line: str) -> bool:
        """Type it, for a condition that is to come true."""
        return self._type(line)[0] == 0

    def _type(self, line: str, *before: str, text: str | None = None) -> tuple[int, str, str]:
        called = (*before, *command(), *shlex.split(line), "--config", CONFIG)
        return self._machine.try_to_run(*called, text=text, seconds=180)

    def state_of(self, workload: str) -> dict[str, Any]:
        """Return what the status says of one workload, whoever tells it."""
        ended, out, errors = self._type("status -o json")
        assert ended in (0, 3), errors
        return next(c for c in json.loads(out)["checkpoints"] if c["name"] == workload)

    def wait_for(self, workload: str, **wanted: str) -> None:
        """Wait until the status says so of one workload."""
        wait_for(
            f"{workload} to be {wanted}",
            lambda: {key: self.state_of(workload)[key] for key in wanted} == wanted,
            60,
        )


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture
def shell(node: Node) -> Shell:
    """On a node whose agent trusts the API."""
    shell = Shell(node)

    def has_contact() -> bool:
        return bool(shell("status -o json").json["contact"]["state"] == "reachable")

    wait_for("contact", has_contact, 60, interval=1.0)
    return shell


@pytest.fixture
def web(node: Node) -> Iterator[str]:
    """A static pod that is somebody else's: its name."""
    path = node.manifests / "web.yaml"
    spec = {**_runs_on_node("web"), "hostNetwork": True}
    metadata = {"name": "web", "namespace": NAMESPACE}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    (node.store.parent / "web.new").write_text(json.dumps(pod))
    (node.store.parent / "web.new").rename(path)  # the kubelet reads at once what it sees
    wait_for("the static pod", lambda: node.containerd.running("web"), 60)
    yield "web"
    path.unlink(missing_ok=True)
    wait_for("the static pod to go", lambda: not node.containerd.running("web"), 120)
    wait_for("its mirror to go", lambda: len(node.pods()) == len(WORKLOADS), 120)


@pytest.fixture
def gateway(node: Node, shell: Shell) -> Iterator[str]:
    """A pod with a checkpoint, that nobody brings back when it is gone: its name."""
    annotations = {CHECKPOINT_ANNOTATION: "true"}
    metadata = {"name": "gateway", "annotations": annotations}
    node.api.create(PODS, {"metadata": metadata, "spec": _runs_on_node()})
    folder = node.store / NAMESPACE / "pod.gateway"
    wait_for("its checkpoint", (folder / "current").exists, 60)
    yield "gateway"
    with contextlib.suppress(ApiError):
        node.api.delete(f"{PODS}/gateway")
    shell("release gateway --force --timeout 60s")
    wait_for("its pods to go", lambda: len(node.pods()) == len(WORKLOADS), 120)
    node.stop_agent()
    shutil.rmtree(folder)
    node.start_agent()


def _runs_on_node(container: str = "main") -> dict[str, Any]:
    return {
        "nodeName": NODE,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists"}],
        "containers": [
            {"name": container, "image": images.PAUSE, "imagePullPolicy": "IfNotPresent"}
        ],
    }


def condition(node: Node) -> Object | None:
    """Return what the node says of its checkpoints."""
    told = node.api.get(f"/api/v1/nodes/{NODE}")["status"]["conditions"]
    return next((one for one in told if one["type"] == CONDITION), None)


def wait_for_condition(node: Node, reason: str) -> Object:
    def found() -> Object | None:
        now = condition(node)
        return now if now is not None and now["reason"] == reason else None

    return wait_for(f"the condition {reason}", found, 60)


def test_a_quiet_day(node: Node, shell: Shell, record: Record) -> None:
    """Every command that only looks says that all is well; none disturbs anything."""
    told = shell("status")
    assert told.row("contact   ")[1].startswith("reachable for ")
    assert told.row("last cycle")[1].endswith("3 standby")
    assert [told.row(f"/{workload} ")[1] for workload in WORKLOADS] == ["standby"] * 3
    record.seconds("status", told.seconds)
    record.seconds("status, processor", told.cpu_seconds)
    names = shell("list -o name").lines
    assert sorted(name.rsplit("/")[-1] for name in names) == sorted(WORKLOADS)
    assert shell("list").row(f"/{API_SERVER} ")[3:] == ["0", "-", "-"]
    assert shell(f"show {API_SERVER}").row("workload   ")[1] == names[0]
    assert "kind: Pod" in shell(f"show --manifest {SCHEDULER}").out
    same = shell(f"diff {SCHEDULER}")
    assert (same.out, same.errors[:16]) == ("", "nothing differs:")
    assert shell("verify").row(f"/{SCHEDULER} ")[2:5] == ["ok", "ok", "present"]
    pod = node.parents()[SCHEDULER]["metadata"]["name"]
    assert shell(f"explain {NAMESPACE}/{pod}").lines[0].startswith(f"{NAMESPACE}/{pod}: ")
    assert "the agent runs" in shell("gc", status=3).errors
    shell("gc --dry-run")
    assert "taken of pod " in shell(f"history {SCHEDULER}").out
    assert set(shell("doctor -o name", status=1).lines) <= NOT_WELL
    wait_for("go", lambda: shell.succeeds("prepare-reboot --strict"), 60, interval=2.0)
    assert shell("prepare-reboot").lines[-1] == "ready: this node may be rebooted"
    good = wait_for_condition(node, "Protected")
    said = (good["status"], good["message"])
    assert said == ("True", "3 workloads would come back without the API")


def test_logs_of_whoever_runs(node: Node, shell: Shell, web: str) -> None:
    """A component's, the one before its restart, and a stream that goes on until it is left."""
    assert "static pod" in shell(f"logs {web}").errors
    shell(f"restart {SCHEDULER}")
    wait_for("its log", lambda: len(shell(f"logs {SCHEDULER}").lines) > 2, 30)
    now = shell(f"logs {SCHEDULER} --timestamps")
    before = shell(f"logs {SCHEDULER} --previous --timestamps")
    assert before.lines[-1] < now.lines[0]
    assert len(shell(f"logs {SCHEDULER} --tail 2").lines) == 2
    followed = shell(f"logs {SCHEDULER} --follow --tail 1", limit="3", status=124)
    assert followed.lines != []
    assert f"there are: {SCHEDULER}" in shell(f"logs {SCHEDULER} -c sidecar", status=2).errors
    node.wait_until_ready()


def test_restarts(node: Node, shell: Shell, web: str, record: Record) -> None:
    """A static pod by its manifest, an API pod's containers: others in each, and nothing lost."""
    manifest = (node.manifests / "web.yaml").read_bytes()
    for name, running in ((web, web), (SCHEDULER, SCHEDULER)):
        before = set(node.containerd.running(running))
        done = shell(f"restart {name}")
        record.seconds(f"restart {name}", done.seconds)
        assert "runs again after" in done.lines[-1]
        assert not before & set(node.containerd.running(running))
    assert (node.manifests / "web.yaml").read_bytes() == manifest
    assert [path.name for path in node.manifests.iterdir()] == ["web.yaml"]
    node.wait_until_ready()


def test_by_hand_beside_the_agent(node: Node, shell: Shell, gateway: str) -> None:
    """Beside its parent refused, without it done, kept until it is lifted; all of it is told."""
    assert "runs: a copy beside it would fight it" in shell(f"activate {gateway}", status=3).errors
    node.api.delete(f"{PODS}/{gateway}")
    wait_for("the pod to go", lambda: not node.containerd.running("main"), 60)
    assert "its copy runs" in shell(f"activate {gateway} --reason drill").out
    shell.wait_for(gateway, state="held", runs="copy")
    assert shell("list").row(f"/{gateway} ")[4:] == ["revision 1", "active"]
    shell(f"restart {gateway}")
    assert "held active by hand, root: drill" in shell("doctor -q", status=None).out
    assert "its copy is all that is left of it" in shell(f"release {gateway}", status=3).errors
    shell(f"activate --lift {gateway}")
    shell.wait_for(gateway, state="active")
    activated = shell(f"history {gateway}").row("activated")
    assert activated[4] == "by hand, root: drill"


def test_held_released_is_not_ready_for_a_reboot(node: Node, shell: Shell) -> None:
    """The status, the doctor, prepare-reboot and the node's condition say so, until it is over."""
    shell(f"release {API_SERVER} --reason drill --for 10m")
    shell.wait_for(API_SERVER, state="held")
    assert shell("status").row("WOULD-NOT-COME-BACK") == ["WOULD-NOT-COME-BACK", "WHY"]
    bad = wait_for_condition(node, "Unprotected")
    assert (bad["status"], API_SERVER in bad["message"]) == ("False", True)
    assert "holds" in shell("doctor -o name", status=2).lines
    no = shell("prepare-reboot", status=3)
    assert "do not reboot: " in no.out
    assert API_SERVER not in shell("prepare-reboot -o name", status=3).out
    shell(f"release --lift {API_SERVER}")
    wait_for_condition(node, "Protected")


def test_the_condition_does_not_outlive_the_agent(node: Node, shell: Shell) -> None:
    """What docs/uninstall.md has one type takes it away; the kubelet does not bring it back."""
    assert shell("status").row("agent   ")[1].startswith("running")
    wait_for_condition(node, "Protected")
    node.stop_agent()
    (typed,) = re.findall(r"^ +kubectl (patch node NODE (?:.|\n)*?'\{.*\}')$", UNINSTALL, re.M)
    admin = node.machine.disk / "etc/kubernetes/admin.conf"
    admin.write_text(node.admin_kubeconfig())
    program = shutil.which("kubectl", path=sysconfig.get_path("scripts")) or "kubectl"
    arguments = shlex.split(typed.replace("\\\n", " ").replace("NODE", NODE))
    node.machine.run(program, "--kubeconfig", admin, *arguments)
    node.wait_for_kubelet()
    assert condition(node) is None
    node.start_agent()
    wait_for_condition(node, "Protected")


def test_at_three_in_the_morning(node: Node, shell: Shell, web: str, record: Record) -> None:
    """No API, no agent, and for a while a runtime that hangs: the operator brings it all back."""
    pod = json.dumps({"apiVersion": "v1", "kind": "Pod", **node.parents()[SCHEDULER]})
    node.power_cut()
    booted = time.time()
    node.power_on(with_agent=False)
    wait_for("the static pod", lambda: node.containerd.running("web"), 120)
    assert node.runtime is not None
    node.runtime.freeze()
    try:
        hanging = shell("status", status=3)
        assert hanging.row("unknown   ")[1].startswith("runtime: ")
        record.seconds("status, no agent, runtime hangs", hanging.seconds)
        assert "systemctl status containerd" in shell(f"logs {web}", status=1).errors
    finally:
        node.runtime.thaw()
    shell.wait_for(API_SERVER, state="standby", runs="nothing")
    told = shell("status", status=3)
    record.seconds("status, no agent", told.seconds)
    record.seconds("status, no agent, processor", told.cpu_seconds)
    assert len(shell("list").lines) == 4
    shell("verify")
    shell(f"show {SCHEDULER}")
    assert "no revision 99" in shell(f"diff {SCHEDULER} --revisions 99", status=2).errors
    assert "checkpointable" in shell("explain -f -", text=pod).out
    assert shell(f"logs {SCHEDULER} --tail 1").lines != []
    shell("gc")
    assert "contact" in shell("history").out
    failed = shell("doctor -o json", status=2).json
    assert {"agent"} <= {one["check"] for one in failed["checks"] if one["outcome"] == "fail"}
    assert "do not reboot" in shell("prepare-reboot", status=3).out
    assert "runs again after" in shell(f"restart {web} --timeout 120s").out
    said = shell(f"activate {API_SERVER} --reason 'the agent is down' --for 2h").out
    assert said.endswith("its copy runs\n")
    wait_for("the API", node.api.is_ready, 120)
    held = shell("status", status=3).row(f"/{API_SERVER} ")
    assert (held[1], "the agent is down" in held[-1]) == ("held", True)
    shell(f"activate --lift {API_SERVER}")
    node.start_agent()
    (node.manifests / "web.yaml").unlink()
    node.wait_until_returned(since=booted, seconds=400)
