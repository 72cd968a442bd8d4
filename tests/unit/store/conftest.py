"""Shared by the tests of the store: volumes as the kubelet writes them, and a failing system."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.checkpoint import Revision
from checkpointer.core.workload import Workload
from checkpointer.store.rendered import read_rendered
from checkpointer.store.revisions import NewRevision
from tests.unit.store.faulty import ERRORS, READING, CrashError, Fault, FaultyCalls


@pytest.fixture
def ram_path() -> Iterator[Path]:
    """A folder where fsync costs nothing, for the thousands of runs of a sweep."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="pod-checkpointer-test-", dir=base))
    path.chmod(0o700)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a store that does not exist yet."""
    tmp_path.chmod(0o700)
    return tmp_path / "store"


def jwt(**claims: object) -> bytes:
    """A token of the form that the API server issues, with a signature nobody checks."""

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    return b".".join((part({"alg": "RS256"}), part(claims), b"c2lnbmF0dXJl"))


def render_volume(
    path: Path, files: Mapping[str, bytes], *, mode: int = 0o644, stamp: str = "1"
) -> Path:
    """Write a volume the way the kubelet's AtomicWriter does; again for an update."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)
    folder = path / f"..2026_01_01_00_00_00.{stamp}"
    folder.mkdir(mode=0o755)
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
    old = path / os.readlink(path / "..data") if (path / "..data").is_symlink() else None
    (path / "..data_tmp").symlink_to(folder.name)
    os.rename(path / "..data_tmp", path / "..data")
    for name in {name.split("/", 1)[0] for name in files}:
        if not (path / name).is_symlink():
            (path / name).symlink_to(f"..data/{name}")
    if old:
        shutil.rmtree(old)
    return path


TOKEN = jwt(exp=2_000_000_000)
WORKLOAD = Workload("kube-system", "DaemonSet", "kube-apiserver")


def volumes_at(path: Path, token: bytes = TOKEN, secret: bytes = b"key") -> tuple[Any, ...]:
    """Render a secret and a token volume below `path` and read them."""
    shutil.rmtree(path, ignore_errors=True)
    render_volume(path / "certs", {"tls.key": secret, "tls.crt": b"\x00\xff"}, mode=0o600)
    files = {"token": token, "namespace": b"kube-system", "deep/er/file": b"x"}
    render_volume(path / "api", files)
    return (
        read_rendered(path / "certs", "kubernetes.io~secret", "certs"),
        read_rendered(path / "api", "kubernetes.io~projected", "api", ["token"]),
    )


def new_revision(
    volumes: tuple[Any, ...] = (), workload: Workload = WORKLOAD, digest: str = "d"
) -> NewRevision:
    """A revision of a small pod that mounts these volumes."""

    def manifest_for(material_root: str) -> dict[str, Any]:
        mounts = [
            {"name": v.name, "hostPath": {"path": f"{material_root}/{v.name}"}} for v in volumes
        ]
        return {"kind": "Pod", "spec": {"volumes": mounts}}

    revision = Revision(
        number=0,
        digest=digest,
        parent_uid="u1",
        parent_name="kube-apiserver-abcde",
        labels=(("app", "api"),),
        app_containers=("api",),
        stage=0,
        shares_ports=False,
        created_at=12.5,
        host_ports=(6443,),
    )
    return NewRevision(workload, revision, manifest_for, volumes)


@dataclass(frozen=True)
class Kit:
    """The helpers above, for test modules that cannot import each other."""

    Fault: Any = Fault
    FaultyCalls: Any = FaultyCalls
    CrashError: Any = CrashError
    errors: tuple[int, ...] = ERRORS
    reading: frozenset[str] = READING
    jwt: Any = staticmethod(jwt)
    render_volume: Any = staticmethod(render_volume)
    volumes_at: Any = staticmethod(volumes_at)
    new_revision: Any = staticmethod(new_revision)
    token: bytes = TOKEN
    workload: Workload = WORKLOAD


@pytest.fixture
def kit() -> Kit:
    """Helpers shared by the tests of the store."""
    return Kit()
