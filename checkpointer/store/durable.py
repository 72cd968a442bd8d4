"""The one write path: whatever it says it wrote is there after a power cut.

A rename is atomic to readers but not to a disk: without fsync of the file the new name may
point to nothing, without fsync of the folder the rename itself may be lost (peers.md P24).
So every change here is: make it beside, fsync it, rename it, fsync the folder. On an error before
the rename the target is as before and the temporary file is gone. On one after it the change is
there to see, and may go with the power: who goes on without repeating it calls `finish` first.
When the process dies in between, all that is left is a name beginning with PREFIX, which every
reader ignores.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from checkpointer.store.errors import DiskError, StoreError
from checkpointer.store.files import read_file
from checkpointer.store.system_calls import SystemCalls

PREFIX = ".pod-checkpointer-"
"""How every temporary name begins; the kubelet ignores names that begin with a dot."""

REMOVED = PREFIX + "removed-"
"""How the name of a tree begins whose removal has begun."""


def temporary_name(kind: str = "new") -> str:
    """Return a name that nobody else uses, ignored by the kubelet and by the store's readers."""
    return f"{PREFIX}{kind}-{os.urandom(8).hex()}"


def is_temporary(name: str) -> bool:
    """Tell whether a name is one that `temporary_name` gives: an editor's swap file is not."""
    return re.fullmatch(re.escape(PREFIX) + r"[a-z]+-[0-9a-f]{16}", name) is not None


class Disk:
    """Durable changes of files and folders; the system calls are injected by tests."""

    def __init__(self, calls: SystemCalls | None = None) -> None:
        self.calls = calls or SystemCalls()
        self._settled: set[str] = set()
        """Folders whose entries this process knows to be on disk. One that is not here is
        synced even when nothing is to be changed in it: the change may have been made by a
        process that died, or by a call whose last fsync failed."""
        self._changed: set[str] = set()
        """Folders that this object has begun to change and not settled: where a call has failed,
        nothing may be left to do that would settle them."""

    def write_file(self, path: Path, content: bytes, mode: int = 0o600) -> bool:
        """Make `path` a regular file of this content and mode; return whether it was written.

        A symbolic link at `path` is replaced, never followed. Raises StoreError.
        """
        folder = path.parent
        with store_errors(f"cannot write {path}"):
            if self._holds(path, content, mode):
                self.settle(folder)
                return False
            temporary = f"{folder}/{temporary_name()}"
            try:
                self.create_file(temporary, content, mode)
                self.changing(folder)
                self.calls.rename(temporary, str(path))
            except Exception:
                self._discard(temporary)
                raise
            self.settle(folder)
            return True

    def create_file(
        self,
        path: Path | str,
        content: bytes,
        mode: int = 0o600,
        owner: tuple[int, int] | None = None,
        label: str | None = None,
    ) -> None:
        """Create a new file and fsync it; the folder is the caller's to sync. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        handle = self.calls.open(str(path), flags, 0o600)
        try:
            left = memoryview(content)
            while left:
                left = left[self.calls.write(handle, left) :]
            if owner is not None:
                self.calls.fchown(handle, *owner)
            self.calls.fchmod(handle, mode)  # after chown, which clears set-id bits
            self.set_label(handle, label)
            self.calls.fsync(handle)
        finally:
            self.calls.close(handle)

    def set_label(self, handle: int, label: str | None) -> None:
        """Set the SELinux label; a file system that keeps none needs none. Raises OSError."""
        if label is None:
            return
        try:
            self.calls.setxattr(handle, "security.selinux", label.encode() + b"\0")
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise

    def make_directory(self, path: Path, mode: int = 0o700) -> bool:
        """Make `path` a folder; return whether it was created. Its parent must exist."""
        above = path.parent
        with store_errors(f"cannot create the folder {path}"):
            if _is_directory(path):
                self.settle(above)
                return False
            self.changing(above)
            self.calls.mkdir(str(path), mode)
            self.calls.chmod(str(path), mode)  # whatever the umask
            self.settle(above)
            return True

    def remove_file(self, path: Path) -> bool:
        """Remove a file or symbolic link; return whether it was there."""
        with store_errors(f"cannot remove {path}"):
            if not os.path.lexists(path):
                if path.parent.is_dir():
                    self.settle(path.parent)
                return False
            self.changing(path.parent)
            self.calls.unlink(str(path))
            self.settle(path.parent)
            return True

    def remove_empty_directory(self, path: Path) -> bool:
        """Remove a folder if it is there and empty; return whether it was removed."""
        with store_errors(f"cannot remove the folder {path}"):
            self.changing(path.parent)
            try:
                self.calls.rmdir(str(path))
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                    return False
                raise
            self._forget(path)
            self.settle(path.parent)
            return True

    def remove_tree(self, path: Path, inside: Path, *, hide: bool = True) -> bool:
        """Remove a folder and all in it; return whether it was there.

        It gets a dot-name first, so that a half-removed one is never read; `hide=False` is for
        names that nobody reads anyway. Only paths strictly below `inside` are accepted.
        """
        if ".." in path.parts or inside not in path.parents:
            raise StoreError(f"cannot remove {path}: it is not inside {inside}")
        with store_errors(f"cannot remove {path}"):
            if not os.path.lexists(path):
                return False
            if hide and not path.name.startswith(PREFIX):
                doomed = path.with_name(temporary_name("removed"))
                self._rename(path, doomed)
                path = doomed
            self.settle(path.parent)  # that nobody reads it any more must not be lost alone
            self.changing(path.parent)
            self._remove_below(path)
            self.settle(path.parent)
            return True

    def rename_directory(self, source: Path, target: Path) -> None:
        """Rename a finished folder within its parent, durably; `target` must not exist."""
        self.rename(source, target)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file within its folder, durably; `target` must not exist."""
        with store_errors(f"cannot rename {source} to {target.name}"):
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "the target exists")
            self._rename(source, target)

    def link_file(self, source: Path, target: Path) -> None:
        """Give a file a second name in its folder, durably. Raises FileExistsError, OSError.

        Unlike a rename it never replaces what somebody else has put there in the last moment.
        """
        self.changing(target.parent)
        self.calls.link(str(source), str(target))
        self.settle(target.parent)

    def swap_link(self, path: Path, target: str, owner: tuple[int, int] | None = None) -> bool:
        """Make `path` a symbolic link to `target` in one step; return whether it changed.

        The kubelet's AtomicWriter goes through `<name>_tmp` too; programs that watch such a
        folder know to ignore it.
        """
        with store_errors(f"cannot link {path}"):
            if path.is_symlink() and os.readlink(path) == target:
                self.settle(path.parent)
                return False
            self.changing(path.parent)
            temporary = path.with_name(path.name + "_tmp")
            try:
                if os.path.lexists(temporary):
                    self.calls.unlink(str(temporary))
                self.calls.symlink(target, str(temporary))
                if owner is not None:
                    self.calls.lchown(str(temporary), *owner)
                self.calls.rename(str(temporary), str(path))
            except Exception:
                self._discard(temporary)
                raise
            self.settle(path.parent)
            return True

    def sync_directory(self, path: Path) -> None:
        """Have the folder's entries written to disk. Raises OSError."""
        handle = self.calls.open(str(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.calls.fsync(handle)
        finally:
            self.calls.close(handle)

    def changing(self, folder: Path) -> None:
        """Note that the entries of a folder are about to change."""
        self._settled.discard(str(folder))
        self._changed.add(str(folder))

    def settle(self, folder: Path) -> None:
        """Wait until a folder's entries are on disk, unless this process knows them to be.

        Before anything is removed for good because of what is seen in the folder: a process that
        died may have left it in memory only, and after a power cut it would be as before.
        Raises OSError.
        """
        path = str(folder)
        if path not in self._settled:
            self.sync_directory(folder)
            self._settled.add(path)
            self._changed.discard(path)

    @property
    def is_unfinished(self) -> bool:
        """Whether a change has failed whose folder may not be on disk."""
        return bool(self._changed)

    def finish(self) -> None:
        """Settle what calls that failed have left in memory only. Raises StoreError."""
        for path in sorted(self._changed):
            with store_errors(f"cannot sync {path}"):
                if os.path.isdir(path):
                    self.settle(Path(path))
                self._changed.discard(path)

    def _holds(self, path: Path, content: bytes, mode: int) -> bool:
        try:
            found = read_file(self.calls, str(path), len(content))
        except (OSError, DiskError):
            return False
        return found.content == content and stat.S_IMODE(found.status.st_mode) == mode

    def _rename(self, source: Path, target: Path) -> None:
        self.changing(source.parent)
        self.calls.rename(str(source), str(target))
        self._forget(source)
        self.settle(source.parent)

    def _remove_below(self, path: Path) -> None:
        """Remove what lies at a name that nobody reads any more; no link is followed."""
        mode = path.lstat().st_mode
        if not stat.S_ISDIR(mode):
            self.calls.unlink(str(path))
            return
        if mode & 0o700 != 0o700:
            self.calls.chmod(str(path), 0o700)  # material may be read-only to its owner
        with os.scandir(path) as entries:
            found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for child, is_folder in found:
            if is_folder:
                self._remove_below(Path(child))
            else:
                self.calls.unlink(child)
        self.calls.rmdir(str(path))

    def _discard(self, path: Path | str) -> None:
        with suppress(OSError):
            self.calls.unlink(str(path))

    def _forget(self, gone: Path) -> None:
        """Drop what is known of a folder that is gone, so that churn does not fill memory."""
        below = f"{gone}{os.sep}"
        self._settled = {
            path for path in self._settled if path != str(gone) and not path.startswith(below)
        }


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn OSError into StoreError: `what`, a colon, and what the system says."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}") from error
