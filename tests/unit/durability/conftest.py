"""A change of the disk, ready to go wrong."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.durability.promises import Sweep


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory, where fsync costs nothing."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="cpd-", dir=base))
    yield path
    shutil.rmtree(path)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how much was tried: the sums of what the tests have counted."""
    counted: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name.startswith("durability: "):
                counted[name.removeprefix("durability: ")] += value
    if counted:
        told = ", ".join(f"{value} {name}" for name, value in counted.items())
        terminalreporter.write_line(f"durability: {told}")


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Count something for the summary."""
    return lambda name, value: record_property(f"durability: {name}", value)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log nothing: thousands of failures are told here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def sweep(place: Path, name: str) -> Sweep:
    """The change that the test is about."""
    return Sweep(place, name)
