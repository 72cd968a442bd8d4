"""The container runtime's adapter: it tells what the runtime says, or that it could not tell."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from checkpointer.core.facts import Known, Unknown
from checkpointer.core.runtime import Container, ContainerState, Runtime, Sandbox
from checkpointer.node import cri_v1_pb2 as pb
from checkpointer.node.cri import (
    DEFAULT_ENDPOINTS,
    ContainerDetail,
    ContainerRuntime,
    ImageInfo,
    RuntimeCallError,
    RuntimeVersion,
    find_endpoint,
)
from tests.unit.node.fake_cri import FakeRuntime, raw_peer, refusing

POD_LABELS = {
    "io.kubernetes.pod.name": "api-x7k2p",
    "io.kubernetes.pod.namespace": "kube-system",
    "io.kubernetes.pod.uid": "u-1",
}
SANDBOX = pb.PodSandbox(
    id="s1",
    metadata=pb.PodSandboxMetadata(name="api-x7k2p", namespace="kube-system", uid="u-1", attempt=2),
    state=pb.SANDBOX_READY,
    created_at=7_000_000_001,
    labels={"app": "api", **POD_LABELS},
    annotations={"kubernetes.io/config.source": "api"},
)
CONTAINER = pb.Container(
    id="c1",
    pod_sandbox_id="s1",
    metadata=pb.ContainerMetadata(name="server", attempt=3),
    image=pb.ImageSpec(image="registry/api:v1"),
    image_ref="sha256:abc",
    state=pb.CONTAINER_RUNNING,
    created_at=8_000_000_001,
    labels={"io.kubernetes.container.name": "server", **POD_LABELS},
)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeRuntime]:
    """A runtime that serves."""
    runtime = FakeRuntime(tmp_path / "cri.sock")
    runtime.start()
    yield runtime
    runtime.close()


@pytest.fixture
def cri(tmp_path: Path) -> Iterator[ContainerRuntime]:
    """The adapter, pointed at the path where `fake` serves."""
    adapter = ContainerRuntime(f"unix://{tmp_path}/cri.sock", deadline_seconds=0.5)
    yield adapter
    adapter.close()


def reason(fact: object) -> str:
    """Return why a fact is unknown."""
    assert isinstance(fact, Unknown), fact
    assert "\n" not in fact.reason
    return fact.reason


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition; fail after five seconds."""
    end = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def lists(fake: FakeRuntime, *items: pb.PodSandbox | pb.Container) -> None:
    """Have the runtime list these."""
    fake.answers["ListPodSandbox"] = pb.ListPodSandboxResponse(
        items=[item for item in items if isinstance(item, pb.PodSandbox)]
    )
    fake.answers["ListContainers"] = pb.ListContainersResponse(
        containers=[item for item in items if isinstance(item, pb.Container)]
    )


class TestObserve:
    """What the runtime lists."""

    def test_tells_every_sandbox_and_container(
        self, fake: FakeRuntime, cri: ContainerRuntime
    ) -> None:
        """Both lists arrive whole, with the kubelet's labels taken apart."""
        lists(fake, SANDBOX, CONTAINER)
        assert cri.observe() == Known(
            Runtime(
                sandboxes=(
                    Sandbox(
                        id="s1",
                        namespace="kube-system",
                        name="api-x7k2p",
                        uid="u-1",
                        attempt=2,
                        ready=True,
                        created_at=7_000_000_001,
                        labels={"app": "api", **POD_LABELS},
                        annotations={"kubernetes.io/config.source": "api"},
                    ),
                ),
                containers=(
                    Container(
                        id="c1",
                        sandbox_id="s1",
                        name="server",
                        namespace="kube-system",
                        pod_name="api-x7k2p",
                        pod_uid="u-1",
                        attempt=3,
                        state=ContainerState.RUNNING,
                        created_at=8_000_000_001,
                        image="registry/api:v1",
                    ),
                ),
            )
        )

    def test_an_empty_runtime_is_known_to_be_empty(
        self, fake: FakeRuntime, cri: ContainerRuntime
    ) -> None:
        """Nothing listed is a fact, unlike no list."""
        assert cri.observe() == Known(Runtime())

    def test_asks_for_everything(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """No filter is sent, so that dead containers are listed too."""
        cri.observe()
        assert fake.requests == [
            ("ListPodSandbox", pb.ListPodSandboxRequest()),
            ("ListContainers", pb.ListContainersRequest()),
        ]

    def test_lists_the_oldest_first(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """Runtimes list in random order; two looks at the same things are equal."""
        ages = ((5, "b"), (4, "z"), (5, "a"))
        lists(
            fake,
            *(pb.PodSandbox(id=name, created_at=at) for at, name in ages),
            *(pb.Container(id=name, created_at=at) for at, name in ages),
        )
        seen = cri.observe()
        assert isinstance(seen, Known)
        assert [sandbox.id for sandbox in seen.value.sandboxes] == ["z", "a", "b"]
        assert [container.id for container in seen.value.containers] == ["z", "a", "b"]

    def test_metadata_serves_where_labels_are_missing(
        self, fake: FakeRuntime, cri: ContainerRuntime
    ) -> None:
        """A sandbox is told by its metadata, a container by its sandbox."""
        sandbox, container = pb.PodSandbox(), pb.Container()
        sandbox.CopyFrom(SANDBOX)
        sandbox.labels.clear()
        container.CopyFrom(CONTAINER)
        container.labels.clear()
        lists(fake, sandbox, container)
        seen = cri.observe()
        assert isinstance(seen, Known)
        (pod,), (found,) = seen.value.sandboxes, seen.value.containers
        assert (pod.namespace, pod.name, pod.uid) == ("kube-system", "api-x7k2p", "u-1")
        assert (found.namespace, found.pod_name, found.pod_uid, found.name) == (
            "kube-system",
            "api-x7k2p",
            "u-1",
            "server",
        )

    def test_missing_metadata_is_borne(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """Without metadata the kubelet's labels and annotations serve, else nothing is made up."""
        labels = {"io.kubernetes.container.name": "server", **POD_LABELS}
        lists(
            fake,
            pb.PodSandbox(id="s1"),
            pb.Container(
                id="c1",
                created_at=1,
                labels=labels,
                annotations={"io.kubernetes.container.restartCount": "4"},
                image_ref="sha256:abc",
            ),
            pb.Container(id="c2", created_at=2, pod_sandbox_id="gone"),
            pb.Container(
                id="c3",
                created_at=3,
                annotations={"io.kubernetes.container.restartCount": "many"},
            ),
        )
        assert cri.observe() == Known(
            Runtime(
                sandboxes=(Sandbox("s1", "", "", "", 0, True, 0),),
                containers=(
                    Container(
                        "c1",
                        "",
                        "server",
                        "kube-system",
                        "api-x7k2p",
                        "u-1",
                        4,
                        ContainerState.CREATED,
                        1,
                        "sha256:abc",
                    ),
                    Container("c2", "gone", "", "", "", "", 0, ContainerState.CREATED, 2),
                    Container("c3", "", "", "", "", "", 0, ContainerState.CREATED, 3),
                ),
            )
        )

    @pytest.mark.parametrize(
        ("number", "state"),
        [
            (0, ContainerState.CREATED),
            (1, ContainerState.RUNNING),
            (2, ContainerState.EXITED),
            (3, ContainerState.UNKNOWN),
            (9, ContainerState.UNKNOWN),
        ],
    )
    def test_every_container_state(
        self, fake: FakeRuntime, cri: ContainerRuntime, number: int, state: ContainerState
    ) -> None:
        """A state from the future is unknown, neither running nor exited."""
        # Field 6 of the container in field 1, by hand: the generated type takes no unknown value.
        fake.answers["ListContainers"] = bytes((0x0A, 2, 0x30, number))
        seen = cri.observe()
        assert isinstance(seen, Known)
        assert [container.state for container in seen.value.containers] == [state]

    @pytest.mark.parametrize(("number", "ready"), [(0, True), (1, False), (9, False)])
    def test_every_sandbox_state(
        self, fake: FakeRuntime, cri: ContainerRuntime, number: int, ready: bool
    ) -> None:
        """Only what the runtime calls ready is ready."""
        fake.answers["ListPodSandbox"] = bytes((0x0A, 2, 0x18, number))
        seen = cri.observe()
        assert isinstance(seen, Known)
        assert [sandbox.ready for sandbox in seen.value.sandboxes] == [ready]

    @pytest.mark.parametrize("name", ["ListPodSandbox", "ListContainers"])
    def test_one_list_alone_is_nothing(
        self, fake: FakeRuntime, cri: ContainerRuntime, name: str
    ) -> None:
        """When either list fails the whole is unknown, and the reason names which."""
        lists(fake, SANDBOX, CONTAINER)
        fake.answers[name] = refusing(grpc.StatusCode.UNKNOWN, "server is not\ninitialized yet")
        assert reason(cri.observe()) == (
            f"the container runtime at {cri.endpoint} failed at {name}: "
            "UNKNOWN: server is not initialized yet"
        )

    def test_a_big_list_fits(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """Answers up to the kubelet's own bound of 16 MiB are taken."""
        sandbox = pb.PodSandbox(id="s1", annotations={"a": "x" * (12 << 20)})
        lists(fake, sandbox)
        seen = cri.observe()
        assert isinstance(seen, Known)
        assert len(seen.value.sandboxes[0].annotations["a"]) == 12 << 20

    def test_an_oversized_list_is_unknown(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """A list beyond 16 MiB is refused, not cut."""
        lists(fake, pb.PodSandbox(id="s1", annotations={"a": "x" * (17 << 20)}))
        assert "RESOURCE_EXHAUSTED" in reason(cri.observe())

    def test_calls_itself_localhost(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """The :authority is the kubelet's; servers in Go refuse a socket's path."""
        seen: list[bytes] = []

        def note(_: Any, context: Any) -> pb.ListContainersResponse:
            seen.append(context._rpc_event.call_details.host)
            return pb.ListContainersResponse()

        fake.answers["ListContainers"] = note
        cri.observe()
        assert seen == [b"localhost"]

    def test_a_proxy_in_the_environment_is_ignored(
        self, fake: FakeRuntime, cri: ContainerRuntime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The runtime is on this node whatever the environment says."""
        for name in ("grpc_proxy", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert isinstance(cri.observe(), Known)


def babble(connection: socket.socket) -> None:
    """Send what is no HTTP/2."""
    connection.sendall(bytes(range(256)) * 16)
    connection.recv(65536)


def speak_http1(connection: socket.socket) -> None:
    """Answer as a web server would."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def hang_up(connection: socket.socket) -> None:
    """Close at once."""


def hang(connection: socket.socket) -> None:
    """Take all and answer nothing, until the other side gives up."""
    while connection.recv(65536):
        pass


class TestTrouble:
    """Whatever is wrong with the runtime is told as Unknown, in time."""

    def test_no_socket(self, cri: ContainerRuntime) -> None:
        """The reason names the endpoint."""
        assert reason(cri.observe()) == (
            f"no container runtime at {cri.endpoint}: No such file or directory"
        )

    def test_not_a_socket(self, cri: ContainerRuntime, tmp_path: Path) -> None:
        """A file at the path is told as such."""
        (tmp_path / "cri.sock").touch()
        assert reason(cri.observe()) == f"no container runtime at {cri.endpoint}: not a socket"

    def test_nobody_listens(self, cri: ContainerRuntime, tmp_path: Path) -> None:
        """The socket of a killed runtime is refused at once, not after the deadline."""
        with socket.socket(socket.AF_UNIX) as left_over:
            left_over.bind(str(tmp_path / "cri.sock"))
        started = time.monotonic()
        assert (
            reason(cri.observe())
            == f"the container runtime at {cri.endpoint} is away: Connection refused"
        )
        assert time.monotonic() - started < 0.4

    @pytest.mark.parametrize("speak", [None, babble, speak_http1, hang_up, hang])
    def test_a_strange_peer_is_unknown_within_the_deadline(
        self,
        cri: ContainerRuntime,
        tmp_path: Path,
        speak: Callable[[socket.socket], None] | None,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """Whoever else listens there costs one deadline at most, and gRPC writes nothing."""
        with raw_peer(tmp_path / "cri.sock", speak):
            started = time.monotonic()
            assert cri.endpoint in reason(cri.observe())
            assert time.monotonic() - started < 1.5
            cri.close()
        assert capfd.readouterr().err == ""

    def test_both_lists_share_one_deadline(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """A slow runtime does not get the time twice."""
        release = threading.Event()

        def slow(_: Any, __: Any) -> bytes:
            release.wait(0.4)
            return b""

        fake.answers["ListPodSandbox"] = fake.answers["ListContainers"] = slow
        started = time.monotonic()
        assert "failed at ListContainers: no answer within 0." in reason(cri.observe())
        assert time.monotonic() - started < 0.75
        release.set()

    @pytest.mark.parametrize("answer", [b"\xff\xff\xff", b"\x0a\x03\x0a\x01\xff"])
    def test_an_answer_that_does_not_parse(
        self, fake: FakeRuntime, cri: ContainerRuntime, answer: bytes
    ) -> None:
        """Bytes that are no such message are an unknown, not a traceback."""
        fake.answers["ListContainers"] = answer
        assert reason(cri.observe()).endswith("failed at ListContainers: the answer is not CRI v1")

    def test_known_again_with_the_first_look_after_a_restart(
        self, fake: FakeRuntime, cri: ContainerRuntime
    ) -> None:
        """No back-off is sat out: the next look after the runtime's return sees it."""
        for _ in range(3):
            assert isinstance(cri.observe(), Known)
            fake.stop()
            for _ in range(5):
                reason(cri.observe())
            fake.start()
        assert isinstance(cri.observe(), Known)

    def test_a_successor_at_the_path_is_asked(
        self, fake: FakeRuntime, cri: ContainerRuntime, tmp_path: Path
    ) -> None:
        """When a new socket lies at the path, the old one's process is not listened to."""
        assert isinstance(cri.observe(), Known)
        fake.path.rename(tmp_path / "old.sock")
        successor = FakeRuntime(fake.path)
        lists(successor, SANDBOX)
        successor.start()
        seen = cri.observe()
        successor.close()
        assert isinstance(seen, Known)
        assert [sandbox.id for sandbox in seen.value.sandboxes] == ["s1"]

    def test_failing_looks_leave_nothing_behind(
        self, cri: ContainerRuntime, tmp_path: Path
    ) -> None:
        """A runtime that is away for hours costs no file descriptors and no threads."""
        with raw_peer(tmp_path / "cri.sock", hang_up):
            files, threads = _open_files(), _threads()
            for _ in range(50):
                cri.observe()
            until(lambda: _open_files() <= files + 1 and _threads() <= threads + 1)

    def test_timed_out_looks_leave_nothing_behind(self, fake: FakeRuntime) -> None:
        """Each connection that was given up for a slow answer is closed, not collected."""
        release = threading.Event()

        def hang_long(_: Any, __: Any) -> bytes:
            release.wait(10)
            return b""

        fake.answers["ListPodSandbox"] = hang_long
        adapter = ContainerRuntime(str(fake.path), deadline_seconds=0.02)
        before = _open_files()
        for _ in range(40):
            reason(adapter.observe())
        release.set()
        until(lambda: _open_files() <= before + 3)
        adapter.close()

    @pytest.mark.parametrize("watches", [False, True], ids=["looks", "watches events"])
    def test_at_rest_there_are_no_threads(self, fake: FakeRuntime, watches: bool) -> None:
        """After looks and watches gRPC is put down, with threads that would wake all the time.

        In a process of its own: here the fake runtime keeps gRPC up.
        """
        streaming = threading.Event()

        def events(context: grpc.ServicerContext) -> Iterator[pb.ContainerEventResponse]:
            streaming.set()
            while context.is_active():
                yield pb.ContainerEventResponse(container_id="c1")
                time.sleep(0.02)

        fake.events = events
        script = (
            "import os, sys, threading, time\n"
            "from checkpointer.node.cri import ContainerRuntime\n"
            "runtime, woken = ContainerRuntime(sys.argv[1]), threading.Event()\n"
            "print(type(runtime.observe()).__name__)\n"
            "if sys.argv[2] == 'True':\n"
            "    watch = runtime.watch(woken.set)\n"
            "    while not watch.supported:\n"
            "        time.sleep(0.01)\n"
            "    watch.close()\n"
            "end = time.monotonic() + 10\n"
            "while len(os.listdir('/proc/self/task')) > 1 and time.monotonic() < end:\n"
            "    time.sleep(0.01)\n"
            "print(len(os.listdir('/proc/self/task')))\n"
        )
        command = [sys.executable, "-c", script, str(fake.path), str(watches)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["Known", "1"]
        assert done.stderr == ""
        assert streaming.is_set() == watches

    def test_a_failed_look_does_not_cut_off_a_stop(
        self, fake: FakeRuntime, cri: ContainerRuntime
    ) -> None:
        """Calls of other threads survive that one call gave the connection up."""
        asked, release = threading.Event(), threading.Event()

        def stop_slowly(_: Any, context: grpc.ServicerContext) -> pb.StopContainerResponse:
            asked.set()
            release.wait(5)
            assert context.is_active()
            return pb.StopContainerResponse()

        def hang_once(_: Any, __: Any) -> bytes:
            release.wait(5)
            return b""

        fake.answers["StopContainer"] = stop_slowly
        fake.answers["ListContainers"] = hang_once
        errors: list[Exception] = []

        def stop() -> None:
            try:
                cri.stop_container("c1", 0)
            except RuntimeCallError as error:
                errors.append(error)

        thread = threading.Thread(target=stop)
        thread.start()
        assert asked.wait(5)
        assert "no answer within 0.5 s" in reason(cri.observe())
        release.set()
        thread.join(5)
        assert errors == []

    def test_closing_ends_a_call_of_another_thread(
        self, fake: FakeRuntime, cri: ContainerRuntime
    ) -> None:
        """A stop that hangs does not keep the agent from ending."""
        asked, release = threading.Event(), threading.Event()

        def hang_long(_: Any, __: Any) -> bytes:
            asked.set()
            release.wait(10)
            return b""

        fake.answers["StopPodSandbox"] = hang_long
        errors: list[Exception] = []

        def stop() -> None:
            try:
                cri.stop_sandbox("s1")
            except RuntimeCallError as error:
                errors.append(error)

        thread = threading.Thread(target=stop)
        thread.start()
        assert asked.wait(5)
        cri.close()
        thread.join(2)
        ended = not thread.is_alive()
        release.set()
        thread.join()
        assert ended
        assert [str(error).rsplit(": ", 2)[1] for error in errors] == ["CANCELLED"]


class TestVersion:
    """Who answers."""

    def test_tells_name_and_versions(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """The kubelet's version of the question is asked."""
        assert cri.version() == Known(RuntimeVersion("fake", "1.2.3", "v1"))
        assert fake.requests == [("Version", pb.VersionRequest(version="0.1.0"))]

    def test_a_runtime_without_cri_v1_is_told_as_such(
        self, fake: FakeRuntime, cri: ContainerRuntime
    ) -> None:
        """As with a containerd before 1.6, or one whose CRI plugin is disabled."""
        del fake.answers["Version"]
        assert "does not implement CRI runtime.v1.RuntimeService" in reason(cri.version())


class TestImages:
    """Whether an image is there."""

    def test_an_image_that_is_there(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """Id, names, digests, size and pinning are told."""
        fake.answers["ImageStatus"] = pb.ImageStatusResponse(
            image=pb.Image(id="sha256:1", repo_tags=["a:1"], repo_digests=["a@x"], size=9)
        )
        assert cri.has_image("a:1") == Known(ImageInfo("sha256:1", ("a:1",), ("a@x",), 9, False))
        assert fake.requests == [
            ("ImageStatus", pb.ImageStatusRequest(image=pb.ImageSpec(image="a:1")))
        ]

    @pytest.mark.parametrize(
        "answer", [pb.ImageStatusResponse(), refusing(grpc.StatusCode.NOT_FOUND)]
    )
    def test_an_image_that_is_not_there(
        self, fake: FakeRuntime, cri: ContainerRuntime, answer: Any
    ) -> None:
        """An empty answer and a refusal both mean that there is none."""
        fake.answers["ImageStatus"] = answer
        assert cri.has_image("a:1") == Known(None)

    def test_a_failure_is_not_an_absence(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """Any other error is unknown."""
        fake.answers["ImageStatus"] = refusing(grpc.StatusCode.INTERNAL)
        assert "failed at ImageStatus: INTERNAL: no" in reason(cri.has_image("a:1"))


class TestContainerStatus:
    """What only a status tells."""

    def test_tells_times_and_end(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """All fields arrive, times in nanoseconds."""
        fake.answers["ContainerStatus"] = pb.ContainerStatusResponse(
            status=pb.ContainerStatus(
                id="c1",
                metadata=pb.ContainerMetadata(name="server", attempt=3),
                state=pb.CONTAINER_EXITED,
                created_at=1,
                started_at=2,
                finished_at=3,
                exit_code=137,
                reason="Error",
                log_path="/var/log/pods/x/3.log",
                image_ref="sha256:abc",
            )
        )
        assert cri.container_status("c1") == Known(
            ContainerDetail(
                id="c1",
                name="server",
                attempt=3,
                state=ContainerState.EXITED,
                created_at=1,
                started_at=2,
                finished_at=3,
                exit_code=137,
                reason="Error",
                log_path="/var/log/pods/x/3.log",
                image_ref="sha256:abc",
            )
        )

    def test_no_such_container_is_unknown(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """There is no status of what is not there."""
        fake.answers["ContainerStatus"] = refusing(grpc.StatusCode.NOT_FOUND, "no c1")
        assert "NOT_FOUND: no c1" in reason(cri.container_status("c1"))

    def test_an_answer_without_status_is_unknown(
        self, fake: FakeRuntime, cri: ContainerRuntime
    ) -> None:
        """Nothing is made up from an empty answer."""
        fake.answers["ContainerStatus"] = pb.ContainerStatusResponse()
        assert "without a container status" in reason(cri.container_status("c1"))


class TestStop:
    """Stopping what it is told to stop."""

    def test_the_grace_is_the_callers(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """The runtime gets the grace as it was given."""
        fake.answers["StopContainer"] = pb.StopContainerResponse()
        fake.answers["StopPodSandbox"] = pb.StopPodSandboxResponse()
        fake.answers["RemoveContainer"] = pb.RemoveContainerResponse()
        cri.stop_container("c1", 0)
        cri.stop_container("c1", 30)
        cri.stop_sandbox("s1")
        cri.remove_container("c1")
        assert fake.requests == [
            ("StopContainer", pb.StopContainerRequest(container_id="c1", timeout=0)),
            ("StopContainer", pb.StopContainerRequest(container_id="c1", timeout=30)),
            ("StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id="s1")),
            ("RemoveContainer", pb.RemoveContainerRequest(container_id="c1")),
        ]

    def test_the_deadline_leaves_time_for_the_grace(
        self, fake: FakeRuntime, cri: ContainerRuntime
    ) -> None:
        """The runtime is given the grace and ten seconds more."""
        left: list[float] = []

        def note(_: Any, context: grpc.ServicerContext) -> pb.StopContainerResponse:
            left.append(context.time_remaining())
            return pb.StopContainerResponse()

        fake.answers["StopContainer"] = note
        cri.stop_container("c1", 30)
        assert left[0] == pytest.approx(40, abs=1)

    def test_what_is_gone_is_stopped(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """A runtime that does not know the container any more is no failure."""
        fake.answers["StopContainer"] = refusing(grpc.StatusCode.NOT_FOUND)
        fake.answers["StopPodSandbox"] = refusing(grpc.StatusCode.NOT_FOUND)
        cri.stop_container("c1", 0)
        cri.stop_sandbox("s1")

    def test_a_refusal_is_raised(self, fake: FakeRuntime, cri: ContainerRuntime) -> None:
        """The caller must know that it may still run."""
        fake.answers["StopContainer"] = refusing(grpc.StatusCode.UNKNOWN, "busy")
        with pytest.raises(RuntimeCallError, match="failed at StopContainer: UNKNOWN: busy"):
            cri.stop_container("c1", 0)


class TestEndpoint:
    """Where the runtime listens."""

    @pytest.mark.parametrize("form", ["unix://{}", "unix:{}", "{}"])
    def test_every_usual_form(self, fake: FakeRuntime, form: str) -> None:
        """With a scheme, in gRPC's short form, and as a plain path."""
        adapter = ContainerRuntime(form.format(fake.path))
        assert isinstance(adapter.observe(), Known)
        adapter.close()

    def test_odd_characters_in_the_path(self, tmp_path: Path) -> None:
        """A path is a path, not a URL."""
        runtime = FakeRuntime(tmp_path / "plain.sock")
        runtime.start()
        odd = tmp_path / "a b%20?#[é].sock"
        runtime.path.rename(odd)
        adapter = ContainerRuntime(str(odd))
        seen = adapter.observe()
        adapter.close()
        runtime.close()
        assert isinstance(seen, Known)

    @pytest.mark.parametrize(
        "endpoint", ["", "tcp://127.0.0.1:1", "run/x.sock", "unix://", "/" + "x" * 108]
    )
    def test_anything_else_is_refused(self, endpoint: str) -> None:
        """The error names what was given."""
        with pytest.raises(ValueError, match="runtime endpoint '"):
            ContainerRuntime(endpoint)

    def test_nothing_is_asked_before_the_first_look(self, cri: ContainerRuntime) -> None:
        """Making an adapter needs no runtime, nor does closing it."""

    def test_the_first_socket_that_exists_is_found(self, fake: FakeRuntime, tmp_path: Path) -> None:
        """Files that are no sockets and paths that are not there are passed over."""
        (tmp_path / "file").touch()
        known = (f"unix://{tmp_path}/none", f"unix://{tmp_path}/file", f"unix://{fake.path}")
        assert find_endpoint(known) == known[2]
        assert find_endpoint(known[:2]) is None

    def test_plain_containerd_is_the_last_default(self) -> None:
        """A node with another runtime often has a containerd without CRI beside it."""
        assert DEFAULT_ENDPOINTS[-1] == "unix:///run/containerd/containerd.sock"


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))
