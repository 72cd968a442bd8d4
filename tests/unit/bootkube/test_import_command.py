"""`checkpointer import`: what it says, what it does when told to, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from checkpointer.__main__ import main
from checkpointer.simulation.alarms import Alarms
from checkpointer.simulation.cri_server import CriServer
from checkpointer.simulation.programs import Programs
from checkpointer.simulation.runtime import Runtime
from checkpointer.simulation.runtime_records import ContainerConfig, SandboxConfig
from checkpointer.store.lock import InstanceLock
from tests.unit.bootkube.old_node import API_SERVER, MARK, NODE, OldNode, scheduler

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(old_node: OldNode, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command on the old node, with a configuration that knows only it."""
    config = old_node.root / "config.yaml"
    settings = {
        "apiVersion": "checkpointer.alpha.coreos.com/v1alpha1",
        "kind": "CheckpointerConfiguration",
        "nodeName": NODE,
        "manifestDirectory": str(old_node.places.active),
        "storeDirectory": str(old_node.store_folder),
        "kubeletDirectory": str(old_node.kubelet_folder),
        "lockFile": str(old_node.root / "run/ours/lock"),
        "runtimeEndpoint": f"unix://{old_node.root}/cri.sock",
        "service": {"host": "10.0.0.1"},
    }
    config.write_text(json.dumps(settings))

    def run(*arguments: str) -> tuple[int, str, str]:
        places = old_node.places
        status = main(
            [
                "import",
                f"--config={config}",
                f"--inactive-manifests={places.inactive}",
                f"--secrets={places.secrets}",
                f"--config-maps={places.config_maps}",
                f"--old-lock={places.lock}",
                *arguments,
            ]
        )
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_node_without_it_has_nothing_to_take_over(command: Command) -> None:
    """Also when it is told to do it: that is how a second run looks."""
    for arguments in ((), ("--yes", "--clean-up")):
        status, out, err = command(*arguments)
        assert (status, out, err) == (
            0,
            "",
            "nothing of the bootkube checkpointer was found on this node\n",
        )


def test_a_kubeconfig_is_asked_for_only_where_something_needs_it(
    command: Command, old_node: OldNode
) -> None:
    """And the message says how to do without one."""
    missing = f"{old_node.root}/none.conf"
    without = ("--set", "service.host=", "--kubeconfig", missing)
    status, _, err = command(*without)
    assert (status, err) == (0, "nothing of the bootkube checkpointer was found on this node\n")
    old_node.keep_api_server()
    status, _, err = command(*without)
    assert status == 1
    assert err.startswith(f"checkpointer: {missing}: No such file or directory; copies need the ")
    assert "to import" in command(*without, "--set", "endpoints=https://10.0.0.1:6443")[1]


@pytest.mark.parametrize("arguments", [(), ("--dry-run",), ("--clean-up",)])
def test_without_yes_nothing_changes(
    command: Command, old_node: OldNode, arguments: tuple[str, ...]
) -> None:
    """It says what it would do, to what, and how to have it done."""
    old_node.keep_api_server()
    before = old_node.files()
    status, out, err = command(*arguments)
    assert status == 0
    line = next(line for line in out.splitlines() if line.startswith("kube-system/"))
    assert line.split()[:5] == [
        "kube-system/kube-apiserver-x7k2p",
        "no",
        "kube-system/daemonset/kube-apiserver",
        "to",
        "import",
    ]
    assert err == "nothing was changed; add --yes to do it\n"
    assert old_node.files() == before
    assert old_node.revisions() == {}


def test_yes_imports_and_leaves_the_old_files(command: Command, old_node: OldNode) -> None:
    """Cleaning up is a step of its own, for when the agent has been seen to work."""
    old_node.keep_api_server()
    before = old_node.files()
    status, out, _ = command("--yes", "-o", "json")
    assert status == 0
    assert json.loads(out) == [
        {
            "checkpoint": "kube-system/kube-apiserver-x7k2p",
            "active": False,
            "workload": "kube-system/daemonset/kube-apiserver",
            "state": "imported",
            "reason": "revision 1",
            "stays": False,
        }
    ]
    assert old_node.revisions() == {API_SERVER: [1]}
    assert before - old_node.files() == set()


def test_what_cannot_be_imported_is_told_and_stays(command: Command, old_node: OldNode) -> None:
    """The exit status says so, too; no content of a file is shown."""
    old_node.keep(scheduler())
    status, out, _ = command("--yes", "--clean-up", "-o", "yaml")
    assert status == 3
    assert "state: refused" in out
    assert "clean-up: it has not been imported" in out
    status, out, _ = command()
    assert status == 3
    assert "the old checkpointer has kept nothing of it" in out


def run_pod(runtime: Runtime, old: dict[str, Any], *, is_copy: bool) -> None:
    metadata = old["metadata"]
    source = {"kubernetes.io/config.source": "file" if is_copy else "api"}
    sandbox = runtime.run_sandbox(
        SandboxConfig(
            name=metadata["name"],
            namespace="kube-system",
            uid="copy" if is_copy else metadata["ownerReferences"][0]["uid"],
            labels=metadata["labels"],
            annotations={**source, **({MARK: metadata["name"]} if is_copy else {})},
        )
    )
    container = runtime.create_container(sandbox.id, ContainerConfig("kube-apiserver", "api"))
    runtime.start_container(container.id)


def test_cleaning_up_asks_the_runtime_for_the_parent(command: Command, old_node: OldNode) -> None:
    """The active copy stays while it does its parent's work, and ends when that is back."""
    old = old_node.keep_api_server(active=True)
    alarms = Alarms()
    runtime = Runtime(Programs(), alarms)
    server = CriServer(runtime, old_node.root / "cri.sock")
    server.open()
    try:
        run_pod(runtime, old, is_copy=True)
        status, out, _ = command("--yes", "--clean-up")
        assert status == 3
        assert "its parent is not back" in out
        assert list(old_node.places.active.iterdir()) != []
        run_pod(runtime, old, is_copy=False)
        status, out, _ = command("--yes", "--clean-up")
        assert (status, "done" in out) == (0, True)
    finally:
        server.close()
        alarms.close()
    running = [one for one in runtime.containers() if one.is_running]
    assert [one.sandbox.config.uid == "copy" for one in running] == [False]
    assert list(old_node.places.active.iterdir()) == []
    assert not old_node.places.secrets.exists()


def test_nothing_is_imported_beside_a_running_agent(command: Command, old_node: OldNode) -> None:
    """One process writes the store."""
    old_node.keep_api_server()
    lock = InstanceLock(old_node.root / "run/ours/lock")
    assert lock.try_acquire()
    status, _, err = command("--yes")
    lock.release()
    assert status == 3
    assert "the agent runs on this node" in err
    assert old_node.revisions() == {}
    assert command("--yes")[0] == 0
    assert lock.try_acquire()
    assert command("--yes", "--clean-up")[0] == 0
    lock.release()
    assert not old_node.places.inactive.exists()


def test_wrong_usage_is_told(command: Command, old_node: OldNode) -> None:
    """Two wishes that contradict each other; folders that are not to be trusted."""
    status, _, err = command("--yes", "--dry-run")
    assert (status, err) == (2, "checkpointer: --yes and --dry-run: expected one of them\n")
    old_node.keep_api_server()
    old_node.places.secrets.chmod(0o777)
    status, _, err = command()
    assert status == 1
    assert "is writable by others" in err
