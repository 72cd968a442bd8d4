"""The journal as those read and write it who know what a happening is.

Writing never stops the agent: what cannot be written now is kept, up to a bound, and written
together with what comes next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from checkpointer.errors import CheckpointerError
from checkpointer.report.happenings import Happening, from_entry
from checkpointer.store.journal import Journal, read_journal
from checkpointer.values import dataclass

KEPT = 200
"""Happenings that wait in memory for a disk that does not take them."""

RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class History:
    """What happened, oldest first, and what of the journal could not be read."""

    happenings: tuple[Happening, ...] = ()
    problems: tuple[str, ...] = ()


def read_history(store_directory: Path, limit: int | None = None) -> History:
    """Return the newest `limit` happenings, or all, oldest first; needs nothing but the disk."""
    reading = read_journal(store_directory)
    found = [h for entry in reading.entries if (h := from_entry(entry)) is not None]
    kept = found if limit is None else found[max(len(found) - limit, 0) :]
    return History(tuple(kept), reading.problems)


class Historian:
    """Numbers happenings and writes them down. Raises nothing."""

    def __init__(
        self, root: Path, prepare: Callable[[], None], journal: Journal | None = None
    ) -> None:
        self._root, self._prepare = root, prepare
        self._journal = journal or Journal(root)
        self._next: int | None = None
        self._waiting: deque[Happening] = deque(maxlen=KEPT)
        self._retry_at = 0.0
        self.problem = ""
        """Why the last ones are not on disk, or nothing."""

    def write(self, happenings: list[Happening], now: float) -> list[Happening]:
        """Write them down, with what still waits; return them numbered. `now` is monotonic."""
        if not happenings and (not self._waiting or now < self._retry_at):
            return []
        if self._next is None:
            numbers = [h.number for h in read_history(self._root).happenings]
            self._next = max(numbers, default=0) + 1
        numbered = [h.numbered(self._next + index) for index, h in enumerate(happenings)]
        self._next += len(numbered)
        self._waiting.extend(numbered)
        try:
            self._prepare()
            self._journal.append([h.as_entry() for h in self._waiting])
        except CheckpointerError as error:
            self.problem = f"the journal: {error}"
            self._retry_at = now + RETRY_SECONDS
        else:
            self._waiting.clear()
            self.problem = ""
        return numbered
