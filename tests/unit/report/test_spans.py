"""Times and sizes as people say them."""

from __future__ import annotations

import pytest

from checkpointer.doctor.spans import amount, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 seconds"),
        (1.9, "1 second"),
        (59.0, "59 seconds"),
        (60.0, "1 minute"),
        (7200.0, "2 hours"),
        (86400.0 * 365, "365 days"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    """The largest whole unit, rounded down: never more than there is."""
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (1 << 26, "64 MiB"),
        (5 << 40, "5120 GiB"),
    ],
)
def test_amounts(count: int, text: str) -> None:
    """In powers of 1024."""
    assert amount(count) == text
