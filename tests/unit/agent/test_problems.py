"""Lasting problems: told when they begin and when they return, not every cycle."""

from __future__ import annotations

import pytest

from checkpointer.report.problems import Problems


def test_problem_is_told_once_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    """A line when it begins, none while it stays, one again when it comes back."""
    problems = Problems()
    for now in (["b", "a"], ["a", "b"], ["b"], [], ["b", "b"]):
        problems.tell(now)
    assert [record.message for record in caplog.records] == ["a", "b", "b"]
    assert {record.levelname for record in caplog.records} == {"ERROR"}


def test_what_passes_is_no_error_until_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    """A watch that breaks is news; one that stays broken is an error, told once."""
    caplog.set_level("INFO")
    problems = Problems()
    told = [("", 0), ("broke", 1), ("broke", 5), ("refused", 9), ("refused", 31), ("broke", 40)]
    for sentence, now in (*told, ("", 50), ("broke", 60)):
        problems.tell_passing(sentence, float(now))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "broke"),
        ("INFO", "refused"),
        ("ERROR", "refused (for 30 s)"),
        ("INFO", "broke"),
    ]
