"""This node's pods: always what the API says now, or Unknown; and nothing ends the following."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.facts import Known, Unknown
from checkpointer.node import pods as pods_module
from checkpointer.node.pods import NodePods
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.waiting import wait_until

NODE = "node-1"


class Followed:
    """The pods under test, and what they told their owner."""

    def __init__(self, kubeconfig: Path, wakes: Any, breaks: Any) -> None:
        self.wakes, self.breaks = wakes, breaks
        self.pods = NodePods(kubeconfig, NODE, wakes, breaks)

    @property
    def names(self) -> list[str] | None:
        """Return the names of the pods, None while they are Unknown."""
        fact = self.pods.pods
        if isinstance(fact, Unknown):
            return None
        return sorted(str((pod.get("metadata") or {}).get("name")) for pod in fact.value)

    def until(self, names: list[str] | None, seconds: float = 5.0) -> float:
        return wait_until(lambda: self.names == names, seconds, f"pods {names}")

    def until_hurried(self, names: list[str]) -> None:
        """Wait for the pods and cut every backoff short."""
        wait_until(lambda: self.pods._interrupt.set() or self.names == names, 5, f"pods {names}")


@pytest.fixture
def follow(kit: Any) -> Iterator[Callable[[Path], Followed]]:
    """Follow the pods by a kubeconfig; ended after the test."""
    followed: list[Followed] = []

    def begin(kubeconfig: Path) -> Followed:
        followed.append(Followed(kubeconfig, kit.Calls(), kit.Calls()))
        followed[-1].pods.start()
        return followed[-1]

    yield begin
    for one in followed:
        one.pods.close()
        assert not one.pods._thread.is_alive()


@pytest.fixture
def followed(
    api: ApiServer, kubeconfig: Path, follow: Callable[[Path], Followed], kit: Any
) -> Followed:
    """The pods of a node with one pod, being watched."""
    api.cluster.create("pods", kit.pod_object("a"))
    found = follow(kubeconfig)
    found.until(["a"])
    wait_until(lambda: api.requests["watch pods"] == 1, 5, "the watch")
    return found


@pytest.fixture
def scripted_pods(
    scripted: Any, folder: Path, follow: Callable[[Path], Followed]
) -> Callable[[], Followed]:
    return lambda: follow(folder / "scripted.conf")


def test_nothing_is_known_before_the_api_is_asked(kubeconfig: Path, kit: Any) -> None:
    """Before the first answer there is no list, not even an empty one."""
    pods = NodePods(kubeconfig, NODE, kit.Calls(), kit.Calls())
    assert pods.pods == Unknown("the API has not been asked yet")
    assert pods.find("/api/v1/nodes/node-1") == Unknown("the API has not been reached yet")
    assert (pods.client, pods.was_asked) == (None, False)
    pods.drop("contact is lost")
    assert pods.pods == Unknown("contact is lost")
    pods.retry_now()
    pods.close()


def test_only_pods_of_this_node_are_listed(api: ApiServer, followed: Followed, kit: Any) -> None:
    """The API sends what is bound to this node, and nothing else."""
    other = kit.pod_object("b")
    other["spec"]["nodeName"] = "node-2"
    api.cluster.create("pods", other)
    api.cluster.create("pods", kit.pod_object("c"))
    followed.until(["a", "c"])
    assert api.requests["list pods"] == 1


def test_events_are_followed(api: ApiServer, followed: Followed, kit: Any) -> None:
    """What is added, changed or deleted is seen, each waking the loop."""
    wakes = followed.wakes.count
    api.cluster.create("pods", kit.pod_object("b"))
    followed.until(["a", "b"])
    api.cluster.delete("pods", "kube-system", "a")
    followed.until(["b"])
    assert followed.wakes.count == wakes + 2
    assert followed.breaks.count == 0


def test_managed_fields_are_dropped(
    api: ApiServer, follow: Any, kubeconfig: Path, kit: Any
) -> None:
    """They are a third of a pod's size and nobody here reads them."""
    api.cluster.create("pods", kit.pod_object("a", managedFields=[{"manager": "kubectl"}]))
    found = follow(kubeconfig)
    found.until(["a"])
    api.cluster.create("pods", kit.pod_object("b", managedFields=[{"manager": "kubectl"}]))
    found.until(["a", "b"])
    for pod in found.pods.pods.value:
        assert "managedFields" not in pod["metadata"]
        assert pod["metadata"]["uid"].startswith("")


def test_bookmark_moves_on_without_waking(
    api: ApiServer, follow: Any, kubeconfig: Path, kit: Any
) -> None:
    """A bookmark only tells from where to resume: nobody has to look at anything."""
    api.bookmark_seconds = 0.05
    found = follow(kubeconfig)
    found.until([])
    wakes = found.wakes.count
    api.cluster.create("secrets", {"metadata": {"name": "s", "namespace": "default"}})
    time.sleep(0.3)  # bookmarks come meanwhile
    assert found.wakes.count == wakes
    api.cluster.create("pods", kit.pod_object("a"))
    found.until(["a"])
    assert api.requests["list pods"] == 1


def test_watch_resumes_from_the_bookmark(
    scripted: Any, scripted_pods: Callable[[], Followed], kit: Any
) -> None:
    """A watch that ended in good order goes on where it was, without a list."""
    watches: list[str] = []
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "77"}}}

    def answer(path: str) -> tuple[int, Any]:
        if "watch=true" not in path:
            return 200, kit.pod_list(kit.pod_object("a"), version="9")
        watches.append(path)
        if len(watches) == 2:
            scripted.hold.clear()
        return 200, [json.dumps(bookmark).encode() + b"\n"]

    scripted.answer = answer
    scripted.hold.set()
    found = scripted_pods()
    wait_until(lambda: len(watches) == 2, 5, "the second watch")
    assert "resourceVersion=9&" in watches[0]
    assert "resourceVersion=77&" in watches[1]
    assert found.names == ["a"]
    assert len(scripted.asked) == 3


def test_expired_version_is_listed_anew(api: ApiServer, followed: Followed, kit: Any) -> None:
    """410 Gone in a watch means that events were missed: the list is made anew."""
    api.cluster.compact()
    wait_until(lambda: api.requests["list pods"] == 2, 5, "another list")
    followed.until(["a"])
    api.cluster.create("pods", kit.pod_object("b"))
    followed.until(["a", "b"])


def test_api_that_expires_everything_is_not_hammered(
    scripted: Any, scripted_pods: Callable[[], Followed], kit: Any
) -> None:
    """An API that answers every watch with 410 is asked ever more seldom."""
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
    scripted.hold.set()
    scripted.answer = lambda path: (
        (200, [json.dumps(gone).encode() + b"\n"])
        if "watch=true" in path
        else (200, kit.pod_list())
    )
    found = scripted_pods()
    wait_until(lambda: len(scripted.asked) >= 4, 5, "two rounds")
    time.sleep(0.6)  # what would be hundreds of requests
    assert len(scripted.asked) <= 16
    assert found.breaks.count <= len(scripted.asked) // 2


def test_watch_that_ends_at_once_is_not_hammered(
    scripted: Any, scripted_pods: Callable[[], Followed], kit: Any
) -> None:
    """An empty watch that ends in good order, again and again, is a fault and not an event."""
    scripted.hold.set()
    scripted.answer = lambda path: (200, []) if "watch=true" in path else (200, kit.pod_list())
    found = scripted_pods()
    wait_until(lambda: len(scripted.asked) >= 4, 5, "two rounds")
    time.sleep(0.6)  # what would be hundreds of requests
    assert len(scripted.asked) <= 16
    assert found.pods.was_asked


@pytest.mark.parametrize("how", ["stop", "reset"])
def test_broken_watch_is_told_at_once(
    api: ApiServer, followed: Followed, how: str, kit: Any
) -> None:
    """The open watch is the quickest sign that contact breaks; until relisted nothing is known."""
    if how == "stop":
        api.stop()
    else:
        api.mode = Mode.RESET
    assert followed.breaks.wait_beyond(0, 1.0)
    followed.until(None, 1.0)


def test_pods_are_unknown_until_they_are_listed_again(
    api: ApiServer, followed: Followed, kit: Any
) -> None:
    """What changed while the API was away is seen before anything is called known."""
    api.mode = Mode.REFUSED
    followed.until(None)
    seen: list[list[str] | None] = []
    api.cluster.delete("pods", "kube-system", "a")
    api.cluster.create("pods", kit.pod_object("b"))
    api.mode = Mode.SERVING
    followed.pods.retry_now()
    wait_until(lambda: seen.append(followed.names) or followed.names == ["b"], 5, "the new list")
    assert all(names in (None, ["b"]) for names in seen)


def test_retry_now_cuts_the_backoff_short(
    api: ApiServer, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as a probe is answered the list is tried again, however long the backoff was."""
    api.mode = Mode.REFUSED
    followed.until(None)
    waits: list[float] = []
    real = followed.pods._interrupt.wait

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return real(30.0)

    monkeypatch.setattr(followed.pods._interrupt, "wait", wait)
    wait_until(lambda: waits, 10, "a backoff")
    api.mode = Mode.SERVING
    followed.pods.retry_now()
    assert followed.until(["a"], 2.0) < 1.0


def test_backoff_begins_anew_after_a_steady_time(
    api: ApiServer, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tenth break in a month is as quickly mended as the first."""
    monkeypatch.setattr(pods_module, "STEADY_SECONDS", 0.0)
    for round_number in range(1, 7):
        breaks = followed.breaks.count
        api.mode = Mode.RESET
        assert followed.breaks.wait_beyond(breaks)
        api.mode = Mode.SERVING
        lists = api.requests["list pods"]
        assert wait_until(lambda seen=lists: api.requests["list pods"] > seen, 9, "list") < 1.5, (
            round_number
        )
        followed.until(["a"])


def test_drop_in_a_black_hole_returns_at_once(api: ApiServer, followed: Followed) -> None:
    """Contact is lost though the connection stands: the list is given up without waiting."""
    api.mode = Mode.BLACK_HOLE
    assert followed.names == ["a"]
    began = time.monotonic()
    followed.pods.drop("contact is lost")
    assert time.monotonic() - began < 0.2
    assert followed.names is None
    assert followed.breaks.wait_beyond(0, 1.0)


def test_black_hole_while_opening_a_watch_does_not_last(
    api: ApiServer, followed: Followed, kit: Any
) -> None:
    """A request that hangs without an answer is cut by drop and tried again when told."""
    api.mode = Mode.BLACK_HOLE
    followed.pods.drop("contact is lost")
    connections = api.connections
    wait_until(lambda: api.connections > connections, 5, "another attempt")
    api.cluster.create("pods", kit.pod_object("b"))
    api._gate.end_passages()  # what hangs in the old network never gets through
    api.mode = Mode.SERVING
    followed.pods.retry_now()
    followed.until(["a", "b"], 3.0)


def test_first_answer_ends_a_request_that_hangs(
    scripted: Any, scripted_pods: Callable[[], Followed], kit: Any
) -> None:
    """A request sent into the outage does not delay the recovery by its timeout."""
    stuck = threading.Event()

    def answer(path: str) -> tuple[int, Any]:
        if len(scripted.asked) == 1:
            stuck.wait(10)
        return (200, [b"\n"]) if "watch=true" in path else (200, kit.pod_list())

    scripted.answer = answer
    found = scripted_pods()
    wait_until(lambda: scripted.asked, 5, "the first request")
    found.pods.retry_now()
    found.until([], 2.0)
    stuck.set()


@pytest.mark.parametrize("mode", [Mode.SERVING, Mode.BLACK_HOLE, Mode.REFUSED, Mode.ERROR])
def test_close_ends_the_thread(
    api: ApiServer, kubeconfig: Path, kit: Any, mode: Mode, followed: Followed
) -> None:
    """Whatever the network does, the thread is gone long before anybody would kill the agent."""
    api.mode = mode
    if mode is Mode.BLACK_HOLE:
        connections = api.connections
        followed.pods.drop("contact is lost")
        wait_until(lambda: api.connections > connections, 5, "an attempt in the black hole")
    began = time.monotonic()
    followed.pods.close()
    assert time.monotonic() - began < 1.0
    assert not followed.pods._thread.is_alive()


@pytest.mark.parametrize(
    "mode", [Mode.UNAUTHORIZED, Mode.FORBIDDEN, Mode.ERROR, Mode.THROTTLED, Mode.WRONG_CERTIFICATE]
)
def test_refused_list_is_unknown(
    api: ApiServer, kubeconfig: Path, follow: Any, mode: Mode, kit: Any
) -> None:
    """A list that the API refuses is not an empty one."""
    api.cluster.create("pods", kit.pod_object("a"))
    api.mode = mode
    found = follow(kubeconfig)
    wait_until(lambda: found.pods.was_asked, 5, "an answer")
    assert found.names is None
    api.mode = Mode.SERVING
    found.pods.retry_now()
    found.until(["a"])


GARBAGE_LISTS = [
    b"",
    b"not JSON",
    b"[]",
    b"null",
    b"7",
    b"{}",
    b'{"kind": "PodList"}',
    b'{"kind": "Status", "metadata": {"resourceVersion": "1"}, "items": []}',
    b'{"kind": "PodList", "metadata": {"resourceVersion": "1"}}',
    b'{"kind": "PodList", "metadata": {}, "items": []}',
    b'{"kind": "PodList", "metadata": {"resourceVersion": 1}, "items": []}',
    b'{"kind": "PodList", "metadata": {"resourceVersion": "1", "continue": "x"}, "items": []}',
    b'{"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": {}}',
]


def test_garbage_list_is_unknown_and_survived(
    scripted: Any, scripted_pods: Callable[[], Followed], kit: Any
) -> None:
    """Whatever comes instead of a list, it is not "no pods", and the next answer is read."""
    left = list(GARBAGE_LISTS)
    seen: list[list[str] | None] = []
    found: list[Followed] = []

    def answer(path: str) -> tuple[int, Any]:
        if found:
            seen.append(found[0].names)
        if "watch=true" in path:
            return 200, [b"\n"]
        if left:
            found[0].pods.retry_now() if found else None
            return 200, left.pop(0)
        return 200, kit.pod_list(kit.pod_object("a"))

    scripted.answer = answer
    found.append(scripted_pods())
    found[0].until_hurried(["a"])
    assert left == []
    assert seen.count(["a"]) <= 1
    assert all(names in (None, ["a"]) for names in seen)


@pytest.mark.parametrize(
    "entry",
    [
        "null",
        "7",
        '{"spec": {}}',
        '{"metadata": null}',
        '{"metadata": []}',
        '{"metadata": {"name": null, "uid": 5}}',
    ],
)
def test_entry_that_is_no_pod_hides_no_other(
    scripted: Any, scripted_pods: Callable[[], Followed], entry: str, kit: Any
) -> None:
    """It is there for the reader to judge: not the end of all knowledge, and not nothing."""
    body = json.dumps(json.loads(kit.pod_list(kit.pod_object("a"))))
    body = body.replace('"items": [', f'"items": [{entry}, ')
    scripted.answer = lambda path: (200, [b"\n"]) if "watch=true" in path else (200, body.encode())
    scripted_pods().until(["None", "a"])


def test_list_of_nothing_is_known(
    scripted: Any, scripted_pods: Callable[[], Followed], kit: Any
) -> None:
    """A node without pods is a fact, also as Go writes an empty list."""
    body = kit.pod_list().replace(b'"items": []', b'"items": null')
    scripted.answer = lambda path: (200, [b"\n"]) if "watch=true" in path else (200, body)
    scripted_pods().until([])


GARBAGE_EVENTS = [
    b"not JSON\n",
    b"[]\n",
    b"null\n",
    b"{}\n",
    b'{"type": "ADDED"}\n',
    b'{"type": "ADDED", "object": null}\n',
    b'{"type": "ADDED", "object": {}}\n',
    b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "5"}}}\n',
    b'{"type": "DELETED", "object": {"metadata": {"resourceVersion": "5"}}}\n',
    b'{"type": "BOOKMARK", "object": {}}\n',
    b'{"type": "ERROR", "object": "x"}\n',
    b'{"type": "ERROR", "object": {"code": 500}}\n',
    b'{"type": "REWOUND", "object": {"metadata": {"resourceVersion": "5"}}}\n',
    b'{"type": ["ADDED"], "object": {"metadata": {"resourceVersion": "5"}}}\n',
    b"\xff\xfe\n",
]


@pytest.mark.parametrize("event", GARBAGE_EVENTS)
def test_garbage_event_means_listing_anew(
    scripted: Any, scripted_pods: Callable[[], Followed], event: bytes, kit: Any
) -> None:
    """An event that cannot be read may have been any: nothing is known until the next list."""
    watches: list[str] = []

    def answer(path: str) -> tuple[int, Any]:
        if "watch=true" in path:
            watches.append(path)
            return 200, [event] if len(watches) == 1 else [b"\n"]
        return 200, kit.pod_list(kit.pod_object("b" if watches else "a"))

    scripted.answer = answer
    found = scripted_pods()
    found.until_hurried(["b"])
    assert found.breaks.count == 1


def test_event_in_pieces_is_one_event(
    scripted: Any, scripted_pods: Callable[[], Followed], kit: Any
) -> None:
    """Where a network cuts an answer into pieces is no matter."""
    event = json.dumps({"type": "ADDED", "object": kit.pod_object("ä", version="10")}).encode()
    pieces = [event[:7], event[7:50], event[50:] + b"\n"]
    scripted.answer = lambda path: (200, pieces) if "watch=true" in path else (200, kit.pod_list())
    scripted_pods().until(["ä"])


def test_watch_refused_by_status_is_listed_anew(
    scripted: Any, scripted_pods: Callable[[], Followed], kit: Any
) -> None:
    """A version that is too old may also be told by the status of the answer."""
    watches: list[str] = []

    def answer(path: str) -> tuple[int, Any]:
        if "watch=true" not in path:
            return 200, kit.pod_list(kit.pod_object("b" if watches else "a"))
        watches.append(path)
        return (410, b"{}") if len(watches) == 1 else (200, [b"\n"])

    scripted.answer = answer
    scripted_pods().until_hurried(["b"])


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), MemoryError(), RecursionError(), KeyError("a")]
)
def test_no_exception_ends_the_thread(
    api: ApiServer,
    followed: Followed,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    kit: Any,
) -> None:
    """A thread that died would leave an old list standing for the truth: it never does."""
    failed = threading.Event()

    def faulty(*_: Any) -> str:
        failed.set()
        raise error

    monkeypatch.setattr(followed.pods, "_apply", faulty)
    api.cluster.create("pods", kit.pod_object("b"))
    assert failed.wait(5)
    monkeypatch.undo()
    followed.until(["a", "b"])
    assert followed.breaks.count >= 1


def test_kubeconfig_that_is_missing_is_waited_for(
    api: ApiServer, kubeconfig: Path, follow: Any
) -> None:
    """Before a node has joined there is no kubeconfig; once it is there, pods are listed."""
    hidden = kubeconfig.rename(kubeconfig.with_suffix(".hidden"))
    found = follow(kubeconfig)
    wait_until(lambda: found.pods.was_asked, 5, "the first attempt")
    assert found.pods.pods == Unknown(f"{kubeconfig}: No such file or directory")
    hidden.rename(kubeconfig)
    found.pods.retry_now()
    found.until([])


def test_find_asks_nothing_while_pods_are_unknown(api: ApiServer, followed: Followed) -> None:
    """In an outage a snapshot must not wait for one timeout after the other."""
    path = "/api/v1/nodes/node-1"
    assert followed.pods.find(path) == Known(None)
    api.mode = Mode.BLACK_HOLE
    followed.pods.drop("contact is lost")
    began = time.monotonic()
    assert isinstance(followed.pods.find(path), Unknown)
    assert time.monotonic() - began < 0.2


def test_find_is_cut_by_a_drop(api: ApiServer, followed: Followed) -> None:
    """A single request that hangs when contact is lost ends with the watch."""
    api.mode = Mode.BLACK_HOLE
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(followed.pods.find("/api/v1/nodes/node-1")), name="pods-find"
    )
    connections = api.connections
    thread.start()
    wait_until(lambda: api.connections > connections, 5, "the request")
    client = followed.pods.client
    assert client is not None
    wait_until(lambda: len(client._sockets) == 2, 5, "its connection")
    followed.pods.drop("contact is lost")
    thread.join(1)
    assert isinstance(found[0], Unknown)
