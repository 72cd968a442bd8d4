"""Times and sizes as people say them."""

from __future__ import annotations

from typing import Final

DAY: Final = 86400.0
_UNITS: Final = ((DAY, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))


def span(seconds: float) -> str:
    """Return a time in its largest whole unit: `3 days`, `1 hour`, `0 seconds`."""
    size, unit = next((u for u in _UNITS if seconds >= u[0]), _UNITS[-1])
    number = int(seconds // size)
    return f"{number} {unit}{'' if number == 1 else 's'}"


def amount(count: int) -> str:
    """Return a number of bytes: `64 MiB`, `1.5 GiB`, `512 bytes`."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.1f} {unit}".replace(".0 ", " ")
        size /= 1024
    raise AssertionError
