"""Whatever API and runtime answer, a cycle goes to its end and touches only what is ours."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Known
from checkpointer.errors import ApiError
from checkpointer.node import cri_v1_pb2 as cri
from checkpointer.node.api import _document
from tests.fuzz.hostile import FUZZED, JSON, document_or_bytes, mutated, spoiled
from tests.fuzz.node import OBJECTS, Answers, Api, FuzzedAgent, FuzzedNode, check, pod, pod_list

MakeNode = Callable[[], FuzzedNode]


def run(
    node: FuzzedNode, api: Api, foreseen: Callable[[], None], runtime: Answers | None = None
) -> FuzzedAgent:
    """Let an agent follow the pods, snapshot, lose contact, activate, regain it, and tell."""
    before = node.tree()
    agent = FuzzedAgent(node, api, runtime or Answers())

    def cycles() -> None:
        agent.turn(ContactState.REACHABLE, 2)
        agent.turn(ContactState.DENIED)
        agent.turn(ContactState.LOST, 2)
        agent.turn(ContactState.REACHABLE)

    try:
        agent.follow(cycles)
        check(node, before, agent.told())
    finally:
        agent.end()
    foreseen()
    return agent


def stored(node: FuzzedNode, agent: FuzzedAgent) -> set[str]:
    found = agent._store.read()
    assert isinstance(found, Known)
    return {c.workload.name for c in found.value.checkpoints if c.revisions}


def event(kind: str, one: Any) -> dict[str, Any]:
    return {"type": kind, "object": one}


def test_what_is_right_is_stored_and_activated(
    fuzzed_node: MakeNode, foreseen: Callable[[], None]
) -> None:
    """The ground that the targets stand on: unspoiled answers go the whole way."""
    node = fuzzed_node()
    agent = run(node, Api(pod_list(pod()), [], OBJECTS), foreseen)
    assert stored(node, agent) == {"web"}
    actions = [type(action).__name__ for plan in agent.plans for action in plan.actions]
    assert "Snapshot" in actions
    assert "Activate" in actions


@given(listed=mutated(pod_list(pod(), pod("dns", "uid-dns"))))
@FUZZED
def test_lists_of_pods(fuzzed_node: MakeNode, foreseen: Callable[[], None], listed: Any) -> None:
    """A list is taken for what it is, or is no answer."""
    run(fuzzed_node(), Api(listed, [], OBJECTS), foreseen)


@given(
    kind=st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "", "x"]),
    one=mutated(pod("dns", "uid-dns")),
    spoil=st.booleans(),
    data=st.data(),
)
@FUZZED
def test_watch_events(
    fuzzed_node: MakeNode,
    foreseen: Callable[[], None],
    kind: str,
    one: Any,
    spoil: bool,
    data: st.DataObject,
) -> None:
    """An event is taken over, or ends the watch."""
    line = json.dumps(event(kind, one))
    if spoil:
        line = data.draw(spoiled(line.encode())).decode(errors="replace")
    run(fuzzed_node(), Api(pod_list(pod()), [line], OBJECTS), foreseen)


@given(path=st.sampled_from(sorted(OBJECTS)), data=st.data())
@FUZZED
def test_objects_that_are_asked_for(
    fuzzed_node: MakeNode, foreseen: Callable[[], None], path: str, data: st.DataObject
) -> None:
    """Secrets, config maps, claims, volumes, nodes, endpoints, services, namespaces."""
    objects = copy.deepcopy(OBJECTS)
    objects[path] = data.draw(mutated(OBJECTS[path]) | JSON)
    run(fuzzed_node(), Api(pod_list(pod()), [], objects), foreseen)


def listed_by_runtime() -> tuple[bytes, bytes]:
    """Return what a runtime lists of the pod: its sandbox and its container."""
    labels = {
        "io.kubernetes.pod.name": "web-abcde",
        "io.kubernetes.pod.namespace": "kube-system",
        "io.kubernetes.pod.uid": "uid-web",
        "io.kubernetes.container.name": "main",
        "k8s-app": "web",
    }
    annotations = {"kubernetes.io/config.source": "api"}
    sandbox = cri.PodSandbox(
        id="s1",
        metadata=cri.PodSandboxMetadata(name="web-abcde", uid="uid-web", namespace="kube-system"),
        state=cri.SANDBOX_READY,
        created_at=1,
        labels=labels,
        annotations=annotations,
    )
    container = cri.Container(
        id="c1",
        pod_sandbox_id="s1",
        metadata=cri.ContainerMetadata(name="main", attempt=1),
        image=cri.ImageSpec(image="web:1"),
        state=cri.CONTAINER_EXITED,
        created_at=2,
        labels=labels,
        annotations={"io.kubernetes.container.restartCount": "1"},
    )
    return (
        cri.ListPodSandboxResponse(items=[sandbox]).SerializeToString(),
        cri.ListContainersResponse(containers=[container]).SerializeToString(),
    )


SANDBOXES, CONTAINERS = listed_by_runtime()


@given(
    sandboxes=st.just(SANDBOXES) | spoiled(SANDBOXES),
    containers=st.just(CONTAINERS) | spoiled(CONTAINERS),
)
@FUZZED
def test_answers_of_the_runtime(
    fuzzed_node: MakeNode, foreseen: Callable[[], None], sandboxes: bytes, containers: bytes
) -> None:
    """Bytes that are no CRI message are no answer; those that are one may say anything."""
    runtime = Answers(sandboxes, containers)
    run(fuzzed_node(), Api(pod_list(pod()), [], OBJECTS), foreseen, runtime)


@given(content=document_or_bytes(json.dumps(pod_list(pod())).encode()))
@FUZZED
def test_bytes_of_an_answer(content: bytes) -> None:
    """What is not a JSON object is an error that holds nothing of it."""

    class Response:
        data = content

        def release_conn(self) -> None:
            """Nothing is held."""

    said = ""
    try:
        found: Any = _document(Response(), "GET /x")  # type: ignore[arg-type]
    except ApiError as error:
        found, said = {}, str(error)
    assert isinstance(found, dict)
    assert said in ("", "GET /x: the answer is not JSON", "GET /x: the answer is not an object")
