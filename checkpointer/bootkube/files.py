"""The bootkube checkpointer's folders: its manifests, and the files that they mount.

Its own is a regular file that holds a pod with its mark: the annotation `checkpoint-of` with the
pod's own name. Our copies have the same annotation with another value, and a label; they and all
else are nothing to read here.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from checkpointer.bootkube.parents import OldVolume
from checkpointer.core.occupancy import FORMER_COPY, WORKLOAD_LABEL
from checkpointer.errors import printable
from checkpointer.manifest.fields import POD
from checkpointer.manifest.formats import is_label, is_subdomain
from checkpointer.manifest.shapes import misfits
from checkpointer.store.errors import MaterialError, StoreError
from checkpointer.store.files import list_names, read_file
from checkpointer.store.material import Entry, Kind, RenderedVolume
from checkpointer.store.safety import check_folder
from checkpointer.store.system_calls import SystemCalls
from checkpointer.values import dataclass

_LIMIT = 10 * 2**20
_REMNANT = re.compile(r"\.[0-9]+")
"""What its ioutil.TempFile leaves when it dies."""
_PLUGINS = {"secret": "kubernetes.io~secret", "configMap": "kubernetes.io~configmap"}


@dataclass(frozen=True, slots=True)
class Places:
    """Where it keeps things; the defaults are the paths in its source."""

    active: Path = Path("/etc/kubernetes/manifests")
    inactive: Path = Path("/etc/kubernetes/inactive-manifests")
    secrets: Path = Path("/etc/kubernetes/checkpoint-secrets")
    config_maps: Path = Path("/etc/kubernetes/checkpoint-configmaps")
    lock: Path = Path("/var/run/lock/pod-checkpointer.lock")

    @property
    def folders(self) -> tuple[Path, ...]:
        """Return every folder that is looked into."""
        return self.active, self.inactive, self.secrets, self.config_maps, self.lock.parent

    @property
    def roots(self) -> dict[str, str]:
        """Return the folders of material by the kind of volume."""
        return {"secret": str(self.secrets), "configMap": str(self.config_maps)}


@dataclass(frozen=True, slots=True)
class OldCheckpoint:
    """One checkpoint: a pod, and the files that hold its manifest."""

    pod: Mapping[str, Any]
    written_at: float
    """Seconds of the Unix epoch: the file's time."""
    active: Path | None = None
    inactive: Path | None = None

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def is_itself(self) -> bool:
        """Tell whether it is the old checkpointer's checkpoint of itself."""
        commands = [one.get("command") or [""] for one in self.pod["spec"]["containers"]]
        return any(os.path.basename(str(command[0])) == "checkpoint" for command in commands)


def read_old(places: Places, calls: SystemCalls) -> tuple[OldCheckpoint, ...]:
    """Return its checkpoints by namespace and name; the active manifest's pod where there is one.

    Raises OSError and StoreError; UnsafePathError when others could have written to its folders.
    """
    for folder in (places.inactive, places.secrets, places.config_maps):
        check_folder(folder)
    active = _manifests(places.active, calls)
    inactive = _manifests(places.inactive, calls)
    found = []
    for key in sorted({*active, *inactive}):
        serving, kept = active.get(key), inactive.get(key)
        chosen = serving or kept
        assert chosen is not None  # noqa: S101 - the key is from one of them
        _, pod, written_at = chosen
        found.append(
            OldCheckpoint(
                pod, written_at, serving[0] if serving else None, kept[0] if kept else None
            )
        )
    return tuple(found)


def pod_in(content: bytes) -> dict[str, Any] | None:
    """Return the pod of a manifest that is its own; None for anything else. Never raises."""
    try:
        pod = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(pod, dict) or pod.get("kind") != "Pod" or misfits(pod, POD, ""):
        return None
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    name, namespace = metadata.get("name") or "", metadata.get("namespace") or ""
    if not (is_subdomain(name) and is_label(namespace) and spec.get("containers")):
        return None
    is_marked = (metadata.get("annotations") or {}).get(FORMER_COPY) == name
    return pod if is_marked and WORKLOAD_LABEL not in (metadata.get("labels") or {}) else None


def is_running(lock: Path) -> bool:
    """Tell whether a process holds its lock. Raises OSError."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def read_material(
    old: OldCheckpoint, volume: OldVolume, places: Places, calls: SystemCalls
) -> RenderedVolume:
    """Return the files of a volume in the form in which the kubelet would have rendered them.

    Modes and owners are those on disk; with an fsGroup the group may read, as the kubelet has it
    (the old checkpointer gave the files to that group and then let only the owner read). Raises
    MaterialError naming the folder.
    """
    path = folder_of(old, volume, places)
    if not is_subdomain(volume.source):  # it may have characters that no path can have
        raise MaterialError(f"{path}: {volume.source!r} is no name of a {volume.kind}")
    try:
        names = list_names(calls, path)
        if names is None:
            raise MaterialError(f"{path}, the files of volume {volume.name}, is not there")
        status = path.lstat()
        group = 0o040 if _has_group(old.pod) else 0
        entries = []
        for name in names:
            if not _REMNANT.fullmatch(name):
                read = read_file(calls, str(path / name), _LIMIT)
                mode = stat.S_IMODE(read.status.st_mode) | group
                owner = (read.status.st_uid, read.status.st_gid)
                entries.append(Entry(name, Kind.FILE, mode, *owner, content=read.content))
    except OSError as error:
        raise MaterialError(f"cannot read {path}: {error.strerror}") from error
    except StoreError as error:
        raise MaterialError(str(error)) from error
    owner = (status.st_uid, status.st_gid)
    return RenderedVolume(
        volume.name,
        _PLUGINS[volume.kind],
        Entry("", Kind.FOLDER, 0o755, *owner),
        Entry("..data", Kind.FOLDER, 0o755, *owner),
        tuple(sorted(entries, key=lambda entry: entry.path)),
    )


def folder_of(old: OldCheckpoint, volume: OldVolume, places: Places) -> Path:
    """Return the folder of a volume's files."""
    return Path(places.roots[volume.kind]) / old.namespace / old.name / volume.source


def _has_group(pod: Mapping[str, Any]) -> bool:
    return (pod["spec"].get("securityContext") or {}).get("fsGroup") is not None


def _manifests(
    folder: Path, calls: SystemCalls
) -> dict[tuple[str, str], tuple[Path, dict[str, Any], float]]:
    found: dict[tuple[str, str], tuple[Path, dict[str, Any], float]] = {}
    for name in list_names(calls, folder) or ():
        if name.startswith("."):
            continue
        path = folder / name
        try:
            read = read_file(calls, str(path), _LIMIT)
        except StoreError:
            continue  # no regular file, or larger than any manifest: not its own
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOENT):
                continue  # a link, or gone meanwhile
            raise
        pod = pod_in(read.content)
        if pod is not None:
            key = (str(pod["metadata"]["namespace"]), str(pod["metadata"]["name"]))
            found[key] = (path, pod, read.status.st_mtime)
    return found


def shown(old: OldCheckpoint) -> str:
    """Return how the checkpoint is called in messages."""
    return printable(f"{old.namespace}/{old.name}")
