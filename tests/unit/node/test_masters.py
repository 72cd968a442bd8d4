"""The control plane's nodes: from the API as far as the identity may, else from the disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.turns import Masters
from checkpointer.node.masters import (
    ENDPOINTS,
    LABELLED,
    as_state,
    from_state,
    read_masters,
)

DENIED = Unknown("GET: HTTP 403")
OWN = "/api/v1/nodes/node-1"


def api(answers: Mapping[str, Fact[Mapping[str, Any] | None]]) -> Any:
    asked: list[str] = []

    def find(path: str) -> Fact[Mapping[str, Any] | None]:
        asked.append(path)
        return answers.get(path, DENIED)

    find.asked = asked  # type: ignore[attr-defined]
    return find


def endpoints(*addresses: str) -> Known[Mapping[str, Any] | None]:
    return Known({"subsets": [{"addresses": [{"ip": address} for address in addresses]}]})


def node(*addresses: str) -> Known[Mapping[str, Any] | None]:
    return Known(
        {"status": {"addresses": [{"type": "InternalIP", "address": a} for a in addresses]}}
    )


def test_nodes_are_named_where_they_may_be_listed() -> None:
    """In one order on every node."""
    items = [{"metadata": {"name": name}} for name in ("node-2", "node-1")]
    find = api({LABELLED: Known({"items": items})})
    assert read_masters(find, "node-1") == Known(Masters(("node-1", "node-2"), "node-1"))
    assert find.asked == [LABELLED]


@pytest.mark.parametrize("nodes", [DENIED, Known({"items": []}), Known(None)])
def test_a_kubelets_identity_reads_the_api_servers_addresses(nodes: Any) -> None:
    """Its own is the one that its node has; a worker has none of them."""
    answers = {LABELLED: nodes, ENDPOINTS: endpoints("10.0.0.2", "10.0.0.1"), OWN: node("10.0.0.1")}
    expected = Masters(("10.0.0.1", "10.0.0.2"), "10.0.0.1")
    assert read_masters(api(answers), "node-1") == Known(expected)
    worker = {**answers, OWN: node("10.0.0.9")}
    assert read_masters(api(worker), "node-1") == Known(Masters(expected.names, "node-1"))


def test_a_single_api_server_needs_no_more_questions() -> None:
    """There is nobody to take turns with."""
    find = api({ENDPOINTS: endpoints("10.0.0.1")})
    assert read_masters(find, "node-1") == Known(Masters(("10.0.0.1",), "10.0.0.1"))
    assert OWN not in find.asked


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {ENDPOINTS: Known(None)},
        {ENDPOINTS: Known({"subsets": None})},
        {ENDPOINTS: endpoints("10.0.0.1", "10.0.0.2")},
    ],
)
def test_what_cannot_be_told_is_unknown(answers: Any) -> None:
    """An empty answer is not a control plane of nobody."""
    assert isinstance(read_masters(api(answers), "node-1"), Unknown)


def test_they_are_kept_for_a_start_without_the_api() -> None:
    """And what is no such state is Unknown."""
    masters = Masters(("a", "b"), "a")
    assert from_state(as_state(masters)) == Known(masters)
    for state in ({}, {"names": "a", "own": "a"}, {"names": ["a"]}):
        assert isinstance(from_state(state), Unknown)
