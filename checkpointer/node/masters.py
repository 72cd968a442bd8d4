"""Which nodes make up the control plane, as far as this node's identity may know.

A cluster role may let it list nodes; the kubelet's own credentials may not, but they may read
the endpoints of the `kubernetes` service: the addresses of all API servers that are there. One that
is away is not named, so an address that once was is kept for a day; and that there is but one is
believed only once the API has said nothing else for some time, or where that was so before: the
only API server that ends in good order takes its address away, and puts it back when it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from checkpointer.core.contact import ProbeOutcome, ProbeResult
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.lease import ASK_AGAIN_SECONDS
from checkpointer.core.turns import Absence, Away, Masters, Named, Others
from checkpointer.node.probe import ITS_NODE_ANSWERS, NOT_TRUSTED

Ask = Callable[[str], ProbeResult]
"""Probes an API server at `https://host:port`."""

Find = Callable[[str], Fact[Mapping[str, Any] | None]]

NODES = "/api/v1/nodes"
LABELLED = f"{NODES}?labelSelector=node-role.kubernetes.io%2Fcontrol-plane"
ENDPOINTS = "/api/v1/namespaces/default/endpoints/kubernetes"

KEPT_SECONDS = 86400.0
"""For how long an address is kept that the endpoints do not name any more."""
EXACT_SECONDS = 3600.0
"""How exactly it is noted when one was last named: each note is a write to the disk."""
ONLY_ONE_SECONDS = 60.0
"""For how long the endpoints must have named one address only, for that to be believed. It takes
others 15 s to drop out of them, and a restart about a minute to be back."""
UNCHANGED_SECONDS = 2.0
"""What the two times of an object may differ by that has not changed since it was made."""

UNREAD = Unknown("the control plane's nodes have not been read yet")
NOT_ALONE_YET = Unknown("the API has named but one API server for too short a time")
"""Whatever was known before is not to be relied on."""

WAITING_SECONDS = 10.0
"""How often the other masters' API servers are asked while one of them is waited for."""


def read_masters(
    find: Find,
    node_name: str,
    port: int = 6443,
    last: Fact[Masters] = UNREAD,
    wall: float = 0.0,
) -> Fact[Masters]:
    """Ask the API; `find` returns an object by its path, or None when there is none.

    `port` is the API servers', where only their nodes are told; `last` what was read before; `wall`
    the time in seconds of the Unix epoch. A list of nodes is the whole truth, endpoints are not.
    """
    nodes = find(LABELLED)
    if isinstance(nodes, Known) and nodes.value and nodes.value.get("items"):
        by_name = {(n.get("metadata") or {}).get("name") or "": n for n in nodes.value["items"]}
        addresses = {name: _addresses_of(by_name[name])[:1] for name in sorted(by_name)}
        if "" not in by_name:
            ports = {address: port for found in addresses.values() for address in found}
            named = _noted(ports, (), wall)
            return Known(_masters(tuple(addresses), node_name, addresses.get(node_name, ()), named))
    endpoints = find(ENDPOINTS)
    if isinstance(endpoints, Unknown):
        return endpoints
    ports = _addresses(endpoints.value or {})
    if not ports:
        return Unknown("the API tells neither its nodes nor its own addresses")
    named = _noted(ports, last.value.named if isinstance(last, Known) else (), wall)
    names = tuple(one.address for one in named)
    if len(names) == 1:
        was_alone = isinstance(last, Known) and last.value.names == names
        is_alone = was_alone or _is_settled((endpoints.value or {}).get("metadata") or {}, wall)
        return Known(_masters(names, names[0], names, named)) if is_alone else NOT_ALONE_YET
    node = find(f"{NODES}/{quote(node_name, safe='')}")
    if isinstance(node, Unknown):
        return node
    mine = set(_addresses_of(node.value or {}))
    own = next((name for name in names if name in mine), node_name)
    return Known(_masters(names, own, (own,), named))


def _masters(
    names: tuple[str, ...], own: str, own_addresses: Iterable[str], named: tuple[Named, ...]
) -> Masters:
    others = (one for one in named if one.address not in own_addresses)
    return Masters(names, own, tuple(_endpoint(o.address, o.port) for o in others), named)


def _noted(ports: Mapping[str, int], last: Iterable[Named], wall: float) -> tuple[Named, ...]:
    """Return what is named now, and what was within the last day."""
    found = {one.address: one for one in last if wall - one.at < KEPT_SECONDS}
    for address, port in ports.items():
        before = found.get(address)
        if before is None or before.port != port or wall - before.at >= EXACT_SECONDS:
            found[address] = Named(address, port, wall)
    return tuple(found[address] for address in sorted(found))


def _is_settled(metadata: Mapping[str, Any], wall: float) -> bool:
    """Tell whether the endpoints have said what they say for long, by the API's own notes.

    Those of an API whose only server was at most killed never change; else the note of it has the
    time of the last server that came or went (seen on 1.36). Without notes nobody can tell.
    """
    changes = (_seconds(m.get("time")) for m in metadata.get("managedFields") or ())
    changed = max((at for at in changes if at is not None), default=None)
    if changed is None:
        return False
    made = _seconds(metadata.get("creationTimestamp"))
    is_unchanged = made is not None and changed - made <= UNCHANGED_SECONDS
    return is_unchanged or wall - changed >= ONLY_ONE_SECONDS


def _seconds(time: Any) -> float | None:
    try:
        return datetime.fromisoformat(time).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


class OtherMasters:
    """Asks the other masters' API servers, and counts for how long each has been away.

    Nobody asks before a hand-over is due; while one is away it has to be asked again and again,
    or a second absence would pass for the rest of the first.
    """

    def __init__(self, ask: Ask, clock: Callable[[], float]) -> None:
        self._ask, self._clock = ask, clock
        self._asked_at = float("-inf")
        self.told: Fact[Others] = Unknown("not asked yet")

    def look(self, masters: Fact[Masters]) -> None:
        """Ask all of them whether they are ready, unless that was just done."""
        if self._clock() - self._asked_at < ASK_AGAIN_SECONDS:
            return
        self.told = self._look(masters)
        self._asked_at = self._clock()  # silent masters take their time

    def look_in(self) -> float | None:
        """Return in how many seconds to look again; None while nobody is waited for."""
        if isinstance(self.told, Unknown) or not self.told.value.away:
            return None
        return max(0.0, self._asked_at + WAITING_SECONDS - self._clock())

    def forget(self) -> None:
        """Note that no hand-over is due any more."""
        self.told = Unknown("not asked yet")

    def _look(self, masters: Fact[Masters]) -> Fact[Others]:
        if isinstance(masters, Unknown):
            return masters
        if not masters.value.endpoints:
            return Unknown("the masters' addresses are not known")
        is_continued = self._clock() - self._asked_at < 3 * WAITING_SECONDS
        last = self.told.value.away if is_continued and isinstance(self.told, Known) else ()
        found = [self._look_at(endpoint, last) for endpoint in masters.value.endpoints]
        return Known(Others(found.count(None), tuple(away for away in found if away is not None)))

    def _look_at(self, endpoint: str, last: tuple[Away, ...]) -> Away | None:
        result = self._ask(endpoint)
        if result.outcome is ProbeOutcome.ANSWERED:
            return None
        away = Away(endpoint, _absence(result), self._clock())
        is_same = (a for a in last if (a.endpoint, a.absence) == (endpoint, away.absence))
        return next(is_same, away)


def _absence(result: ProbeResult) -> Absence:
    if result.outcome is ProbeOutcome.DENIED or result.reason == NOT_TRUSTED:
        return Absence.UNTOLD
    if result.outcome is ProbeOutcome.SERVER_ERROR or result.reason in ITS_NODE_ANSWERS:
        return Absence.STARTING
    return Absence.SILENT


def as_state(masters: Masters) -> dict[str, Any]:
    """Return the form in which they are kept on disk, for a start without the API."""
    return {
        "names": list(masters.names),
        "own": masters.own,
        "endpoints": list(masters.endpoints),
        "named": [[one.address, one.port, one.at] for one in masters.named],
    }


def from_state(state: Mapping[str, Any]) -> Fact[Masters]:
    """Return what `as_state` made; Unknown when nothing of the kind was kept."""
    names, own = state.get("names"), state.get("own")
    if not isinstance(own, str) or not isinstance(names, list):
        return UNREAD
    endpoints = state.get("endpoints")
    found = tuple(map(str, endpoints)) if isinstance(endpoints, list) else ()
    named = tuple(_named(state.get("named")))
    return Known(Masters(tuple(str(name) for name in names), own, found, named))


def _named(state: Any) -> Iterable[Named]:
    for one in state if isinstance(state, list) else ():
        match one:
            case [str(address), int(port), int() | float() as at]:
                yield Named(address, port, float(at))


def _addresses(endpoints: Mapping[str, Any]) -> dict[str, int]:
    """Return each API server's address and port."""
    found = {}
    for subset in endpoints.get("subsets") or ():
        port = next((port.get("port") for port in subset.get("ports") or ()), None)
        for key in ("addresses", "notReadyAddresses"):
            for address in subset.get(key) or ():
                found[str(address.get("ip"))] = port if isinstance(port, int) else 6443
    return found


def _addresses_of(node: Mapping[str, Any]) -> list[str]:
    """Return a node's addresses, those first that other nodes reach it by."""
    addresses = (node.get("status") or {}).get("addresses") or ()
    ordered = sorted(addresses, key=lambda address: address.get("type") != "InternalIP")
    return [str(address.get("address")) for address in ordered]


def _endpoint(address: str, port: int) -> str:
    return f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}"
