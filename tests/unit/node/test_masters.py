"""The control plane's nodes: from the API as far as the identity may, else from the disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from checkpointer.core.contact import ProbeOutcome, ProbeResult
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.turns import Absence, Away, Masters, Others
from checkpointer.node.masters import (
    ENDPOINTS,
    LABELLED,
    WAITING_SECONDS,
    OtherMasters,
    as_state,
    from_state,
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
TIMEOUT = ProbeResult(ProbeOutcome.FAILED, "timeout")
STARTING = ProbeResult(ProbeOutcome.SERVER_ERROR, "HTTP 500")
STRANGE = ProbeResult(ProbeOutcome.FAILED, NOT_TRUSTED)
FORBIDDEN = ProbeResult(ProbeOutcome.DENIED, "HTTP 403")


A, B = "https://a:6443", "https://b:6443"
MASTERS = Known(Masters(("a", "b", "c"), "c", (A, B)))


class Scene:
    """Two other masters, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.answers = {A: ANSWERED, B: ANSWERED}
        self.asked: list[str] = []
        self.others = OtherMasters(self._ask, lambda: self.now)

    def look(self, now: float, masters: Fact[Masters] = MASTERS, **answers: ProbeResult) -> Any:
        self.now = now
        self.answers |= {f"https://{name}:6443": answer for name, answer in answers.items()}
        self.others.look(masters)
        return self.others.told

    def _ask(self, endpoint: str) -> ProbeResult:
        self.asked.append(endpoint)
        return self.answers[endpoint]


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(
    ("answer", "absence"),
    [
        (REFUSED, Absence.STARTING),
        (STARTING, Absence.STARTING),
        (TIMEOUT, Absence.SILENT),
        (STRANGE, Absence.UNTOLD),
        (FORBIDDEN, Absence.UNTOLD),
    ],
)
def test_an_api_server_is_away_unless_it_says_that_it_is_ready(
    scene: Scene, answer: ProbeResult, absence: Absence
) -> None:
    """And a node that refuses is not one without power."""
    assert scene.look(100.0) == Known(Others(2))
    assert scene.look(101.0, a=answer) == Known(Others(1, (Away(A, absence, 101.0),)))


def test_they_are_asked_once_a_second_at_most(scene: Scene) -> None:
    """A moment that lasts must not make the agent ask in every cycle."""
    scene.look(100.0)
    assert scene.look(100.9, a=REFUSED) == Known(Others(2))
    assert scene.asked == [A, B]


def test_an_absence_is_counted_from_when_it_was_first_seen(scene: Scene) -> None:
    """Each master's own; another kind of absence, or an answer, begins it anew."""
    scene.look(100.0, a=REFUSED)
    assert scene.look(110.0, b=TIMEOUT) == Known(
        Others(0, (Away(A, Absence.STARTING, 100.0), Away(B, Absence.SILENT, 110.0)))
    )
    assert scene.look(120.0, a=TIMEOUT, b=ANSWERED) == Known(
        Others(1, (Away(A, Absence.SILENT, 120.0),))
    )
    assert scene.look(130.0, a=ANSWERED) == Known(Others(2))
    assert scene.look(140.0, a=TIMEOUT) == Known(Others(1, (Away(A, Absence.SILENT, 140.0),)))


def test_an_absence_that_was_not_followed_is_counted_anew(scene: Scene) -> None:
    """In between it may have answered; while one is away it is time to ask again before long."""
    scene.look(100.0)
    assert scene.others.look_in() is None
    scene.look(110.0, a=REFUSED)
    assert scene.others.look_in() == WAITING_SECONDS
    scene.now += WAITING_SECONDS
    assert scene.others.look_in() == 0.0
    later = scene.now + 3 * WAITING_SECONDS
    assert scene.look(later) == Known(Others(1, (Away(A, Absence.STARTING, later),)))
    scene.others.forget()
    assert scene.others.look_in() is None
    assert scene.look(later + 1) == Known(Others(1, (Away(A, Absence.STARTING, later + 1),)))


def test_masters_without_addresses_cannot_be_asked(scene: Scene) -> None:
    """Nor can those that are not known."""
    for now, masters in ((100.0, Unknown("not read")), (200.0, Known(Masters(("a", "b"), "a")))):
        assert isinstance(scene.look(now, masters), Unknown)
    assert scene.others.look_in() is None
