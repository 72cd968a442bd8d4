"""Serving: who may ask what, on which socket, and that nobody can hold the agent up."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpointer.config import load
from checkpointer.report import http as http_module
from checkpointer.report.agent_socket import (
    AgentSocketError,
    AgentUnreachableError,
    ask_agent,
    listen_on_socket,
    remove_socket,
)
from checkpointer.report.http import HTTP, Endpoints
from checkpointer.report.server import Answer, Listener, Request, Server, listen_on_tcp
from checkpointer.report.status import AgentStatus, ContactStatus, Status, build_status
from checkpointer.simulation.waiting import wait_until

STATUS = build_status(AgentStatus("<node-1>", "1"), ContactStatus("lost", "refused"), None, {}, {})


class FakeAgent:
    """What is asked of an agent."""

    def __init__(self) -> None:
        self.problem = ""
        self.woken = 0
        self.snapshots: list[float] = []
        self.hold = threading.Event()
        self.hold.set()

    def status(self) -> Status:
        self.hold.wait(10)
        return STATUS

    def metrics(self) -> tuple[bytes, str]:
        return b"up 1\n", "text/plain"

    def unhealthy(self) -> str:
        return self.problem

    def unready(self) -> str:
        return self.problem

    def snapshot(self, seconds: float) -> tuple[bool, dict[str, Any]]:
        self.snapshots.append(seconds)
        return not self.problem, {"reason": self.problem}

    def reconcile(self) -> None:
        self.woken += 1


def request(path: str, **changes: Any) -> Request:
    path, _, query = path.partition("?")
    usual = {"method": "GET", "query": query, "accept": "*/*", "is_root": False, "is_remote": False}
    return Request(path=path, **{**usual, **changes})


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.mark.parametrize(
    ("path", "changes", "status"),
    [
        ("/metrics", {}, 200),
        ("/metrics", {"is_remote": True}, 200),
        ("/metrics", {"method": "HEAD"}, 200),
        ("/metrics", {"method": "POST"}, 405),
        ("/healthz", {"is_remote": True}, 200),
        ("/livez", {}, 200),
        ("/readyz", {}, 200),
        ("/", {}, 200),
        ("/statusz", {}, 200),
        ("/statusz", {"is_root": True}, 200),
        ("/statusz", {"is_remote": True}, 403),
        ("/", {"is_remote": True}, 403),
        ("/etc/passwd", {}, 404),
        ("/v1/snapshot", {"method": "POST"}, 403),
        ("/v1/snapshot", {"method": "POST", "is_root": True}, 200),
        ("/v1/snapshot", {"is_root": True}, 405),
        ("/v1/snapshot?timeout=soon", {"method": "POST", "is_root": True}, 400),
        ("/v1/reconcile", {"method": "POST"}, 403),
        ("/v1/reconcile", {"method": "POST", "is_root": True}, 202),
    ],
)
def test_who_may_ask_what(agent: FakeAgent, path: str, changes: Any, status: int) -> None:
    """Reading on TCP, the status on the node only, and doing for root alone."""
    assert Endpoints(agent)(request(path, **changes)).status == status


def test_health_tells_the_reason(agent: FakeAgent) -> None:
    """What is not well is 503, and says why."""
    agent.problem = "no cycle for 99 s"
    for path in ("/healthz", "/livez", "/readyz"):
        answer = Endpoints(agent)(request(path))
        assert (answer.status, answer.content) == (503, b"no cycle for 99 s\n")
    posted = request("/v1/snapshot?timeout=2m", method="POST", is_root=True)
    assert Endpoints(agent)(posted).status == 503
    assert agent.snapshots == [120.0]
    assert agent.woken == 0


def test_snapshot_wait_is_bounded(agent: FakeAgent) -> None:
    """A client cannot occupy a connection for a day."""
    Endpoints(agent)(request("/v1/snapshot?timeout=24h", method="POST", is_root=True))
    assert agent.snapshots == [http_module.LONGEST_SNAPSHOT_SECONDS]


def test_browser_gets_a_page_and_a_program_json(agent: FakeAgent) -> None:
    """By the Accept header; the page is escaped and asks for nothing else."""
    endpoints = Endpoints(agent)
    document = json.loads(endpoints(request("/statusz")).content)
    assert document == STATUS.as_document()
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    answer = endpoints(request("/statusz", accept=browser))
    assert answer.content_type.startswith("text/html")
    assert dict(answer.headers)["Content-Security-Policy"].startswith("default-src 'none'")
    text = answer.content.decode()
    assert "&lt;node-1&gt;" in text
    assert "<node-1>" not in text
    for outside in ("<script", "src=", "href=", "http://", "https://"):
        assert outside not in text
    asked = request("/statusz?format=json", accept=browser)
    assert endpoints(asked).content_type == "application/json"


class Running:
    """A server on a TCP port of its own."""

    def __init__(self, handle: Any, seconds: float = 10.0, limit: int = 2) -> None:
        listening = listen_on_tcp("127.0.0.1", 0)
        self.address = listening.getsockname()
        self.server = Server((Listener(listening, False, seconds, limit),), handle)
        self.server.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, 5)

    def get(self, path: str = "/healthz", method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def serve() -> Iterator[Any]:
    started: list[Running] = []

    def begin(*args: Any, **kwargs: Any) -> Running:
        started.append(Running(*args, **kwargs))
        return started[-1]

    before = threading.active_count()
    yield begin
    for one in started:
        one.server.close()
    wait_until(lambda: threading.active_count() <= before, 5, "the threads' end")


def test_answers_over_tcp(agent: FakeAgent, serve: Any) -> None:
    """A real client gets its answer, and again on a new connection."""
    running = serve(Endpoints(agent))
    assert running.get() == (200, b"ok\n")
    assert running.get(method="HEAD") == (200, b"")
    assert running.get("/v1/snapshot", "POST")[0] == 403
    assert running.get("/healthz", "DELETE")[0] == 501


def test_fault_in_an_answer_is_that_answers(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The connection ends, the next one is served, and the log tells."""
    faults = [ValueError("x")]

    def handle(_: Request) -> Answer:
        if faults:
            raise RuntimeError(str(faults.pop()))
        return Answer(200, b"well")

    running = serve(handle)
    with pytest.raises(http.client.RemoteDisconnected):
        running.get()
    assert running.get() == (200, b"well")
    assert "answering a request failed: RuntimeError" in caplog.messages


def test_silent_client_is_cut_at_its_deadline(agent: FakeAgent, serve: Any) -> None:
    """One that connects and says nothing, or too slowly, does not stay."""
    running = serve(Endpoints(agent), seconds=0.3)
    for said in (b"", b"GET /healthz HTTP/1.0\r\nX-Slow: "):
        with running.connect() as client:
            client.sendall(said)
            assert client.recv(1) == b""


def test_trickling_client_is_cut_at_its_deadline(agent: FakeAgent, serve: Any) -> None:
    """A byte now and then keeps no connection open."""
    running = serve(Endpoints(agent), seconds=0.3)
    with running.connect() as client:
        client.settimeout(0.02)
        client.sendall(b"GET /healthz HTTP/1.0\r\nX-Slow: ")

        def is_cut() -> bool:
            try:
                client.sendall(b"x")
                return client.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(is_cut, 5, "the end of the connection")


def test_crowd_is_bounded(agent: FakeAgent, serve: Any) -> None:
    """Beyond the limit connections are closed at once; when one ends there is room again."""
    running = serve(Endpoints(agent), limit=2)
    crowd = [running.connect() for _ in range(2)]
    wait_until(lambda: len(running.server._open) == 2, 5, "both connections")
    with running.connect() as third:
        assert third.recv(1) == b""
    assert sum(t.name == "http-request" for t in threading.enumerate()) == 2
    for one in crowd:
        one.close()
    wait_until(lambda: not running.server._open, 5, "room")
    assert running.get() == (200, b"ok\n")


def test_close_waits_for_no_request(agent: FakeAgent) -> None:
    """SIGTERM is not held up by an answer that takes long."""
    running = Running(Endpoints(agent))
    agent.hold.clear()
    with running.connect() as client:
        client.sendall(b"GET /statusz HTTP/1.0\r\n\r\n")
        wait_until(lambda: running.server._open, 5, "the request")
        running.server.close()
        assert client.recv(1) == b""
    agent.hold.set()
    wait_until(
        lambda: not any(t.name.startswith("http") for t in threading.enumerate()), 5, "the end"
    )


def config(folder: Path, address: str = "") -> Any:
    (folder / "store").mkdir(mode=0o700, exist_ok=True)
    overrides = {"storeDirectory": str(folder / "store"), "http.address": address}
    return load(None, overrides=overrides)


@pytest.fixture
def web(folder: Path, agent: FakeAgent) -> Iterator[HTTP]:
    """The sockets of an agent, the TCP one switched off."""
    found = HTTP(config(folder), agent, lambda: None)
    found.ensure()
    yield found
    found.close()


def test_root_asks_through_the_socket(web: HTTP, folder: Path, agent: FakeAgent) -> None:
    """It is for root only, and gone when the agent is."""
    path = folder / "store/agent.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ask_agent(folder / "store", "/healthz", 5.0) == (200, b"ok\n")
    assert ask_agent(folder / "store", "/v1/reconcile", 5.0, "POST")[0] == 202
    assert agent.woken == 1
    web.close()
    assert not path.exists()
    with pytest.raises(AgentUnreachableError, match="the agent is not running: nobody at"):
        ask_agent(folder / "store", "/healthz", 5.0)


def test_agent_that_hangs_is_not_waited_for(web: HTTP, folder: Path, agent: FakeAgent) -> None:
    """Who asks says how long he waits."""
    agent.hold.clear()
    with pytest.raises(AgentUnreachableError, match=r"did not answer within 0\.1 s"):
        ask_agent(folder / "store", "/statusz", 0.1)
    agent.hold.set()


def test_socket_of_an_agent_that_died_is_replaced(folder: Path, agent: FakeAgent) -> None:
    """What a power cut leaves is no obstacle."""
    listening, _ = listen_on_socket(config(folder).store_directory)
    listening.close()
    web = HTTP(config(folder), agent, lambda: None)
    web.ensure()
    assert ask_agent(folder / "store", "/healthz", 5.0)[0] == 200
    web.close()


def test_socket_that_somebody_listens_on_is_left_alone(folder: Path) -> None:
    """Another agent's socket is not taken from it."""
    store = config(folder).store_directory
    listening, inode = listen_on_socket(store)
    with listening, pytest.raises(AgentSocketError, match="another agent listens there"):
        listen_on_socket(store)
    remove_socket(store, inode + 1)
    assert (store / "agent.sock").exists()
    remove_socket(store, inode)
    assert not (store / "agent.sock").exists()


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_is_no_socket_is_left_alone(
    folder: Path, agent: FakeAgent, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, and all else works."""
    path = config(folder).store_directory / "agent.sock"
    if kind == "file":
        path.write_bytes(b"mine")
    elif kind == "link":
        path.symlink_to(folder / "elsewhere")
    else:
        path.mkdir()
    web = HTTP(config(folder), agent, lambda: None)
    before = os.lstat(path)
    web.ensure()
    web._tried_at = float("-inf")
    web.ensure()
    web.close()
    assert os.lstat(path).st_ino == before.st_ino
    assert [m for m in caplog.messages if "it is not a socket of ours" in m] == caplog.messages
    assert len(caplog.messages) == 1


def test_socket_that_was_removed_is_made_anew(web: HTTP, folder: Path) -> None:
    """At the next cycle, without a pause."""
    (folder / "store/agent.sock").unlink()
    web.ensure()
    assert ask_agent(folder / "store", "/healthz", 5.0)[0] == 200


def test_port_that_is_taken_is_told_once_and_tried_again(
    folder: Path, agent: FakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    """The unix socket is there meanwhile."""
    taken = listen_on_tcp("127.0.0.1", 0)
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    web = HTTP(config(folder, address), agent, lambda: None)
    web.ensure()
    assert ask_agent(folder / "store", "/healthz", 5.0)[0] == 200
    web._tried_at = float("-inf")
    web.ensure()
    expected = f"cannot serve on {address}: Address already in use; trying again"
    assert caplog.messages == [expected]
    taken.close()
    web._tried_at = float("-inf")
    web.ensure()
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), 5):
        pass
    web.close()


def test_path_that_is_too_long_for_a_socket_is_no_obstacle(folder: Path, agent: FakeAgent) -> None:
    """A store far down has its socket all the same."""
    deep = folder / ("x" * 120)
    deep.mkdir(mode=0o700)
    web = HTTP(config(deep), agent, lambda: None)
    web.ensure()
    assert ask_agent(deep / "store", "/healthz", 5.0)[0] == 200
    web.close()
