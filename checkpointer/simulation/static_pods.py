"""The kubelet's file source: which static pods the manifest folder holds, and what was refused.

Sections 1 and 2 of the kubelet's contract: files that begin with a dot are ignored, every other
name is read whatever its ending, one bad field refuses the file, a file that has become bad
keeps its pod until the next relist.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from checkpointer.manifest.acceptance import refusals
from checkpointer.simulation.cluster import Object, timestamp

HASH = "kubernetes.io/config.hash"
SOURCE = "kubernetes.io/config.source"
SEEN = "kubernetes.io/config.seen"
_MAX_BYTES = 10 * 1024 * 1024

_Signature = tuple[int, int, int]


class RefusedManifestError(Exception):
    """The kubelet would log an error about this file and go on without it."""


@dataclass(slots=True)
class _Entry:
    signature: _Signature
    pod: Object | None
    is_stale: bool = False
    """Whether the pod is what the file held before it became bad."""


@dataclass(slots=True)
class StaticPods:
    """What one kubelet has read from the folder; `relist_seconds` is its fileCheckFrequency."""

    folder: Path
    node_name: str
    relist_seconds: float = 20.0
    refused: dict[str, str] = field(default_factory=dict)
    """Why a file of the folder is no pod, by file name."""
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _listed_at: float = 0.0

    def read(self) -> dict[str, Object]:
        """Return the static pods by UID; of two files for one pod the last name wins."""
        found = self._signatures()
        for name in set(self._entries) - set(found):
            del self._entries[name]
        self.refused = {name: why for name, why in self.refused.items() if name in found}
        is_relist = time.monotonic() - self._listed_at >= self.relist_seconds
        if is_relist:
            self._listed_at = time.monotonic()
        for name, signature in sorted(found.items()):
            entry = self._entries.get(name)
            if entry is None or entry.signature != signature:
                self._read_file(name, signature)
            elif is_relist and entry.is_stale:
                entry.pod, entry.is_stale = None, False
        by_name: dict[str, Object] = {}
        for name in sorted(self._entries):
            pod = self._entries[name].pod
            if pod is not None:
                by_name[full_name(pod)] = pod
        return {pod["metadata"]["uid"]: pod for pod in by_name.values()}

    def _signatures(self) -> dict[str, _Signature]:
        found: dict[str, _Signature] = {}
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return found  # no folder is an empty set: all static pods are removed
        for name in names:
            if name.startswith("."):
                continue
            try:
                status = os.stat(self.folder / name)
            except FileNotFoundError:
                continue
            if not (self.folder / name).is_dir():
                found[name] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found

    def _read_file(self, name: str, signature: _Signature) -> None:
        try:
            pod = self._decode(name)
        except (RefusedManifestError, OSError) as error:
            self.refused[name] = str(error)
            before = self._entries.get(name)
            kept = before.pod if before else None
            self._entries[name] = _Entry(signature, kept, is_stale=kept is not None)
        else:
            self.refused.pop(name, None)
            self._entries[name] = _Entry(signature, pod)

    def _decode(self, name: str) -> Object:
        path = self.folder / name
        text = path.read_bytes()
        if len(text) >= _MAX_BYTES:
            raise RefusedManifestError(f"larger than {_MAX_BYTES} bytes")
        manifest = parse(text)
        if findings := refusals(manifest, self.node_name, len(text)):
            raise RefusedManifestError("; ".join(f"{one.path}: {one.reason}" for one in findings))
        return defaulted(manifest, self.node_name, path)


def parse(text: bytes) -> Object:
    """Return the pod that the file's text describes, JSON or the first document of YAML."""
    try:
        if text.lstrip().startswith(b"{"):
            manifest: Any = json.loads(text)
        else:
            manifest = next(iter(yaml.safe_load_all(text)), None)
    except (ValueError, yaml.YAMLError) as error:
        raise RefusedManifestError(f"couldn't parse: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != "Pod":
        raise RefusedManifestError("couldn't parse as pod: Object 'Kind' is not Pod")
    if not (manifest.get("metadata") or {}).get("name"):
        raise RefusedManifestError("metadata.name: Required value")
    return manifest


def defaulted(manifest: Object, node_name: str, path: Path) -> Object:
    """Return the pod as the kubelet's applyDefaults makes it (pkg/kubelet/config/common.go)."""
    pod = copy.deepcopy(manifest)
    metadata, spec = pod["metadata"], pod["spec"]
    if not metadata.get("uid"):
        text = json.dumps(manifest, sort_keys=True, default=str)
        dump = f"{text}\0host:{node_name}\0file:{path}"
        metadata["uid"] = hashlib.sha256(dump.encode()).hexdigest()[:32]
    metadata["name"] = f"{metadata['name']}-{node_name.lower()}"
    metadata.setdefault("namespace", "default")
    annotations = metadata["annotations"] = dict(metadata.get("annotations") or {})
    annotations |= {HASH: metadata["uid"], SOURCE: "file", SEEN: timestamp()}
    spec["nodeName"] = node_name
    spec.setdefault("tolerations", []).append({"operator": "Exists", "effect": "NoExecute"})
    pod["status"] = {"phase": "Pending"}
    return pod


def full_name(pod: Object) -> str:
    """Return the name under which only one static pod may be started."""
    return f"{pod['metadata']['name']}_{pod['metadata']['namespace']}"
