"""How long a node that has just booted waits for its checkpoints.

From the exec of the agent to the last of N manifests on disk, with the API refusing connections,
an empty container runtime (the simulated one, over its real socket, in this process) and a
kubelet that has started since the last contact. The store is made by the store's own code.
"""

from __future__ import annotations

import argparse
import time

from checkpointer.core.checkpoint import Revision
from checkpointer.core.workload import Workload
from checkpointer.store.material import Entry, Kind, RenderedVolume
from checkpointer.store.revisions import NewRevision, Store
from tests.bench.case import Case, Sample, fresh_node, running
from tests.bench.contender import Contender
from tests.bench.waiting import wait_until

DEADLINE_SECONDS = 30.0
BARS = {10: 0.6}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's own options."""
    parser.add_argument(
        "--checkpoints", type=int, nargs="+", default=[1, 10, 100], help="for cold_start"
    )


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Return a case for each number of checkpoints."""
    return [
        Case(
            f"cold start, {count} checkpoints",
            lambda contender, count=count: measure(contender, count),
            arguments.runs,
        )
        for count in arguments.checkpoints
    ]


def measure(contender: Contender, count: int) -> list[Sample]:
    """Measure from exec to the last of `count` manifests, and the processor time till then."""
    with fresh_node() as node:
        node.configure()
        store = Store(node.store_folder)
        for number in range(count):
            store.add(checkpoint(f"workload-{number}"))
        with running(contender, node) as process:
            wait_until(
                lambda: node.manifests() >= count,
                DEADLINE_SECONDS,
                f"{count} manifests",
                process.is_running,
            )
            seconds = time.perf_counter() - process.began
            cpu = process.cpu_seconds()
    name = f"cold start, {count} checkpoints"
    return [Sample(name, "s", seconds, BARS.get(count)), Sample(f"{name}: CPU", "s", cpu)]


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
