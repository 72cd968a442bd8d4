"""Whatever happens to the node again and again leaves nothing behind in the agent's process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from checkpointer.simulation.waiting import TimedOutError, wait_until
from tests.soak.churn import Churn
from tests.soak.process import ask_counts, descriptors_of

WARM_UP, ROUNDS = 2, 3
LONG = 30.0
PASSING = ("builtins.", "collections.", "_thread.", "watchdog.")
"""Kinds of objects of which there may be more or fewer at any moment."""


@pytest.fixture
def churn(folder: Path) -> Iterator[Churn]:
    churn = Churn(folder, folder / "counts.json")
    churn.start()
    yield churn
    churn.close()
    assert churn.node.errors == []


def held(churn: Churn) -> Counter[str]:
    """Return how many descriptors and objects of each kind the agent holds, but for those that
    come and go."""
    found = ask_counts(churn.pid, churn.node.folder / "counts.json").objects
    lasting = {kind: n for kind, n in found.items() if not kind.startswith(PASSING)}
    return Counter(lasting) + descriptors_of(churn.pid)


def grown(churn: Churn, before: Counter[str]) -> dict[str, int]:
    """Return the kinds of which each round has left one."""
    return {kind: n - before[kind] for kind, n in held(churn).items() if n - before[kind] >= ROUNDS}


def settled(churn: Churn, before: Counter[str]) -> dict[str, int]:
    """Return what has grown and stays so: what is about to go is given its time."""
    with suppress(TimedOutError):
        wait_until(lambda: not grown(churn, before), LONG, "no growth")
    return grown(churn, before)


@pytest.mark.timeout(600)
def test_nothing_is_left_of_what_is_over(churn: Churn) -> None:
    """Of no kind of descriptor or object there is one more for each round, and again one more.

    Once it may be so: a look at the store holds as many revisions as there are until the next, and
    a connection stays open for a while.
    """
    for _ in range(WARM_UP):
        churn.round()
    leaks: dict[str, int] = {}
    for _ in range(2):
        before = held(churn)
        for _ in range(ROUNDS):
            churn.round()
        found = settled(churn, before)
        leaks = {kind: n for kind, n in found.items() if not leaks or kind in leaks}
        if not leaks:
            return
    raise AssertionError(f"grown twice: {leaks}")
