"""What a command failed for, on standard error; apart, so that the agent need not load the rest."""

from __future__ import annotations

import sys

from checkpointer.config import ConfigError
from checkpointer.errors import printable


def complain(error: BaseException | str) -> None:
    """Say what a command failed for: one line, but for a configuration's problems."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    if not isinstance(error, ConfigError):  # whose lines are printable one by one
        text = printable(text)
    print(f"checkpointer: {text}", file=sys.stderr)
