"""The control plane's nodes: from the API as far as the identity may, else from the disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from checkpointer.core.contact import ProbeOutcome, ProbeResult
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.turns import Masters
from checkpointer.node.masters import (
    ENDPOINTS,
    LABELLED,
    as_state,
    from_state,
    others_answer,
    read_masters,
)
from checkpointer.node.probe import NOT_TRUSTED

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
    ready = [{"ip": address} for address in addresses]
    return Known({"subsets": [{"addresses": ready, "ports": [{"name": "https", "port": 7443}]}]})


def host(*names: str) -> dict[str, Any]:
    """Return a node's status with its name and its address."""
    kinds = zip(("Hostname", "InternalIP"), names, strict=False)
    return {"status": {"addresses": [{"type": k, "address": name} for k, name in kinds]}}


def node(*addresses: str) -> Known[Mapping[str, Any] | None]:
    return Known(
        {"status": {"addresses": [{"type": "InternalIP", "address": a} for a in addresses]}}
    )


def test_nodes_are_named_where_they_may_be_listed() -> None:
    """In one order on every node."""
    hosts = {"node-2": ("h2", "fd00::2"), "node-1": ("h1", "10.0.0.1"), "node-3": ()}
    items = [{"metadata": {"name": name}, **host(*names)} for name, names in hosts.items()]
    find = api({LABELLED: Known({"items": items})})
    names = ("node-1", "node-2", "node-3")
    expected = Masters(names, "node-1", ("https://[fd00::2]:6443",))
    assert read_masters(find, "node-1") == Known(expected)
    assert find.asked == [LABELLED]


@pytest.mark.parametrize("nodes", [DENIED, Known({"items": []}), Known(None)])
def test_a_kubelets_identity_reads_the_api_servers_addresses(nodes: Any) -> None:
    """Its own is the one that its node has; a worker has none of them."""
    answers = {LABELLED: nodes, ENDPOINTS: endpoints("10.0.0.2", "10.0.0.1"), OWN: node("10.0.0.1")}
    names, found = ("10.0.0.1", "10.0.0.2"), ("https://10.0.0.1:7443", "https://10.0.0.2:7443")
    expected = Masters(names, "10.0.0.1", found[1:])
    assert read_masters(api(answers), "node-1") == Known(expected)
    worker = {**answers, OWN: node("10.0.0.9")}
    assert read_masters(api(worker), "node-1") == Known(Masters(names, "node-1", found))


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
    masters = Masters(("a", "b"), "a", ("https://b:6443",))
    assert from_state(as_state(masters)) == Known(masters)
    for state in ({}, {"names": "a", "own": "a"}, {"names": ["a"]}):
        assert isinstance(from_state(state), Unknown)


ANSWERED = ProbeResult(ProbeOutcome.ANSWERED, "HTTP 200")
REFUSED = ProbeResult(ProbeOutcome.FAILED, "connection refused")
STARTING = ProbeResult(ProbeOutcome.SERVER_ERROR, "HTTP 500")
STRANGE = ProbeResult(ProbeOutcome.FAILED, NOT_TRUSTED)
FORBIDDEN = ProbeResult(ProbeOutcome.DENIED, "HTTP 403")


@pytest.mark.parametrize(
    ("answers", "expected", "asked"),
    [
        ((ANSWERED, REFUSED), Known(True), 1),
        ((REFUSED, ANSWERED), Known(True), 2),
        ((STRANGE, ANSWERED), Known(True), 2),
        ((REFUSED, STARTING), Known(False), 2),
        ((REFUSED, STRANGE), Unknown(f"https://b:6443: {NOT_TRUSTED}"), 2),
        ((FORBIDDEN, REFUSED), Unknown("https://a:6443: HTTP 403"), 2),
    ],
)
def test_another_api_server_is_there_when_one_says_that_it_is_ready(
    answers: tuple[ProbeResult, ...], expected: Fact[bool], asked: int
) -> None:
    """One is enough; what can be neither trusted nor denied leaves it open."""
    left = list(answers)
    masters = Masters(("a", "b", "c"), "c", ("https://a:6443", "https://b:6443"))
    assert others_answer(Known(masters), lambda _: left.pop(0)) == expected
    assert len(answers) - len(left) == asked


def test_masters_without_addresses_cannot_be_asked() -> None:
    """Nor can those that are not known."""
    for masters in (Unknown("not read"), Known(Masters(("a", "b"), "a"))):
        assert isinstance(others_answer(masters, lambda _: ANSWERED), Unknown)
