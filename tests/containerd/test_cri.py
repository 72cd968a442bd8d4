"""The container runtime's adapter against a real containerd with real containers."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from checkpointer.core.facts import Known, Unknown
from checkpointer.core.runtime import Container, ContainerState, Runtime, Sandbox
from checkpointer.node.cri import ContainerDetail, ContainerRuntime
from checkpointer.node.cri_events import shares_events
from tests.containerd.harness import PAUSE_IMAGE, TEST_IMAGE, RealContainerd
from tests.containerd.pods import Pod, Pods

pytestmark = pytest.mark.containerd

SLEEP = ("sleep", "100000")
SERVE = ("/bin/sh", "-c", f"trap '' TERM; {' '.join(SLEEP)}; exit")
"""A container that does not heed SIGTERM."""
OBEY = ("/bin/sh", "-c", f"trap 'exit 0' TERM; {' '.join(SLEEP)} & wait")
POD = Pod(
    uid="b6a5f3e0-0000-4000-8000-000000000001",
    labels={"k8s-app": "api"},
    annotations={"kubernetes.io/config.source": "api", "note": "ä\nb"},
)


def seen(runtime: ContainerRuntime) -> Runtime:
    """Return what the runtime lists; fail when it cannot tell."""
    fact = runtime.observe()
    assert isinstance(fact, Known), fact
    return fact.value


def container(runtime: ContainerRuntime, container_id: str) -> Container:
    """Return one container of the list."""
    (found,) = (item for item in seen(runtime).containers if item.id == container_id)
    return found


def sandbox(runtime: ContainerRuntime, sandbox_id: str) -> Sandbox:
    """Return one sandbox of the list."""
    (found,) = (item for item in seen(runtime).sandboxes if item.id == sandbox_id)
    return found


def status(runtime: ContainerRuntime, container_id: str) -> ContainerDetail:
    """Return a container's status; fail when the runtime cannot tell."""
    fact = runtime.container_status(container_id)
    assert isinstance(fact, Known), fact
    return fact.value


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition; fail after ten seconds."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def until_exited(runtime: ContainerRuntime, container_id: str) -> None:
    """Wait until a container is listed as exited."""
    until(lambda: container(runtime, container_id).state is ContainerState.EXITED)


@contextmanager
def down(containerd: RealContainerd) -> Iterator[None]:
    """Kill containerd for the time of a block."""
    containerd.kill()
    try:
        yield
    finally:
        containerd.start()


class TestLooking:
    """What is told of sandboxes, containers and images."""

    def test_the_version_is_containerds(self, runtime: ContainerRuntime) -> None:
        """Real CRI v1 is understood."""
        version = runtime.version()
        assert isinstance(version, Known)
        assert (version.value.name, version.value.api_version) == ("containerd", "v1")

    def test_a_pod_is_told_as_the_kubelet_made_it(
        self, runtime: ContainerRuntime, pods: Pods
    ) -> None:
        """Identity, labels, annotations and image come back as they were given."""
        sandbox_id = pods.run_sandbox(POD)
        container_id = pods.run(POD, sandbox_id, "server", SERVE)
        whole = seen(runtime)
        assert whole == Runtime(
            sandboxes=(
                Sandbox(
                    id=sandbox_id,
                    namespace="kube-system",
                    name="api-x7k2p",
                    uid=POD.uid,
                    attempt=0,
                    ready=True,
                    created_at=whole.sandboxes[0].created_at,
                    labels={**POD.labels, **POD.kubelet_labels},
                    annotations=POD.annotations,
                ),
            ),
            containers=(
                Container(
                    id=container_id,
                    sandbox_id=sandbox_id,
                    name="server",
                    namespace="kube-system",
                    pod_name="api-x7k2p",
                    pod_uid=POD.uid,
                    attempt=0,
                    state=ContainerState.RUNNING,
                    created_at=whole.containers[0].created_at,
                    image=TEST_IMAGE,
                ),
            ),
        )

    def test_every_state_of_a_container(self, runtime: ContainerRuntime, pods: Pods) -> None:
        """Created, running and exited are told apart, and how it exited."""
        sandbox_id = pods.run_sandbox(POD)
        container_id = pods.create(POD, sandbox_id, "server", SERVE)
        assert container(runtime, container_id).state is ContainerState.CREATED
        pods.start(container_id)
        assert container(runtime, container_id).state is ContainerState.RUNNING
        runtime.stop_container(container_id, 0)
        until_exited(runtime, container_id)
        failing = pods.run(POD, sandbox_id, "other", ("/bin/sh", "-c", "exit 3"))
        until_exited(runtime, failing)
        assert (status(runtime, failing).exit_code, status(runtime, failing).reason) == (3, "Error")

    def test_restarts_are_told_by_attempt(self, runtime: ContainerRuntime, pods: Pods) -> None:
        """The dead container stays listed beside the one that replaced it."""
        sandbox_id = pods.run_sandbox(POD)
        first = pods.run(POD, sandbox_id, "server", ("/bin/sh", "-c", "exit 1"))
        until_exited(runtime, first)
        pods.run(POD, sandbox_id, "server", SERVE, attempt=1)
        told = [(item.name, item.attempt, item.state) for item in seen(runtime).containers]
        assert told == [
            ("server", 0, ContainerState.EXITED),
            ("server", 1, ContainerState.RUNNING),
        ]

    def test_times_are_in_nanoseconds_and_in_order(
        self, runtime: ContainerRuntime, pods: Pods
    ) -> None:
        """Sandbox, container, start and end follow one another between two looks at the clock."""
        before = time.time_ns()
        sandbox_id = pods.run_sandbox(POD)
        container_id = pods.run(POD, sandbox_id, "server", ("/bin/sleep", "0.1"))
        until_exited(runtime, container_id)
        detail = status(runtime, container_id)
        times = (
            before,
            sandbox(runtime, sandbox_id).created_at,
            detail.created_at,
            detail.started_at,
            detail.finished_at,
            time.time_ns(),
        )
        assert sorted(times) == list(times)
        assert detail.created_at == container(runtime, container_id).created_at

    def test_a_running_container_has_not_finished(
        self, runtime: ContainerRuntime, pods: Pods
    ) -> None:
        """Its end is 0, and its log lies where the kubelet asked for it."""
        container_id = pods.run(POD, pods.run_sandbox(POD), "server", SERVE)
        detail = status(runtime, container_id)
        assert detail.finished_at == 0
        assert detail.log_path.endswith(f"/kube-system_api-x7k2p_{POD.uid}/server/0.log")

    def test_a_container_that_was_removed_is_unknown(self, runtime: ContainerRuntime) -> None:
        """There is no status of what is not there."""
        fact = runtime.container_status("f" * 64)
        assert isinstance(fact, Unknown)
        assert "failed at ContainerStatus: NOT_FOUND" in fact.reason

    def test_images(self, runtime: ContainerRuntime) -> None:
        """One that is there is told with its name, one that is not is known not to be."""
        for name in (TEST_IMAGE, PAUSE_IMAGE):
            found = runtime.has_image(name)
            assert isinstance(found, Known)
            assert found.value is not None
            assert name in found.value.tags
            assert found.value.size > 500_000
        assert runtime.has_image("registry.example/none:1") == Known(None)


class TestDying:
    """Containers that end, of themselves or by us."""

    def test_a_killed_container_has_exited(
        self, containerd: RealContainerd, runtime: ContainerRuntime, pods: Pods
    ) -> None:
        """A kill from outside is seen, with its exit code; the sandbox stays ready."""
        sandbox_id = pods.run_sandbox(POD)
        container_id = pods.run(POD, sandbox_id, "server", SERVE)
        containerd.ctr("tasks", "kill", "--signal", "SIGKILL", container_id)
        until_exited(runtime, container_id)
        assert status(runtime, container_id).exit_code == 137
        assert sandbox(runtime, sandbox_id).ready

    def test_stopping_with_no_grace_is_fast(self, runtime: ContainerRuntime, pods: Pods) -> None:
        """A container that ignores SIGTERM is gone within a second, when the call returns."""
        container_id = pods.run(POD, pods.run_sandbox(POD), "server", SERVE)
        started = time.monotonic()
        runtime.stop_container(container_id, 0)
        assert time.monotonic() - started < 1
        assert container(runtime, container_id).state is ContainerState.EXITED

    def test_the_grace_is_given_and_ends(
        self, containerd: RealContainerd, runtime: ContainerRuntime, pods: Pods
    ) -> None:
        """Who ignores SIGTERM is killed after the grace."""
        container_id = pods.run(POD, pods.run_sandbox(POD), "server", SERVE)
        until(lambda: containerd.is_running(*SLEEP))  # the trap is set
        started = time.monotonic()
        runtime.stop_container(container_id, 1)
        assert 0.9 < time.monotonic() - started < 3
        assert status(runtime, container_id).exit_code == 137

    def test_who_heeds_the_signal_needs_no_grace(
        self, containerd: RealContainerd, runtime: ContainerRuntime, pods: Pods
    ) -> None:
        """The call returns with the container's own exit, long before the grace is over."""
        container_id = pods.run(POD, pods.run_sandbox(POD), "server", OBEY)
        until(lambda: containerd.is_running(*SLEEP))  # the trap is set
        started = time.monotonic()
        runtime.stop_container(container_id, 30)
        assert time.monotonic() - started < 5
        assert status(runtime, container_id).exit_code == 0

    def test_stopping_a_sandbox_stops_all_in_it(
        self, runtime: ContainerRuntime, pods: Pods
    ) -> None:
        """The sandbox is not ready any more, its containers have exited."""
        sandbox_id = pods.run_sandbox(POD)
        pods.run(POD, sandbox_id, "one", SERVE)
        pods.run(POD, sandbox_id, "two", SERVE)
        runtime.stop_sandbox(sandbox_id)
        assert not sandbox(runtime, sandbox_id).ready
        assert {item.state for item in seen(runtime).containers} == {ContainerState.EXITED}

    def test_stopping_twice_and_stopping_nothing(
        self, runtime: ContainerRuntime, pods: Pods
    ) -> None:
        """What is stopped, or was never there, is stopped."""
        sandbox_id = pods.run_sandbox(POD)
        container_id = pods.run(POD, sandbox_id, "server", SERVE)
        for _ in range(2):
            runtime.stop_container(container_id, 0)
            runtime.stop_sandbox(sandbox_id)
        runtime.stop_container("f" * 64, 0)
        runtime.stop_sandbox("f" * 64)

    def test_a_dead_container_is_forgotten(self, runtime: ContainerRuntime, pods: Pods) -> None:
        """It is not listed any more; one that nobody knows is forgotten already."""
        sandbox_id = pods.run_sandbox(POD)
        dead = pods.run(POD, sandbox_id, "dead", SERVE)
        pods.run(POD, sandbox_id, "alive", SERVE)
        runtime.stop_container(dead, 0)
        for _ in range(2):
            runtime.remove_container(dead)
        assert [item.name for item in seen(runtime).containers] == ["alive"]

    def test_a_new_sandbox_of_a_pod_has_the_next_attempt(
        self, runtime: ContainerRuntime, pods: Pods
    ) -> None:
        """The old one stays listed, not ready."""
        runtime.stop_sandbox(pods.run_sandbox(POD))
        again = Pod(uid=POD.uid, attempt=1)
        pods.run_sandbox(again)
        told = [(item.attempt, item.ready) for item in seen(runtime).sandboxes]
        assert told == [(0, False), (1, True)]


class TestRuntimeTrouble:
    """The runtime itself dies, hangs, or has no CRI."""

    def test_a_killed_runtime_is_unknown_and_known_again(
        self, containerd: RealContainerd, runtime: ContainerRuntime, pods: Pods
    ) -> None:
        """The same adapter sees the same containers run on after the runtime's return."""
        container_id = pods.run(POD, pods.run_sandbox(POD), "server", SERVE)
        before = seen(runtime)
        with down(containerd):
            started = time.monotonic()
            fact = runtime.observe()
            assert isinstance(fact, Unknown)
            assert containerd.endpoint in fact.reason
            assert time.monotonic() - started < 1
        assert seen(runtime) == before
        assert container(runtime, container_id).state is ContainerState.RUNNING

    def test_a_death_while_the_runtime_was_away_is_seen(
        self, containerd: RealContainerd, runtime: ContainerRuntime, pods: Pods
    ) -> None:
        """A container that ended while nobody looked is told as exited."""
        brief = ("/bin/sleep", "1")
        container_id = pods.run(POD, pods.run_sandbox(POD), "server", brief)
        with down(containerd):
            assert containerd.is_running(*brief)
            until(lambda: not containerd.is_running(*brief))
        until_exited(runtime, container_id)

    def test_a_frozen_runtime_costs_one_deadline(
        self, containerd: RealContainerd, pods: Pods
    ) -> None:
        """A runtime that takes calls and never answers is unknown, and known once it goes on."""
        hurried = ContainerRuntime(containerd.endpoint, deadline_seconds=0.3)
        assert isinstance(hurried.observe(), Known)
        containerd.signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            fact = hurried.observe()
            assert time.monotonic() - started < 1
        finally:
            containerd.signal(signal.SIGCONT)
        assert isinstance(fact, Unknown)
        assert "no answer within 0.3 s" in fact.reason
        until(lambda: isinstance(hurried.observe(), Known))
        hurried.close()

    def test_a_containerd_without_cri_is_told_as_such(self, real_runtime: None) -> None:
        """As Docker's package configures it: the reason says that CRI v1 is not there."""
        with RealContainerd(disabled_plugins=("io.containerd.grpc.v1.cri",)) as plain:
            plain.launch()
            adapter = ContainerRuntime(plain.endpoint)
            fact = adapter.observe()
            adapter.close()
        assert isinstance(fact, Unknown)
        assert "does not implement CRI runtime.v1.RuntimeService" in fact.reason


def test_events_wake_or_the_caller_is_told_to_poll(runtime: ContainerRuntime, pods: Pods) -> None:
    """containerd from 2.0 wakes on a start; older ones are told not to support it."""
    version = runtime.version()
    assert isinstance(version, Known)
    woken = threading.Event()
    watch = runtime.watch(woken.set)
    try:
        if shares_events(version.value):
            pods.run(POD, pods.run_sandbox(POD), "server", SERVE)
            assert woken.wait(10)
            until(lambda: watch.supported is True)
        else:
            until(lambda: watch.supported is False)
    finally:
        watch.close()


def test_a_closed_containerd_leaves_nothing_behind(real_runtime: None) -> None:
    """Processes, mounts, cgroups, sockets and files are gone, even those of running containers."""
    with RealContainerd() as containerd:
        containerd.start()
        containerd.import_images()
        pods = Pods(containerd)
        pods.run(POD, pods.run_sandbox(POD), "server", SERVE)
        assert containerd.traces() != []
    assert containerd.traces() == []
