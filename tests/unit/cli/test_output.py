"""Tables on a terminal: colour, and words that stay whole however narrow it is."""

from __future__ import annotations

import re
import sys

import pytest
import yaml

from checkpointer.cli.complaint import complain
from checkpointer.cli.output import print_document, print_table, say, table
from checkpointer.config import ConfigError
from checkpointer.errors import CheckpointerError

ROWS = [("kube-system/daemonset/kube-apiserver", "standby", "its parent to come back by itself")]


@pytest.mark.parametrize(("columns", "lines"), [("20", 4), ("40", 5), ("75", 3), ("200", 2)])
def test_on_a_terminal_words_stay_whole(
    columns: str, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the last column is folded, between words, and only where there is room for words."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_table(table("WORKLOAD STATE WAITS-FOR", ROWS))
    out = capsys.readouterr().out
    assert "\x1b[32mstandby" in out
    words = re.sub(r"\x1b\[[0-9;]*m", "", out).split()
    assert words == ["WORKLOAD", "STATE", "WAITS-FOR", *" ".join(ROWS[0]).split()]
    assert len(out.splitlines()) == lines


def test_a_table_wider_than_the_terminal_has_two_lines_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name above the rest, so that the columns of `status` stay columns at 80."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    name = "kube-system/deployment/kube-controller-manager"
    waits = "stage 0 to bring contact back, 29 s more"
    row = (name, "waiting", "nothing", "1", "8m10s", "364d", waits)
    print_table(table("WORKLOAD STATE RUNS REVISION AGE TOKEN WAITS-FOR", [row]))
    out = capsys.readouterr().out
    assert re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines() == [
        "WORKLOAD",
        "  STATE     RUNS      REVISION   AGE     TOKEN   WAITS-FOR",
        name,
        "  waiting   nothing   1          8m10s   364d    stage 0 to bring contact back,",
        "                                                 29 s more",
    ]


def test_nothing_in_a_cell_can_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A pod's name may come from anywhere."""
    print_table(table("A B", [("x\ny", "\x1b[2J")]))
    assert capsys.readouterr().out == "A      B\nx\\ny   \\x1b[2J\n"


FORGED = "a\n\x1b[2J\x9b\u2028"
SHOWN = "a\\n\\x1b[2J\\x9b\\u2028"


def test_no_name_forges_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """On neither of the two outputs."""
    say(f"{FORGED}: held")
    complain(CheckpointerError(f"{FORGED}: not here"))
    complain(OSError(2, "No such file", FORGED))
    found = capsys.readouterr()
    assert found.out == f"{SHOWN}: held\n"
    assert found.err == f"checkpointer: {SHOWN}: not here\ncheckpointer: {SHOWN}: No such file\n"


def test_a_configurations_problems_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """One for each key at fault, and no more than that."""
    complain(ConfigError([f"{FORGED}: unknown", "b: unknown"]))
    assert capsys.readouterr().err == f"checkpointer: {SHOWN}: unknown\nb: unknown\n"


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_no_name_moves_a_terminal_in_a_document(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A document means the same, whatever its escapes."""
    print_document(form, {"name": f"{FORGED}é"})
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.split("\n"))
    assert yaml.safe_load(out) == {"name": f"{FORGED}é"}
