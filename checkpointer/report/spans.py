"""Times and sizes as people say them: one way for tables, sentences and the page."""

from __future__ import annotations

from typing import Final

DAY: Final = 86400.0


def age(seconds: float | None) -> str:
    """Return a time in the one or two units that matter, as kubectl does; `-` if not known."""
    if seconds is None:
        return "-"
    left = max(0, int(seconds))
    if left < 120:
        return f"{left}s"
    for unit, size_, smaller, small in (("m", 60, "s", 1), ("h", 3600, "m", 60)):
        count = left // size_
        if count < 10:
            rest = left % size_ // small
            return f"{count}{unit}{rest}{smaller}" if rest else f"{count}{unit}"
        if count < {"m": 180, "h": 48}[unit]:
            return f"{count}{unit}"
    return f"{left // 86400}d"


def size(count: int | None) -> str:
    """Return a number of bytes in the unit that fits; `-` if not known."""
    if count is None:
        return "-"
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024 or unit == "GiB":
            break
    return f"{amount:.1f} {unit}"
