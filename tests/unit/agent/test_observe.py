"""Observing: what the API's pods are to a decision, and that no source's silence is a fact."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.contact import Contact, ContactState, initial_contact
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.moment import Moment
from checkpointer.core.observation import Itself, Pod
from checkpointer.core.runtime import Runtime
from checkpointer.core.workload import Workload
from checkpointer.manifest.render import mark_of, render
from checkpointer.manifest.select import Selection
from checkpointer.node.installation import Installation
from checkpointer.node.kubelet import Kubelet
from checkpointer.node.manifests import ManifestFolder
from checkpointer.observe import Observer, PodReader, PodsHere
from checkpointer.simulation import atomic_writer
from checkpointer.store.revisions import Store

CHECKPOINT = {"checkpointer.alpha.coreos.com/checkpoint": "true"}
READY_AT = "2026-01-01T00:00:00Z"
READY_SECONDS = 1767225600.0


class FakeRuntime:
    """Answers what it is told to, and counts how often it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = 0

    def observe(self) -> Any:
        self.asked += 1
        return self.answer


def pod(name: str = "a", **changes: Any) -> dict[str, Any]:
    """Return a selected, Ready pod; `metadata` and `status` are merged in."""
    metadata = {
        "name": name,
        "namespace": "kube-system",
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "annotations": dict(CHECKPOINT),
        **changes.get("metadata", {}),
    }
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": READY_AT}],
        "containerStatuses": [{"containerID": "containerd://c1"}],
        **changes.get("status", {}),
    }
    spec = {"nodeName": "node-1", "containers": [{"name": "x", "image": "y"}]}
    return {"metadata": metadata, "spec": spec, "status": status}


def at(monotonic: float = 100.0, wall: float = READY_SECONDS + 7.0) -> Moment:
    return Moment("boot", monotonic, wall)


@pytest.fixture
def reader(folder: Path) -> PodReader:
    return PodReader(Selection(), Kubelet(folder / "kubelet"))


def read_one(reader: PodReader, raw: dict[str, Any], now: Moment | None = None) -> Pod:
    (found,) = reader.read((raw,), now or at()).pods
    return found


def test_pod_is_what_the_api_says(reader: PodReader) -> None:
    """A selected pod that is Ready is a parent, since when it says so."""
    found = read_one(reader, pod())
    assert found.workload == Workload("kube-system", "Pod", "a")
    assert (found.uid, found.name) == ("uid-a", "a")
    assert (found.is_parent, found.ready) == (True, True)
    assert (found.terminating, found.finished) == (False, False)
    assert found.ready_seconds == 7.0
    assert found.container_ids == {"c1"}
    assert found.signature != ""


@pytest.mark.parametrize(
    "metadata",
    [
        {"annotations": {**CHECKPOINT, "kubernetes.io/config.mirror": "x"}},
        {"ownerReferences": [{"kind": "Node", "name": "node-1"}]},
    ],
)
def test_static_pod_is_none(reader: PodReader, metadata: dict[str, Any]) -> None:
    """A pod that the API did not bind to this node is no parent and no sign of one."""
    assert reader.read((pod(metadata=metadata),), at()) == PodsHere(())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"metadata": {"annotations": {}}}, {"is_parent": False}),
        ({"metadata": {"annotations": None}}, {"is_parent": False}),
        ({"metadata": {"namespace": "default"}}, {"is_parent": False}),
        (
            {"metadata": {"deletionTimestamp": READY_AT}},
            {"is_parent": True, "terminating": True},
        ),
        ({"status": {"phase": "Succeeded"}}, {"finished": True}),
        ({"status": {"phase": "Failed"}}, {"finished": True}),
        ({"status": {"conditions": []}}, {"ready": False, "ready_seconds": 0.0}),
        ({"status": {"conditions": None}}, {"ready": False, "ready_seconds": 0.0}),
        (
            {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
            {"ready": False, "ready_seconds": 0.0},
        ),
        (
            {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
            {"ready": True, "ready_seconds": 0.0},
        ),
        (
            {
                "status": {
                    "conditions": [
                        {"type": "Ready", "status": "True", "lastTransitionTime": "yesterday"}
                    ]
                }
            },
            {"ready": True, "ready_seconds": 0.0},
        ),
        ({"status": {"containerStatuses": None}}, {"container_ids": frozenset()}),
        ({"status": {"containerStatuses": [{}]}}, {"container_ids": frozenset()}),
        (
            {"status": {"containerStatuses": [{"containerID": "cri-o://c1"}, {"containerID": ""}]}},
            {"container_ids": frozenset()},
        ),
    ],
)
def test_what_is_missing_is_the_careful_answer(
    reader: PodReader, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    """What a status does not say is never taken for good news."""
    found = read_one(reader, pod(**changes))
    assert {key: getattr(found, key) for key in expected} == expected


MALFORMED = [
    ({"spec": None}, "spec: expected an object, found none"),
    ({"spec": "x"}, "spec: expected an object, found a string"),
    ({"status": []}, "status: expected an object, found a list"),
    ({"status": {"phase": 1}}, "status.phase: expected string, found a number"),
    ({"status": {"conditions": ["x"]}}, "status.conditions[0]: expected an object, found a string"),
    ({"status": {"containerStatuses": {}}}, "status.containerStatuses: expected a list"),
    ({"metadata": {"annotations": ["x"]}}, "metadata.annotations: expected map of strings"),
    ({"metadata": {"annotations": "kubernetes.io/config.mirror"}}, "metadata.annotations: "),
    ({"metadata": {"annotations": {**CHECKPOINT, "x": 5}}}, "metadata.annotations: "),
    ({"metadata": {"deletionTimestamp": 5}}, "metadata.deletionTimestamp: expected string"),
    ({"metadata": {"uid": 5}}, "metadata.uid: expected string, found a number"),
]


def malformed(changes: dict[str, Any]) -> dict[str, Any]:
    """Return a pod with some of it replaced."""
    raw = pod("odd")
    for key, change in changes.items():
        is_part = key == "metadata" or (key == "status" and isinstance(change, dict))
        raw[key] = {**raw[key], **change} if is_part else change
    return raw


@pytest.mark.parametrize(("changes", "fault"), MALFORMED)
def test_pod_that_cannot_be_read_is_there(
    reader: PodReader, changes: dict[str, Any], fault: str
) -> None:
    """It is told by name, hides no other pod, and is no absence of its workload."""
    found = reader.read((malformed(changes), pod("b")), at())
    odd, other = found.pods
    assert other == read_one(reader, pod("b"))
    assert (odd.workload, odd.name) == (Workload("kube-system", "Pod", "odd"), "odd")
    assert (odd.is_parent, odd.ready, odd.terminating, odd.finished) == (True, False, False, False)
    assert odd.fault.startswith(f"it cannot be read: {fault}")
    (problem,) = found.problems
    assert problem.startswith(f"pod kube-system/odd cannot be read ({fault}")
    assert not found.has_untold


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"metadata": {"name": None, "namespace": 5, "uid": None}}, "without a name"),
        ({"metadata": {"name": ""}}, "with UID uid-odd"),
        ({"metadata": {"labels": {"x": 5}}}, "kube-system/odd"),
        ({"metadata": {"ownerReferences": {"kind": "DaemonSet"}}}, "kube-system/odd"),
        (
            {"metadata": {"ownerReferences": [{"controller": True, "kind": "DaemonSet"}]}},
            "kube-system/odd",
        ),
    ],
)
def test_pod_that_is_nobodys_to_tell(
    reader: PodReader, changes: dict[str, Any], shown: str
) -> None:
    """Of which not even the workload can be told: then the list tells of no absence."""
    found = reader.read((malformed(changes), pod("b")), at())
    assert [one.name for one in found.pods] == ["b"]
    assert found.has_untold
    (problem,) = found.problems
    assert problem.startswith(f"pod {shown} cannot be read")


def test_entry_without_anything_is_untold(reader: PodReader) -> None:
    """Nothing at all is known of it, but that there is something."""
    found = reader.read(({}, {}), at())
    assert (found.pods, found.has_untold, len(found.problems)) == ((), True, 2)


def test_pod_that_could_be_read_before_keeps_its_workload(reader: PodReader) -> None:
    """Its UID tells whose it is, and it is read again as soon as it can be."""
    read_one(reader, pod("odd"))
    broken = malformed({"metadata": {"labels": ["x"], "resourceVersion": "2"}})
    for _ in range(2):
        found = read_one(reader, broken)
        assert (found.workload.name, found.ready, found.fault != "") == ("odd", False, True)
    again = read_one(reader, pod("odd", metadata={"resourceVersion": "3"}))
    assert (again.ready, again.fault) == (True, "")


def test_pod_without_a_status_is_not_ready(reader: PodReader) -> None:
    """A pod that the kubelet has not seen yet has none."""
    raw = pod()
    raw["status"] = None
    assert read_one(reader, raw).ready is False


def test_clock_that_was_set_back_makes_no_negative_time(reader: PodReader) -> None:
    """Ready since the future is Ready since now."""
    assert read_one(reader, pod(), at(wall=READY_SECONDS - 9.0)).ready_seconds == 0.0


@pytest.mark.parametrize(
    ("created", "started", "expected"),
    [
        (None, READY_AT, READY_SECONDS),
        ("2025-12-31T00:00:00Z", READY_AT, READY_SECONDS),
        (READY_AT, None, READY_SECONDS),
        (None, None, None),
        (None, "yesterday", None),
    ],
)
def test_since_when_a_pod_is_here(
    reader: PodReader, created: str | None, started: str | None, expected: float | None
) -> None:
    """Since the kubelet has it; one that it has not seen yet since the API has it."""
    raw = pod(metadata={"creationTimestamp": created}, status={"startTime": started})
    assert read_one(reader, raw).started_at == expected


def test_signature_changes_with_the_content_alone(reader: PodReader) -> None:
    """A new status is no new content; a new spec, label or annotation is."""
    first = read_one(reader, pod()).signature
    again = pod(metadata={"resourceVersion": "2"}, status={"phase": "Pending"})
    assert read_one(reader, again).signature == first
    for number, change in enumerate(
        ({"labels": {"a": "b"}}, {"annotations": {**CHECKPOINT, "a": "b"}}), 3
    ):
        raw = pod(metadata={"resourceVersion": str(number), **change})
        assert read_one(reader, raw).signature != first
    raw = pod(metadata={"resourceVersion": "9"})
    raw["spec"]["containers"][0]["image"] = "z"
    assert read_one(reader, raw).signature != first


def test_signature_changes_with_the_rendered_files(reader: PodReader, folder: Path) -> None:
    """A rotated secret is seen within five seconds, without a word from the API."""
    volume = folder / "kubelet/pods/uid-a/volumes/kubernetes.io~secret/v"
    volume.mkdir(parents=True)
    atomic_writer.write(volume, {"key": atomic_writer.File(b"old")})
    first = read_one(reader, pod(), at(100.0)).signature
    atomic_writer.write(volume, {"key": atomic_writer.File(b"new")})
    assert read_one(reader, pod(), at(104.9)).signature == first
    assert read_one(reader, pod(), at(105.0)).signature != first


def observer(folder: Path, runtime: Any) -> Observer:
    found = Observer(
        PodReader(Selection(), Kubelet(folder / "kubelet")),
        Kubelet(folder / "kubelet"),
        ManifestFolder(folder / "manifests", mark_of),
        Store(folder / "store"),
    )
    found.runtime = runtime
    return found


GOOD = Contact(ContactState.REACHABLE, 0.0, "HTTP 200")


@pytest.fixture
def manifests(folder: Path) -> Path:
    (folder / "manifests").mkdir()
    return folder / "manifests"


def test_runtime_is_asked_only_when_it_matters(folder: Path, manifests: Path) -> None:
    """With contact and nothing active nobody asks it; that is Unknown and no problem."""
    runtime = FakeRuntime(Known(Runtime()))
    watcher = observer(folder, runtime)
    seen = watcher.observe(GOOD, Known(()), at(), False)
    assert isinstance(seen.runtime, Unknown)
    assert (runtime.asked, watcher.problems) == (0, ())
    assert watcher.observe(GOOD, Known(()), at(), True).runtime == Known(Runtime())
    manifests.rmdir()
    watcher.observe(GOOD, Known(()), at(), False)
    assert runtime.asked == 2
    watcher.observe(initial_contact(0.0), Known(()), at(), False)
    assert runtime.asked == 3


def test_silence_is_told_as_silence(folder: Path) -> None:
    """Each source that cannot tell is Unknown in the observation, and a problem by name."""
    (folder / "store").mkdir(mode=0o777)
    (folder / "store").chmod(0o777)
    watcher = observer(folder, FakeRuntime(Unknown("the runtime is away")))
    seen = watcher.observe(initial_contact(0.0), Unknown("no list"), at(), True)
    assert seen.pods == Unknown("no list")
    for fact in (seen.runtime, seen.manifests, seen.checkpoints, seen.kubelet):
        assert isinstance(fact, Unknown)
    assert [problem.partition(" ")[0] for problem in sorted(watcher.problems)] == [
        f"{folder}/manifests",
        f"{folder}/store",
        "the",
    ]


def test_malformed_pods_reach_the_decision(folder: Path, manifests: Path) -> None:
    """As problems of the look, once each, and as the reason why nothing is absent."""
    watcher = observer(folder, FakeRuntime(Known(Runtime())))
    seen = watcher.observe(GOOD, Known((pod(), {})), at(), False)
    assert isinstance(seen.pods, Known)
    assert [one.name for one in seen.pods.value] == ["a"]
    assert seen.has_untold_pods
    assert [p for p in watcher.problems if p.startswith("pod without a name cannot be read")]
    seen = watcher.observe(GOOD, Known((pod(),)), at(), False)
    assert (seen.has_untold_pods, watcher.problems) == (False, ())


def test_missing_socket_is_told(folder: Path, manifests: Path) -> None:
    """A node without a runtime that we know is told so."""
    watcher = observer(folder, None)
    seen = watcher.observe(initial_contact(0.0), Known(()), at(), False)
    assert seen.runtime == Unknown("no container runtime socket was found")


def test_foreign_files_and_damage_are_problems(folder: Path, manifests: Path, kit: Any) -> None:
    """What is skipped is told: a file with our prefix, a revision that was changed."""
    (manifests / "pod-checkpointer-x.json").write_text("{}")
    (manifests / "other.yaml").write_text("{}")
    store = Store(folder / "store")
    workload = Workload("kube-system", "DaemonSet", "a")
    store.add(kit.new_revision(workload))
    path = next((folder / "store").rglob("revisions/1/manifest*"))
    path.write_bytes(path.read_bytes() + b" ")
    os.utime(path, (1, 1))
    watcher = observer(folder, None)
    seen = watcher.observe(initial_contact(0.0), Known(()), at(), False)
    assert seen.manifests == Known(())
    assert isinstance(seen.checkpoints, Known)
    assert seen.checkpoints.value[0].revisions == ()
    told = sorted(watcher.problems)
    assert len([p for p in told if "pod-checkpointer-x.json is left alone" in p]) == 1
    assert len([p for p in told if p.startswith(f"{workload}: revision 1 is skipped")]) == 1
    assert not [p for p in told if "other.yaml" in p]


def own_pod(**annotations: str) -> dict[str, Any]:
    owner = {"kind": "DaemonSet", "name": "agent", "uid": "d", "controller": True}
    return pod("agent-x7k2p", metadata={"annotations": annotations, "ownerReferences": [owner]})


def test_the_agents_own_pod_need_not_ask(reader: PodReader) -> None:
    """It is a parent as soon as it is recognised, unless its annotation says otherwise."""
    assert not read_one(reader, own_pod()).is_parent
    reader.recognise(Workload("kube-system", "DaemonSet", "agent"))
    assert read_one(reader, own_pod()).is_parent
    no = {"checkpointer.alpha.coreos.com/checkpoint": "false"}
    changed = own_pod(**no)
    changed["metadata"]["resourceVersion"] = "2"
    assert not read_one(reader, changed).is_parent
    abroad = Workload("edge", "DaemonSet", "agent")
    reader.recognise(abroad)
    elsewhere = own_pod()
    elsewhere["metadata"]["namespace"] = "edge"
    assert not read_one(reader, elsewhere).is_parent, "the node's configuration does not allow it"


def test_the_agent_is_recognised_and_its_own_copy_needs_no_runtime(
    folder: Path, manifests: Path
) -> None:
    """Once it knows itself, a copy of its own that is active is no reason to ask the runtime."""
    runtime = FakeRuntime(Known(Runtime()))
    watcher = observer(folder, runtime)
    asked: list[str] = []

    def find(path: str) -> Known[Any]:
        asked.append(path)
        return Known(None)

    watcher._installation = Installation("uid-agent-x7k2p", folder / "none", find)
    lost, here = initial_contact(0.0), Known((own_pod(),))
    assert watcher.observe(lost, here, at(), False).itself == Itself(OWN, "uid-agent-x7k2p")
    copy = render({"spec": {}}, OWN, "node-1", "d", 1, 1)
    (manifests / copy.file_name).write_bytes(copy.content)
    seen = watcher.observe(lost, here, at(), False)
    assert isinstance(seen.manifests, Known)
    assert [m.workload for m in seen.manifests.value] == [OWN]
    assert asked == [], "the API is not asked before it answers"
    runtime.asked = 0
    reachable = replace(lost, state=ContactState.REACHABLE)
    seen = watcher.observe(reachable, here, at(), False)
    assert seen.itself is not None
    assert (seen.itself.owner, seen.itself.marker) == (Unknown("its pod is here"), Known(False))
    seen = watcher.observe(reachable, Known(()), at(), False)
    assert seen.itself is not None
    assert (seen.itself.owner, seen.itself.marker) == (Known(False), Known(False))
    assert runtime.asked == 0
    before = len(asked)
    other = render({"spec": {}}, Workload("kube-system", "DaemonSet", "b"), "node-1", "d", 1, 1)
    (manifests / other.file_name).write_bytes(other.content)
    seen = watcher.observe(reachable, Known(()), at(), False)
    assert seen.itself == Itself(OWN, "uid-agent-x7k2p")
    assert (len(asked), runtime.asked) == (before, 1), "a parent may come back at any moment"


OWN = Workload("kube-system", "DaemonSet", "agent")


def test_what_is_told_again_of_a_pod_is_all_of_it() -> None:
    """What it goes by is not named field by field: none must be forgotten."""
    ids = frozenset("c")
    pod = Pod(OWN, "u", "n", True, True, True, True, 1.0, ids, "s", "t", "e", "f", 5.0, "c")
    again = replace(pod, signature="s2", content_signature="c2", ready_seconds=2.0)
    assert pod.told_again("s2", "c2", 2.0) == again
    assert all(getattr(pod, field.name) for field in fields(Pod)), "and this test knows them all"
