"""The root of this project's own errors; each adapter defines the ones that are its own.

What they tell may hold names from outside: `printable` is what keeps those from forging lines.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text with everything escaped that a name could do to a log or a terminal.

    That is whatever is neither a letter, a mark nor a plain space: ends of lines, escape
    sequences, characters that turn the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def printable_json(document: str) -> str:
    """Return a JSON document with its strings printable; it means the same.

    JSON's writer leaves DEL, the C1 controls and other characters that a terminal may act on.
    """
    return "".join(
        char if char == "\n" or char.isprintable() else _as_json(char) for char in document
    )


def _as_json(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


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


class RuntimeCallError(CheckpointerError):
    """A call to the container runtime failed; the text is one sentence naming the endpoint."""


class RuntimeSilentError(RuntimeCallError):
    """The runtime has not answered in time."""
