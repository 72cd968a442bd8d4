"""Folders in memory for the fuzz targets, and no error that nobody foresaw."""

from __future__ import annotations

import itertools
import logging
import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fuzz.node import FuzzedNode

MEMORY_BYTES = 8 << 30
"""Of addresses, for whatever reads a file of a terabyte: an error, and not the machine's memory."""


@pytest.fixture(autouse=True)
def _limited() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def fresh() -> Iterator[Callable[[], Path]]:
    """Make an empty folder for each example; only the last one is kept until the test ends."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    above = Path(tempfile.mkdtemp(prefix="fuzz-", dir=base))
    numbers = itertools.count()

    def make() -> Path:
        for old in above.iterdir():
            shutil.rmtree(old)
        path = above / str(next(numbers))
        path.mkdir(mode=0o700)
        return path

    yield make
    shutil.rmtree(above)


@pytest.fixture
def fuzzed_node(fresh: Callable[[], Path]) -> Callable[[], FuzzedNode]:
    return lambda: FuzzedNode(fresh())


class _Unforeseen(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])


@pytest.fixture
def foreseen() -> Iterator[Callable[[], None]]:
    """Return a check that raises the first error that was caught only by one of the last nets."""
    net = _Unforeseen()
    logging.getLogger("checkpointer").addHandler(net)

    def check() -> None:
        errors, net.errors = net.errors, []
        if errors:
            raise AssertionError(f"an unforeseen {type(errors[0]).__name__}") from errors[0]

    yield check
    logging.getLogger("checkpointer").removeHandler(net)
