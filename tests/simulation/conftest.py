"""A simulated node, its parts, and a pace at which tests are quick."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpointer.simulation.alarms import Alarms
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.certificates import Authority, write_kubeconfig
from checkpointer.simulation.cluster import Cluster
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.programs import Programs
from checkpointer.simulation.runtime import Runtime
from checkpointer.simulation.surroundings import Pace

QUICK = Pace(
    list_seconds=0.02,
    sandbox_seconds=0.05,
    container_seconds=0.05,
    notice_seconds=0.05,
    backoff_seconds=0.5,
    backoff_limit_seconds=5.0,
    recheck_seconds=0.2,
    mirror_seconds=0.1,
    relist_seconds=0.5,
    tick_seconds=0.02,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets, which pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="cps-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def api(folder: Path, authority: Authority) -> Iterator[ApiServer]:
    """A running API server, and in `folder` a kubeconfig for node-1 and the authority's ca.crt."""
    server = ApiServer(Cluster(), authority, folder / "api")
    server.start(authority.serving("127.0.0.1", "localhost"))
    client = authority.client("system:node:node-1", "system:nodes")
    write_kubeconfig(folder / "kubelet.conf", server.url, authority.certificate, client)
    (folder / "ca.crt").write_bytes(authority.certificate)
    yield server
    server.stop()
    assert server.errors == []


@pytest.fixture
def programs() -> Programs:
    return Programs()


@pytest.fixture
def runtime(programs: Programs) -> Iterator[Runtime]:
    alarms = Alarms()
    yield Runtime(programs, alarms)
    alarms.close()
    assert alarms.errors == []


@pytest.fixture
def node(folder: Path) -> Iterator[SimulatedNode]:
    """A node whose API server is somewhere else; no agent runs."""
    with SimulatedNode(folder, self_hosted=False, pace=QUICK) as simulated:
        yield simulated
    assert simulated.errors == []


@pytest.fixture
def self_hosted_node(folder: Path) -> Iterator[SimulatedNode]:
    """A node that serves its own API; no agent runs."""
    with SimulatedNode(folder, pace=QUICK, api_start_seconds=0.1) as simulated:
        yield simulated
    assert simulated.errors == []
