"""Finishing what a process that died had begun: only names that begin with our prefix, or that a
renewal of tokens leaves in a volume. The caller must be the only writer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from checkpointer.store.checkpoints import read_pointer, revision_numbers
from checkpointer.store.copies import remove_leftovers
from checkpointer.store.digests import StoredRevision
from checkpointer.store.durable import REMOVED, Disk, is_temporary, store_errors
from checkpointer.store.errors import DiskError, StoreError
from checkpointer.store.files import list_names
from checkpointer.store.layout import CURRENT, HOLD, MATERIAL, RECORD, REVISIONS, STATE, decode


def clean_store(disk: Disk, root: Path) -> tuple[str, ...]:
    """Remove leftovers and mend pointers below `root`; return what could not be done, and why."""
    problems: list[str] = []

    def attempt(what: Path, step: Callable[[], object]) -> None:
        try:
            with store_errors(f"cannot clean {what}"):
                step()
        except DiskError as error:
            problems.append(str(error))

    def folders(folder: Path) -> list[Path]:
        found: list[Path] = []
        attempt(folder, lambda: found.extend(_folders(disk, folder)))
        return found

    attempt(root, lambda: remove_temporaries(disk, root, root))
    attempt(root / STATE, lambda: remove_temporaries(disk, root, root / STATE))
    for namespace in folders(root):
        attempt(namespace, partial(remove_temporaries, disk, root, namespace))
        for folder in folders(namespace):
            attempt(folder, partial(_clean_workload, disk, root, folder))
    attempt(root, lambda: remove_empty_namespaces(disk, root))
    return tuple(problems)


def remove_empty_namespaces(disk: Disk, root: Path) -> None:
    """Remove the folders of namespaces of which nothing is stored any more.

    Whoever removed the last workload may have died before. What has no name that a namespace
    could have, such as lost+found, is not ours.
    """
    for folder in _folders(disk, root):
        if decode(folder.name) is not None and not list_names(disk.calls, folder):
            disk.remove_empty_directory(folder)


def remove_temporaries(disk: Disk, root: Path, folder: Path) -> None:
    """Remove our leftovers in one folder."""
    for name in list_names(disk.calls, folder) or ():
        if is_temporary(name):
            disk.remove_tree(folder / name, inside=root)


def remove_remains(disk: Disk, root: Path, folder: Path) -> None:
    """Remove what is left of a workload without revisions, and its folders if they are empty.

    Its renamed revisions go last: they are what tells that the rest is to go too.
    """
    disk.remove_file(folder / CURRENT)
    disk.remove_file(folder / RECORD)
    disk.remove_file(folder / HOLD)
    remove_temporaries(disk, root, folder)
    if disk.remove_empty_directory(folder):
        disk.remove_empty_directory(folder.parent)


def _clean_workload(disk: Disk, root: Path, folder: Path) -> None:
    names = list_names(disk.calls, folder) or []
    if REVISIONS not in names and any(name.startswith(REMOVED) for name in names):
        remove_remains(disk, root, folder)
        return
    remove_temporaries(disk, root, folder)
    remove_temporaries(disk, root, folder / REVISIONS)
    for number in revision_numbers(folder, disk.calls):
        material = folder / REVISIONS / str(number) / MATERIAL
        for volume in _folders(disk, material):
            if (volume / "..data").is_symlink():
                remove_leftovers(disk, volume)
    _mend_pointer(disk, folder)


def _mend_pointer(disk: Disk, folder: Path) -> None:
    """Let a pointer that is missing or unreadable name the newest revision that verifies.

    It is the one that serves. A first revision whose pointer was never written may itself be in
    memory only.
    """
    with suppress(StoreError):
        if read_pointer(folder, disk.calls) is not None:
            return
    for number in revision_numbers(folder, disk.calls):
        if not StoredRevision(folder / REVISIONS / str(number), disk.calls).problems():
            disk.settle(folder / REVISIONS)
            disk.write_file(folder / CURRENT, b"%d\n" % number)
            return


def _folders(disk: Disk, folder: Path) -> list[Path]:
    names = list_names(disk.calls, folder) or ()
    found = [folder / name for name in names if not name.startswith(".")]
    return [path for path in found if path.is_dir() and not path.is_symlink()]
