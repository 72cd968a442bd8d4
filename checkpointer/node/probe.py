"""The probe: asks every API endpoint whether it is ready, and keeps the contact's state.

A probe is one `GET /readyz` on a fresh connection with the CA verified. Slow while contact is
good (the open watch tells at once when it breaks, and wakes the probe), fast when it is not.

Whatever happens in a probe is a result: a thread that died here would leave the last contact
standing for ever.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests
import requests.adapters
import urllib3.exceptions

from checkpointer.config import Config
from checkpointer.core.contact import (
    Contact,
    ContactRules,
    ProbeOutcome,
    ProbeResult,
    after_probe,
    initial_contact,
    next_probe_in,
)
from checkpointer.errors import CheckpointerError
from checkpointer.node.kubeconfig import Kubeconfig, KubeconfigError, read_kubeconfig

log = logging.getLogger(__name__)

GIVE_UP_SECONDS = 30.0
"""How long one probe is waited for, round after round, before another one is sent after it."""

NOT_TRUSTED = "certificate not trusted"

_NO_ANSWER = ProbeResult(ProbeOutcome.FAILED, "timeout")


class _NamedServer(requests.adapters.HTTPAdapter):
    """Verifies the server under the name that the kubeconfig gives."""

    def __init__(self, server_name: str) -> None:
        self._server_name = server_name
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(
            *args, server_hostname=self._server_name, assert_hostname=self._server_name, **kwargs
        )


def probe_endpoint(endpoint: str, identity: Kubeconfig, timeout_seconds: float) -> ProbeResult:
    """Ask one endpoint's `/readyz`; every failure is a result, never an exception.

    What fails before anything is sent is ours (certificates, keys, tokens), and says nothing
    about the API: that is Denied, not Failed.
    """
    try:
        _check_files(identity)
        token = identity.bearer_token()
    except CheckpointerError as error:
        return ProbeResult(ProbeOutcome.DENIED, f"our credentials cannot be read: {error}")
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.verify = identity.ca_file
            if identity.client_certificate and identity.client_key:
                session.cert = (identity.client_certificate, identity.client_key)
            if identity.tls_server_name:
                session.mount("https://", _NamedServer(identity.tls_server_name))
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


def _check_files(identity: Kubeconfig) -> None:
    """Load what the TLS library will load. Raises KubeconfigError naming file and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority, certificate, key = (
        _opened(identity, "certificate-authority", identity.ca_file),
        _opened(identity, "client-certificate", identity.client_certificate),
        _opened(identity, "client-key", identity.client_key),
    )
    try:
        context.load_verify_locations(authority)
    except (OSError, ValueError):
        raise KubeconfigError(
            f"{identity.path}: certificate-authority ({authority}): expected certificates in PEM"
        ) from None
    if certificate is None:
        return
    try:
        # With an empty password, or the library asks the terminal for one.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError):
        raise KubeconfigError(
            f"{identity.path}: client-certificate ({certificate}): expected a certificate in PEM "
            "and its key"
        ) from None


def _opened(identity: Kubeconfig, key: str, name: str | None) -> str | None:
    """Return the file's name; KubeconfigError when it cannot be opened."""
    if name is None:
        return None
    try:
        with open(name, "rb"):
            return name
    except OSError as error:
        raise KubeconfigError(f"{identity.path}: {key} ({name}): {error.strerror}") from error


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
        ("Connection refused", "connection refused"),
        ("Connection reset", "connection reset"),
        ("unreachable", "network unreachable"),
        ("Timeout", "timeout"),
        ("timed out", "timeout"),
        ("SSL", "TLS failure"),
    ):
        if sign in text:
            return reason
    return type(error).__name__
