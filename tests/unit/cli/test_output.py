"""Tables on a terminal: colour, and words that stay whole however narrow it is."""

from __future__ import annotations

import re
import sys

import pytest

from checkpointer.cli.output import print_table, table

ROWS = [("kube-system/daemonset/kube-apiserver", "standby", "its parent to come back by itself")]


@pytest.mark.parametrize("columns", ["40", "70", "200"])
def test_on_a_terminal_words_stay_whole(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the last column is folded, and between words."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_table(table("WORKLOAD STATE WAITS-FOR", ROWS))
    out = capsys.readouterr().out
    assert "\x1b[32mstandby" in out
    words = re.sub(r"\x1b\[[0-9;]*m", "", out).split()
    assert words == ["WORKLOAD", "STATE", "WAITS-FOR", *" ".join(ROWS[0]).split()]


def test_nothing_in_a_cell_can_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A pod's name may come from anywhere."""
    print_table(table("A B", [("x\ny", "\x1b[2J")]))
    assert capsys.readouterr().out == "A      B\nx\\ny   \\x1b[2J\n"
