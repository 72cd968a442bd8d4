"""The control plane's nodes: from the API as far as the identity may, else from the disk."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from checkpointer.core.contact import ProbeOutcome, ProbeResult
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.turns import Absence, Away, Masters, Named, Others
from checkpointer.node.masters import (
    ENDPOINTS,
    EXACT_SECONDS,
    KEPT_SECONDS,
    LABELLED,
    NOT_ALONE_YET,
    ONLY_ONE_SECONDS,
    UNREAD,
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


MADE = 1.7e9


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def alone(made: float = MADE, *changed: float) -> Known[Mapping[str, Any] | None]:
    """Return endpoints with one address, made and changed at these times."""
    said = endpoints("10.0.0.1").value or {}
    notes = [{"manager": "kube-apiserver", "time": stamp(at)} for at in changed]
    return Known({**said, "metadata": {"creationTimestamp": stamp(made), "managedFields": notes}})


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
    named = Named("10.0.0.1", 6443, 0.0), Named("fd00::2", 6443, 0.0)
    expected = Masters(names, "node-1", ("https://[fd00::2]:6443",), named)
    assert read_masters(find, "node-1") == Known(expected)
    assert find.asked == [LABELLED]


@pytest.mark.parametrize("nodes", [DENIED, Known({"items": []}), Known(None)])
def test_a_kubelets_identity_reads_the_api_servers_addresses(nodes: Any) -> None:
    """Its own is the one that its node has; a worker has none of them."""
    answers = {LABELLED: nodes, ENDPOINTS: endpoints("10.0.0.2", "10.0.0.1"), OWN: node("10.0.0.1")}
    names, found = ("10.0.0.1", "10.0.0.2"), ("https://10.0.0.1:7443", "https://10.0.0.2:7443")
    named = tuple(Named(address, 7443, 0.0) for address in names)
    expected = Masters(names, "10.0.0.1", found[1:], named)
    assert read_masters(api(answers), "node-1") == Known(expected)
    worker = {**answers, OWN: node("10.0.0.9")}
    assert read_masters(api(worker), "node-1") == Known(Masters(names, "node-1", found, named))


def test_a_single_api_server_needs_no_more_questions() -> None:
    """There is nobody to take turns with."""
    find = api({ENDPOINTS: alone(MADE, MADE)})
    named = Named("10.0.0.1", 7443, MADE)
    expected = Masters(("10.0.0.1",), "10.0.0.1", (), (named,))
    assert read_masters(find, "node-1", wall=MADE) == Known(expected)
    assert OWN not in find.asked


@pytest.mark.parametrize(
    ("changed", "is_believed"),
    [
        ((MADE + 1.0,), True),
        ((MADE + 9.0 - ONLY_ONE_SECONDS, MADE + 1.0), True),
        ((MADE + 1e6 - ONLY_ONE_SECONDS,), True),
        ((MADE + 1e6 - ONLY_ONE_SECONDS + 1.0,), False),
        ((MADE, MADE + 1e6), False),
        ((), False),
    ],
)
def test_one_that_seems_alone_is_so_only_when_the_api_has_said_so_for_long(
    changed: tuple[float, ...], is_believed: bool
) -> None:
    """The others' servers may be away: the endpoints do not name those."""
    find = api({ENDPOINTS: alone(MADE, *changed)})
    found = read_masters(find, "node-1", wall=MADE + 1e6)
    assert isinstance(found, Known) is is_believed
    assert is_believed or found == NOT_ALONE_YET


def test_one_that_was_alone_is_so_still() -> None:
    """Its API server takes its address away when it ends in good order, and puts it back."""
    find = api({ENDPOINTS: alone(MADE, MADE + 1e6)})
    last = Known(Masters(("10.0.0.1",), "10.0.0.1"))
    found = read_masters(find, "node-1", last=last, wall=MADE + 1e6)
    assert isinstance(found, Known)
    assert found.value.names == ("10.0.0.1",)
    of_two = Known(Masters(("node-1", "node-2"), "node-1"))
    assert read_masters(find, "node-1", last=of_two, wall=MADE + 1e6) == NOT_ALONE_YET


NAMES = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


def read_at(wall: float, last: Fact[Masters], *named: str) -> Fact[Masters]:
    find = api({ENDPOINTS: endpoints(*named), OWN: node(NAMES[0])})
    return read_masters(find, "node-1", 6443, last, wall)


def test_a_master_that_the_endpoints_do_not_name_is_kept_for_a_day() -> None:
    """Its API server is away: it is the very one to be waited for. So is one's own."""
    all_three = read_at(MADE, UNREAD, *NAMES)
    later = MADE + KEPT_SECONDS - 1.0
    assert read_at(later, all_three, NAMES[1]) == Known(
        Masters(
            NAMES,
            NAMES[0],
            tuple(f"https://{name}:7443" for name in NAMES[1:]),
            tuple(Named(n, 7443, later if n == NAMES[1] else MADE) for n in NAMES),
        )
    )
    stored = from_state(as_state(all_three.value)) if isinstance(all_three, Known) else all_three
    assert stored == all_three
    two = read_at(MADE + KEPT_SECONDS, stored, *NAMES[:2])
    assert isinstance(two, Known)
    assert two.value.names == NAMES[:2]


def test_what_is_read_again_is_not_written_each_time() -> None:
    """When an address was last named is exact to an hour; a clock set back changes nothing."""
    last = read_at(MADE, UNREAD, *NAMES)
    for wall in (0.0, MADE + EXACT_SECONDS - 1.0):
        assert read_at(wall, last, *NAMES) == last
    assert read_at(MADE + EXACT_SECONDS, last, *NAMES) != last


def test_a_list_of_nodes_ends_what_the_endpoints_said() -> None:
    """A node that was taken out of the cluster is waited for no longer."""
    last = read_at(MADE, UNREAD, *NAMES)
    items = [{"metadata": {"name": "node-1"}, **host("h1", NAMES[0])}]
    find = api({LABELLED: Known({"items": items})})
    found = read_masters(find, "node-1", 6443, last, MADE)
    assert found == Known(Masters(("node-1",), "node-1", (), (Named(NAMES[0], 6443, MADE),)))


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
    named = Named("10.0.0.1", 6443, 1.5), Named("10.0.0.2", 6443, 2.0)
    masters = Masters(("a", "b"), "a", ("https://b:6443",), named)
    assert from_state(as_state(masters)) == Known(masters)
    for state in ({}, {"names": "a", "own": "a"}, {"names": ["a"]}):
        assert isinstance(from_state(state), Unknown)
    spoilt = {"names": ["a"], "own": "a", "named": [1, ["10.0.0.1"], ["10.0.0.1", "x", 0.0]]}
    assert from_state(spoilt) == Known(Masters(("a",), "a"))


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
