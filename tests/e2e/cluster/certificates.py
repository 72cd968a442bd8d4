"""The cluster's one CA, its certificates and kubeconfigs, and the service-account keys."""

from __future__ import annotations

import base64
import datetime as dt
import functools
import ipaddress
import json
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = dt.timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate (or public key) and its private key, PEM."""

    certificate: str
    key: str


class Authority:
    """A certificate authority that lives as long as the test."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "e2e-ca")])
        builder = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        certificate = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.pair = Pair(_pem(certificate), _key_pem(self._key))

    def client(self, name: str, group: str | None = None) -> Pair:
        """Return a client certificate: user `name` in `group`."""
        return self._issue(name, group, ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def server(self, name: str, addresses: list[str]) -> Pair:
        """Return a serving certificate for host names and IP addresses."""
        return self._issue(name, None, ExtendedKeyUsageOID.SERVER_AUTH, addresses)

    def kubeconfig(self, server: str, client: Pair) -> str:
        """Return a kubeconfig (JSON is YAML) with everything in it."""
        user = {
            "client-certificate-data": _base64(client.certificate),
            "client-key-data": _base64(client.key),
        }
        cluster = {"server": server, "certificate-authority-data": _base64(self.pair.certificate)}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "e2e", "cluster": cluster}],
                "users": [{"name": "e2e", "user": user}],
                "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
                "current-context": "e2e",
            }
        )

    def _issue(
        self, name: str, group: str | None, usage: x509.ObjectIdentifier, addresses: list[str]
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if group is not None:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        builder = self._builder(x509.Name(attributes), key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if addresses:
            names = x509.SubjectAlternativeName([_general_name(a) for a in addresses])
            builder = builder.add_extension(names, critical=False)
        return Pair(_pem(builder.sign(self._key, hashes.SHA256())), _key_pem(key))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + _LIFETIME)
        )


@functools.cache
def service_account_keys() -> Pair:
    """Return the RSA pair that signs and verifies service-account tokens."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Pair(public.decode(), _key_pem(key))


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
