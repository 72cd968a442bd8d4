"""Certificates of the simulated cluster, and the kubeconfig that goes with them.

They are real ones: the agent verifies the server as it would a real one, and the server knows
its clients by theirs. Elliptic keys, because a demo should not spend its first second on RSA.
"""

from __future__ import annotations

import base64
import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from checkpointer.simulation.planted import PLANTED
from checkpointer.values import dataclass

_LIFETIME = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """A certificate authority, made anew with each instance."""

    def __init__(self, name: str = "kubernetes") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._build(self._name, self._key.public_key(), is_authority=True)

    @property
    def certificate(self) -> bytes:
        """Return the authority's own certificate as PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def serving(self, *names: str) -> KeyPair:
        """Issue a serving certificate for the DNS names and IP addresses."""
        return self._issue(
            [x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")],
            ExtendedKeyUsageOID.SERVER_AUTH,
            x509.SubjectAlternativeName([_general_name(name) for name in names]),
        )

    def client(self, user: str, *groups: str) -> KeyPair:
        """Issue a client certificate: the common name is the user, organizations the groups."""
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        return self._issue(subject, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def _issue(
        self,
        subject: list[x509.NameAttribute[str]],
        usage: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None,
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._build(x509.Name(subject), key.public_key(), usage=usage, names=names)
        return KeyPair(
            certificate.public_bytes(serialization.Encoding.PEM),
            # PEM allows for words before its blocks (RFC 7468, section 2).
            f"{PLANTED}\n".encode()
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def _build(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        *,
        is_authority: bool = False,
        usage: x509.ObjectIdentifier | None = None,
        names: x509.SubjectAlternativeName | None = None,
    ) -> x509.Certificate:
        """Sign a certificate with all extensions that strict verifiers (Python 3.13) ask for."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + _LIFETIME)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def write_kubeconfig(path: Path, server: str, authority: bytes, client: KeyPair) -> None:
    """Write a kubeconfig as kubeadm writes /etc/kubernetes/kubelet.conf.

    The authority is inline; certificate and key share one file beside it, which the kubelet
    rotates: `pki/kubelet-client-current.pem`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    credentials = path.parent / "pki" / "kubelet-client-current.pem"
    credentials.parent.mkdir(mode=0o700, exist_ok=True)
    credentials.touch(mode=0o600)
    credentials.write_bytes(client.certificate + client.key)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(_kubeconfig(server, authority, credentials)))


def _kubeconfig(server: str, authority: bytes, credentials: Path) -> dict[str, object]:
    name = "simulated"
    cluster = {
        "server": server,
        "certificate-authority-data": base64.b64encode(authority).decode(),
    }
    user = {"client-certificate": str(credentials), "client-key": str(credentials)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
