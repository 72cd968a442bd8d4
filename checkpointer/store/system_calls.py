"""The system calls behind every durable write and every read of the store.

They are an object so that a test can fail the n-th one, or end the process before or after it,
and then look at what is on disk. Nothing here decides or retries.
"""

from __future__ import annotations

import os


class SystemCalls:
    """The operating system's own calls; errors are OSError, as ever."""

    def open(self, path: str, flags: int, mode: int = 0o777, dir_fd: int | None = None) -> int:
        """Open a file, never inherited by a child."""
        return os.open(path, flags | os.O_CLOEXEC, mode, dir_fd=dir_fd)

    def close(self, handle: int) -> None:
        """Close a handle."""
        os.close(handle)

    def read(self, handle: int, size: int) -> bytes:
        """Read at most `size` bytes."""
        return os.read(handle, size)

    def write(self, handle: int, content: memoryview) -> int:
        """Write some of the content and return how many bytes it took."""
        return os.write(handle, content)

    def fsync(self, handle: int) -> None:
        """Wait until a file's content or a folder's entries are on disk."""
        os.fsync(handle)

    def fchmod(self, handle: int, mode: int) -> None:
        """Set the mode, whatever the umask."""
        os.fchmod(handle, mode)

    def fchown(self, handle: int, uid: int, gid: int) -> None:
        """Set the owners of an open file or folder."""
        os.fchown(handle, uid, gid)

    def lchown(self, path: str, uid: int, gid: int) -> None:
        """Set the owners of a path that may be a symbolic link."""
        os.lchown(path, uid, gid)

    def setxattr(self, handle: int, name: str, value: bytes) -> None:
        """Set an extended attribute of an open file or folder."""
        os.setxattr(handle, name, value)

    def rename(self, source: str, target: str) -> None:
        """Replace `target` by `source` in one step."""
        os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, unless that is taken; a symbolic link is not followed."""
        os.link(source, target, follow_symlinks=False)

    def symlink(self, target: str, path: str) -> None:
        """Create a symbolic link."""
        os.symlink(target, path)

    def unlink(self, path: str) -> None:
        """Remove a file or symbolic link."""
        os.unlink(path)

    def mkdir(self, path: str, mode: int) -> None:
        """Create a folder."""
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        os.rmdir(path)

    def chmod(self, path: str, mode: int) -> None:
        """Set the mode of a path that is known not to be a symbolic link."""
        os.chmod(path, mode)

    def list_directory(self, handle: int) -> list[str]:
        """Return the names in an open folder."""
        return os.listdir(handle)
