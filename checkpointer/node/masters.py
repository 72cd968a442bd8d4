"""Which nodes make up the control plane, as far as this node's identity may know.

A cluster role may let it list nodes; the kubelet's own credentials may not, but they may read
the endpoints of the `kubernetes` service: the addresses of all API servers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from checkpointer.core.contact import ProbeOutcome, ProbeResult
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.lease import ASK_AGAIN_SECONDS
from checkpointer.core.turns import Absence, Away, Masters, Others
from checkpointer.node.probe import ITS_NODE_ANSWERS, NOT_TRUSTED

Ask = Callable[[str], ProbeResult]
"""Probes an API server at `https://host:port`."""

Find = Callable[[str], Fact[Mapping[str, Any] | None]]

NODES = "/api/v1/nodes"
LABELLED = f"{NODES}?labelSelector=node-role.kubernetes.io%2Fcontrol-plane"
ENDPOINTS = "/api/v1/namespaces/default/endpoints/kubernetes"

WAITING_SECONDS = 10.0
"""How often the other masters' API servers are asked while one of them is waited for."""


def read_masters(find: Find, node_name: str, port: int = 6443) -> Fact[Masters]:
    """Ask the API; `find` returns an object by its path, or None when there is none.

    `port` is the API servers', where only their nodes are told.
    """
    nodes = find(LABELLED)
    if isinstance(nodes, Known) and nodes.value and nodes.value.get("items"):
        by_name = {(n.get("metadata") or {}).get("name") or "": n for n in nodes.value["items"]}
        others = [by_name[name] for name in sorted(by_name) if name != node_name]
        found = tuple(_endpoint(a, port) for node in others for a in _addresses_of(node)[:1])
        if "" not in by_name:
            return Known(Masters(tuple(sorted(by_name)), node_name, found))
    endpoints = find(ENDPOINTS)
    if isinstance(endpoints, Unknown):
        return endpoints
    ports = _addresses(endpoints.value or {})
    addresses = tuple(sorted(ports))
    if not addresses:
        return Unknown("the API tells neither its nodes nor its own addresses")
    if len(addresses) == 1:
        return Known(Masters(addresses, addresses[0]))
    node = find(f"{NODES}/{quote(node_name, safe='')}")
    if isinstance(node, Unknown):
        return node
    mine = set(_addresses_of(node.value or {}))
    own = next((a for a in addresses if a in mine), node_name)
    found = tuple(_endpoint(a, ports[a]) for a in addresses if a != own)
    return Known(Masters(addresses, own, found))


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
    }


def from_state(state: Mapping[str, Any]) -> Fact[Masters]:
    """Return what `as_state` made; Unknown when nothing of the kind was kept."""
    names, own = state.get("names"), state.get("own")
    if not isinstance(own, str) or not isinstance(names, list):
        return Unknown("the control plane's nodes have not been read yet")
    endpoints = state.get("endpoints")
    found = tuple(map(str, endpoints)) if isinstance(endpoints, list) else ()
    return Known(Masters(tuple(str(name) for name in names), own, found))


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
