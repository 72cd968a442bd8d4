"""Whether somebody keeps the clock right."""

from __future__ import annotations

from checkpointer.core.facts import Known
from checkpointer.node.clock import is_synchronized


def test_the_kernel_tells_and_nothing_is_changed() -> None:
    """Either is an answer; asking needs no rights."""
    assert is_synchronized() in (Known(value=True), Known(value=False))
