"""What commands print: tables for people, JSON and YAML for programs, names for shells.

On a terminal a table has colours and the terminal's width; in a pipe it is plain, one line a row.
No text from outside can move the cursor or forge a line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from checkpointer.errors import printable, printable_json
from checkpointer.values import dataclass

FORMS = ("table", "wide", "json", "yaml", "name")

_GAP = "   "
_LEAST_LAST = 24
_STACKED_INDENT = 2
_STYLES = {
    "green": ("ok", "standby", "reachable", "present", "running", "yes", "parent", "restarted"),
    "cyan": ("active", "copy", "held"),
    "yellow": (
        "waiting",
        "handing",
        "frozen",
        "suspect",
        "unknown",
        "both",
        "soon",
        "warning",
        "interrupted",
    ),
    "red": (
        "lost",
        "denied",
        "unusable",
        "failed",
        "missing",
        "refused",
        "nothing",
        "expired",
        "down",
    ),
}
_reader_has_left = threading.Event()
"""Whether a write found standard output without a reader; it goes to the null device since."""

_STYLE_OF = {word: style for style, words in _STYLES.items() for word in words}


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title; a wide one is left out of the form `table`."""

    title: str
    is_wide: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts, one for each column, the wide ones included."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def table(titles: str, rows: Iterable[Sequence[str]], wide: str = "") -> Table:
    """Return a table of columns by their titles, `wide` the last ones; a space parts titles."""
    columns = (
        *(Column(title) for title in titles.split()),
        *(Column(title, is_wide=True) for title in wide.split()),
    )
    return Table(columns, tuple(tuple(row) for row in rows))


def add_output_argument(
    parser: argparse.ArgumentParser, names: str = "the names of the workloads"
) -> None:
    """Declare `-o`, the same with every command; `names` says what `name` prints of this one."""
    parser.add_argument(
        "-o",
        "--output",
        choices=FORMS,
        default="table",
        help="for people: table (the default), or wide where there is more to tell; for programs: "
        f"json, yaml; for shells: name, {names}",
    )


def print_found(
    form: str, document: Any, names: Iterable[str], *tables: Table, empty: str = ""
) -> None:
    """Print one thing in the form that was asked for; `empty` in place of tables without rows."""
    if form in ("json", "yaml"):
        print_document(form, document)
    elif form == "name":
        write("".join(f"{printable(name)}\n" for name in names))
    elif not any(one.rows for one in tables):
        note(empty)
    else:
        for one in tables:
            print_table(one, is_wide=form == "wide")


def print_document(form: str, document: Any) -> None:
    """Print JSON's kinds of values as `json` or `yaml`."""
    if form == "json":
        write(as_json(document) + "\n")
        return
    from checkpointer.cli.documents import as_yaml

    write(as_yaml(document))


def as_json(document: Any) -> str:
    """Return JSON's kinds of values as a person can read them, and as no terminal acts on them."""
    return printable_json(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(found: Table, is_wide: bool = False) -> None:
    """Print a table; nothing when it has no rows."""
    shown = [i for i, column in enumerate(found.columns) if is_wide or not column.is_wide]
    titles = [found.columns[i].title for i in shown]
    rows = [[printable(row[i]) for i in shown] for row in found.rows]
    if not rows:
        return
    write(_coloured(titles, rows) if sys.stdout.isatty() else _plain(titles, rows))


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print lines of a word and what it says; those that say nothing are left out."""
    told = [(word, printable(text)) for word, text in facts if text]
    if not told:
        return
    width = max(len(word) for word, _ in told) + len(_GAP)
    if not sys.stdout.isatty():
        write("".join(f"{word:<{width}}{text}\n" for word, text in told))
        return
    from rich.text import Text

    console = _console()
    lines = []
    for word, text in told:
        first, *rest = _folded(text, console.width - width)
        style = _style_of(text)
        lines.append(Text.assemble((f"{word:<{width}}", "bold"), (first, style)))
        lines += [Text(" " * width + line, style) for line in rest]
    write(_printed(console, lines))


def _folded(text: str, width: int) -> list[str]:
    """Return lines of whole words; what is longer, a path, the terminal may break and one copy."""
    import textwrap

    return textwrap.wrap(
        text, max(width, _LEAST_LAST), break_long_words=False, break_on_hyphens=False
    ) or [""]


def write(text: str) -> None:
    """Write to standard output; a reader that has left is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _reader_has_left.set()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def wait_while_read(seconds: float) -> bool:
    """Wait so long; return False, and at once, when the reader of standard output has left."""
    import select

    if _reader_has_left.is_set():
        return False
    reader = select.poll()
    reader.register(sys.stdout, 0)  # errors are always told of: a pipe that nobody reads is one
    return not reader.poll(seconds * 1000)


def say(text: str) -> None:
    """Write one line to standard output."""
    write(f"{printable(text)}\n")


def note(text: str) -> None:
    """Say something besides the result, on standard error."""
    if text:
        print(printable(text), file=sys.stderr)


def print_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Print lines, each with the style that its first word has on a terminal."""
    if not sys.stdout.isatty():
        write("".join(f"{line}\n" for line, _ in lines))
        return
    from rich.text import Text

    parted = ((line.partition(" "), style) for line, style in lines)
    texts = [Text.assemble((word, style), space, rest) for (word, space, rest), style in parted]
    write(_printed(_console(), texts))


def _plain(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    return "".join(
        _GAP.join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def _coloured(titles: list[str], rows: list[list[str]]) -> str:
    """Fold the last column into what is left of the terminal's width.

    Where that is no room for words, the first column gets a line of its own, above the others.
    """
    console = _console()
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    is_stacked = len(widths) > 1 and _room(console, widths) < min(widths[-1], _LEAST_LAST)
    lines: list[Any] = []
    for row in [titles, *rows]:
        cells = [(one, "bold" if row is titles else _style_of(one)) for one in row]
        if is_stacked:
            lines += _cells(console, cells[:1], widths[:1], 0)
            lines += _cells(console, cells[1:], widths[1:], _STACKED_INDENT)
        else:
            lines += _cells(console, cells, widths, 0)
    return _printed(console, lines)


def _cells(
    console: Any, cells: Sequence[tuple[str, str]], widths: Sequence[int], margin: int
) -> Iterator[Any]:
    """Yield the lines of one row's cells, each a text with its style.

    On a terminal that has not even the room for a folded one, the last goes on in the next line
    as it is: letters below each other help nobody.
    """
    from rich.text import Text

    *others, (last, style) = cells
    room = _room(console, widths) - margin
    first, *rest = _folded(last, room) if room >= min(widths[-1], _LEAST_LAST) else [last]
    before = [(f"{text:<{w}}{_GAP}", look) for (text, look), w in zip(others, widths, strict=False)]
    yield Text.assemble(" " * margin, *before, (first, style))
    indent = " " * (console.width - room)
    yield from (Text(indent + line, style) for line in rest)


def _room(console: Any, widths: Sequence[int]) -> int:
    """Return what is left of the terminal's width for the last column; negative if it is less."""
    return int(console.width) - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)


def _style_of(text: str) -> str:
    word = text.split(":", 1)[0].split(" ", 1)[0].rstrip(",;")
    return _STYLE_OF.get(word, "")


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def _printed(console: Any, lines: Iterable[Any]) -> str:
    with console.capture() as captured:  # printed by itself it would end at a broken pipe
        for line in lines:
            console.print(line, soft_wrap=True)
    return str(captured.get())


def seconds_since(stamp: str | None) -> float | None:
    """Return how long ago an RFC 3339 time was, by this node's clock; negative if yet to come."""
    if stamp is None:
        return None
    return time.time() - datetime.fromisoformat(stamp).timestamp()
