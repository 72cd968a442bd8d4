"""Fresh snapshots before a reboot: by the agent that runs, or by ourselves."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkpointer.config import Config
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.doctor.snapshots import Taken, read_report, take_snapshots
from checkpointer.store.lock import InstanceLock

WEB = Workload("kube-system", "DaemonSet", "web")
ROW = {
    "namespace": "kube-system",
    "kind": "DaemonSet",
    "name": "web",
    "pod": "web-abcde",
    "revision": 3,
    "new": True,
    "reason": None,
}
REPORT = {"kind": "SnapshotReport", "complete": True, "reason": None, "pods": [ROW]}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="cpd-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def config(folder: Path) -> Config:
    (folder / "store").mkdir(mode=0o700)
    return replace(
        Config(),
        kubeconfig=folder / "kubelet.conf",
        store_directory=folder / "store",
        lock_file=folder / "run/lock",
    )


@contextmanager
def an_agent(config: Config, answer: bytes | None) -> Iterator[list[bytes]]:
    """Hold the lock, and say this to the first who asks; None: there is no socket."""
    lock = InstanceLock(config.lock_file)
    assert lock.try_acquire()
    asked: list[bytes] = []
    if answer is None:
        yield asked
        lock.release()
        return
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(config.store_directory / "agent.sock"))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join(10)
    lock.release()


def take(config: Config) -> Any:
    return take_snapshots(config, "node-1", None, 30.0)


def test_a_running_agent_is_asked_to_take_them(config: Config) -> None:
    """It holds the lock: nobody else may write to the store."""
    with an_agent(config, json.dumps(REPORT).encode()) as asked:
        assert take(config) == Known((Taken(WEB, "web-abcde", 3, is_new=True),))
    assert asked[0].startswith(b"POST /v1/snapshot?timeout=30s HTTP/1.")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "an agent holds the lock, but takes no orders: "),
        (b"nonsense", "the agent's answer is not JSON"),
        (b"[]", "the agent's answer is not a report on snapshots"),
        (json.dumps({**REPORT, "reason": "contact is lost"}).encode(), "contact is lost"),
    ],
)
def test_an_agent_that_takes_none_says_why(
    config: Config, answer: bytes | None, reason: str
) -> None:
    """No list of snapshots is not an empty list."""
    with an_agent(config, answer):
        found = take(config)
    assert isinstance(found, Unknown)
    assert found.reason.startswith(reason)


def test_a_pod_that_could_not_be_taken_keeps_its_reason() -> None:
    """And the revision that it has from before."""
    row = {**ROW, "new": False, "reason": "it is not Ready"}
    assert read_report({**REPORT, "pods": [row]}) == Known(
        (Taken(WEB, "web-abcde", 3, is_new=False, reason="it is not Ready"),)
    )


def test_without_agent_and_api_nobody_can_take_them(config: Config) -> None:
    """The lock is free again afterwards."""
    found = take(config)
    assert isinstance(found, Unknown)
    assert found.reason.startswith(f"no agent runs, and without it: {config.kubeconfig}")
    assert InstanceLock(config.lock_file).try_acquire()
