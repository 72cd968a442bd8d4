"""A node of the bootkube checkpointer in a private folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.bootkube.old_node import OldNode


@pytest.fixture
def old_node() -> Iterator[OldNode]:
    root = Path(tempfile.mkdtemp(prefix="cpb-"))
    yield OldNode(root)
    shutil.rmtree(root)
