"""Shared by the tests of the agent: a simulated API server, a store, things that fail."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.checkpoint import Revision
from checkpointer.core.workload import Workload
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.certificates import Authority, write_kubeconfig
from checkpointer.simulation.cluster import Cluster
from checkpointer.simulation.connections import server_context
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.surroundings import Pace
from checkpointer.store.revisions import NewRevision, Store
from checkpointer.store.system_calls import SystemCalls

NODE = "node-1"

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


@dataclass
class FullDisk(SystemCalls):
    """A file system on which writing fails while `is_full`, as on a disk without room."""

    is_full: bool = False
    refusals: int = 0

    def write(self, handle: int, content: memoryview) -> int:
        if self.is_full:
            self.refusals += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(handle, content)


@dataclass
class Calls:
    """Counts calls and lets a test wait for the next one."""

    count: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, *_: object) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait_beyond(self, count: int, seconds: float = 5.0) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.count > count, seconds)


class ScriptedApi:
    """An API server over TLS that says whatever a test wants, word for word.

    `answer` gets the path and query of each GET and returns status and body; a body that is a
    list is sent as a watch is, piece by piece, and then the answer ends.
    """

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.answer: Callable[[str], tuple[int, Any]] = lambda _: (404, b"")
        self.asked: list[str] = []
        self.hold = threading.Event()
        """Set while a watch whose pieces are all sent may end."""
        pair = authority.serving("127.0.0.1")
        certificate, key = folder / "scripted.crt", folder / "scripted.key"
        certificate.write_bytes(pair.certificate)
        key.write_bytes(pair.key)
        context = server_context(certificate, key, authority.certificate)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

            def do_GET(self) -> None:
                api.asked.append(self.path)
                status, body = api.answer(self.path)
                with suppress(OSError):
                    self._send(status, body)

            def _send(self, status: int, body: Any) -> None:
                self.send_response(status)
                if isinstance(body, bytes):
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    return
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for piece in body:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    self.wfile.flush()
                if api.hold.wait(10):
                    self.wfile.write(b"0\r\n\r\n")

        return Handler


def pod_object(name: str, version: str = "5", **metadata: Any) -> dict[str, Any]:
    """Return a pod as the API sends it."""
    return {
        "metadata": {
            "name": name,
            "namespace": "kube-system",
            "uid": f"uid-{name}",
            "resourceVersion": version,
            **metadata,
        },
        "spec": {"nodeName": NODE, "containers": []},
    }


def pod_list(*pods: dict[str, Any], version: str = "9", **metadata: Any) -> bytes:
    """Return a list of pods as the API sends it."""
    listed = {
        "kind": "PodList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": version, **metadata},
        "items": list(pods),
    }
    return json.dumps(listed).encode()


def new_revision(workload: Workload, digest: str = "d1", name: str = "main") -> NewRevision:
    """Return a revision that needs no volume and that the kubelet would accept."""

    def manifest_for(_: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": workload.name, "namespace": workload.namespace},
            "spec": {"hostNetwork": True, "containers": [{"name": name, "image": "pause:3"}]},
        }

    revision = Revision(
        number=0,
        digest=digest,
        parent_uid="parent-1",
        parent_name=f"{workload.name}-abcde",
        labels=(("app", workload.name),),
        app_containers=(name,),
        stage=0,
        shares_ports=False,
        created_at=12.5,
    )
    return NewRevision(workload, revision, manifest_for)


def tree(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return everything below a folder: kinds, modes, times and contents."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        found[str(path.relative_to(folder))] = (
            status.st_mode,
            status.st_ino,
            status.st_mtime_ns,
            content,
        )
    return found


@dataclass(frozen=True)
class Kit:
    """The helpers above, for test modules that cannot import each other."""

    FullDisk: Any = FullDisk
    Calls: Any = Calls
    new_revision: Any = staticmethod(new_revision)
    tree: Any = staticmethod(tree)
    pod_object: Any = staticmethod(pod_object)
    pod_list: Any = staticmethod(pod_list)
    node: str = NODE


@pytest.fixture
def kit() -> Kit:
    return Kit()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private folder with a path short enough for unix sockets, which pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="cpa-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(folder / "store")


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def api(folder: Path, authority: Authority) -> Iterator[ApiServer]:
    """A running API server, and `folder/kubelet.conf` for this node."""
    server = ApiServer(Cluster(), authority, folder / "api")
    server.start(authority.serving("127.0.0.1", "localhost"))
    client = authority.client(f"system:node:{NODE}", "system:nodes")
    write_kubeconfig(folder / "kubelet.conf", server.url, authority.certificate, client)
    yield server
    server.stop()
    assert server.errors == []


@pytest.fixture
def kubeconfig(api: ApiServer, folder: Path) -> Path:
    return folder / "kubelet.conf"


@pytest.fixture
def scripted(folder: Path, authority: Authority) -> Iterator[ScriptedApi]:
    """An API that answers by the test's script, and `folder/scripted.conf` for it."""
    api = ScriptedApi(folder, authority)
    client = authority.client(f"system:node:{NODE}", "system:nodes")
    write_kubeconfig(folder / "scripted.conf", api.url, authority.certificate, client)
    yield api
    api.close()


@pytest.fixture
def node(folder: Path) -> Iterator[SimulatedNode]:
    """A node whose API server is somewhere else; no agent runs."""
    with SimulatedNode(folder, self_hosted=False, pace=QUICK) as simulated:
        yield simulated
    assert simulated.errors == []


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves a thread of the agent's behind."""
    before = set(threading.enumerate())
    yield
    gc.collect(1)
    ours = ("probe", "endpoint", "pods", "runtime-events")
    left = [t for t in set(threading.enumerate()) - before if t.name.startswith(ours)]
    for thread in left:
        thread.join(5)
    assert [thread.name for thread in left if thread.is_alive()] == []
