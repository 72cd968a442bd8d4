"""The log: one line per record, in both forms, and no value that an exception carries."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from checkpointer.errors import CheckpointerError
from checkpointer.report.log import configure

SECRET = "hunter2"

log = logging.getLogger("checkpointer.test")


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """Put the loggers back as they were."""
    found = [logging.getLogger(name) for name in (None, "checkpointer", "urllib3")]
    before = found[0].handlers[:], [one.level for one in found]
    yield
    found[0].handlers[:], levels = before
    for one, level in zip(found, levels, strict=True):
        one.setLevel(level)


def fail() -> None:
    try:
        int(SECRET)
    except ValueError as error:
        raise CheckpointerError("it cannot be read") from error


def test_text_is_a_line_with_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    """The form for people; libraries speak up from a warning on."""
    configure("info", "text")
    log.info("stored %s", "a")
    log.debug("not told")
    logging.getLogger("kubernetes").info("not told")
    logging.getLogger("urllib3.connectionpool").warning("not told")
    logging.getLogger("watchdog").warning("told")
    first, second = capsys.readouterr().err.splitlines()
    assert first[10] == "T"
    assert first[24:] == " INFO    stored a"
    assert second[24:] == " WARNING told"


def test_json_is_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The form for machines: whatever a message holds, it is one line."""
    configure("debug", "json")
    log.debug("two\nlines")
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert found.pop("time")[10] == "T"
    assert found == {"level": "debug", "logger": "checkpointer.test", "message": "two\nlines"}


FORGED = "a\n2026-01-01T00:00:00.000Z INFO    all is well\r\x1b[2J\x9b2J\u2028\u202e\x7f"


def test_no_name_forges_a_line_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    """What a name holds cannot end a line, nor make a terminal do something."""
    configure("info", "text")
    try:
        raise CheckpointerError(f"{FORGED} cannot be read")
    except CheckpointerError:
        log.exception("no snapshot of %s", FORGED)
    text = capsys.readouterr().err
    assert all(line.isprintable() for line in text.split("\n"))
    assert "no snapshot of a\\n2026-01-01T00:00:00.000Z INFO    all is well\\r\\x1b[2J" in text
    assert not any(line.startswith("2026-01-01") for line in text.split("\n"))


def test_no_name_moves_a_terminal_that_shows_json(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON's own escaping ends at the C0 controls; what is written means the same."""
    configure("info", "json")
    log.info("%s", FORGED + "é😀")
    text = capsys.readouterr().err
    assert text[:-1].isprintable()
    assert "é😀" in text
    assert json.loads(text)["message"] == FORGED + "é😀"


@pytest.mark.parametrize("form", ["text", "json"])
def test_exception_is_told_without_what_it_carries(
    capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """Kind and place of every exception, the words only of our own: others may hold a secret."""
    configure("info", form)
    try:
        fail()
    except CheckpointerError:
        log.exception("failed")
    text = capsys.readouterr().err
    assert SECRET not in text
    for part in ("ValueError", "CheckpointerError: it cannot be read", "in fail", "test_log.py"):
        assert part in text
