"""The help's width, asked of the terminal by ourselves.

argparse imports shutil and four compressors for it, with every option that is declared, also in
the instance that is parked.
"""

from __future__ import annotations

import argparse
import os
import sys


class Formatter(argparse.HelpFormatter):
    """Fills its texts to the terminal's width."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


class ListFormatter(Formatter):
    """Leaves a text of several lines that begins with `exit status:` as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("exit status:\n"):
            return "".join(indent + line for line in text.splitlines(keepends=True))
        return super()._fill_text(text, width, indent)


def _columns() -> int:
    """Return the terminal's width as shutil.get_terminal_size does."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 80
