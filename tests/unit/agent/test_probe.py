"""The probe: what each kind of failure is taken for, and how soon it is known."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkpointer.core.contact import ContactRules, ContactState, ProbeOutcome, ProbeResult
from checkpointer.node import probe as probe_module
from checkpointer.node.kubeconfig import Kubeconfig, read_kubeconfig
from checkpointer.node.probe import Prober, probe_endpoint, tls_context
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.authorizer import User
from checkpointer.simulation.certificates import Authority
from checkpointer.simulation.connections import Mode, free_port
from checkpointer.simulation.waiting import wait_until

ANSWERED, DENIED = ProbeOutcome.ANSWERED, ProbeOutcome.DENIED
FAILED, SERVER_ERROR = ProbeOutcome.FAILED, ProbeOutcome.SERVER_ERROR

RULES = ContactRules(
    recovery_seconds=0.0,
    denied_seconds=0.2,
    healthy_interval_seconds=60.0,
    lost_interval_seconds=0.1,
)
"""A minute while all is well: what is noticed sooner was noticed for another reason."""


@pytest.fixture
def identity(kubeconfig: Path) -> Kubeconfig:
    return read_kubeconfig(kubeconfig)


@pytest.mark.parametrize(
    ("mode", "outcome", "reason"),
    [
        (Mode.SERVING, ANSWERED, "HTTP 200"),
        (Mode.EMPTY_LISTS, ANSWERED, "HTTP 200"),
        (Mode.THROTTLED, ANSWERED, "HTTP 429"),
        (Mode.UNAUTHORIZED, DENIED, "HTTP 401"),
        (Mode.FORBIDDEN, DENIED, "HTTP 403"),
        (Mode.ERROR, SERVER_ERROR, "HTTP 500"),
        (Mode.REFUSED, FAILED, "connection refused"),
        (Mode.RESET, FAILED, "connection reset"),
        (Mode.BLACK_HOLE, FAILED, "timeout"),
        (Mode.WRONG_CERTIFICATE, FAILED, "certificate not trusted"),
    ],
    ids=lambda value: value.name if isinstance(value, Mode) else "",
)
def test_each_kind_of_answer_is_told_apart(
    api: ApiServer, identity: Kubeconfig, mode: Mode, outcome: ProbeOutcome, reason: str
) -> None:
    """A refusal, a busy server, a sick one, a captive portal and silence are different things."""
    api.mode = mode
    assert probe_endpoint(api.url, identity, 0.3) == ProbeResult(outcome, reason)


def test_slow_answer_is_an_answer_within_the_timeout(api: ApiServer, identity: Kubeconfig) -> None:
    """Late is not lost, until the timeout."""
    api.slow_seconds, api.mode = 0.3, Mode.SLOW
    assert probe_endpoint(api.url, identity, 2.0).outcome is ANSWERED
    assert probe_endpoint(api.url, identity, 0.1) == ProbeResult(FAILED, "timeout")


def test_stopped_server_refuses(api: ApiServer, identity: Kubeconfig) -> None:
    """Where nothing listens, connections are refused."""
    api.stop()
    assert probe_endpoint(api.url, identity, 1.0) == ProbeResult(FAILED, "connection refused")


def test_unknown_name_is_a_failure(identity: Kubeconfig) -> None:
    """A name that nobody resolves is an API that cannot be reached."""
    seen = probe_endpoint("https://api.invalid:6443", identity, 1.0)
    assert seen == ProbeResult(FAILED, "name not resolved")


@pytest.mark.parametrize("endpoint", ["https://.:6443", f"https://{'a' * 300}:1", "https://%zz"])
def test_impossible_endpoint_is_a_result(identity: Kubeconfig, endpoint: str) -> None:
    """Whatever the libraries make of an endpoint, it never becomes an exception or an answer."""
    assert probe_endpoint(endpoint, identity, 0.5).outcome is not ANSWERED


def test_certificate_for_another_name_is_not_the_api(
    api: ApiServer, identity: Kubeconfig, authority: Authority
) -> None:
    """Our own authority's certificate of somebody else is refused."""
    api.start(authority.serving("etcd"))
    seen = probe_endpoint(api.url, identity, 1.0)
    assert seen == ProbeResult(FAILED, "certificate not trusted")


def test_server_name_of_the_kubeconfig_is_expected(
    api: ApiServer, identity: Kubeconfig, authority: Authority
) -> None:
    """With tls-server-name the server is verified under that name, and only that."""
    api.start(authority.serving("kubernetes"))
    named = replace(identity, tls_server_name="kubernetes")
    assert probe_endpoint(api.url, named, 1.0).outcome is ANSWERED
    api.start(authority.serving("127.0.0.1", "localhost"))
    seen = probe_endpoint(api.url, named, 1.0)
    assert seen == ProbeResult(FAILED, "certificate not trusted")


def test_other_page_is_not_the_api(identity: Kubeconfig, api: ApiServer) -> None:
    """Only /readyz of an API server is an answer; a 404 or a redirect is somebody else."""
    assert probe_endpoint(f"{api.url}/elsewhere", identity, 1.0) == (
        ProbeResult(FAILED, "HTTP 404: not an API server")
    )


def test_environment_is_not_heeded(
    api: ApiServer, identity: Kubeconfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy or certificate bundle in the environment does not come between us and the API."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    assert probe_endpoint(api.url, identity, 1.0).outcome is ANSWERED


def test_client_certificate_is_shown(api: ApiServer, identity: Kubeconfig) -> None:
    """The probe comes as the node: a server that knows nobody else must not deny it."""
    assert identity.client_certificate
    users: list[Any] = []
    with _tls_peer(api, users) as url:
        probe_endpoint(url, identity, 1.0)
    subject = dict(pair for group in users[0]["subject"] for pair in group)
    assert subject["commonName"] == "system:node:node-1"


def test_nobody_else_is_trusted(api: ApiServer, identity: Kubeconfig) -> None:
    """A probe adds nothing to what verifies the server: the library would, and knows many."""
    assert probe_endpoint(api.url, identity, 1.0).outcome is ANSWERED
    context = tls_context(identity)
    assert context is tls_context(identity)
    assert context.cert_store_stats() == {"x509": 1, "crl": 0, "x509_ca": 1}
    assert context.verify_mode is ssl.CERT_REQUIRED


@contextmanager
def _tls_peer(api: ApiServer, users: list[Any]) -> Iterator[str]:
    """Serve one TLS connection with the API's certificate, note the client's, and hang up."""
    context = api._listener.contexts[False]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) as secured:
                users.append(secured.getpeercert())

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)


@pytest.mark.parametrize("key", ["ca_file", "client_certificate", "client_key"])
@pytest.mark.parametrize("content", [None, b"", b"cut off"])
def test_broken_file_of_ours_is_not_an_outage(
    api: ApiServer, identity: Kubeconfig, folder: Path, key: str, content: bytes | None
) -> None:
    """A certificate that a power cut has emptied tells nothing about the API: nothing is done."""
    broken = folder / "broken.pem"
    if content is not None:
        broken.write_bytes(content)
    seen = probe_endpoint(api.url, replace(identity, **{key: str(broken)}), 1.0)
    assert seen.outcome is DENIED
    assert seen.reason.startswith(f"our credentials cannot be read: {folder}/kubelet.conf: c")
    assert ("broken.pem" in seen.reason) == (key != "client_key" or content is None)


def test_encrypted_key_is_not_asked_for(
    api: ApiServer, identity: Kubeconfig, folder: Path, authority: Authority
) -> None:
    """A key with a password is refused: nobody is at the terminal to type it."""
    from cryptography.hazmat.primitives import serialization

    pair = authority.client("somebody")
    private = serialization.load_pem_private_key(pair.key, None)
    encrypted = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    (folder / "locked.key").write_bytes(encrypted)
    (folder / "locked.crt").write_bytes(pair.certificate)
    locked = replace(
        identity,
        client_certificate=str(folder / "locked.crt"),
        client_key=str(folder / "locked.key"),
    )
    assert probe_endpoint(api.url, locked, 1.0).outcome is DENIED


@contextmanager
def probing(
    kubeconfig: Path, *endpoints: str, rules: ContactRules = RULES, timeout: float = 0.5
) -> Iterator[Prober]:
    wakes: list[float] = []
    prober = Prober(endpoints, kubeconfig, rules, timeout, lambda: wakes.append(time.monotonic()))
    prober.wakes = wakes  # type: ignore[attr-defined]
    prober.start()
    try:
        yield prober
    finally:
        prober.close()


def until(prober: Prober, state: ContactState, seconds: float = 5.0) -> float:
    return wait_until(lambda: prober.contact.state is state, seconds, f"contact {state.value}")


def test_boot_without_an_api_is_lost_at_once(kubeconfig: Path, api: ApiServer) -> None:
    """At boot the first quick failures suffice: a third of a second after the start."""
    api.stop()
    with probing(kubeconfig) as prober:
        assert until(prober, ContactState.LOST) < 1.0
        assert prober.contact.reason == "connection refused"


def test_kick_probes_at_once(kubeconfig: Path, api: ApiServer) -> None:
    """A hint that contact has changed is followed without waiting for the interval."""
    with probing(kubeconfig) as prober:
        until(prober, ContactState.REACHABLE)
        rounds = prober.rounds
        prober.kick()
        assert wait_until(lambda: prober.rounds > rounds, 2, "another round") < 1.0


def test_kick_during_a_probe_is_not_lost(kubeconfig: Path, api: ApiServer) -> None:
    """A hint that comes while a probe is under way causes another one after it."""
    api.slow_seconds, api.mode = 0.2, Mode.SLOW
    with probing(kubeconfig, timeout=1.0) as prober:
        wait_until(lambda: api.requests["get readyz"] == 1, 2, "the first probe")
        prober.kick()
        wait_until(lambda: prober.rounds == 2, 2, "a second round")


def test_closed_port_is_lost_within_a_second(kubeconfig: Path, api: ApiServer) -> None:
    """From the hint that the watch gives to Lost takes three quick probes."""
    with probing(kubeconfig) as prober:
        until(prober, ContactState.REACHABLE)
        api.stop()
        prober.kick()
        assert until(prober, ContactState.LOST) < 1.0
        assert prober.rounds == 4


def test_black_hole_is_bounded_by_the_timeout(kubeconfig: Path, api: ApiServer) -> None:
    """Silence is a failure after the timeout, three times over."""
    with probing(kubeconfig, timeout=0.2) as prober:
        until(prober, ContactState.REACHABLE)
        api.mode = Mode.BLACK_HOLE
        prober.kick()
        assert until(prober, ContactState.LOST) < 3 * (0.2 + 0.1) + 0.7
        assert prober.contact.reason == "timeout"


def test_resolver_that_hangs_is_bounded_too(
    kubeconfig: Path, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timeout of a library covers the lookup of a name; ours does, and loses no answer."""
    resolve, hang = socket.getaddrinfo, threading.Event()

    def slow(*args: Any, **kwargs: Any) -> Any:
        assert hang.wait(10)
        return resolve(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with probing(kubeconfig, timeout=0.1) as prober:
        assert until(prober, ContactState.LOST) < 2.0
        assert prober.contact.reason == "timeout"
        assert [t.name for t in threading.enumerate()].count("endpoint") == 1
        hang.set()
        until(prober, ContactState.REACHABLE)


def test_probe_that_hangs_for_ever_is_given_up(
    kubeconfig: Path, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that keeps a probe in suspense must not hide that the API is back."""
    monkeypatch.setattr(probe_module, "GIVE_UP_SECONDS", 0.3)
    hang, resolve, calls = threading.Event(), socket.getaddrinfo, []

    def once(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            assert hang.wait(10)
        return resolve(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    with probing(kubeconfig, timeout=0.1) as prober:
        until(prober, ContactState.REACHABLE)
        assert not hang.is_set()
    hang.set()


def test_captive_portal_is_lost(kubeconfig: Path, api: ApiServer) -> None:
    """Who shows a certificate of somebody else is not the API, however friendly the answer."""
    api.mode = Mode.WRONG_CERTIFICATE
    with probing(kubeconfig) as prober:
        until(prober, ContactState.LOST)
        assert prober.contact.reason == "certificate not trusted"


@pytest.mark.parametrize("mode", [Mode.UNAUTHORIZED, Mode.FORBIDDEN])
def test_refused_credentials_are_denied_not_lost(
    kubeconfig: Path, api: ApiServer, mode: Mode
) -> None:
    """The API is there; that it does not know us is no reason to start copies."""
    api.mode = mode
    with probing(kubeconfig) as prober:
        until(prober, ContactState.DENIED)
        rounds = prober.rounds
        wait_until(lambda: prober.rounds >= rounds + 4, 5, "more rounds")
        assert prober.contact.state is ContactState.DENIED


def test_server_errors_are_lost_only_after_long(kubeconfig: Path, api: ApiServer) -> None:
    """A server that answers 500 is spared the quick rule, and lost when it goes on."""
    api.mode = Mode.ERROR
    rules = replace(RULES, server_error_seconds=0.5)
    with probing(kubeconfig, rules=rules) as prober:
        wait_until(lambda: prober.rounds >= 3, 5, "three rounds")
        assert prober.contact.state is ContactState.SUSPECT
        until(prober, ContactState.LOST)
        assert prober.contact.reason == "HTTP 500"


def test_one_endpoint_that_answers_is_enough(kubeconfig: Path, api: ApiServer) -> None:
    """Contact is lost only when every endpoint fails; a dead one does not even slow it down."""
    dead, silent = f"https://127.0.0.1:{free_port()}", socket.create_server(("127.0.0.1", 0))
    with silent:
        hole = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with probing(kubeconfig, dead, hole, api.url, timeout=2.0) as prober:
            assert until(prober, ContactState.REACHABLE) < 1.0
    with probing(kubeconfig, dead, api.url) as prober:
        until(prober, ContactState.REACHABLE)
        api.stop()
        prober.kick()
        until(prober, ContactState.LOST)


def test_old_answer_is_not_taken_for_a_new_one(kubeconfig: Path, api: ApiServer) -> None:
    """An endpoint that answered too late to matter is asked again in the next round."""
    api.slow_seconds, api.mode = 0.6, Mode.SLOW
    with probing(kubeconfig, timeout=0.2, rules=replace(RULES, suspect_interval_seconds=2.0)) as p:
        wait_until(lambda: p.rounds == 1, 2, "a round without an answer")
        assert p.contact.failures == 1
        wait_until(lambda: not _is_asking(), 2, "the late answer")
        api.stop()
        p.kick()
        wait_until(lambda: p.rounds == 2, 2, "another round")
        assert (p.contact.failures, p.contact.reason) == (2, "connection refused")


def _is_asking() -> bool:
    return any(thread.name == "endpoint" for thread in threading.enumerate())


def test_contact_comes_back(kubeconfig: Path, api: ApiServer) -> None:
    """Lost is not for ever: the first answers are noticed at the interval for lost contact."""
    api.mode = Mode.REFUSED
    with probing(kubeconfig) as prober:
        until(prober, ContactState.LOST)
        api.mode = Mode.SERVING
        until(prober, ContactState.REACHABLE)


def test_each_change_wakes(kubeconfig: Path, api: ApiServer) -> None:
    """The loop hears of each change once, and of nothing while nothing changes."""
    with probing(kubeconfig) as prober:
        until(prober, ContactState.REACHABLE)
        for _ in range(3):
            rounds = prober.rounds
            prober.kick()
            wait_until(lambda seen=rounds: prober.rounds > seen, 2, "another round")
        assert len(prober.wakes) == 1  # type: ignore[attr-defined]
        api.stop()
        prober.kick()
        until(prober, ContactState.LOST)
        assert len(prober.wakes) == 3  # type: ignore[attr-defined]  # suspect, lost


def test_rotated_certificate_is_picked_up(
    kubeconfig: Path, api: ApiServer, folder: Path, authority: Authority
) -> None:
    """The kubelet replaces its certificate file; the next probe shows the new one."""
    users: list[Any] = []
    for name in ("system:node:node-1", "system:node:renamed"):
        pair = authority.client(name)
        new = folder / "pki/new.pem"
        new.write_bytes(pair.certificate + pair.key)
        new.replace(folder / "pki/kubelet-client-current.pem")
        with _tls_peer(api, users) as url:
            probe_endpoint(url, read_kubeconfig(kubeconfig), 1.0)
    names = [dict(p for group in user["subject"] for p in group)["commonName"] for user in users]
    assert names == ["system:node:node-1", "system:node:renamed"]


def test_changed_kubeconfig_is_read_again(
    kubeconfig: Path, api: ApiServer, authority: Authority
) -> None:
    """When the API moves, editing the kubeconfig is enough."""
    content = yaml.safe_load(kubeconfig.read_text())
    right = content["clusters"][0]["cluster"]["server"]
    content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    kubeconfig.write_text(yaml.safe_dump(content))
    with probing(kubeconfig) as prober:
        until(prober, ContactState.LOST)
        content["clusters"][0]["cluster"]["server"] = right
        kubeconfig.write_text(yaml.safe_dump(content))
        until(prober, ContactState.REACHABLE)


@pytest.mark.parametrize("content", ["", "[]", "a: [", "current-context: 5"])
def test_unreadable_kubeconfig_is_denied_and_heals(
    kubeconfig: Path, api: ApiServer, content: str
) -> None:
    """Half a kubeconfig tells nothing about the API; the whole one is read once it is there."""
    whole = kubeconfig.read_text()
    kubeconfig.write_text(content)
    with probing(kubeconfig) as prober:
        until(prober, ContactState.DENIED)
        assert str(kubeconfig) in prober.contact.reason
        kubeconfig.write_text(whole)
        until(prober, ContactState.REACHABLE)


def test_nothing_ends_the_probing(
    kubeconfig: Path, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of our own in one round is told, and the next round comes."""
    reads: list[Callable[[], object]] = []
    real = read_kubeconfig

    def faulty(path: Path) -> Kubeconfig:
        reads.append(faulty)
        if len(reads) == 1:
            raise RuntimeError("unforeseen")
        return real(path)

    monkeypatch.setattr(probe_module, "read_kubeconfig", faulty)
    with probing(kubeconfig) as prober:
        until(prober, ContactState.REACHABLE)
    assert len(reads) == 2


def test_token_is_sent(api: ApiServer, kubeconfig: Path, folder: Path) -> None:
    """Without a client certificate the bearer token tells who we are; it is read each time."""
    api.tokens["t-1"] = User("somebody", ())
    content = yaml.safe_load(kubeconfig.read_text())
    content["users"][0]["user"] = {"tokenFile": "token"}
    kubeconfig.write_text(yaml.safe_dump(content))
    (folder / "token").write_text("t-1\n")
    assert probe_endpoint(api.url, read_kubeconfig(kubeconfig), 1.0).outcome is ANSWERED
    (folder / "token").write_text("")
    seen = probe_endpoint(api.url, read_kubeconfig(kubeconfig), 1.0)
    assert (seen.outcome, str(folder / "token") in seen.reason) == (DENIED, True)


@pytest.mark.parametrize("mode", [Mode.SERVING, Mode.BLACK_HOLE])
def test_close_does_not_wait_for_a_probe(kubeconfig: Path, api: ApiServer, mode: Mode) -> None:
    """Ending the agent takes no time, whatever the network does."""
    with probing(kubeconfig, timeout=1.5) as prober:
        api.mode = mode
        prober.kick()
        wait_until(_is_asking, 2, "a probe") if mode is Mode.BLACK_HOLE else None
        began = time.monotonic()
        prober.close()
        assert time.monotonic() - began < 0.5


def test_inline_credentials_work(kubeconfig: Path, api: ApiServer, folder: Path) -> None:
    """A kubeconfig with all in it needs no other file."""
    pem = (folder / "pki/kubelet-client-current.pem").read_bytes()
    content = yaml.safe_load(kubeconfig.read_text())
    data = base64.b64encode(pem).decode()
    content["users"][0]["user"] = {"client-certificate-data": data, "client-key-data": data}
    kubeconfig.write_text(yaml.safe_dump(content))
    (folder / "pki/kubelet-client-current.pem").unlink()
    assert probe_endpoint(api.url, read_kubeconfig(kubeconfig), 1.0).outcome is ANSWERED
