"""Whose turn it is to hand over stage 0: never two masters at once.

After a power cut of the whole control plane every master runs a copy of its API server, and each
wants to make way for its parent. Were all to do so at once, no API server would be left. Each
master has its slot, in the order of the masters' names, by the wall clock: nothing has to be
agreed on, and a master that is dead blocks nobody. Clocks may differ by the part of a slot in
which none may begin. Where the identity may use a Lease, that counts instead (`lease`).

Nor does one begin while its own API server is the only one: the others may still be booting.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from checkpointer.core.contact import Contact, ContactState
from checkpointer.core.facts import Fact, Known, Unknown

SLOT_SECONDS = 30.0
OPEN_SECONDS = 15.0
"""How long into its slot a master may begin: an API server starts within the rest of it."""
HASHED_SLOTS = 4
"""Slots among which a node whose masters are not known finds its own."""


ALONE_SECONDS = 300.0
"""How long a master waits, with the API there, for another one's API server to answer."""
SETTLED_SECONDS = 30.0
"""The same where nobody can tell whether another one answers."""


@dataclass(frozen=True, slots=True)
class Masters:
    """The control plane's nodes, by whatever orders them alike on each (names or addresses)."""

    names: tuple[str, ...]
    own: str
    endpoints: tuple[str, ...] = ()
    """Where the API servers of the others answer, as `https://host:port`; as far as is known."""


def has_company(others: Fact[bool] | None, contact: Contact, now: float) -> bool:
    """Tell whether an API server is left when this node's goes; for good, or for all one can wait.

    `others` is whether one of another master answers, None while nobody has asked.
    """
    if others is None:
        return False
    if isinstance(others, Known) and others.value:
        return True
    patience = ALONE_SECONDS if isinstance(others, Known) else SETTLED_SECONDS
    return contact.state is ContactState.REACHABLE and now - contact.since >= patience


def must_take_turns(masters: Fact[Masters]) -> bool:
    """Tell whether a hand-over of stage 0 here could meet another master's.

    A node that is none of the masters takes no API server from anybody.
    """
    if isinstance(masters, Unknown):
        return True
    return masters.value.own in masters.value.names and len(set(masters.value.names)) > 1


def wait_for_turn(masters: Fact[Masters], node_name: str, wall: float) -> float:
    """Return the seconds until this node's time slot; 0 when it may begin now.

    `wall` is in seconds of the Unix epoch.
    """
    if not must_take_turns(masters):
        return 0.0
    if isinstance(masters, Unknown):
        index, count = _hashed(node_name), HASHED_SLOTS
    else:
        names = sorted(set(masters.value.names))
        index, count = names.index(masters.value.own), len(names)
    into = wall % (count * SLOT_SECONDS) - index * SLOT_SECONDS
    if 0.0 <= into < OPEN_SECONDS:
        return 0.0
    return -into if into < 0 else count * SLOT_SECONDS - into


def has_others(masters: Fact[Masters]) -> bool:
    """Tell whether other nodes than this are known to be masters."""
    return isinstance(masters, Known) and bool(set(masters.value.names) - {masters.value.own})


def _hashed(node_name: str) -> int:
    return int.from_bytes(hashlib.sha256(node_name.encode()).digest()[:8]) % HASHED_SLOTS
