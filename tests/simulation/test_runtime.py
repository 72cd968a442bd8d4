"""The simulated container runtime and its CRI socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from checkpointer.core.runtime import ContainerState
from checkpointer.node import cri_v1_pb2 as cri
from checkpointer.simulation.cri_server import CriServer
from checkpointer.simulation.programs import BROKEN, Program, Programs, host_path
from checkpointer.simulation.runtime import Runtime
from checkpointer.simulation.runtime_records import ContainerConfig, ContainerRecord, SandboxConfig
from checkpointer.simulation.waiting import wait_until

Call = Callable[..., Any]


def run(runtime: Runtime, image: str, *, on_host: bool = True, **config: Any) -> ContainerRecord:
    """Run a container of the image in a pod of its own and return what became of it."""
    sandbox = runtime.run_sandbox(
        SandboxConfig("pod", "kube-system", f"uid-{image}", on_host_network=on_host)
    )
    container = runtime.create_container(sandbox.id, ContainerConfig("main", image, **config))
    runtime.start_container(container.id)
    return runtime.container(container.id)


@pytest.fixture
def server(runtime: Runtime, folder: Path) -> Iterator[CriServer]:
    opened = CriServer(runtime, folder / "cri.sock")
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def call(server: CriServer) -> Iterator[Call]:
    """Call a unary method of the runtime service by name."""
    options = (("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(server.endpoint, options) as channel:

        def invoke(
            name: str,
            request: Any,
            answer: Any,
            service: str = "RuntimeService",
            seconds: float = 3,
        ) -> Any:
            method = channel.unary_unary(
                f"/runtime.v1.{service}/{name}",
                lambda message: message.SerializeToString(),
                answer.FromString,
            )
            return method(request, timeout=seconds)

        yield invoke


def test_second_container_does_not_get_the_port(runtime: Runtime, programs: Programs) -> None:
    """Who comes second on the host's network ends with code 1 when it gets to its ports."""
    programs.by_image["server"] = Program(ports=(6443,))
    first, second = run(runtime, "server"), run(runtime, "server")
    assert (first.state, second.state) == (ContainerState.RUNNING, ContainerState.RUNNING)
    assert not runtime.is_ready(second)
    wait_until(lambda: not runtime.container(second.id).is_running, 5, "its end")
    assert runtime.container(second.id).exit_code == 1
    third = run(runtime, "server")
    runtime.kill(first.id)
    wait_until(lambda: runtime.is_ready(runtime.container(third.id)), 5, "the port")


def test_ports_can_be_shared_or_in_networks_of_their_own(
    runtime: Runtime, programs: Programs
) -> None:
    """Both sharing, or a pod network each: no conflict."""
    programs.by_image["server"] = Program(ports=(6443,))
    command = ("server", "--permit-port-sharing=true")
    assert all(run(runtime, "server", command=command).is_running for _ in range(2))
    assert run(runtime, "server", on_host=False).is_running


def test_program_needs_its_files(runtime: Runtime, programs: Programs, folder: Path) -> None:
    """Without what it mounts a program ends with code 1; with it, it runs."""
    programs.by_image["server"] = Program(needs=("/etc/tls/key",))
    assert run(runtime, "server").exit_code == 1
    mounts = {"/etc/tls": str(folder)}
    assert run(runtime, "server", mounts=mounts).exit_code == 1
    (folder / "key").write_text("secret")
    assert run(runtime, "server", mounts=mounts).is_running


def test_broken_image_ends_at_once(runtime: Runtime, programs: Programs) -> None:
    """A container of a broken image has ended when its start returns."""
    programs.by_image["docker.io/thing:broken"] = BROKEN
    assert run(runtime, "docker.io/thing:broken").exit_code == 2
    assert run(runtime, "docker.io/thing:good").is_running


def test_longest_mount_wins() -> None:
    """A path lies where the deepest mount above it says."""
    mounts = {"/etc": "/a", "/etc/tls": "/b"}
    assert host_path(mounts, "/etc/tls/key") == "/b/key"
    assert host_path(mounts, "/etc/tlsx") == "/a/tlsx"
    assert host_path(mounts, "/var") is None


def test_power_cut_leaves_records(runtime: Runtime) -> None:
    """After a power cut the runtime still lists all, dead."""
    container = run(runtime, "any")
    runtime.lose_power()
    dead = runtime.container(container.id)
    assert (dead.state, dead.exit_code, dead.reason) == (ContainerState.EXITED, 255, "Unknown")
    assert not runtime.sandboxes()[0].is_ready


def test_version_is_cri_v1(call: Call) -> None:
    """The kubelet insists on 0.1.0."""
    assert call("Version", cri.VersionRequest(), cri.VersionResponse).version == "0.1.0"
    status = call("Status", cri.StatusRequest(), cri.StatusResponse).status
    assert all(condition.status for condition in status.conditions)


def test_lists_obey_their_filters(runtime: Runtime, call: Call) -> None:
    """State (an empty but present message is READY), id and labels all select."""
    container = run(runtime, "any")
    running = cri.ContainerFilter(state=cri.ContainerStateValue(state=cri.CONTAINER_RUNNING))
    request = cri.ListContainersRequest(filter=running)
    listed = call("ListContainers", request, cri.ListContainersResponse).containers
    assert [one.id for one in listed] == [container.id]
    ready = cri.PodSandboxFilter(state=cri.PodSandboxStateValue())
    request = cri.ListPodSandboxRequest(filter=ready)
    listed = call("ListPodSandbox", request, cri.ListPodSandboxResponse).items
    assert [one.labels["io.kubernetes.pod.uid"] for one in listed] == ["uid-any"]
    runtime.lose_power()
    assert not call("ListPodSandbox", request, cri.ListPodSandboxResponse).items
    other = cri.PodSandboxFilter(label_selector={"io.kubernetes.pod.name": "other"})
    request = cri.ListPodSandboxRequest(filter=other)
    assert not call("ListPodSandbox", request, cri.ListPodSandboxResponse).items


def test_stop_container_waits_for_its_end(runtime: Runtime, programs: Programs, call: Call) -> None:
    """No grace kills at once; with grace the program ends by itself."""
    programs.by_image["polite"] = Program(stop_seconds=0.05)
    killed, ended = run(runtime, "polite"), run(runtime, "polite")
    stop = cri.StopContainerRequest(container_id=killed.id, timeout=0)
    call("StopContainer", stop, cri.StopContainerResponse)
    stop = cri.StopContainerRequest(container_id=ended.id, timeout=2)
    call("StopContainer", stop, cri.StopContainerResponse)
    codes = []
    for one in (killed, ended):
        request = cri.ContainerStatusRequest(container_id=one.id)
        status = call("ContainerStatus", request, cri.ContainerStatusResponse).status
        assert status.finished_at >= status.started_at > 10**18
        codes.append(status.exit_code)
    assert codes == [137, 0]


def test_unknown_container_is_not_found(call: Call) -> None:
    """The runtime says NOT_FOUND, as containerd does."""
    request = cri.StopContainerRequest(container_id="none")
    with pytest.raises(grpc.RpcError) as caught:
        call("StopContainer", request, cri.StopContainerResponse)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_absent_image_has_no_status(runtime: Runtime, call: Call) -> None:
    """ImageStatus answers without an image for one that is not there."""
    runtime.images.add("here")
    for name, is_there in (("here", True), ("gone", False)):
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=name))
        answer = call("ImageStatus", request, cri.ImageStatusResponse, "ImageService")
        assert answer.HasField("image") == is_there


def test_events_tell_what_happens_until_the_runtime_goes(
    runtime: Runtime, server: CriServer
) -> None:
    """Sandbox and container, in order; closing the runtime ends the stream."""
    with grpc.insecure_channel(server.endpoint) as channel:
        method = channel.unary_stream(
            "/runtime.v1.RuntimeService/GetContainerEvents",
            lambda message: message.SerializeToString(),
            cri.ContainerEventResponse.FromString,
        )
        stream = method(cri.GetEventsRequest(), timeout=10)
        wait_until(lambda: server.subscribers == 1, 3, "the subscription")
        container = run(runtime, "any")
        runtime.kill(container.id)
        seen = [next(stream) for _ in range(5)]
        created, started = cri.CONTAINER_CREATED_EVENT, cri.CONTAINER_STARTED_EVENT
        assert [(one.container_id, one.container_event_type) for one in seen] == [
            (container.sandbox.id, created),
            (container.sandbox.id, started),
            (container.id, created),
            (container.id, started),
            (container.id, cri.CONTAINER_STOPPED_EVENT),
        ]
        server.close()
        with pytest.raises((grpc.RpcError, StopIteration)):
            next(stream)


def test_events_can_be_missing(server: CriServer) -> None:
    """A runtime without GetContainerEvents says Unimplemented."""
    server.has_events = False
    with grpc.insecure_channel(server.endpoint) as channel:
        method = channel.unary_stream(
            "/runtime.v1.RuntimeService/GetContainerEvents",
            lambda message: message.SerializeToString(),
            cri.ContainerEventResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as caught:
            next(method(cri.GetEventsRequest(), timeout=3))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_containers_outlive_the_runtimes_daemon(
    runtime: Runtime, server: CriServer, call: Call
) -> None:
    """While the socket is away calls fail; afterwards the same containers are listed."""
    container = run(runtime, "any")
    server.close()
    request = cri.ListContainersRequest()
    with pytest.raises(grpc.RpcError) as caught:
        call("ListContainers", request, cri.ListContainersResponse)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    server.open()
    with grpc.insecure_channel(server.endpoint) as channel:
        method = channel.unary_unary(
            "/runtime.v1.RuntimeService/ListContainers",
            lambda message: message.SerializeToString(),
            cri.ListContainersResponse.FromString,
        )
        listed = method(request, timeout=3, wait_for_ready=True).containers
    assert [one.id for one in listed] == [container.id]


def test_hanging_runtime_answers_nobody(server: CriServer, call: Call) -> None:
    """A stuck runtime keeps its clients until their deadline."""
    server.hangs = True
    with pytest.raises(grpc.RpcError) as caught:
        call("Version", cri.VersionRequest(), cri.VersionResponse, seconds=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
