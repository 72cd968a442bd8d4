"""The probe: asks every API endpoint whether it is ready, and keeps the contact's state.

A probe is one `GET /readyz` on a fresh connection with the CA verified. Slow while contact is
good (the open watch tells at once when it breaks, and wakes the probe), fast when it is not.

Whatever happens in a probe is a result: a thread that died here would leave the last contact
standing for ever.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import requests
import requests.adapters
import urllib3.exceptions
from urllib3.util.ssl_ import create_urllib3_context

from checkpointer.config import Config
from checkpointer.core.contact import (
    Contact,
    ProbeOutcome,
    ProbeResult,
    after_probe,
    initial_contact,
    next_probe_in,
)
from checkpointer.core.rules import ContactRules
from checkpointer.errors import CheckpointerError
from checkpointer.node.kubeconfig import Kubeconfig, KubeconfigError, read_kubeconfig
from checkpointer.values import replace

log = logging.getLogger(__name__)

GIVE_UP_SECONDS = 30.0
"""How long one probe is waited for, round after round, before another one is sent after it."""

NOT_TRUSTED = "certificate not trusted"
REFUSED, RESET, NO_TLS = "connection refused", "connection reset", "TLS failure"
ITS_NODE_ANSWERS = frozenset({REFUSED, RESET, NO_TLS})
"""What shows that the endpoint's machine is there, whatever is the matter with the API server."""

_NO_ANSWER = ProbeResult(ProbeOutcome.FAILED, "timeout")


_Stamp = tuple[str, int, int, int, int, int]
"""A file's name, and what differs in another file and in another content."""


class _Adapter(requests.adapters.HTTPAdapter):
    """Goes by a TLS context that is ready, and by the server's name where one is given."""

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        self._settings: dict[str, Any] = {"ssl_context": context}
        if server_name:
            self._settings |= {"server_hostname": server_name, "assert_hostname": server_name}
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= self._settings
        super().init_poolmanager(*args, **kwargs)

    def cert_verify(self, conn: Any, *_: Any, **__: Any) -> None:
        """Add nothing to the context: it would be the authorities that browsers trust."""
        conn.cert_reqs = "CERT_REQUIRED"


def probe_endpoint(endpoint: str, identity: Kubeconfig, timeout_seconds: float) -> ProbeResult:
    """Ask one endpoint's `/readyz`; every failure is a result, never an exception.

    What fails before anything is sent is ours (certificates, keys, tokens), and says nothing
    about the API: that is Denied, not Failed.
    """
    try:
        context = tls_context(identity)
        token = identity.bearer_token()
    except CheckpointerError as error:
        return ProbeResult(ProbeOutcome.DENIED, f"our credentials cannot be read: {error}")
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.mount("https://", _Adapter(context, identity.tls_server_name))
            headers = {"Connection": "close", "User-Agent": "pod-checkpointer"}
            if token:
                headers["Authorization"] = f"Bearer {token}"
            response = session.get(
                f"{endpoint.rstrip('/')}/readyz",
                headers=headers,
                timeout=timeout_seconds,
                allow_redirects=False,
                stream=True,
            )
            response.close()
            return _from_status(response.status_code)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        return ProbeResult(ProbeOutcome.FAILED, _reason(error))
    except OSError as error:  # a file that went since it was checked
        return ProbeResult(ProbeOutcome.DENIED, f"it cannot be told: {type(error).__name__}")
    except Exception as error:
        log.exception("probing %s failed in a way that was not foreseen", endpoint)
        return ProbeResult(ProbeOutcome.DENIED, f"it cannot be told: {type(error).__name__}")


class _Asked:
    """One probe of one endpoint, in a thread of its own.

    Looking up a name knows no timeout: whoever asks waits as long as he likes, and for the same
    answer again later.
    """

    def __init__(
        self,
        endpoint: str,
        identity: Kubeconfig,
        timeout_seconds: float,
        done: threading.Condition,
        on_result: Callable[[ProbeResult, float], None],
    ) -> None:
        self.result: ProbeResult | None = None
        self._on_result = on_result
        self._began = time.monotonic()
        self._done = done
        arguments = (endpoint, identity, timeout_seconds)
        threading.Thread(target=self._ask, args=arguments, name="endpoint", daemon=True).start()

    @property
    def is_under_way(self) -> bool:
        """Tell whether its answer is still worth waiting for."""
        return self.result is None and time.monotonic() - self._began < GIVE_UP_SECONDS

    def _ask(self, endpoint: str, identity: Kubeconfig, timeout_seconds: float) -> None:
        result = probe_endpoint(endpoint, identity, timeout_seconds)
        self._on_result(result, time.monotonic() - self._began)
        with self._done:
            self.result = result
            self._done.notify_all()


class Prober:
    """Keeps probing in a thread; `contact` is always the newest state."""

    def __init__(
        self,
        endpoints: Sequence[str],
        kubeconfig: Path,
        rules: ContactRules,
        timeout_seconds: float,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self.contact: Contact = initial_contact(clock())
        self.rounds = 0
        self.on_result: Callable[[ProbeResult, float], None] = lambda _, __: None
        """Told, in a probe's thread, of each endpoint's answer and the seconds it took."""
        self._endpoints, self._kubeconfig = tuple(endpoints), kubeconfig
        self._identity: Kubeconfig | None = None
        self._identity_time: int | None = None
        self._rules, self._timeout = rules, timeout_seconds
        self.on_change = on_change
        """Called, in the prober's thread, when contact enters another state."""
        self._clock = clock
        self._asked: dict[str, _Asked] = {}
        self._done = threading.Condition()
        self._kicked = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def start(self) -> None:
        """Begin to probe; once it has begun this does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def kick(self) -> None:
        """Probe now: something hints that contact has changed."""
        self._kicked.set()

    def ask(self, endpoint: str, timeout_seconds: float) -> ProbeResult:
        """Probe some other endpoint once, as this identity; the contact is not touched."""
        try:
            return probe_endpoint(endpoint, self._read_identity(), timeout_seconds)
        except CheckpointerError as error:
            return ProbeResult(ProbeOutcome.DENIED, str(error))

    def close(self) -> None:
        """End the probing; a probe that is under way is not waited for."""
        self._stopping = True
        self._kicked.set()
        with self._done:
            self._done.notify_all()
        if self._thread.ident is not None:
            self._thread.join(1)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._judge(self._probe_all())
            except Exception:  # whatever it is, the next round must come
                log.exception("a round of probes failed; the next one follows")
            self._kicked.wait(next_probe_in(self.contact, self._rules))
            self._kicked.clear()

    def _judge(self, results: list[ProbeResult]) -> None:
        if self._stopping:
            return
        before = self.contact
        self.contact = after_probe(before, results, self._rules, self._clock())
        self.rounds += 1
        if (before.state, before.is_answering) != (self.contact.state, self.contact.is_answering):
            self.on_change()

    def _probe_all(self) -> list[ProbeResult]:
        try:
            identity = self._read_identity()
        except CheckpointerError as error:
            return [ProbeResult(ProbeOutcome.DENIED, str(error))]
        endpoints = self._endpoints or (identity.server,)
        under_way = {e: one for e, one in self._asked.items() if one.is_under_way}
        asked = {
            e: under_way.get(e) or _Asked(e, identity, self._timeout, self._done, self.on_result)
            for e in endpoints
        }
        with self._done:
            # Connecting and answering may each take the timeout.
            self._done.wait_for(lambda: self._stopping or _is_told(asked), 2 * self._timeout)
        self._asked = asked
        return [one.result or _NO_ANSWER for one in asked.values()]

    def _read_identity(self) -> Kubeconfig:
        try:
            changed_at = self._kubeconfig.stat().st_mtime_ns
        except OSError:
            changed_at = None
        if self._identity is None or changed_at != self._identity_time:
            self._identity = read_kubeconfig(self._kubeconfig)
            self._identity_time = changed_at
        return self._identity


def prober_of(config: Config) -> Prober:
    """Return the configuration's prober, not started yet."""
    jitter = random.uniform(0.0, config.probe.jitter_seconds)  # noqa: S311 - spreads load
    return Prober(
        config.endpoints,
        config.kubeconfig,
        replace(config.contact, jitter_seconds=jitter),
        config.probe.timeout_seconds,
    )


def _is_told(asked: dict[str, _Asked]) -> bool:
    """Tell whether nothing better than what is known can still come."""
    results = [one.result for one in asked.values()]
    return None not in results or any(
        result is not None and result.outcome is ProbeOutcome.ANSWERED for result in results
    )


def tls_context(identity: Kubeconfig) -> ssl.SSLContext:
    """Return what verifies the API server and shows who we are; nobody may change it.

    It is made anew when one of the files has changed: reading certificates and keys takes longer
    than all the rest of a probe. Raises KubeconfigError naming file and key.
    """
    return _context(
        str(identity.path),
        _stamp(identity, "certificate-authority", identity.ca_file),
        _stamp(identity, "client-certificate", identity.client_certificate),
        _stamp(identity, "client-key", identity.client_key),
    )


@functools.lru_cache(maxsize=1)
def _context(
    kubeconfig: str, authority: _Stamp | None, certificate: _Stamp | None, key: _Stamp | None
) -> ssl.SSLContext:
    context = create_urllib3_context()
    try:
        context.load_verify_locations(authority[0] if authority else None)
    except (OSError, ValueError, TypeError):
        raise KubeconfigError(
            f"{kubeconfig}: certificate-authority ({authority and authority[0]}): expected "
            "certificates in PEM"
        ) from None
    if certificate is None:
        return context
    try:
        # With an empty password, or the library asks the terminal for one.
        context.load_cert_chain(certificate[0], key[0] if key else None, password="")
    except (OSError, ValueError):
        raise KubeconfigError(
            f"{kubeconfig}: client-certificate ({certificate[0]}): expected a certificate in PEM "
            "and its key"
        ) from None
    return context


def _stamp(identity: Kubeconfig, key: str, name: str | None) -> _Stamp | None:
    """Return what tells a file and its content apart; KubeconfigError when it cannot be opened."""
    if name is None:
        return None
    try:
        with open(name, "rb") as file:
            found = os.fstat(file.fileno())
    except OSError as error:
        raise KubeconfigError(f"{identity.path}: {key} ({name}): {error.strerror}") from error
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return (name, found.st_dev, found.st_ino, found.st_size, *times)


def _from_status(status: int) -> ProbeResult:
    reason = f"HTTP {status}"
    if status < 300 or status == 429:
        return ProbeResult(ProbeOutcome.ANSWERED, reason)
    if status in (401, 403):
        return ProbeResult(ProbeOutcome.DENIED, reason)
    if status >= 500:
        return ProbeResult(ProbeOutcome.SERVER_ERROR, reason)
    return ProbeResult(ProbeOutcome.FAILED, f"{reason}: not an API server")


def _reason(error: BaseException) -> str:
    """Return in two words what failed: library messages change and carry object ids."""
    text = repr(error)
    for sign, reason in (
        ("CERTIFICATE_VERIFY_FAILED", NOT_TRUSTED),
        ("CertificateError", NOT_TRUSTED),
        ("NameResolutionError", "name not resolved"),
        ("Connection refused", REFUSED),
        ("Connection reset", RESET),
        ("unreachable", "network unreachable"),
        ("Timeout", "timeout"),
        ("timed out", "timeout"),
        ("SSL", NO_TLS),
    ):
        if sign in text:
            return reason
    return type(error).__name__
