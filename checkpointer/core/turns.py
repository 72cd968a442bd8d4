"""Whose turn it is to hand over stage 0: never two masters at once.

After a power cut of the whole control plane every master runs a copy of its API server, and each
wants to make way for its parent. Were all to do so at once, no API server would be left. So no
master begins while another one's API server is away: it may be amid its own hand-over, however
long that takes, or still be booting. One that stays away is taken for dead at last.

For the moment in which none is away yet each master has its slot, in the order of the masters'
names, by the wall clock: nothing has to be agreed on. By the time that the next slot opens the
API server that was given way to in this one does not answer any more; clocks may differ by the
part of a slot in which none may begin, less the second or two that its end takes. Where the others
cannot be asked, a slot lasts as long as a hand-over may. What serves no API is not seen to be away,
an etcd least of all: of such a workload each master has a slot of its own, in which a hand-over may
fail and the copy start again. Where the identity may use a Lease, that counts instead of the slots
(`lease`).
"""

from __future__ import annotations

import hashlib
from enum import Enum

from checkpointer.core.contact import Contact, ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.values import dataclass

SLOT_SECONDS = 30.0
OPEN_SECONDS = 15.0
"""How long into its slot a master may begin: its API server is gone within the rest of it."""
HASHED_SLOTS = 4
"""Slots among which a node whose masters are not known finds its own."""

ALONE_SECONDS = 300.0
"""How long a master waits, with the API there, while no other one's API server answers."""
DEAD_SECONDS = 60.0
"""How long it waits for one whose node does not answer either, while some other one does; and,
beyond the deadline of a hand-over, for one whose node does."""
SETTLED_SECONDS = 30.0
"""How long where nobody can tell whether it answers."""


@dataclass(frozen=True, slots=True)
class Named:
    """Where the API says that one of its servers is."""

    address: str
    port: int
    at: float
    """When it last said so, in seconds of the Unix epoch; exact to an hour."""


@dataclass(frozen=True, slots=True)
class Masters:
    """The control plane's nodes, by whatever orders them alike on each (names or addresses)."""

    names: tuple[str, ...]
    own: str
    endpoints: tuple[str, ...] = ()
    """Where the API servers of the others answer, as `https://host:port`; as far as is known."""
    named: tuple[Named, ...] = ()
    """What this was made of, this node's own address among it: an address that is not named any
    more may be of a master that is away."""


class Absence(Enum):
    """What is seen of a master whose API server does not answer that it is ready."""

    STARTING = "starting"
    """Its node refuses the connection, or what answers is not ready: amid a hand-over or a boot."""
    SILENT = "silent"
    """Nothing comes from its node: it has no power, or no network."""
    UNTOLD = "untold"
    """Something answers that refuses our credentials, or that cannot be verified."""


@dataclass(frozen=True, slots=True)
class Away:
    """A master whose API server does not answer that it is ready."""

    endpoint: str
    absence: Absence
    since: float
    """Since when it has been seen so each time, on the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Others:
    """What the other masters' API servers answered when all of them were asked last."""

    serving: int
    """How many are ready."""
    away: tuple[Away, ...] = ()


def has_company(
    others: Fact[Others] | None, contact: Contact, now: float, hand_over_seconds: float
) -> bool:
    """Tell whether this node's API server may go: no other one is away, or all one can wait.

    `others` is None while nobody has asked; `hand_over_seconds` is the deadline of a hand-over.
    """
    if others is None:
        return False
    is_reachable = contact.state is ContactState.REACHABLE
    if isinstance(others, Unknown):
        return is_reachable and now - contact.since >= SETTLED_SECONDS
    found = others.value
    if found.serving:
        return all(now - a.since >= _patience(a, hand_over_seconds) for a in found.away)
    return is_reachable and all(
        now - max(a.since, contact.since) >= _patience_alone(a, hand_over_seconds)
        for a in found.away
    )


def _patience(away: Away, hand_over_seconds: float) -> float:
    """Return for how long it is waited for while a third one answers."""
    if away.absence is Absence.UNTOLD:
        return SETTLED_SECONDS
    if away.absence is Absence.SILENT:
        return DEAD_SECONDS
    return hand_over_seconds + DEAD_SECONDS


def _patience_alone(away: Away, hand_over_seconds: float) -> float:
    """Return for how long it is waited for while this node's API server is the only one."""
    if away.absence is Absence.UNTOLD:
        return SETTLED_SECONDS
    return max(ALONE_SECONDS, hand_over_seconds + DEAD_SECONDS)


def must_take_turns(masters: Fact[Masters]) -> bool:
    """Tell whether a hand-over of stage 0 here could meet another master's.

    A node that is none of the masters takes no API server from anybody.
    """
    if isinstance(masters, Unknown):
        return True
    return masters.value.own in masters.value.names and len(set(masters.value.names)) > 1


def wait_for_turn(
    masters: Fact[Masters],
    node_name: str,
    wall: float,
    hand_over_seconds: float,
    is_seen: bool = True,
) -> float:
    """Return the seconds until this node's time slot; 0 when it may begin now.

    `wall` is in seconds of the Unix epoch. `is_seen` tells whether the others see that it is away.
    """
    if not must_take_turns(masters):
        return 0.0
    if isinstance(masters, Unknown):
        index, count = _hashed(node_name), HASHED_SLOTS
    else:
        names = sorted(set(masters.value.names))
        index, count = names.index(masters.value.own), len(names)
    slot = _slot_seconds(masters, hand_over_seconds, is_seen)
    into = wall % (count * slot) - index * slot
    if 0.0 <= into < OPEN_SECONDS:
        return 0.0
    return -into if into < 0 else count * slot - into


def _slot_seconds(masters: Fact[Masters], hand_over_seconds: float, is_seen: bool) -> float:
    """Return a slot's length: of a whole hand-over where nobody can ask whether one is under way.

    Clocks may then differ by as much as where one can.
    """
    if not is_seen:
        return SLOT_SECONDS + hand_over_seconds + DEAD_SECONDS
    if isinstance(masters, Known) and masters.value.endpoints:
        return SLOT_SECONDS
    return SLOT_SECONDS + hand_over_seconds


def has_others(masters: Fact[Masters]) -> bool:
    """Tell whether other nodes than this are known to be masters."""
    return isinstance(masters, Known) and bool(set(masters.value.names) - {masters.value.own})


def _hashed(node_name: str) -> int:
    return int.from_bytes(hashlib.sha256(node_name.encode()).digest()[:8]) % HASHED_SLOTS
