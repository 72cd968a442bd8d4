"""The store: for each workload its immutable revisions, and what must survive a restart.

One process writes, under the instance lock; any number may read. Every change leaves the store
as it was or complete, whatever system call fails and wherever the process dies: see `durable`.
The reading side never hides a checkpoint behind another one's damage.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from checkpointer.core.checkpoint import Record, Revision
from checkpointer.core.facts import Fact
from checkpointer.core.hold import Hold
from checkpointer.core.workload import Workload
from checkpointer.store import layout
from checkpointer.store.checkpoints import read_checkpoint, read_pointer, revision_numbers
from checkpointer.store.cleaning import (
    clean_store,
    remove_empty_namespaces,
    remove_remains,
    remove_temporaries,
)
from checkpointer.store.contents import Contents, Stored
from checkpointer.store.copies import remove_leftovers, renew_tokens
from checkpointer.store.digests import StoredRevision
from checkpointer.store.durable import Disk, store_errors, temporary_name
from checkpointer.store.errors import DiskError, StoreError
from checkpointer.store.files import list_names
from checkpointer.store.material import RenderedVolume
from checkpointer.store.provenance import (
    canonical,
    hold_json,
    parse_object,
    record_json,
    revision_json,
)
from checkpointer.store.safety import check_folder
from checkpointer.store.staging import check_volumes, stage, writable
from checkpointer.store.state import read_state, write_state
from checkpointer.store.system_calls import SystemCalls
from checkpointer.store.token import is_token, token_expiry
from checkpointer.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class NewRevision:
    """A revision to be stored; `revision.number` is ignored, the store gives the number.

    `manifest_for` gets the absolute path under which the volumes will lie, each by its name,
    and returns the sanitized pod that mounts them.
    """

    workload: Workload
    revision: Revision
    manifest_for: Callable[[str], Mapping[str, Any]]
    volumes: tuple[RenderedVolume, ...] = ()
    warnings: tuple[str, ...] = ()
    """What the sanitizer dropped, for people."""


class Store:
    """The folder of all checkpoints of this node. Errors are StoreError unless said otherwise."""

    def __init__(self, root: Path, calls: SystemCalls | None = None) -> None:
        self.root = root
        self._disk = Disk(calls)
        self._calls = self._disk.calls
        self._contents = Contents(root, self._calls)
        self._is_dissolved = False

    def read(self) -> Fact[Stored]:
        """Return all checkpoints; the same object again as long as nothing has changed.

        A root that does not exist is an empty store. What another process changes is seen after
        `invalidate`.
        """
        return self._contents.read()

    @property
    def known(self) -> Stored | None:
        """Return what the last `read` returned, if nothing is known to have changed since."""
        return self._contents.known

    def invalidate(self, workload: Workload | None = None) -> None:
        """Have the next `read` look again at one workload or at everything. Any thread may call."""
        self._contents.invalidate(workload)

    def invalidate_path(self, path: Path) -> bool:
        """Do so for what a change of this path may concern; return whether that is anything.

        For a watcher of the folder: a change of one workload has only that one verified again,
        and the store's temporary files and node state nothing at all. Any thread may call.
        """
        return self._contents.invalidate_path(path)

    def prepare(self) -> None:
        """Create the root if need be, and refuse one that others could write to (UnsafePathError).

        Every write does so first; calling it at start only tells of a bad root earlier.
        """
        if self._is_dissolved:
            raise StoreError(f"{self.root} is not written to any more: the agent has left")
        with store_errors(f"cannot use {self.root} as the store"):
            mode = check_folder(self.root)
            if mode is None:
                for folder in reversed(self.root.parents):
                    self._make_parent(folder)
                self._disk.make_directory(self.root)
                return
            self._disk.settle(self.root.parent)
            if mode & 0o777 != 0o700:
                self._calls.chmod(str(self.root), 0o700)

    def clean(self) -> tuple[str, ...]:
        """Finish what a process that died had begun; return what could not be done, and why.

        Only for the one that holds the instance lock, and not needed before anything else.
        """
        if not self.root.is_dir():
            return ()
        try:
            self.prepare()
            self.finish()
            return clean_store(self._disk, self.root)
        except DiskError as error:
            return (str(error),)
        finally:
            self.invalidate()

    def add(self, new: NewRevision) -> Revision:
        """Store a revision, make it the current one, and return it with its number.

        It is read back and verified before it gets its name. Raises DiskError; then the store
        is as before.
        """
        check_volumes(new.workload, new.volumes)
        self.prepare()
        folder = self._make_folders(new.workload)
        staging = folder / layout.REVISIONS / temporary_name()
        with store_errors(f"cannot store a revision of {new.workload}"):
            number = self._next_number(folder)
            target = folder / layout.REVISIONS / str(number)
            revision = replace(new.revision, number=number)
            manifest = new.manifest_for(str(target / layout.MATERIAL))
            files = {
                layout.MANIFEST: canonical(manifest),
                layout.PROVENANCE: revision_json(new.workload, revision, new.warnings),
            }
            try:
                stage(self._disk, staging, files, writable(new.volumes))
                self._disk.rename_directory(staging, target)
                self._disk.write_file(folder / layout.CURRENT, b"%d\n" % number)
            except Exception:
                self._undo(folder, staging, number)
                raise
            finally:
                self.invalidate(new.workload)
        return revision

    def verify(self, workload: Workload, number: int) -> tuple[str, ...]:
        """Re-read all of a revision; return what does not match its digests. Empty is good.

        Raises CannotTellError.
        """
        return self._revision(workload, number).problems()

    def manifest(self, workload: Workload, number: int) -> dict[str, Any]:
        """Return a revision's sanitized pod, without marks, name and uid of an activation."""
        return self._json(workload, number, layout.MANIFEST)

    def provenance(self, workload: Workload, number: int) -> dict[str, Any]:
        """Return provenance.json as it is: workload, revision, warnings."""
        return self._json(workload, number, layout.PROVENANCE)

    def warnings(self, workload: Workload, number: int) -> tuple[str, ...]:
        """Return what was warned of when the revision was taken. Raises StoreError."""
        told = self.provenance(workload, number).get("warnings")
        return tuple(map(str, told)) if isinstance(told, list) else ()

    def material_root(self, workload: Workload, number: int) -> Path:
        """Return the folder that holds a revision's volumes, each by its name."""
        return layout.revision_folder(self.root, workload, number) / layout.MATERIAL

    def volumes(self, workload: Workload, number: int) -> tuple[RenderedVolume, ...]:
        """Return a revision's material, by the volumes' names. Raises DiskError."""
        return self._revision(workload, number).volumes()

    def token_volumes(self, workload: Workload, number: int) -> tuple[str, ...]:
        """Return the names of a revision's volumes that hold service-account tokens."""
        return self._revision(workload, number).token_volumes()

    def token_expiry(self, workload: Workload, number: int) -> float | None:
        """Return when the first of a revision's tokens expires (seconds of the Unix epoch).

        None without tokens that tell. Raises DiskError.
        """
        stored = self._revision(workload, number)
        volumes = [stored.volume(name) for name in stored.token_volumes()]
        ends = [token_expiry(token.content) for volume in volumes for token in volume.tokens]
        return min((end for end in ends if end is not None), default=None)

    def refresh_tokens(self, workload: Workload, number: int, volume: RenderedVolume) -> bool:
        """Put the tokens of a fresh reading of a volume into its copy; tell whether any changed.

        All else in the copy stays. Pods that have it mounted see the old content or the new,
        never a mixture. Raises DiskError.
        """
        self.prepare()
        stored = self._revision(workload, number)
        copy = self.material_root(workload, number) / volume.name
        with store_errors(f"cannot renew tokens in {copy}"):
            old = stored.volume(volume.name)
            new = old.with_tokens_of(volume)
            if not all(is_token(token.content) for token in new.tokens):
                raise StoreError(f"cannot renew tokens in {copy}: not a service-account token")
            if new == old:
                remove_leftovers(self._disk, copy)
                return False
            renew_tokens(self._disk, copy, new)
            return True

    def write_record(self, workload: Workload, record: Record) -> bool:
        """Keep what must survive a restart; return whether anything had to be written."""
        if self._contents.record_of(workload) == record:
            return False
        self.prepare()
        folder = self._make_workload_folder(workload)
        try:
            written = self._disk.write_file(folder / layout.RECORD, record_json(workload, record))
        except DiskError:
            self.invalidate(workload)
            raise
        self._contents.replace_record(workload, record)
        return written

    def write_hold(self, workload: Workload, hold: Hold | None) -> bool:
        """Keep what an operator wants of a stored workload, or lift it; tell if anything changed.

        The one write that needs no instance lock: nobody else writes this file. Raises StoreError.
        """
        folder = layout.workload_folder(self.root, workload)
        if not folder.is_dir():
            raise StoreError(f"{workload}: nothing is stored of it in {self.root}")
        self.prepare()
        try:
            if hold is None:
                return self._disk.remove_file(folder / layout.HOLD)
            return self._disk.write_file(folder / layout.HOLD, hold_json(workload, hold))
        finally:
            self.invalidate(workload)

    def prune(self, workload: Workload, keep: Collection[int]) -> tuple[int, ...]:
        """Remove all revisions but these and the one that serves; return the numbers of those gone.

        The caller keeps what an active manifest mounts. When the pointer cannot be read or no
        revision verifies, that may pass, and nothing is removed.
        """
        folder = layout.workload_folder(self.root, workload)
        with store_errors(f"cannot prune {folder}"):
            kept = {*keep, read_pointer(folder, self._calls)}
            gone = [n for n in revision_numbers(folder, self._calls) if n not in kept]
            if gone:  # only then is every byte read, to know the one that serves
                checkpoint = read_checkpoint(self.root, folder, self._calls).checkpoint
                if checkpoint is None or not checkpoint.revisions:
                    return ()
                gone = [number for number in gone if number != checkpoint.revisions[0].number]
            self.settle(workload)
            try:
                remove_temporaries(self._disk, self.root, folder / layout.REVISIONS)
                for number in gone:
                    path = folder / layout.REVISIONS / str(number)
                    self._disk.remove_tree(path, inside=self.root)
            finally:
                if gone:
                    self.invalidate(workload)
        return tuple(gone)

    def settle(self, workload: Workload) -> None:
        """Have on disk what is seen of a workload, before anything goes that it makes unneeded.

        Who wrote it may have died before it was. Raises StoreError.
        """
        folder = layout.workload_folder(self.root, workload)
        with store_errors(f"cannot sync {folder}"):
            for one in (self.root, folder.parent, folder, folder / layout.REVISIONS):
                if one.is_dir():
                    self._disk.settle(one)

    def finish(self) -> None:
        """Have on disk what a change that failed has left in memory only. Raises StoreError.

        It is read as if it had been stored, and nobody would repeat it.
        """
        self._disk.finish()

    def remove(self, workload: Workload) -> bool:
        """Remove all that is stored of a workload; return whether there was anything.

        Files that are not ours stay, and the folder with them.
        """
        folder = layout.workload_folder(self.root, workload)
        if not folder.is_dir():
            return False
        with store_errors(f"cannot remove {folder}"):
            try:
                # Without a pointer every revision serves, so that this by itself changes nothing.
                self._disk.remove_file(folder / layout.CURRENT)
                doomed = folder / layout.REVISIONS
                if doomed.is_dir():
                    # One rename, and no revision of it can be read any more.
                    hidden = folder / temporary_name("removed")
                    self._disk.rename_directory(doomed, hidden)
                remove_remains(self._disk, self.root, folder)
            finally:
                self.invalidate(workload)
        return True

    def dissolve(self) -> tuple[str, ...]:
        """Remove the node's state and the root, when no checkpoint is left; return what stays.

        For good: this object writes nothing any more, whoever still wants to remember something.
        The root stays where it is a mount of its own, and with it what is not ours. Raises
        StoreError; what is left then is removed by the next call.
        """
        self._is_dissolved = True
        try:
            with store_errors(f"cannot remove {self.root}"):
                remove_temporaries(self._disk, self.root, self.root)
                if (self.root / layout.STATE).is_dir():
                    self._disk.remove_tree(self.root / layout.STATE, inside=self.root)
                if (self.root / layout.SOCKET).is_socket():
                    self._disk.remove_file(self.root / layout.SOCKET)
                remove_empty_namespaces(self._disk, self.root)
                left = list_names(self._calls, self.root) or ()
                if not left and self.root.is_dir():
                    _remove_root(self._disk, self.root)
        finally:
            self.invalidate()
        return tuple(f"{self.root / name} is not ours and stays" for name in left)

    def read_state(self, name: str) -> Fact[dict[str, Any]]:
        """Return a small state of the node; empty when it was never written."""
        return read_state(self._calls, self.root, name)

    def write_state(self, name: str, value: Mapping[str, Any]) -> bool:
        """Keep a small state of the node; return whether anything had to be written."""
        self.prepare()
        return write_state(self._disk, self.root, name, value)

    def _revision(self, workload: Workload, number: int) -> StoredRevision:
        return StoredRevision(layout.revision_folder(self.root, workload, number), self._calls)

    def _json(self, workload: Workload, number: int, name: str) -> dict[str, Any]:
        stored = self._revision(workload, number)
        return parse_object(stored.intact_file(name), str(stored.folder / name))

    def _undo(self, folder: Path, staging: Path, number: int) -> None:
        """Remove what a failed `add` left, unless the pointer already leads to it."""
        with suppress(OSError, DiskError):
            if staging.exists():
                self._disk.remove_tree(staging, inside=self.root)
            elif read_pointer(folder, self._calls) != number:
                target = folder / layout.REVISIONS / str(number)
                self._disk.remove_tree(target, inside=self.root)

    def _next_number(self, folder: Path) -> int:
        """Return a number that no revision has had whose manifest may still be active.

        Nobody counts to the last one: where that is taken, the next is behind the one before it.
        """
        taken = {0, *revision_numbers(folder, self._calls)}
        with suppress(StoreError):
            taken.add(read_pointer(folder, self._calls) or 0)
        followers = {number + 1 for number in taken} - taken
        return max(number for number in followers if number <= layout.LAST_NUMBER)

    def _make_folders(self, workload: Workload) -> Path:
        folder = self._make_workload_folder(workload)
        self._disk.make_directory(folder / layout.REVISIONS)
        return folder

    def _make_workload_folder(self, workload: Workload) -> Path:
        folder = layout.workload_folder(self.root, workload)
        self._disk.make_directory(folder.parent)
        self._disk.make_directory(folder)
        return folder

    def _make_parent(self, folder: Path) -> None:
        if not folder.exists():
            self._disk.make_directory(folder, 0o755)


def _remove_root(disk: Disk, root: Path) -> None:
    """Remove the root, unless it is a mount: that is busy, or below a read-only file system."""
    try:
        disk.remove_empty_directory(root)
    except StoreError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in (errno.EBUSY, errno.EROFS):
            raise
