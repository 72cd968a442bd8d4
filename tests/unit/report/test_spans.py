"""Times and sizes as people say them."""

from __future__ import annotations

import pytest

from checkpointer.report.spans import age, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-5.0, "0s"),
        (1.9, "1s"),
        (119.0, "119s"),
        (120.0, "2m"),
        (203.0, "3m23s"),
        (600.0, "10m"),
        (7200.0, "120m"),
        (4 * 3600.0, "4h"),
        (4 * 3600.0 + 300, "4h5m"),
        (86400.0, "24h"),
        (86400.0 * 365, "365d"),
    ],
)
def test_ages(seconds: float | None, text: str) -> None:
    """In the units that matter, rounded down: never more than there is."""
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (1 << 26, "64.0 MiB"),
        (5 << 40, "5120.0 GiB"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    """In powers of 1024."""
    assert size(count) == text
