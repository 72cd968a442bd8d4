"""Who we are to the API, and until when."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest
import yaml

from checkpointer.core.facts import Known, Unknown
from checkpointer.node.certificates import NodeIdentity, read_identity
from checkpointer.simulation.certificates import Authority, write_kubeconfig


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def kubeconfig(tmp_path: Path, authority: Authority) -> Path:
    path = tmp_path / "kubelet.conf"
    client = authority.client("system:node:node-1", "system:nodes")
    write_kubeconfig(path, "https://api:6443", authority.certificate, client)
    return path


def identity_of(path: Path) -> NodeIdentity:
    found = read_identity(path)
    assert isinstance(found, Known), found
    return found.value


def change(path: Path, part: str, **values: str) -> None:
    """Change the cluster or user of a kubeconfig."""
    document = yaml.safe_load(path.read_text())
    document[f"{part}s"][0][part] |= values
    path.write_text(yaml.safe_dump(document))


def test_the_client_certificate_tells_who_and_until_when(kubeconfig: Path) -> None:
    """Inline or in files: what the TLS library reads is read."""
    found = identity_of(kubeconfig)
    assert found.server == "https://api:6443"
    assert found.certificate is not None
    assert "CN=system:node:node-1" in found.certificate.subject
    assert found.certificate.begins < time.time() < found.certificate.ends
    assert len(found.authorities) == 1
    assert not found.has_token


def test_every_authority_of_a_bundle_is_told(kubeconfig: Path, authority: Authority) -> None:
    """While one is replaced there are two."""
    bundle = authority.certificate + Authority().certificate
    change(
        kubeconfig, "cluster", **{"certificate-authority-data": base64.b64encode(bundle).decode()}
    )
    assert len(identity_of(kubeconfig).authorities) == 2


def test_a_token_tells_its_expiry_and_never_itself(kubeconfig: Path) -> None:
    """The value appears nowhere."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1900000000}).encode()).rstrip(b"=")
    change(kubeconfig, "user", token=f"e30.{claims.decode()}.c2VjcmV0")
    found = identity_of(kubeconfig)
    assert (found.has_token, found.token_expires) == (True, 1900000000.0)
    assert "c2VjcmV0" not in repr(found)


def test_what_cannot_be_read_is_unknown_and_named(kubeconfig: Path, tmp_path: Path) -> None:
    """The file and the key, not its content."""
    assert isinstance(read_identity(tmp_path / "gone"), Unknown)
    junk = base64.b64encode(b"no certificate").decode()
    change(kubeconfig, "cluster", **{"certificate-authority-data": junk})
    assert read_identity(kubeconfig) == Unknown(
        f"{kubeconfig}: certificate-authority: expected certificates in PEM"
    )
