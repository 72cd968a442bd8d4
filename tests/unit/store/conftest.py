"""Shared by the tests of the store: volumes as the kubelet writes them, and a failing system."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.checkpoint import Revision
from checkpointer.core.workload import Workload
from checkpointer.store.rendered import read_rendered
from checkpointer.store.revisions import NewRevision
from checkpointer.store.system_calls import SystemCalls

READING = frozenset({"read", "list_directory", "close"})
"""Calls that change nothing on disk (open may); crashes around them are nothing new."""


class CrashError(BaseException):
    """The process is gone: no handler of the code under test may clean up after it."""


@dataclass
class Fault:
    """What happens at the n-th call (from 0): an error, or death before or after it."""

    at: int
    error: int | None = None
    crash: str = ""
    short_writes: bool = False


@dataclass
class FaultyCalls(SystemCalls):
    """Real system calls that are counted and of which one goes wrong."""

    fault: Fault = field(default_factory=lambda: Fault(-1))
    names: list[str] = field(default_factory=list)
    handles: set[int] = field(default_factory=set)
    is_dead: bool = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name not in _CALLS:
            return found
        return lambda *args, **kwargs: self._call(name, found, args, kwargs)

    def _call(self, name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.is_dead:
            raise CrashError
        number = len(self.names)
        self.names.append(name)
        if name == "write" and self.fault.short_writes:
            args = (args[0], args[1][:3])
        if number == self.fault.at:
            return self._go_wrong(name, call, args, kwargs)
        return self._do(name, call, args, kwargs)

    def _go_wrong(self, name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.fault.error is not None:
            if name == "close":
                self._do(name, call, args, kwargs)
            raise OSError(self.fault.error, os.strerror(self.fault.error))
        if self.fault.crash == "half" and name == "write":
            self._do(name, call, (args[0], args[1][: len(args[1]) // 2]), kwargs)
        if self.fault.crash == "after":
            with suppress(OSError):
                self._do(name, call, args, kwargs)
        self.is_dead = True
        raise CrashError

    def _do(self, name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        if name == "open":
            self.handles.add(result)
        if name == "close":
            self.handles.discard(args[0])
        return result

    def bury(self) -> None:
        """Close what the dead process had open, as the kernel does."""
        for handle in self.handles:
            os.close(handle)
        self.handles.clear()


_CALLS = frozenset(name for name in vars(SystemCalls) if not name.startswith("_"))

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EINTR)


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
