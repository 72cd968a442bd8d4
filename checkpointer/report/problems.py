"""What is wrong and stays so: told when it begins, and when its words change, not every cycle."""

from __future__ import annotations

import logging
from collections.abc import Iterable

log = logging.getLogger(__name__)


class Problems:
    """The problems of now, a sentence each."""

    def __init__(self) -> None:
        self._told: frozenset[str] = frozenset()

    def tell(self, problems: Iterable[str]) -> None:
        """Log those that were not there the last time."""
        found = frozenset(problems)
        for sentence in sorted(found - self._told):
            log.error("%s", sentence)
        self._told = found
