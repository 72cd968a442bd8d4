"""Will the store and the manifest folder be there after a reboot, and is there room in them?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from checkpointer.core.facts import Fact, Unknown
from checkpointer.doctor.facts import Facts
from checkpointer.doctor.result import Answer, failed, passed, skipped, warned
from checkpointer.node.disk import Place
from checkpointer.report.spans import size

LEAST_BYTES: Final = 16 << 20
LEAST_INODES: Final = 200
COMFORTABLE_INODES: Final = 2000

_MEMORY: Final = frozenset({"tmpfs", "ramfs", "rootfs", "devtmpfs"})
_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "glusterfs", "afs"})


def manifest_folder(facts: Facts) -> Iterator[Answer]:
    """The manifest folder is a folder of root's, on a disk that can be written to."""
    path = facts.config.manifest_directory
    if isinstance(facts.manifest_place, Unknown):
        yield failed(facts.manifest_place.reason, f"repair {path}")
        return
    place = facts.manifest_place.value
    if not place.exists:
        yield failed(
            f"{path} is no folder",
            f"mkdir -m 0755 {path}, and see that the kubelet's staticPodPath names it",
        )
        return
    if place.owner != 0 and facts.is_root:
        yield failed(
            f"{path} belongs to user {place.owner}: who writes there runs anything as root",
            f"chown root: {path}",
        )
    if place.mode & 0o022:
        yield failed(
            f"{path} is writable by others (mode {place.mode:04o}): who writes there runs "
            "anything as root",
            f"chmod go-w {path}",
        )
    yield _lasting(place)


def store_folder(facts: Facts) -> Iterator[Answer]:
    """The store is private, and on a disk that outlives a reboot and can be written to."""
    path = facts.config.store_directory
    if isinstance(facts.store_place, Unknown):
        yield failed(facts.store_place.reason, f"repair {path}")
        return
    if facts.store_safety:
        yield failed(
            facts.store_safety,
            "make it and all folders above it root's, and writable by root only",
        )
    place = facts.store_place.value
    if not place.exists:
        yield warned(
            f"{path} is not there: nothing was stored yet",
            "run the agent while the API answers; see `checkpointer explain` for the pods",
        )
    yield _lasting(place)


def space(facts: Facts) -> Iterator[Answer]:
    """There is room for the next revision of everything, and for manifests."""
    comfortable = 2 * facts.config.snapshot.max_material_bytes
    yield _room(facts.store_place, comfortable)
    yield _room(facts.manifest_place, LEAST_BYTES)


def _lasting(place: Place) -> Answer:
    shown = f"{place.path} is on {place.kind or 'a file system of unknown type'}"
    if place.kind in _MEMORY:
        return failed(
            f"{shown}: a reboot empties it", "put it on a disk; in a pod, mount the host's folder"
        )
    if place.is_read_only:
        return failed(
            f"{shown}, which is mounted read-only",
            f"mount it writable: see `findmnt -T {place.path}`",
        )
    if place.kind in _NETWORK:
        return warned(
            f"{shown}: without its network it is not there when it is needed",
            "put it on a disk of this node",
        )
    if place.kind == "overlay":
        return warned(
            f"{shown}: what is written to it may not outlive a reboot, or a container",
            "see that its upper folder is on a disk; in a pod, mount the host's folder",
        )
    return passed(shown)


def _room(fact: Fact[Place], comfortable: int) -> Answer:
    if isinstance(fact, Unknown):
        return skipped(fact.reason)
    place = fact.value
    has_inodes = place.total_inodes > 0
    what = f"{size(place.free_bytes)} free at {place.path}"
    if has_inodes:
        what += f", {place.free_inodes} inodes"
    cure = "make room: see `df -h` and `df -i`, and `snapshot.keepRevisions`"
    if place.free_bytes < LEAST_BYTES or (has_inodes and place.free_inodes < LEAST_INODES):
        return failed(f"only {what}", cure)
    if place.free_bytes < comfortable or (has_inodes and place.free_inodes < COMFORTABLE_INODES):
        return warned(f"only {what}", cure)
    return passed(what)
