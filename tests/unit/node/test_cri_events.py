"""Waking on container events, and knowing when there are none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from checkpointer.node import cri_v1_pb2 as pb
from checkpointer.node.cri import ContainerRuntime, RuntimeVersion, Watch
from checkpointer.node.cri_events import shares_events
from tests.unit.node.fake_cri import FakeRuntime


class Wakes:
    """Counts the calls of `wake`."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


class Source:
    """Feeds a fake runtime's event stream."""

    def __init__(self) -> None:
        self.streams = 0
        self._fed = threading.Condition()
        self._events = 0

    def feed(self) -> None:
        """Send one event to every stream."""
        with self._fed:
            self._events += 1
            self._fed.notify_all()

    def __call__(self, context: grpc.ServicerContext) -> Iterator[pb.ContainerEventResponse]:
        with self._fed:
            self.streams += 1
            sent = self._events
        while context.is_active():
            with self._fed:
                if self._events == sent:
                    self._fed.wait(timeout=0.02)
                due, sent = self._events - sent, self._events
            for _ in range(due):
                yield pb.ContainerEventResponse(container_id="c1")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeRuntime]:
    """A runtime that does not serve yet."""
    runtime = FakeRuntime(tmp_path / "cri.sock")
    yield runtime
    runtime.close()


@pytest.fixture
def source(fake: FakeRuntime) -> Source:
    """The events of the runtime."""
    fake.events = source = Source()
    return source


@pytest.fixture
def wakes() -> Wakes:
    """What the watch under test wakes."""
    return Wakes()


@pytest.fixture
def watch(fake: FakeRuntime, wakes: Wakes) -> Iterator[Watch]:
    """A watch of the runtime, started before it serves."""
    watch = ContainerRuntime(str(fake.path), deadline_seconds=1).watch(wakes)
    yield watch
    watch.close()


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition; fail after five seconds."""
    end = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def runtime_is(fake: FakeRuntime, name: str, version: str) -> None:
    """Have the runtime call itself so."""
    fake.answers["Version"] = pb.VersionResponse(runtime_name=name, runtime_version=version)


def test_each_event_wakes(fake: FakeRuntime, source: Source, watch: Watch, wakes: Wakes) -> None:
    """From the first event on it is also known that events come."""
    fake.start()
    until(lambda: source.streams == 1)
    assert watch.supported is None
    until(lambda: wakes.count == 1)
    for count in (2, 3, 4):
        source.feed()
        until(lambda count=count: wakes.count == count)  # type: ignore[misc]
    assert watch.supported is True


def test_a_broken_stream_wakes_and_is_opened_again(
    fake: FakeRuntime, source: Source, watch: Watch, wakes: Wakes
) -> None:
    """What happened while the runtime was away is looked for, and events go on."""
    fake.start()
    until(lambda: wakes.count == 1 and source.streams == 1)
    fake.stop()
    until(lambda: wakes.count == 2)
    fake.start()
    until(lambda: wakes.count == 3 and source.streams == 2)
    source.feed()
    until(lambda: wakes.count == 4)


def test_a_runtime_without_the_call_is_not_supported(
    fake: FakeRuntime, watch: Watch, wakes: Wakes
) -> None:
    """The caller learns that it has to poll."""
    fake.start()
    until(lambda: watch.supported is False)


def test_a_stream_that_ends_at_once_is_not_supported(
    fake: FakeRuntime, watch: Watch, wakes: Wakes
) -> None:
    """CRI-O without enable_pod_events ends it without an error."""
    fake.events = lambda _: iter(())
    fake.start()
    until(lambda: watch.supported is False)


def test_events_are_not_taken_from_the_kubelet(
    fake: FakeRuntime, source: Source, watch: Watch
) -> None:
    """A runtime that gives each event to one subscriber only is not subscribed to."""
    runtime_is(fake, "containerd", "1.7.28")
    fake.start()
    until(lambda: watch.supported is False)
    assert source.streams == 0


@pytest.mark.parametrize(
    ("name", "version", "shares"),
    [
        ("containerd", "1.6.20~ds1", False),
        ("containerd", "v1.7.28-k3s1", False),
        ("containerd", "v2.0.0", True),
        ("containerd", "2.1.4", True),
        ("containerd", "10.0", True),
        ("containerd", "unreleased", False),
        ("cri-o", "1.27.4", False),
        ("cri-o", "1.28.0", True),
        ("cri-o", "1.34.1", True),
        ("another", "", True),
    ],
)
def test_who_gives_each_event_to_all(name: str, version: str, shares: bool) -> None:
    """containerd from 2.0 and CRI-O from 1.28 do; where it cannot be told they are spared."""
    assert shares_events(RuntimeVersion(name, version, "v1")) is shares


@pytest.mark.parametrize("serving", [True, False])
def test_closing_is_prompt(
    fake: FakeRuntime, source: Source, watch: Watch, wakes: Wakes, serving: bool
) -> None:
    """A quiet stream and a runtime that is away are both given up at once, without a wake."""
    if serving:
        fake.start()
        until(lambda: wakes.count == 1)
    before, started = wakes.count, time.monotonic()
    watch.close()
    assert time.monotonic() - started < 0.5
    assert wakes.count == before


def test_closing_twice_is_closing(watch: Watch) -> None:
    """A second close finds nothing left to do."""
    watch.close()
    watch.close()
