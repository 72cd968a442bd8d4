"""Reading a kubeconfig: whatever is missing, ambiguous or insecure names the file and the key."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkpointer.node.kubeconfig import KubeconfigError, read_kubeconfig

SECRET = "hunter2-hunter2"


def document(
    cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **top: Any
) -> dict[str, Any]:
    """Return a kubeconfig that is right, with parts of it replaced; None removes a key."""
    wanted = {"server": "https://api:6443", "certificate-authority": "ca.crt", **(cluster or {})}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": _without_none(wanted)}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
        **top,
    }


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.conf"


def write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def error_of(path: Path) -> str:
    with pytest.raises(KubeconfigError) as caught:
        read_kubeconfig(path)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_files_are_relative_to_the_kubeconfig(path: Path) -> None:
    """As for kubectl, a relative path begins at the kubeconfig's folder."""
    user = {"client-certificate": "pki/a.pem", "client-key": "/keys/a.key", "tokenFile": "token"}
    found = read_kubeconfig(write(path, document({"server": "https://api:6443/"}, user)))
    here = str(path.parent)
    assert found.server == "https://api:6443"
    assert found.ca_file == f"{here}/ca.crt"
    assert found.client_certificate == f"{here}/pki/a.pem"
    assert found.client_key == "/keys/a.key"
    assert found.token_file == f"{here}/token"


def test_only_the_current_context_counts(path: Path) -> None:
    """Other clusters and users may be there, and may be wrong."""
    content = document(user={"token": "t"})
    content["clusters"].append({"name": "other", "cluster": {"server": "http://other"}})
    content["contexts"].append({"name": "other", "context": {"cluster": "other", "user": "none"}})
    found = read_kubeconfig(write(path, content))
    assert (found.server, found.token) == ("https://api:6443", "t")


def test_inline_data_touches_no_disk(path: Path) -> None:
    """Keys that are inline stay in memory: nothing is written, not even for a moment."""
    cluster = {"certificate-authority": None, "certificate-authority-data": encoded("CA")}
    key = encoded(SECRET)
    user = {"client-certificate-data": encoded("CERT"), "client-key-data": f"{key[:8]}\n{key[8:]}"}
    found = read_kubeconfig(write(path, document(cluster, user)))
    assert found.client_certificate is not None
    assert found.client_key is not None
    assert Path(found.ca_file).read_text() == "CA"
    assert Path(found.client_certificate).read_text() == "CERT"
    assert Path(found.client_key).read_text() == SECRET
    for name in (found.ca_file, found.client_certificate, found.client_key):
        assert os.readlink(name).startswith("/memfd:")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_reading_again_and_again_leaks_nothing(path: Path) -> None:
    """Every reconnection reads the kubeconfig anew: that must not use up the file handles."""
    cluster = {"certificate-authority": None, "certificate-authority-data": encoded("CA of many")}
    first = read_kubeconfig(write(path, document(cluster)))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        assert read_kubeconfig(path) == first
    assert len(os.listdir("/proc/self/fd")) == before


def test_token_is_sent_as_it_is(path: Path) -> None:
    """An inline token is the bearer token; an empty one is none."""
    assert read_kubeconfig(write(path, document(user={"token": "t"}))).bearer_token() == "t"
    assert read_kubeconfig(write(path, document(user={"token": ""}))).bearer_token() is None


def test_token_file_is_read_each_time(path: Path) -> None:
    """A projected token is rotated: the newest is sent, before any inline one."""
    token = path.with_name("token")
    user = {"token": "inline", "tokenFile": "token"}
    found = read_kubeconfig(write(path, document(user=user)))
    for text in ("one\n", "two"):
        token.write_text(text)
        assert found.bearer_token() == text.strip()


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", f"{SECRET}\nx".encode(), b"a b"])
def test_token_file_without_a_token_is_an_error(path: Path, content: bytes) -> None:
    """What cannot be a token is not sent, and not told."""
    found = read_kubeconfig(write(path, document(user={"tokenFile": "token"})))
    path.with_name("token").write_bytes(content)
    with pytest.raises(KubeconfigError, match=r"/token: expected a token$") as caught:
        found.bearer_token()
    assert SECRET not in str(caught.value)


def test_missing_token_file_is_an_error(path: Path) -> None:
    """A token that is not there is told by its path: it does not turn into an anonymous request."""
    found = read_kubeconfig(write(path, document(user={"tokenFile": "token"})))
    with pytest.raises(KubeconfigError, match=r"/token: No such file or directory$"):
        found.bearer_token()


@pytest.mark.parametrize("key", ["exec", "auth-provider"])
def test_user_that_needs_a_plugin_is_flagged(path: Path, key: str) -> None:
    """What only the Kubernetes client can do is left to it, and said."""
    assert read_kubeconfig(write(path, document(user={key: {"command": "x"}}))).needs_client
    assert not read_kubeconfig(write(path, document(user={key: None}))).needs_client


def test_user_may_be_missing(path: Path) -> None:
    """A context without a user is anonymous."""
    found = read_kubeconfig(
        write(path, document(contexts=[{"name": "x", "context": {"cluster": "c"}}], users=[]))
    )
    assert (found.client_certificate, found.token, found.token_file) == (None, None, None)


def test_repr_has_no_secret(path: Path) -> None:
    """Wherever the value lands in a log, no credential lands with it."""
    found = read_kubeconfig(write(path, document(user={"token": SECRET})))
    assert repr(found) == f"Kubeconfig({str(path)!r}, server='https://api:6443')"
    assert SECRET not in f"{found!s} {found!r} {found}"


def _entries(part: str, *names: str) -> list[dict[str, Any]]:
    return [{"name": name, part: {"server": "https://a", "token": SECRET}} for name in names]


WRONG = [
    ({"current-context": None}, "current-context: expected the name of a context"),
    ({"current-context": ""}, "current-context: expected the name of a context"),
    ({"current-context": 7}, "current-context: expected a text"),
    ({"current-context": "y"}, "contexts: expected an entry named 'y'"),
    ({"contexts": None}, "contexts: expected an entry named 'x'"),
    ({"contexts": "x"}, "contexts: expected an entry named 'x'"),
    ({"contexts": [None, "x", {"name": "x"}]}, "contexts: context of 'x': expected a mapping"),
    ({"contexts": [{"name": "x", "context": {}}]}, "clusters: expected an entry named None"),
    ({"clusters": []}, "clusters: expected an entry named 'c'"),
    ({"clusters": _entries("cluster", "c", "c")}, "clusters: more than one entry is named 'c'"),
    ({"users": []}, "users: expected an entry named 'u'"),
    ({"users": _entries("user", "u", "u")}, "users: more than one entry is named 'u'"),
    ({"users": [{"name": "u", "user": SECRET}]}, "users: user of 'u': expected a mapping"),
]
WRONG_CLUSTERS: list[tuple[dict[str, Any], str]] = [
    ({"server": None}, "cluster.server: expected https://host:port"),
    ({"server": "http://api:6443"}, "cluster.server: expected https://host:port"),
    ({"server": "https://"}, "cluster.server: expected https://host:port"),
    ({"server": "https://api:99999"}, "cluster.server: expected https://host:port"),
    ({"server": "https://[::1"}, "cluster.server: expected https://host:port"),
    ({"server": f"https://u:{SECRET}@api"}, "cluster.server: expected https://host:port"),
    ({"server": 5}, "server: expected a text"),
    (
        {"insecure-skip-tls-verify": True},
        "cluster.insecure-skip-tls-verify: the API's certificate must be verified",
    ),
    ({"proxy-url": "http://p:1"}, "cluster.proxy-url: an API behind a proxy is not supported"),
    ({"certificate-authority": None}, "cluster.certificate-authority: expected a CA"),
    ({"certificate-authority": 5}, "certificate-authority: expected a text"),
    (
        {"certificate-authority-data": "QQ=="},
        "certificate-authority: certificate-authority-data is there as well, expected one of them",
    ),
    (
        {"certificate-authority": None, "certificate-authority-data": f"{SECRET}*"},
        "certificate-authority-data: expected base64",
    ),
    (
        {"certificate-authority": None, "certificate-authority-data": 5},
        "certificate-authority-data: expected a text",
    ),
    ({"tls-server-name": ["a"]}, "tls-server-name: expected a text"),
]
WRONG_USERS: list[tuple[dict[str, Any], str]] = [
    ({"client-key-data": f"{SECRET}*"}, "client-key-data: expected base64"),
    ({"client-key-data": "é"}, "client-key-data: expected base64"),
    ({"client-key": "k"}, "user.client-certificate: expected, for the other half is there"),
    ({"client-certificate": "c"}, "user.client-key: expected, for the other half is there"),
    (
        {"client-key": "k", "client-key-data": encoded(SECRET)},
        "client-key: client-key-data is there as well, expected one of them",
    ),
    ({"token": 5}, "token: expected a text"),
    ({"token": f"{SECRET}\nX-Evil: 1"}, "user.token: expected a token"),
    ({"tokenFile": {"a": SECRET}}, "tokenFile: expected a text"),
]


@pytest.mark.parametrize(("top", "expected"), WRONG)
def test_broken_reference_is_named(path: Path, top: dict[str, Any], expected: str) -> None:
    """Every name in the file must lead to exactly one entry."""
    assert error_of(write(path, document(**top))) == f"{path}: {expected}"


@pytest.mark.parametrize(("cluster", "expected"), WRONG_CLUSTERS)
def test_wrong_cluster_is_named(path: Path, cluster: dict[str, Any], expected: str) -> None:
    """An API that cannot be verified, or not be found, is refused with the key."""
    assert error_of(write(path, document(cluster))) == f"{path}: {expected}"


@pytest.mark.parametrize(("user", "expected"), WRONG_USERS)
def test_wrong_user_is_named(path: Path, user: dict[str, Any], expected: str) -> None:
    """Half a credential, or two of one kind, is an error, never a request without any."""
    assert error_of(write(path, document(user=user))) == f"{path}: {expected}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected a kubeconfig"),
        (b"[]", "expected a kubeconfig"),
        (b"a: [", "not valid YAML"),
        (b"a: 2026-99-99", "not valid YAML"),
        (b"\xff\xfe\xfd", "not a text file"),
        (b"{}", "current-context: expected the name of a context"),
    ],
)
def test_file_that_is_none_is_named(path: Path, content: bytes, expected: str) -> None:
    """A file cut short or overwritten says so; the agent goes on and reads it again later."""
    path.write_bytes(content)
    assert error_of(path) == f"{path}: {expected}"


def test_missing_file_is_named(path: Path) -> None:
    """Before a node has joined there is no kubeconfig."""
    assert error_of(path) == f"{path}: No such file or directory"
    assert error_of(path.parent) == f"{path.parent}: Is a directory"
