"""What lies in the manifest folder as the kubelet reads it: everybody's static pods.

For telling an operator, never for a decision; nothing here writes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.manifest.acceptance import refusals
from checkpointer.manifest.render import CHECKPOINT_OF, mark_of
from checkpointer.manifest.select import host_ports
from checkpointer.node.manifests import SIZE_LIMIT
from checkpointer.shallow_yaml import loader
from checkpointer.store.errors import DiskError
from checkpointer.store.files import read_file
from checkpointer.store.system_calls import SystemCalls
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class StaticPod:
    """One file of the manifest folder."""

    file_name: str
    namespace: str = ""
    name: str = ""
    """`metadata.name`, to which the kubelet adds the node's name."""
    is_ours: bool = False
    """Whether it carries this program's mark."""
    is_marked: bool = False
    """Whether it says that it is a checkpoint, ours or another program's."""
    host_ports: tuple[int, ...] = ()
    host_paths: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    problem: str = ""
    """Why the kubelet refuses it; empty when it does not."""


def read_static_pods(folder: Path, node_name: str) -> Fact[tuple[StaticPod, ...]]:
    """Return every file that the kubelet tries to read, by name; Unknown without the folder."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        return Unknown(f"cannot read {folder}: {error.strerror}")
    # The kubelet does not descend into folders, whatever they are called.
    return Known(tuple(_read(folder, n, node_name) for n in names if not (folder / n).is_dir()))


def _read(folder: Path, name: str, node_name: str) -> StaticPod:
    try:
        # The kubelet follows links, so this does.
        path = str((folder / name).resolve())
        content = read_file(SystemCalls(), path, SIZE_LIMIT, shown=str(folder / name)).content
    except OSError as error:
        return StaticPod(name, problem=str(error.strerror))
    except DiskError as error:
        return StaticPod(name, problem=str(error))
    pod = _document(content)
    if pod is None:
        return StaticPod(name, problem="it is neither JSON nor YAML of a pod")
    is_ours = mark_of(content) is not None
    if found := refusals(pod, node_name, len(content)):
        # Of what has not the shape of a pod nothing else can be told.
        problem = f"{found[0].path}: {found[0].reason}".removeprefix(": ")
        return StaticPod(name, is_ours=is_ours, problem=problem)
    return _static_pod(name, pod, is_ours)


def _static_pod(name: str, pod: Mapping[str, Any], is_ours: bool) -> StaticPod:
    metadata, spec = pod["metadata"], pod["spec"]
    volumes = spec.get("volumes") or ()
    containers = [
        container for kind in ("initContainers", "containers") for container in spec.get(kind) or ()
    ]
    return StaticPod(
        file_name=name,
        namespace=metadata.get("namespace") or "default",
        name=metadata["name"],
        is_ours=is_ours,
        is_marked=CHECKPOINT_OF in (metadata.get("annotations") or {}),
        host_ports=host_ports(pod),
        host_paths=tuple(v["hostPath"]["path"] for v in volumes if v.get("hostPath")),
        images=tuple(container.get("image") or "" for container in containers),
    )


def _document(content: bytes) -> dict[str, Any] | None:
    """Return the first document, which is all that the kubelet reads."""
    try:
        document = next(iter(yaml.load_all(content, loader())), None)
    except (yaml.YAMLError, ValueError, ArithmeticError, AttributeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
