"""A store, and a simulated API server with the kubelet's identity for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.certificates import Authority, write_kubeconfig
from checkpointer.simulation.cluster import Cluster
from checkpointer.store.revisions import Store


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private folder."""
    path = Path(tempfile.mkdtemp(prefix="cpr-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(folder / "store")


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
