"""What may go wrong on disk: one root, and a class per thing that somebody handles differently.

No message holds content: names, paths, modes and what was expected, never a byte of material.
"""

from __future__ import annotations

from checkpointer.errors import CheckpointerError, printable


class DiskError(CheckpointerError):
    """A file or folder could not be read or written, or is not what it has to be."""

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


class StoreError(DiskError):
    """The store, or a durable write anywhere, failed; what was there before is still there."""


class UnsafePathError(StoreError):
    """Somebody else could replace what lies there: nothing is read from it or written to it."""


class MaterialError(DiskError):
    """A volume cannot be taken as material; the message is the reason for an operator."""


class ForeignFileError(DiskError):
    """A file that does not carry our mark is in the way; it is left alone."""


class CannotTellError(DiskError):
    """The node is out of something (handles, memory): this look says nothing about the disk."""
