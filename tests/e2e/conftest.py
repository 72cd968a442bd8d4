"""Fixtures of the end-to-end suite, and its table at the end.

    KUBE_BIN_DIR=/path/to/kubernetes/binaries pytest -m e2e tests/e2e

KUBE_BIN_DIR  folder with kube-apiserver, kube-controller-manager, kube-scheduler, kubelet (and
              etcd, else the one on PATH); without it the suite is skipped.
E2E_SUMMARY   file to write the measures to, as JSON.
E2E_CYCLES    how many power cycles in a row (default 3).
E2E_AGENT     the command of the agent to test (default: this checkout's).
E2E_PATIENCE  a factor for all times that are asserted or waited for, for a machine that does other
              work (1).
E2E_WORK      a folder to work in; the logs stay there. Without it they stay, in the temporary
              directory, only after a failure.
"""

from __future__ import annotations

import compileall
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import checkpointer
from tests.e2e.cluster import binaries
from tests.e2e.cluster.binaries import Binaries, MissingError
from tests.e2e.cluster.control_plane import Options
from tests.e2e.cluster.edge_node import EdgeNode
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.waiting import PATIENCE
from tests.e2e.summary import ACTIVATIONS, FALSE_ACTIVATIONS, Record, Summary

BIN_DIR = "KUBE_BIN_DIR"
SUMMARY = pytest.StashKey[Summary]()
WORK = pytest.StashKey[Path]()
NODES = pytest.StashKey[list[Node]]()
SNAPSHOT_SECONDS = 60.0


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SUMMARY] = Summary()
    config.stash[NODES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    summary = terminalreporter.config.stash[SUMMARY]
    work = terminalreporter.config.stash.get(WORK, None)
    if work is not None and work.is_dir():
        terminalreporter.write_line(f"logs of the end-to-end scenarios: {work}")
    if not summary.scenarios:
        return
    terminalreporter.section("end-to-end measures")
    for line in summary.table():
        terminalreporter.write_line(line)
    if path := os.environ.get("E2E_SUMMARY"):
        summary.write(Path(path))


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Where a scenario puts its measures."""
    return Record(request.config.stash[SUMMARY], request.node.name.removeprefix("test_"))


@pytest.fixture(scope="session")
def kube_binaries() -> Binaries:
    """Skip without KUBE_BIN_DIR; fail, naming all that is missing, with an incomplete one."""
    directory = os.environ.get(BIN_DIR)
    if not directory:
        pytest.skip(f"{BIN_DIR} is not set: no Kubernetes binaries to run")
    compileall.compile_dir(checkpointer.__path__[0], quiet=1)  # as it is in the image
    try:
        return binaries.find(Path(directory))
    except MissingError as error:
        missing = str(error)
    pytest.fail(missing, pytrace=False)


@pytest.fixture
def patience() -> float:
    """What to multiply a time with before it is asserted."""
    return PATIENCE


@pytest.fixture(autouse=True)
def no_false_activation(request: pytest.FixtureRequest, record: Record) -> Iterator[None]:
    """In no scenario is a copy activated beside what it stands for, whatever else it looks at."""
    nodes = request.config.stash[NODES]
    before = {id(n): (n.activations.count, len(n.activations.false)) for n in nodes}
    yield
    count, false = 0, []
    for node in nodes:
        counted, known = before.get(id(node), (0, 0))
        count += node.activations.count - counted
        false += node.activations.false[known:]
    if nodes:
        record.column(ACTIVATIONS, count)
        record.column(FALSE_ACTIVATIONS, len(false))
    assert false == []


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes nodes that are not built yet, each with a folder of its own, and keeps them in mind."""

    work: Path
    binaries: Binaries
    made: list[Node]

    def node(self, options: Options | None = None) -> Node:
        node = Node(self._folder(), self.binaries, options)
        self.made.append(node)
        return node

    def edge_node(self) -> EdgeNode:
        node = EdgeNode(self._folder(), self.binaries)
        self.made.append(node)
        return node

    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp("", "node-", self.work))


class Cluster:
    """The node that scenarios share; a new one is built when a scenario left it broken."""

    def __init__(self, maker: Maker) -> None:
        self._maker = maker
        self._node: Node | None = None
        self.build_seconds = 0.0

    def node(self) -> Node:
        """Return the node, with its agent running and nothing left of the scenario before."""
        if self._node is not None and not self._is_sound(self._node):
            self.remove()
        if self._node is None:
            self._node = self._maker.node()
            begun = time.monotonic()
            self._node.build()
            self.build_seconds = time.monotonic() - begun
            self._node.start_agent()
        return self._node

    def remove(self) -> None:
        if self._node is not None:
            node, self._node = self._node, None
            node.remove()

    @staticmethod
    def _is_sound(node: Node) -> bool:
        try:
            node.wait_until_returned(since=0.0, seconds=60)
            node.wait_for_kubelet(60)
        except AssertionError:
            return False
        return node.agent is not None and node.agent.running


@pytest.fixture(scope="session")
def work(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder for disks and logs, gone afterwards if it is ours and nothing failed.

    Not one of pytest's: those are removed by later runs, of other suites too.
    """
    given = os.environ.get("E2E_WORK")
    folder = Path(given or tempfile.mkdtemp("", "checkpointer-e2e-"))
    folder.mkdir(parents=True, exist_ok=True)
    request.config.stash[WORK] = folder
    yield folder
    if not given and not request.session.testsfailed:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def maker(request: pytest.FixtureRequest, work: Path, kube_binaries: Binaries) -> Maker:
    """For scenarios that want a node of their own."""
    return Maker(work, kube_binaries, request.config.stash[NODES])


@pytest.fixture(scope="session")
def cluster(maker: Maker) -> Iterator[Cluster]:
    """A node with a self-hosted control plane, removed whatever happens, SIGTERM included."""
    cluster = Cluster(maker)

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield cluster
    finally:
        cluster.remove()
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def node(cluster: Cluster) -> Node:
    """The node, sound, with a checkpoint of each of its three parents."""
    node = cluster.node()
    node.wait_for_checkpoints(SNAPSHOT_SECONDS)
    return node


@pytest.fixture
def edge_node(maker: Maker) -> Iterator[EdgeNode]:
    """A node of its own whose control plane is elsewhere; its agent is the test's business."""
    node = maker.edge_node()
    try:
        node.build()
        yield node
    finally:
        node.remove()
