"""Whether a copy was ever activated beside what it stands for: the one thing that must not be.

Watched all of a node's life, whatever a scenario looks at.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.cluster.containers import running
from tests.e2e.cluster.control_plane import API_SERVER, PORT
from tests.e2e.cluster.folder_watch import FolderWatch
from tests.e2e.cluster.machine import Machine

_OWN = {"app.kubernetes.io/name": "pod-checkpointer"}


class Activations(FolderWatch):
    """Counts the manifests that appear, and judges each at that moment.

    False is one whose workload has a container that runs, of the parent or of another copy. An
    API server counts as running while it listens: one that was told to go closes its port long
    before it ends. The agent's own copy is always active, and none of it.
    """

    def __init__(self, machine: Machine, folder: Path) -> None:
        super().__init__(folder, self._judge)
        self._machine = machine
        self.count = 0
        self.false: list[str] = []
        self.is_judging = True
        """Off while a test itself puts such manifests there."""

    def _judge(self, path: Path) -> None:
        try:
            pod = json.loads(path.read_text())
        except FileNotFoundError:  # gone already
            return
        metadata = pod["metadata"]
        if not self.is_judging or _OWN.items() <= metadata.get("labels", {}).items():
            return
        self.count += 1
        if beside := self._beside(metadata, {c["name"] for c in pod["spec"]["containers"]}):
            self.false.append(f"{path.name} beside {', '.join(beside)}")

    def _beside(self, metadata: dict[str, Any], names: set[str]) -> list[str]:
        return [
            f"{container.pod}/{container.name}"
            for container in running(self._machine.root)
            if container.name in names
            and container.namespace == metadata["namespace"]
            and container.pod_uid != metadata["uid"]
            and (container.name != API_SERVER or self._listens(PORT))
        ]

    def _listens(self, port: int) -> bool:
        try:
            self._machine.network.connect(("127.0.0.1", port), 0.5).close()
        except OSError:
            return False
        return True
