"""A new revision before it has a number's name: checked, written, synced, read back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from checkpointer.core.workload import Workload
from checkpointer.store.copies import write_copy
from checkpointer.store.digests import StoredRevision, digests_json
from checkpointer.store.durable import Disk
from checkpointer.store.errors import StoreError
from checkpointer.store.layout import DIGESTS, MATERIAL, encode
from checkpointer.store.material import RenderedVolume
from checkpointer.store.token import is_token


def check_volumes(workload: Workload, volumes: tuple[RenderedVolume, ...]) -> None:
    """Refuse volumes that could not be mounted by their names, or would never verify.

    Raises StoreError.
    """
    refused = f"cannot store a revision of {workload}"
    names = [volume.name for volume in volumes]
    for name in names:
        if encode(name) != name or names.count(name) > 1:
            raise StoreError(f"{refused}: volume name {name!r} is not a file name of its own")
    for volume in volumes:
        for token in volume.tokens:
            if not is_token(token.content):
                what = f"{token.path} in volume {volume.name}"
                raise StoreError(f"{refused}: {what} is not a service-account token")


def writable(volumes: tuple[RenderedVolume, ...]) -> tuple[RenderedVolume, ...]:
    """Keep the owners if we may set them: only root may give files away."""
    user, group = os.geteuid(), os.getegid()
    return volumes if user == 0 else tuple(volume.owned_by(user, group) for volume in volumes)


def stage(
    disk: Disk, staging: Path, files: Mapping[str, bytes], volumes: tuple[RenderedVolume, ...]
) -> None:
    """Write a complete revision under a name that nobody reads, sync it and verify it.

    Material comes first, the digests last. Raises OSError, DiskError.
    """
    disk.calls.mkdir(str(staging), 0o700)
    material = staging / MATERIAL
    disk.calls.mkdir(str(material), 0o700)
    for volume in volumes:
        write_copy(disk, material / volume.name, volume)
    disk.sync_directory(material)
    for name, content in files.items():
        disk.create_file(staging / name, content)
    disk.create_file(staging / DIGESTS, digests_json(files, volumes))
    disk.sync_directory(staging)
    if problems := StoredRevision(staging, disk.calls).problems():
        raise StoreError(f"what was written does not verify: {problems[0]}")
