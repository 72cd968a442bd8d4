"""The containers that run on a machine, told by the files of their shims.

At once, without asking anybody, and also while the runtime itself is down.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_TASKS = "run/containerd/io.containerd.runtime.v2.task/k8s.io"
_PREFIX = "io.kubernetes.cri"


@dataclass(frozen=True, slots=True)
class Container:
    """A container whose process lives; sandboxes are none."""

    id: str
    name: str
    namespace: str
    pod: str
    pod_uid: str


def running(root: Path) -> list[Container]:
    """Return the containers that run now; `root` is the machine's root folder."""
    tasks = root / _TASKS
    bundles = list(tasks.iterdir()) if tasks.is_dir() else []
    return [found for bundle in bundles if (found := _running(root, bundle)) is not None]


def _running(root: Path, bundle: Path) -> Container | None:
    try:
        told = json.loads((bundle / "config.json").read_text())["annotations"]
        pid = (bundle / "init.pid").read_text()
        state = (root / "proc" / pid / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None  # on its way in or out
    if state in "ZX" or told[f"{_PREFIX}.container-type"] != "container":
        return None
    return Container(
        bundle.name,
        told[f"{_PREFIX}.container-name"],
        told[f"{_PREFIX}.sandbox-namespace"],
        told[f"{_PREFIX}.sandbox-name"],
        told[f"{_PREFIX}.sandbox-uid"],
    )
