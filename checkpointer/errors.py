"""The root of this project's own errors; each adapter defines the ones that are its own."""

from __future__ import annotations


class CheckpointerError(Exception):
    """Something an operator can act on; the message names the thing, key or path."""


class NotCheckpointableError(CheckpointerError):
    """A parent cannot be checkpointed; the message says why and what would cure it."""


class ApiError(CheckpointerError):
    """A request to the API did not succeed; `status` is None when there was no HTTP answer."""

    def __init__(
        self, message: str, status: int | None = None, says_not_found: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.says_not_found = says_not_found
        """Whether it is the API that says so, and not some proxy that knows no such page."""
