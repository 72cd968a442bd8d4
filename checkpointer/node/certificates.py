"""Until when the node's identity is valid: its certificates and tokens, read from where they lie.

Importing the library costs a tenth of a second; only commands do it, never the agent.
"""

from __future__ import annotations

from pathlib import Path

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.errors import CheckpointerError
from checkpointer.node.kubeconfig import Kubeconfig, read_kubeconfig
from checkpointer.store.token import token_expiry
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a certificate holds, in seconds of the Unix epoch."""

    subject: str
    """In the form of RFC 4514, such as `CN=system:node:edge-07,O=system:nodes`."""
    begins: float
    ends: float


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who a kubeconfig says we are, and until when."""

    server: str
    authorities: tuple[Validity, ...]
    """The certificates that the API's own is verified by; one that is valid will do."""
    certificate: Validity | None = None
    has_token: bool = False
    token_expires: float | None = None
    """None where the token does not tell."""


def read_identity(path: Path) -> Fact[NodeIdentity]:
    """Return what the kubeconfig and the files that it names say. Nothing is sent anywhere."""
    try:
        return Known(_identity(read_kubeconfig(path)))
    except CheckpointerError as error:
        return Unknown(str(error))


def _identity(config: Kubeconfig) -> NodeIdentity:
    token = config.bearer_token()
    certificate = None
    if config.client_certificate is not None:
        certificate = _certificates(config, "client-certificate", config.client_certificate)[0]
    return NodeIdentity(
        server=config.server,
        authorities=_certificates(config, "certificate-authority", config.ca_file),
        certificate=certificate,
        has_token=token is not None,
        token_expires=token_expiry(token.encode()) if token else None,
    )


def _certificates(config: Kubeconfig, key: str, name: str) -> tuple[Validity, ...]:
    from cryptography import x509

    shown = f"{config.path}: {key}" + ("" if name.startswith("/proc/self/fd/") else f" ({name})")
    try:
        found = x509.load_pem_x509_certificates(Path(name).read_bytes())
        return tuple(
            Validity(
                one.subject.rfc4514_string(),
                one.not_valid_before_utc.timestamp(),
                one.not_valid_after_utc.timestamp(),
            )
            for one in found
        )
    except OSError as error:
        raise CheckpointerError(f"{shown}: {error.strerror}") from error
    except ValueError:
        raise CheckpointerError(f"{shown}: expected certificates in PEM") from None
