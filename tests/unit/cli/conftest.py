"""A node's folders, and a simulated API server that knows this node."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.certificates import Authority, write_kubeconfig
from checkpointer.simulation.cluster import Cluster


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private folder with a path short enough for unix sockets, which pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="cpc-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def api(folder: Path) -> Iterator[ApiServer]:
    """A running API server, and `folder/kubelet.conf` for node-1."""
    authority = Authority()
    server = ApiServer(Cluster(), authority, folder / "api")
    server.start(authority.serving("127.0.0.1", "localhost"))
    client = authority.client("system:node:node-1", "system:nodes")
    write_kubeconfig(folder / "kubelet.conf", server.url, authority.certificate, client)
    yield server
    server.stop()
    assert server.errors == []
