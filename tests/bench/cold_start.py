"""How long a node that has just booted waits for its checkpoints.

From the exec of the agent to the last of N manifests on disk, with the API refusing connections,
an empty container runtime (the simulated one, over its real socket, in this process) and a
kubelet that has started since the last contact. The store is made by the store's own code.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from checkpointer.core.checkpoint import Revision
from checkpointer.core.workload import Workload
from checkpointer.simulation.alarms import Alarms
from checkpointer.simulation.certificates import Authority, write_kubeconfig
from checkpointer.simulation.cri_server import CriServer
from checkpointer.simulation.programs import Programs
from checkpointer.simulation.runtime import Runtime
from checkpointer.store.material import Entry, Kind, RenderedVolume
from checkpointer.store.revisions import NewRevision, Store

DEADLINE_SECONDS = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's own options."""
    parser.add_argument("--checkpoints", type=int, nargs="+", default=[1, 10, 100])


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure each number of checkpoints; a warm-up run is not counted."""
    found = []
    for count in arguments.checkpoints:
        seconds = [measure(count) for _ in range(arguments.runs + 1)][1:]
        found.append(
            {
                "checkpoints": count,
                "runs": arguments.runs,
                "median_seconds": round(statistics.median(seconds), 3),
                "min_seconds": round(min(seconds), 3),
                "max_seconds": round(max(seconds), 3),
            }
        )
    return found


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table for people."""
    yield "exec to the last manifest on disk, API refused (one warm-up run not counted)"
    yield f"{'checkpoints':>11} {'runs':>5} {'median s':>9} {'min s':>7} {'max s':>7}"
    for row in found:
        yield (
            f"{row['checkpoints']:>11} {row['runs']:>5} {row['median_seconds']:>9.3f}"
            f" {row['min_seconds']:>7.3f} {row['max_seconds']:>7.3f}"
        )


def measure(count: int) -> float:
    """Return the seconds from exec to the last of `count` manifests."""
    with tempfile.TemporaryDirectory() as folder, booted_node(Path(folder), count) as config:
        manifests = Path(folder, "manifests")
        began = time.perf_counter()
        agent = subprocess.Popen(
            [sys.executable, "-m", "checkpointer", "run", "--config", str(config)],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            while len([n for n in os.listdir(manifests) if n[0] != "."]) < count:
                if time.perf_counter() - began > DEADLINE_SECONDS or agent.poll() is not None:
                    agent.kill()
                    raise SystemExit(f"not activated:\n{agent.communicate()[1]}")
                time.sleep(0.001)
            return time.perf_counter() - began
        finally:
            agent.terminate()
            agent.communicate()


@contextmanager
def booted_node(folder: Path, count: int) -> Iterator[Path]:
    """Make a node's folders with `count` checkpoints; yield the agent's configuration file."""
    for name in ("manifests", "kubelet/pod-resources", "run"):
        (folder / name).mkdir(parents=True, mode=0o700)
    store = Store(folder / "store")
    for number in range(count):
        store.add(checkpoint(f"workload-{number}"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    authority = Authority()
    write_kubeconfig(
        folder / "kubeconfig",
        f"https://127.0.0.1:{port}",
        authority.certificate,
        authority.client("system:node:node1", "system:nodes"),
    )
    (folder / "boot_id").write_text("boot\n")
    alarms = Alarms()
    runtime = CriServer(Runtime(Programs({}), alarms), folder / "run/cri.sock")
    kubelet = socket.socket(socket.AF_UNIX)
    try:
        runtime.open()
        kubelet.bind(str(folder / "kubelet/pod-resources/kubelet.sock"))
        kubelet.listen()
        config = {
            "apiVersion": "checkpointer.alpha.coreos.com/v1alpha1",
            "kind": "CheckpointerConfiguration",
            "nodeName": "node1",
            "kubeconfig": str(folder / "kubeconfig"),
            "manifestDirectory": str(folder / "manifests"),
            "storeDirectory": str(folder / "store"),
            "kubeletDirectory": str(folder / "kubelet"),
            "runtimeEndpoint": runtime.endpoint,
            "lockFile": str(folder / "run/lock/lock"),
            "bootIDFile": str(folder / "boot_id"),
        }
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        yield path
    finally:
        kubelet.close()
        runtime.close()
        alarms.close()


def checkpoint(name: str) -> NewRevision:
    """Return a typical checkpoint: host network, one secret volume with three small files."""
    workload = Workload("kube-system", "DaemonSet", name)
    files = tuple(Entry(f"file-{n}", Kind.FILE, 0o644, 0, 0, content=bytes(2048)) for n in range(3))
    volume = RenderedVolume(
        "certs",
        "kubernetes.io~secret",
        Entry("", Kind.FOLDER, 0o1777, 0, 0),
        Entry("..data", Kind.FOLDER, 0o755, 0, 0),
        files,
    )

    def manifest_for(root: str) -> dict[str, object]:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "kube-system", "labels": {"app": name}},
            "spec": {
                "hostNetwork": True,
                "containers": [
                    {
                        "name": "main",
                        "image": "registry.example/main:1",
                        "volumeMounts": [
                            {"name": "certs", "mountPath": "/certs", "readOnly": True}
                        ],
                    }
                ],
                "volumes": [
                    {"name": "certs", "hostPath": {"path": f"{root}/certs", "type": "Directory"}}
                ],
            },
        }

    revision = Revision(0, "0" * 64, f"uid-{name}", f"{name}-abcde", (), ("main",), 0, False, 0.0)
    return NewRevision(workload, revision, manifest_for, (volume,))
