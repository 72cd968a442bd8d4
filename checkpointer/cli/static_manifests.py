"""Other people's static pods: finding the manifest that an operator means, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checkpointer.cli.command import UsageError
from checkpointer.cli.local_node import NodeError
from checkpointer.errors import CheckpointerError
from checkpointer.manifest.render import mark_of
from checkpointer.node.set_aside import hidden_path, original_name
from checkpointer.values import dataclass

DEFAULT_GRACE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class StaticManifest:
    """A static pod's manifest, by where it lies when it is not set aside."""

    path: Path
    namespace: str
    name: str
    grace_seconds: int
    is_set_aside: bool


def find_manifest(folder: Path, wanted: str, node_name: str) -> StaticManifest | None:
    """Return the manifest of that file name, pod or namespace/pod; None when there is none.

    Only foreign ones: ours are the agent's. Raises UsageError when several are meant, NodeError.
    """
    found = [one for one in _manifests(folder) if wanted.lower() in _names(one, node_name)]
    if len(found) > 1:
        which = ", ".join(one.path.name for one in found)
        raise UsageError(f"{wanted}: there are several, say which file: {which}")
    return found[0] if found else None


def _names(one: StaticManifest, node_name: str) -> set[str]:
    short = {one.name, f"{one.name}-{node_name}"}
    names = {*short, *(f"{one.namespace}/{name}" for name in short), one.path.name}
    return {name.lower() for name in names}


def _manifests(folder: Path) -> Iterator[StaticManifest]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise NodeError(f"cannot read {folder}: {error.strerror}") from error
    for name in names:
        original = original_name(name)
        if original is None and name.startswith("."):
            continue
        path = folder / (original or name)
        if original is not None and os.path.lexists(path):
            continue  # `restart` compares the two
        if (pod := _pod_in(hidden_path(path) if original else path)) is None:
            continue
        metadata = pod["metadata"]
        grace = (pod.get("spec") or {}).get("terminationGracePeriodSeconds")
        yield StaticManifest(
            path,
            str(metadata.get("namespace") or "default"),
            str(metadata["name"]),
            grace if isinstance(grace, int) else DEFAULT_GRACE_SECONDS,
            original is not None,
        )


def _pod_in(path: Path) -> dict[str, Any] | None:
    """Return the foreign pod in a file; None for anything else."""
    from checkpointer.cli import documents

    try:
        if not path.is_file() or mark_of(path.read_bytes()) is not None:
            return None
        pod = next(documents.read(str(path)), None)
    except (CheckpointerError, OSError):
        return None
    if not isinstance(pod, dict) or pod.get("kind") != "Pod":
        return None
    metadata = pod.get("metadata")
    return pod if isinstance(metadata, dict) and metadata.get("name") else None
