"""Turns: at any moment at most one master begins, and each one's turn comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.core.contact import Contact
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.lease import Turn
from checkpointer.core.plan import Release
from checkpointer.core.turns import (
    ALONE_SECONDS,
    DEAD_SECONDS,
    HASHED_SLOTS,
    OPEN_SECONDS,
    SETTLED_SECONDS,
    SLOT_SECONDS,
    Absence,
    Away,
    Masters,
    Others,
    has_company,
    wait_for_turn,
)
from checkpointer.core.workload import Workload
from tests.unit.core.builders import (
    ACTIVE,
    API,
    COPY_RUNS,
    NOW,
    both,
    checkpoint,
    lost,
    made,
    manifest,
    parent_sandbox,
    reachable,
    stamp,
)

NAMES = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=5, unique=True)
WALL = st.floats(1.6e9, 2.0e9)


HAND_OVER = 60.0


def wait(names: list[str], own: str, wall: float) -> float:
    endpoints = tuple(f"https://{name}:6443" for name in names if name != own)
    return wait_for_turn(Known(Masters(tuple(names), own, endpoints)), own, wall, HAND_OVER)


def wait_unasked(names: list[str], own: str, wall: float) -> float:
    return wait_for_turn(Known(Masters(tuple(names), own)), own, wall, HAND_OVER)


@given(NAMES, WALL, st.floats(-OPEN_SECONDS + 0.1, OPEN_SECONDS - 0.1))
def test_no_two_masters_begin_within_half_a_slot(
    names: list[str], wall: float, skew: float
) -> None:
    """However their clocks differ, as long as it is by less than that."""
    may = [name for name in names if wait(names, name, wall) == 0.0]
    assert len(may) <= 1
    for name in may:
        others = [n for n in names if n != name and wait(names, n, wall + skew) == 0.0]
        assert others == []


@given(NAMES, WALL)
def test_each_ones_turn_comes_when_it_is_foretold(names: list[str], wall: float) -> None:
    """Within one round, in whatever order the API lists the names."""
    for name in names:
        left = wait(names, name, wall)
        assert 0.0 <= left <= len(names) * SLOT_SECONDS
        assert wait(list(reversed(names)), name, wall + left + 0.001) == 0.0


def test_a_single_master_never_waits() -> None:
    """There is nobody to wait for."""
    assert all(wait(["only"], "only", 1.7e9 + second) == 0.0 for second in range(300))


@given(NAMES, WALL, st.floats(0.0, OPEN_SECONDS + HAND_OVER))
def test_masters_that_cannot_be_asked_leave_each_other_a_whole_hand_over(
    names: list[str], wall: float, later: float
) -> None:
    """Nobody begins before the deadline of one that has, however late in its slot it did."""
    wall = wall - wall % (len(names) * (SLOT_SECONDS + HAND_OVER))
    for name in names:
        at = wall + wait_unasked(names, name, wall)
        others = [n for n in names if n != name]
        assert all(wait_unasked(names, n, at + later) > 0.0 for n in others)


@given(NAMES, WALL, st.floats(0.0, OPEN_SECONDS + HAND_OVER + DEAD_SECONDS))
def test_what_others_do_not_see_to_be_away_has_a_slot_for_all_of_a_hand_over_that_fails(
    names: list[str], wall: float, later: float
) -> None:
    """Its deadline, and the copy's start after that, whether or not API servers can be asked."""
    wall = wall - wall % (len(names) * (SLOT_SECONDS + HAND_OVER + DEAD_SECONDS))
    endpoints = tuple(f"https://{name}:6443" for name in names)
    for known in ((), endpoints):
        masters = {name: Known(Masters(tuple(names), name, known)) for name in names}
        for name in names:
            at = wall + wait_for_turn(masters[name], name, wall, HAND_OVER, is_seen=False)
            others = [n for n in names if n != name]
            waits = [wait_for_turn(masters[n], n, at + later, HAND_OVER, False) for n in others]
            assert all(wait > 0.0 for wait in waits)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("kube-apiserver", 30), ("bootkube-kube-apiserver", 30), ("etcd", 150), ("my-apiserver", 150)],
)
def test_only_an_api_server_is_seen_to_be_away(name: str, expected: int) -> None:
    """By its name: what is called otherwise waits for the longer of the slots."""
    workload = Workload("kube-system", "DaemonSet", name)
    seen = ACTIVE.but(
        runtime=Known(both(COPY_RUNS, made(parent_sandbox(created_at=stamp(NOW))))),
        masters=Known(Masters(("node-0", "node-1"), "node-1", ("https://node-0:6443",))),
        others=Known(Others(1)),
        checkpoints=Known((checkpoint(workload),)),
        manifests=Known((manifest(workload),)),
    )
    plans = [seen.decide(1000.0 + second) for second in range(2 * expected)]
    assert sum(bool(plan.actions) for plan in plans) == OPEN_SECONDS


@pytest.mark.parametrize("node", ["node-1", "node-2", "node-3"])
def test_masters_that_are_not_known_spread_by_their_names(node: str) -> None:
    """Each finds a slot of its own, or shares it with few; each lasts a whole hand-over."""
    times = range(int(HASHED_SLOTS * (SLOT_SECONDS + HAND_OVER)))
    waits = [wait_for_turn(Unknown("not read"), node, 1.7e9 + at, HAND_OVER) for at in times]
    assert waits.count(0.0) == OPEN_SECONDS


def test_what_is_no_master_never_waits() -> None:
    """An edge node's copy is nobody's API server."""
    assert all(wait(["a", "b"], "edge", 1.7e9 + second) == 0.0 for second in range(120))


AT = 1000.0
STARTING, SILENT, UNTOLD = Absence


def others(serving: int, *away: tuple[Absence, float]) -> Fact[Others]:
    """Return others of which so many serve, and these have been away for so long."""
    found = tuple(Away(f"https://{i}:6443", kind, AT - age) for i, (kind, age) in enumerate(away))
    return Known(Others(serving, found))


@pytest.mark.parametrize(
    ("seen", "contact", "expected"),
    [
        (others(2), lost(AT), True),
        (others(1, (STARTING, HAND_OVER + DEAD_SECONDS - 0.1)), reachable(0.0), False),
        (others(1, (STARTING, HAND_OVER + DEAD_SECONDS)), lost(AT), True),
        (others(1, (SILENT, DEAD_SECONDS - 0.1)), reachable(0.0), False),
        (others(1, (SILENT, DEAD_SECONDS)), lost(AT), True),
        (others(1, (SILENT, DEAD_SECONDS), (STARTING, 1.0)), reachable(0.0), False),
        (others(1, (UNTOLD, SETTLED_SECONDS - 0.1)), reachable(0.0), False),
        (others(1, (UNTOLD, SETTLED_SECONDS)), lost(AT), True),
        (None, reachable(0.0), False),
    ],
)
def test_no_master_begins_while_another_api_server_is_away(
    seen: Fact[Others] | None, contact: Contact, expected: bool
) -> None:
    """It may be amid its own hand-over. One that stays away is dead, and holds nobody up for ever;
    one without power no longer than a minute."""
    assert has_company(seen, contact, AT, HAND_OVER) is expected


@pytest.mark.parametrize(
    ("seen", "contact", "expected"),
    [
        (others(0, (STARTING, ALONE_SECONDS)), lost(AT), False),
        (others(0, (SILENT, ALONE_SECONDS)), reachable(AT - ALONE_SECONDS + 0.1), False),
        (others(0, (SILENT, ALONE_SECONDS - 0.1)), reachable(0.0), False),
        (others(0, (SILENT, ALONE_SECONDS)), reachable(AT - ALONE_SECONDS), True),
        (others(0, (UNTOLD, SETTLED_SECONDS)), lost(AT), False),
        (others(0, (UNTOLD, SETTLED_SECONDS)), reachable(AT - SETTLED_SECONDS), True),
        (Unknown("no addresses"), lost(0.0), False),
        (Unknown("no addresses"), reachable(AT - SETTLED_SECONDS + 0.1), False),
        (Unknown("no addresses"), reachable(AT - SETTLED_SECONDS), True),
    ],
)
def test_an_api_server_is_not_taken_from_a_cluster_that_has_no_other(
    seen: Fact[Others], contact: Contact, expected: bool
) -> None:
    """The other masters may still be booting; one that stays alone waits for some minutes."""
    assert has_company(seen, contact, AT, HAND_OVER) is expected


def test_an_api_server_is_left_a_long_hand_over_to_start_in() -> None:
    """An operator who allows it more time has reason to: nobody takes it for dead within that."""
    long = 1000.0
    for serving in (0, 1):
        seen = others(serving, (STARTING, long + DEAD_SECONDS - 0.1))
        assert not has_company(seen, reachable(-long), AT, long)


def test_a_master_asks_for_the_others_when_its_moment_has_come() -> None:
    """And then makes way at once; until one of them answers its copy serves."""
    seen = ACTIVE.but(
        runtime=Known(both(COPY_RUNS, made(parent_sandbox(created_at=stamp(NOW))))),
        masters=Known(Masters(("node-0", "node-1"), "node-1", ("https://node-0:6443",))),
        others=None,
    )
    plans = [seen.decide(1000.0 + second) for second in range(60)]
    asking = [plan for plan in plans if plan.turn is Turn.WANTED]
    assert len(asking) == OPEN_SECONDS
    assert {plan.standings[API].waits_for for plan in asking} == {
        "another master's API server to answer"
    }
    at = 1000.0 + plans.index(asking[0])
    away = Away("https://node-0:6443", STARTING, at)
    assert seen.but(others=Known(Others(0, (away,)))).decide(at).actions == ()
    (action,) = seen.but(others=Known(Others(1))).decide(at).actions
    assert isinstance(action, Release)
