"""Tells a story on a terminal as it happens: live there, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


class Timeline:
    """Prints each step when it is over, and, on a terminal, what is being waited for now."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def title(self, text: str) -> None:
        """Begin a part of the story."""
        self._console.print(f"\n[bold]{escape(text)}[/bold]")

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show what is waited for, for as long as it takes."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(escape(text)):
            yield

    def done(self, text: str, seconds: float) -> None:
        """Tell of a step that was observed, and how long it took."""
        self._line("[green]ok[/green]  ", f"{escape(text)} [dim]({seconds:.2f} s)[/dim]")

    def failed(self, text: str) -> None:
        """Tell of what was not observed."""
        self._line("[red]FAIL[/red]", escape(text))

    def note(self, text: str) -> None:
        """Tell of something that is no step."""
        self._line("    ", escape(text))

    def _line(self, mark: str, text: str) -> None:
        elapsed = time.monotonic() - self._began
        self._console.print(f"{elapsed:6.1f} s  {mark}  {text}", highlight=False, soft_wrap=True)
