"""What is wrong and stays so: told when it begins, and when its words change, not every cycle."""

from __future__ import annotations

import logging
from collections.abc import Iterable

log = logging.getLogger(__name__)


LASTING_SECONDS = 30.0
"""After which what usually passes by itself, such as a broken watch, is an error."""


class Problems:
    """The problems of now, a sentence each."""

    def __init__(self) -> None:
        self._told: frozenset[str] = frozenset()
        self._passing = ""
        self._passing_since: float | None = None
        self._has_lasted = False

    def tell(self, problems: Iterable[str]) -> None:
        """Log those that were not there the last time."""
        found = frozenset(problems)
        for sentence in sorted(found - self._told):
            log.error("%s", sentence)
        self._told = found

    def tell_passing(self, sentence: str, now: float) -> None:
        """Log what is likely to pass, empty for nothing; as an error once it has lasted.

        `now` is in seconds of the monotonic clock.
        """
        if not sentence:
            self._passing, self._passing_since, self._has_lasted = "", None, False
            return
        if self._passing_since is None:
            self._passing_since = now
        if now - self._passing_since >= LASTING_SECONDS and not self._has_lasted:
            self._has_lasted = True
            log.error("%s (for %.0f s)", sentence, now - self._passing_since)
        elif sentence != self._passing and not self._has_lasted:
            log.info("%s", sentence)
        self._passing = sentence
