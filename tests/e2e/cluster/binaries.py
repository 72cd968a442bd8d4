"""What a run needs from its surroundings, and one clear error naming all that is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
TOOLS = (
    *("containerd", "ctr", "runc", "busybox"),
    *("ip", "iptables", "mount", "nft", "nsenter", "setpriv", "unshare"),
)
CNI_DIRECTORIES = ("/usr/lib/cni", "/opt/cni/bin")
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
_CAP_SYS_RESOURCE = 24


class MissingError(Exception):
    """The suite was asked to run and cannot; the message has one line for each thing missing."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the programs of a node are."""

    directory: Path
    etcd: Path
    cni: Path
    version: tuple[int, int]
    """Major and minor version of the kubelet."""

    @property
    def kubelet(self) -> Path:
        return self.directory / "kubelet"

    @property
    def release(self) -> str:
        return f"v{self.version[0]}.{self.version[1]}"

    def __getitem__(self, name: str) -> Path:
        return self.directory / name


def find(directory: Path) -> Binaries:
    """Return the programs to use, those of the folder first; MissingError names what is missing."""
    problems = []
    if os.geteuid() != 0:
        problems.append("root: the suite makes namespaces, mounts and containers")
    if platform.machine() not in ("x86_64", "aarch64"):
        problems.append(f"a pause program for {platform.machine()}")
    problems.extend(
        f"{name} (an executable file) in {directory}"
        for name in KUBERNETES
        if not os.access(directory / name, os.X_OK)
    )
    etcd = directory / "etcd"
    if not os.access(etcd, os.X_OK):
        etcd = Path(shutil.which("etcd") or "")
    if not etcd.is_file():
        problems.append(f"etcd in {directory} or on PATH (Debian: etcd-server)")
    problems.extend(f"{name} on PATH" for name in TOOLS if shutil.which(name) is None)
    cni = next((Path(d) for d in CNI_DIRECTORIES if _has_plugins(Path(d))), Path())
    if not cni.is_absolute():
        problems.append(
            f"the CNI plugins {', '.join(CNI_PLUGINS)} in {' or '.join(CNI_DIRECTORIES)}"
            " (Debian: containernetworking-plugins)"
        )
    if problems:
        raise MissingError("the end-to-end suite needs:\n  " + "\n  ".join(problems))
    return Binaries(directory, etcd, cni, _version(directory / "kubelet"))


def may_raise_priority() -> bool:
    """Return whether OOM scores may be lowered here (CAP_SYS_RESOURCE)."""
    status = Path("/proc/self/status").read_text()
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> _CAP_SYS_RESOURCE & 1)


def _has_plugins(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in CNI_PLUGINS)


def _version(kubelet: Path) -> tuple[int, int]:
    answer = subprocess.run([kubelet, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"v(\d+)\.(\d+)", answer.stdout)
    if found is None:
        raise MissingError(f"{kubelet} --version said {answer.stdout!r}, not Kubernetes vX.Y.Z")
    return int(found[1]), int(found[2])
