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
