"""Single requests: an object, a positive "there is none", or a reason why it cannot be told."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkpointer.core.facts import Known, Unknown
from checkpointer.errors import CheckpointerError
from checkpointer.node import api as api_module
from checkpointer.node.api import ApiClient, ApiError
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.authorizer import User
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.waiting import wait_until

POD = "/api/v1/namespaces/kube-system/pods/a"
NODE = "/api/v1/nodes/node-1"
"""What a node may always ask for."""
SECRET = b'{"data": "hunter2", '


@pytest.fixture
def client(kubeconfig: Path) -> Iterator[ApiClient]:
    opened = ApiClient(kubeconfig)
    yield opened
    opened.close()


@pytest.fixture
def scripted_client(scripted: Any, folder: Path) -> Iterator[ApiClient]:
    opened = ApiClient(folder / "scripted.conf")
    yield opened
    opened.close()


def test_object_is_found_as_it_is(api: ApiServer, client: ApiClient, kit: Any) -> None:
    """What the API has comes as the plain mapping that it sent."""
    created = api.cluster.create("pods", kit.pod_object("a"))
    assert client.find(POD) == Known(created)


def test_only_the_api_says_that_there_is_none(
    api: ApiServer, client: ApiClient, scripted: Any, scripted_client: ApiClient
) -> None:
    """Not found is a fact only with the API's own words; a bare 404 is somebody's missing page."""
    assert client.find(NODE) == Known(None)
    for body in (b"404 page not found", b"", b"{}", b'{"kind": "Status"}', b"[]"):
        scripted.answer = lambda _, body=body: (404, body)
        assert scripted_client.find(POD) == Unknown(f"GET {POD}: HTTP 404")


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (Mode.UNAUTHORIZED, "HTTP 401"),
        (Mode.FORBIDDEN, "HTTP 403"),
        (Mode.THROTTLED, "HTTP 429"),
        (Mode.ERROR, "HTTP 500"),
        (Mode.REFUSED, "ConnectionRefusedError"),
        (Mode.WRONG_CERTIFICATE, "SSLError"),
    ],
)
def test_failure_is_unknown(api: ApiServer, client: ApiClient, mode: Mode, reason: str) -> None:
    """Whatever goes wrong, the answer is that it cannot be told."""
    api.mode = mode
    assert client.find(POD) == Unknown(f"GET {POD}: {reason}")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the answer is not JSON"),
        (SECRET, "the answer is not JSON"),
        (b"\xff\xfe", "the answer is not JSON"),
        (b"[]", "the answer is not an object"),
        (b"null", "the answer is not an object"),
    ],
)
def test_answer_that_is_none_is_unknown(
    scripted: Any, scripted_client: ApiClient, body: bytes, reason: str
) -> None:
    """An answer that is no object is none, and nothing of it is told."""
    scripted.answer = lambda _: (200, body)
    assert scripted_client.find(POD) == Unknown(f"GET {POD}: {reason}")


@pytest.mark.parametrize("status", [204, 301, 302, 307, 404, 500, 503])
def test_body_of_a_failure_is_not_told(
    scripted: Any, scripted_client: ApiClient, status: int
) -> None:
    """Only the status of a refusal is told, and no redirect is followed."""
    scripted.answer = lambda _: (status, SECRET)
    with pytest.raises(ApiError) as caught:
        scripted_client.get(POD)
    assert "hunter2" not in str(caught.value)
    assert len(scripted.asked) == 1


def test_token_that_cannot_be_read_is_unknown(api: ApiServer, kubeconfig: Path) -> None:
    """A credential that goes missing while the agent runs is one more way not to know."""
    content = yaml.safe_load(kubeconfig.read_text())
    content["users"][0]["user"] = {"tokenFile": "token"}
    kubeconfig.write_text(yaml.safe_dump(content))
    token = kubeconfig.with_name("token")
    api.tokens["t-1"] = User("system:node:node-1", ("system:nodes",))
    token.write_text("t-1")
    client = ApiClient(kubeconfig)
    assert client.find(NODE) == Known(None)
    token.write_text("t-2")
    assert client.find(NODE) == Unknown(f"GET {NODE}: HTTP 401")
    token.unlink()
    assert client.find(NODE) == Unknown(f"{token}: No such file or directory")
    client.close()


def test_kubeconfig_that_cannot_be_used_is_our_error(folder: Path) -> None:
    """No error of the library's own comes out of making a client."""
    with pytest.raises(CheckpointerError):
        ApiClient(folder / "missing.conf")


def test_exec_plugin_that_fails_is_our_error(kubeconfig: Path) -> None:
    """A plugin that is not there is told as an error of ours, without what it said."""
    content = yaml.safe_load(kubeconfig.read_text())
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "/nonexistent"}
    content["users"][0]["user"] = {"exec": plugin}
    kubeconfig.write_text(yaml.safe_dump(content))
    try:
        ApiClient(kubeconfig).close()
    except CheckpointerError as error:
        assert str(error).startswith(str(kubeconfig))  # noqa: PT017 - it may also come later


def test_path_cannot_be_left(api: ApiServer, client: ApiClient) -> None:
    """What is quoted into a path stays one segment."""
    found = client.find("/api/v1/namespaces/kube-system/secrets/..%2F..%2Fpods")
    assert not isinstance(found, Known) or found.value is None


@pytest.mark.parametrize("phase", ["handshake", "answer", "watch"])
def test_request_in_a_black_hole_can_be_cut(
    api: ApiServer, client: ApiClient, phase: str, kit: Any
) -> None:
    """Wherever a request hangs, another thread ends it at once."""
    if phase != "handshake":
        assert client.find(NODE) == Known(None)
    if phase != "watch":
        api.mode = Mode.BLACK_HOLE
    before = api.connections
    ended: list[object] = []

    def ask() -> None:
        query = {"watch": "true", "resourceVersion": "1", "fieldSelector": "spec.nodeName=node-1"}
        try:
            ended.extend(client.lines("/api/v1/pods", query, 60.0))
        except ApiError as error:
            ended.append(error)

    thread = threading.Thread(target=ask, name="pods")
    thread.start()
    if phase == "handshake":
        wait_until(lambda: api.connections > before and client._sockets, 5, "the connection")
    else:
        wait_until(lambda: api.requests["watch pods"], 5, "the request")
    client.cut()
    began = time.monotonic()
    thread.join(5)
    assert time.monotonic() - began < 0.5
    assert isinstance(ended[0], ApiError)


def test_closed_client_refuses(api: ApiServer, client: ApiClient) -> None:
    """After the end no request begins; it says so like any other failure."""
    client.close()
    assert isinstance(client.find(POD), Unknown)
    assert client._sockets == {}


def test_clients_leave_no_connection(api: ApiServer, kubeconfig: Path) -> None:
    """Every reconnection makes a client: what each had open is closed with it."""
    ApiClient(kubeconfig).close()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        client = ApiClient(kubeconfig)
        client.find(NODE)
        api.mode = Mode.ERROR
        client.find(NODE)
        api.mode = Mode.SERVING
        client.close()
        assert client._sockets == {}
        del client
    gc.collect()
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, 5, "closed connections")


def test_dead_peer_is_found_out(api: ApiServer, client: ApiClient) -> None:
    """A watch on a machine without power says nothing for ever: the kernel looks after it."""
    client.find(NODE)
    (sock,) = client._sockets.values()
    for level, option, value in api_module.KEEP_ALIVE:
        assert sock.getsockopt(level, option) == value


def test_environment_proxy_is_not_used(
    api: ApiServer, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy in the environment does not come between us and the API."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    client = ApiClient(kubeconfig)
    assert client.find(NODE) == Known(None)
    client.close()


LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def test_an_object_is_replaced_only_as_it_was_read(api: ApiServer, client: ApiClient) -> None:
    """Whoever else has changed it meanwhile is not overwritten."""
    api.cluster.create("leases", {"metadata": {"name": "node-1", "namespace": "kube-node-lease"}})
    path = f"{LEASES}/node-1"
    stored = client.get(path)
    changed = client.put(path, {**stored, "spec": {"holderIdentity": "node-1"}})
    assert client.get(path) == changed
    with pytest.raises(ApiError) as caught:
        client.put(path, stored)
    assert caught.value.status == 409


def test_a_pod_is_deleted_only_while_it_is_the_one_that_was_meant(
    api: ApiServer, client: ApiClient, kit: Any
) -> None:
    """Its successor of the same name has another UID."""
    created = api.cluster.create("pods", kit.pod_object("a"))
    with pytest.raises(ApiError) as caught:
        client.delete(POD, {"preconditions": {"uid": "another"}})
    assert caught.value.status == 409
    client.delete(POD, {"preconditions": {"uid": created["metadata"]["uid"]}})
    assert "deletionTimestamp" in client.get(POD)["metadata"]
