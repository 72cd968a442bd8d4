"""Reading one workload's folder: which revisions serve, what is remembered, what is wrong.

The newest revision up to the one that `current` names comes first. A revision beyond it was
never committed: the process died between the rename of its folder and that of the pointer. When
the pointer cannot be read, every complete revision counts.
"""

from __future__ import annotations

import re
from pathlib import Path

from checkpointer.core.checkpoint import Checkpoint, Record, Revision
from checkpointer.core.hold import Hold
from checkpointer.core.workload import Workload
from checkpointer.errors import printable
from checkpointer.store.digests import StoredRevision
from checkpointer.store.errors import StoreError
from checkpointer.store.files import list_names, may_pass, read_file
from checkpointer.store.layout import (
    CURRENT,
    HOLD,
    PROVENANCE,
    RECORD,
    REVISIONS,
    revision_number,
    workload_folder,
    workload_of_names,
)
from checkpointer.store.provenance import JSON_LIMIT, parse_hold, parse_record, parse_revision
from checkpointer.store.system_calls import SystemCalls
from checkpointer.values import dataclass

_POINTER = re.compile(rb"([1-9][0-9]{0,17})\n")


@dataclass(frozen=True, slots=True)
class WorkloadReading:
    """A workload's checkpoint; none where there is none, or nobody can tell whose it is."""

    checkpoint: Checkpoint | None
    problems: tuple[str, ...] = ()
    may_pass: bool = False
    """Whether an I/O error was among the problems: the next look may find more."""


def read_checkpoint(root: Path, folder: Path, calls: SystemCalls) -> WorkloadReading:
    """Read the workload folder `folder` of the store `root`. Raises CannotTellError."""
    reader = _Reader(root, folder, calls)
    workload = workload_of_names(folder.parent.name, folder.name)
    try:
        names = list_names(calls, folder) or ()
        if REVISIONS not in names and RECORD not in names:
            return WorkloadReading(None)  # not ours, a link, or not a folder at all
        numbers = revision_numbers(folder, calls)
    except OSError as error:
        reader.problem(f"cannot read {folder}: {error.strerror}", may_pass(error))
        return reader.answer(workload, (), Record())
    revisions = reader.revisions(numbers)
    record = reader.record() if RECORD in names else Record()
    if not numbers and RECORD not in names:
        return WorkloadReading(None)
    hold = reader.hold() if HOLD in names else None
    return reader.answer(workload, revisions, record, hold)


def revision_numbers(folder: Path, calls: SystemCalls) -> list[int]:
    """Return the numbers of all revisions, damaged ones too, newest first. Raises OSError."""
    names = list_names(calls, folder / REVISIONS) or []
    numbers = [number for name in names if (number := revision_number(name)) is not None]
    return sorted(numbers, reverse=True)


def read_pointer(folder: Path, calls: SystemCalls) -> int | None:
    """Return the current revision's number; None when there is no pointer yet.

    Raises StoreError when it cannot be read, CannotTellError.
    """
    path = folder / CURRENT
    try:
        content = read_file(calls, str(path), 64).content
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    if not (match := _POINTER.fullmatch(content)):
        raise StoreError(f"{path} is not a revision's number and a newline")
    return int(match[1])


class _Reader:
    """Collects the problems on the way, and what a readable file says of whose this is."""

    def __init__(self, root: Path, folder: Path, calls: SystemCalls) -> None:
        self._root = root
        self._folder = folder
        self._calls = calls
        self._problems: list[str] = []
        self._workload: Workload | None = None
        self._may_pass = False
        self._current: int | None = None

    def problem(self, sentence: str, may_pass: bool = False) -> None:
        """Note what is wrong, and whether that may pass."""
        self._problems.append(printable(sentence))
        self._may_pass |= may_pass

    def answer(
        self,
        workload: Workload | None,
        revisions: tuple[Revision, ...],
        record: Record,
        hold: Hold | None = None,
    ) -> WorkloadReading:
        """Return what was found of the workload that the folder's name or a file in it tells."""
        workload = workload or self._workload
        if workload is None:
            self.problem(f"{self._folder}: nothing readable tells which workload this is")
            return WorkloadReading(None, tuple(self._problems), self._may_pass)
        is_current = not revisions or revisions[0].number == self._current
        checkpoint = Checkpoint(
            workload, revisions, record, tuple(self._problems), hold, is_current
        )
        return WorkloadReading(checkpoint, (), self._may_pass)

    def revisions(self, numbers: list[int]) -> tuple[Revision, ...]:
        """Return those of these revisions that may serve, in the same order."""
        try:
            current = read_pointer(self._folder, self._calls)
        except StoreError as error:
            self.problem(str(error), may_pass(error))
            current = None
        self._current = current
        if current is not None and current not in numbers:
            self.problem(f"{self._folder}: revision {current}, the current one, is missing")
        found = [
            self._revision(number) for number in numbers if current is None or number <= current
        ]
        return tuple(revision for revision in found if revision)

    def _revision(self, number: int) -> Revision | None:
        stored = StoredRevision(self._folder / REVISIONS / str(number), self._calls)
        try:
            if problems := stored.problems():
                raise StoreError(problems[0])
            shown = str(stored.folder / PROVENANCE)
            workload, revision = parse_revision(stored.file(PROVENANCE), shown)
            if revision.number != number:
                raise StoreError(f"{shown} is that of revision {revision.number}")
            self._check_owner(workload, shown)
        except StoreError as error:
            self.problem(f"revision {number} is skipped: {error}", stored.may_pass)
            return None
        return revision

    def record(self) -> Record:
        """Return what is remembered of the workload: nothing when that cannot be read."""
        path = self._folder / RECORD
        try:
            content = read_file(self._calls, str(path), JSON_LIMIT).content
            workload, record = parse_record(content, str(path))
            self._check_owner(workload, str(path))
        except StoreError as error:
            self.problem(str(error))
        except OSError as error:
            self.problem(f"cannot read {path}: {error.strerror}", may_pass(error))
        else:
            return record
        return Record()

    def hold(self) -> Hold | None:
        """Return what an operator wants of the workload: nothing when that cannot be read.

        A damaged file must not keep a node dark; that it is damaged is among the problems.
        """
        path = self._folder / HOLD
        try:
            content = read_file(self._calls, str(path), JSON_LIMIT).content
            workload, hold = parse_hold(content, str(path))
            self._check_owner(workload, str(path))
        except StoreError as error:
            self.problem(f"the hold does not count: {error}")
        except OSError as error:
            self.problem(f"cannot read {path}: {error.strerror}", may_pass(error))
        else:
            return hold
        return None

    def _check_owner(self, workload: Workload, shown: str) -> None:
        if workload_folder(self._root, workload) != self._folder:
            raise StoreError(f"{shown} is that of {workload}")
        self._workload = workload
