"""Which nodes make up the control plane, as far as this node's identity may know.

A cluster role may let it list nodes; the kubelet's own credentials may not, but they may read
the endpoints of the `kubernetes` service: the addresses of all API servers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.turns import Masters

Find = Callable[[str], Fact[Mapping[str, Any] | None]]

NODES = "/api/v1/nodes"
LABELLED = f"{NODES}?labelSelector=node-role.kubernetes.io%2Fcontrol-plane"
ENDPOINTS = "/api/v1/namespaces/default/endpoints/kubernetes"


def read_masters(find: Find, node_name: str) -> Fact[Masters]:
    """Ask the API; `find` returns an object by its path, or None when there is none."""
    nodes = find(LABELLED)
    if isinstance(nodes, Known) and nodes.value and nodes.value.get("items"):
        names = tuple(sorted(node["metadata"]["name"] for node in nodes.value["items"]))
        return Known(Masters(names, node_name))
    endpoints = find(ENDPOINTS)
    if isinstance(endpoints, Unknown):
        return endpoints
    addresses = _addresses(endpoints.value or {})
    if not addresses:
        return Unknown("the API tells neither its nodes nor its own addresses")
    if len(addresses) == 1:
        return Known(Masters(addresses, addresses[0]))
    node = find(f"{NODES}/{quote(node_name, safe='')}")
    if isinstance(node, Unknown):
        return node
    status = (node.value or {}).get("status") or {}
    own = {address.get("address") for address in status.get("addresses") or ()}
    return Known(Masters(addresses, next((a for a in addresses if a in own), node_name)))


def as_state(masters: Masters) -> dict[str, Any]:
    """Return the form in which they are kept on disk, for a start without the API."""
    return {"names": list(masters.names), "own": masters.own}


def from_state(state: Mapping[str, Any]) -> Fact[Masters]:
    """Return what `as_state` made; Unknown when nothing of the kind was kept."""
    names, own = state.get("names"), state.get("own")
    if not isinstance(own, str) or not isinstance(names, list):
        return Unknown("the control plane's nodes have not been read yet")
    return Known(Masters(tuple(str(name) for name in names), own))


def _addresses(endpoints: Mapping[str, Any]) -> tuple[str, ...]:
    found = {
        str(address.get("ip"))
        for subset in endpoints.get("subsets") or ()
        for key in ("addresses", "notReadyAddresses")
        for address in subset.get(key) or ()
    }
    return tuple(sorted(found))
