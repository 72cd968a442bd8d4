"""The loop, in this process, on a simulated node: when it turns, when it rests, when it ends."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkpointer import agent as agent_module
from checkpointer import kept_memory, master_turns
from checkpointer.agent import Agent, Wake
from checkpointer.config import API_VERSION, KIND, ConfigError, load
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.hold import ACTIVE, Hold
from checkpointer.core.moment import Moment
from checkpointer.core.plan import Plan
from checkpointer.core.turns import Masters, has_others
from checkpointer.core.workload import Workload
from checkpointer.node.masters import NOT_ALONE_YET
from checkpointer.simulation import control_plane, pod_status
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.control_plane import CHECKPOINT
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.waiting import wait_until
from checkpointer.store.errors import StoreError
from checkpointer.store.revisions import Store

QUICK: dict[str, Any] = {
    "timing": {"ready": "0s", "grace": "1s"},
    "contact": {"recovery": "0s", "healthyInterval": "60s"},
    "probe": {"timeout": "500ms", "jitter": "0s"},
}


class CountingAgent(Agent):
    """The agent, with its cycles counted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycles = 0
        self.fault: Callable[[], None] = lambda: None

    def cycle(self) -> Plan:
        self.cycles += 1
        self.fault()
        return super().cycle()


def make(node: SimulatedNode, dry_run: bool = False, **overrides: Any) -> CountingAgent:
    path = node.write_agent_config(**{**QUICK, **overrides})
    return CountingAgent(load(path.read_text()), dry_run=dry_run)


@pytest.fixture
def begin(node: SimulatedNode) -> Iterator[Callable[..., CountingAgent]]:
    """Run agents, each in a thread, and end them after the test."""
    running: list[tuple[CountingAgent, threading.Thread]] = []

    def run(**overrides: Any) -> CountingAgent:
        agent = make(node, **overrides)
        thread = threading.Thread(target=agent.run)
        thread.start()
        running.append((agent, thread))
        run.threads.append(thread)  # type: ignore[attr-defined]
        return agent

    run.threads = []  # type: ignore[attr-defined]
    yield run
    for agent, thread in running:
        agent.stop()
        thread.join(10)
        assert not thread.is_alive()


def run_pod(node: SimulatedNode, name: str, container: dict[str, Any]) -> None:
    """Have a pod without a controller on the node, which is quicker than one with."""
    metadata = {"name": name, "namespace": "kube-system", "annotations": dict(CHECKPOINT)}
    spec = {"nodeName": node.name, "containers": [container]}
    node.cluster.create("pods", {"metadata": metadata, "spec": spec})


@pytest.fixture
def web(node: SimulatedNode) -> SimulatedNode:
    """A node on which one pod is Ready that wants a checkpoint."""
    run_pod(node, "web", {"name": "web", "image": "web"})
    wait_until(lambda: any(pod_status.is_ready(pod) for pod in node.pods("web")), 5, "the pod")
    assert node.kubelet is not None
    assert node.kubelet._socket is not None
    node.kubelet._socket.listen(4096)  # nobody accepts there, and every cycle connects once
    return node


def stored(node: SimulatedNode) -> dict[str, list[int]]:
    found = Store(node.store_folder).read()
    assert isinstance(found, Known)
    return {str(c.workload): [r.number for r in c.revisions] for c in found.value.checkpoints}


WEB = "kube-system/pod/web"


def reboot_without_api(node: SimulatedNode, mode: Mode = Mode.REFUSED) -> None:
    node.power_off()
    node.cut_network(mode)
    node.power_on()


def test_once_snapshots_what_is_ready(web: SimulatedNode) -> None:
    """One cycle on settled contact takes the snapshots that are due."""
    agent = make(web)
    assert agent.run(once=True)
    assert stored(web) == {WEB: [1]}
    assert agent.cycles <= 6


def test_once_activates_on_a_node_that_stays_dark(web: SimulatedNode) -> None:
    """One cycle on lost contact puts the manifest where the kubelet starts it."""
    assert make(web).run(once=True)
    reboot_without_api(web)
    assert make(web).run(once=True)
    (name,) = web.manifests()
    assert name.startswith("pod-checkpointer-")
    wait_until(lambda: web.copies("web"), 5, "the copy")


def test_once_ends_though_the_pods_are_refused(
    web: SimulatedNode, caplog: pytest.LogCaptureFixture
) -> None:
    """An identity that may not list pods is told, not waited for; that is no success."""
    caplog.set_level(logging.INFO)
    pair = web.authority.client("system:node:other", "system:nodes")
    pem = web.kubeconfig.parent / "pki/kubelet-client-current.pem"
    pem.write_bytes(pair.certificate + pair.key)
    began = time.monotonic()
    assert not make(web).run(once=True)
    assert time.monotonic() - began < 5.0
    assert "this node's pods are not known: GET /api/v1/pods: HTTP 403" in caplog.messages
    assert not web.store_folder.exists() or stored(web) == {}


def test_once_fails_when_contact_is_denied(
    web: SimulatedNode, caplog: pytest.LogCaptureFixture
) -> None:
    """A script goes by the exit status; the message names the file and what tells more."""
    web.kubeconfig.unlink()
    assert not make(web, contact={"denied": "200ms"}).run(once=True)
    (told,) = (m for m in caplog.messages if m.startswith("nothing was snapshotted"))
    assert str(web.kubeconfig) in told
    assert "`checkpointer doctor` says what to mend" in told


@pytest.mark.parametrize("is_lost", [False, True], ids=["reachable", "lost"])
def test_dry_run_says_what_and_changes_nothing(
    web: SimulatedNode, kit: Any, is_lost: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Not a file is made, changed or removed, be it a snapshot or an activation that is due."""
    caplog.set_level(logging.INFO)
    if is_lost:
        assert make(web).run(once=True)
        reboot_without_api(web)
    path = web.write_agent_config(**QUICK)
    before = kit.tree(web.folder / "etc"), kit.tree(web.folder / "run")
    agent = CountingAgent(load(path.read_text()), dry_run=True)
    caplog.clear()
    assert agent.run(once=True)
    assert (kit.tree(web.folder / "etc"), kit.tree(web.folder / "run")) == before
    expected = f"activate {WEB} revision 1" if is_lost else f"snapshot {WEB}"
    assert any(m.startswith("dry run: ") and expected in m for m in caplog.messages)
    judged = [m for m in caplog.messages if m.startswith(f"dry run: {WEB} is checkpointable")]
    assert len(judged) == (0 if is_lost else 1)


def test_the_log_does_not_tell_of_looking_at_pods_again(
    web: SimulatedNode, begin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What is stored has a line of its own; a look that stores nothing changes nothing."""
    caplog.set_level(logging.INFO)
    begin(timing={**QUICK["timing"], "resync": "200ms"})

    def told() -> list[str]:
        return [m for m in caplog.messages if m.startswith(("contact ", "stored "))]

    wait_until(lambda: f"stored {WEB} revision 1" in told(), 5, "the checkpoint")
    run_pod(web, "etcd", {"name": "etcd", "image": "etcd"})
    wait_until(lambda: "contact reachable (HTTP 200): 2 standby" in told(), 5, "another one")
    assert not any("snapshot" in message for message in told())
    assert len(set(told())) == len(told())


def test_agent_at_rest_does_not_turn(web: SimulatedNode, begin: Any) -> None:
    """Its own writes wake it once at most; after that it sleeps until its tick."""
    agent = begin()
    wait_until(lambda: stored(web) == {WEB: [1]}, 5, "the checkpoint")
    wait_until(_rests(agent), 5, "rest")
    before, requests = agent.cycles, web.api.requests.total()
    time.sleep(2.0)
    assert agent.cycles - before <= 1
    assert web.api.requests.total() - requests <= 1


def _rests(agent: CountingAgent) -> Callable[[], bool]:
    """Return a condition: no cycle for half a second."""
    seen = [agent.cycles, time.monotonic()]

    def rests() -> bool:
        if agent.cycles != seen[0]:
            seen[:] = [agent.cycles, time.monotonic()]
        return time.monotonic() - seen[1] > 0.5

    return rests


def test_change_of_the_store_from_outside_is_noticed(
    web: SimulatedNode, begin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What somebody does to a checkpoint is told at once, not when it is needed."""
    agent = begin()
    wait_until(lambda: stored(web) == {WEB: [1]}, 5, "the checkpoint")
    wait_until(_rests(agent), 5, "rest")
    path = next(web.store_folder.rglob("revisions/1/manifest*"))
    path.write_bytes(path.read_bytes() + b" ")
    wait_until(lambda: _problems(caplog), 2, "the problem")
    (problem,) = _problems(caplog)
    assert problem.startswith(f"{WEB}: revision 1 is skipped: ")


def _problems(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if r.name == "checkpointer.report.problems"]


def test_store_that_was_removed_is_made_anew(web: SimulatedNode, begin: Any) -> None:
    """Somebody who cleans up too much costs the checkpoints only until the next look."""
    agent = begin(timing={**QUICK["timing"], "resync": "500ms", "tick": "500ms"})
    wait_until(lambda: stored(web) == {WEB: [1]}, 5, "the checkpoint")
    wait_until(lambda: agent._watch._watched[-1].inode, 5, "the watch")
    wait_until(lambda: [*web.store_folder.rglob("current")], 5, "the snapshot's last write")
    web.store_folder.rename(web.folder / "away")
    wait_until(lambda: web.store_folder.exists() and stored(web) == {WEB: [1]}, 5, "it again")


def test_foreign_file_with_our_prefix_is_told_once(
    web: SimulatedNode, begin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that looks like ours and is not is left alone and told."""
    foreign = web.manifest_folder / "pod-checkpointer-mine.json"
    foreign.write_text("{}")
    agent = begin()
    wait_until(lambda: agent.cycles > 2 and _problems(caplog), 5, "the problem")
    assert _problems(caplog) == [
        f"{foreign} is left alone: it has our prefix but not our mark",
    ]
    assert foreign.read_text() == "{}"


def test_another_cluster_has_nothing_stored_and_is_told_of(
    web: SimulatedNode, begin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log once, and in the status, with the file to move away."""
    state = {"authorities": ["0" * 64], "uid": "another"}
    Store(web.store_folder).write_state("cluster", state)
    agent = begin()
    wait_until(lambda: agent._judged is ContactState.REACHABLE and agent._is_settled, 5, "contact")
    wait_until(_rests(agent), 10, "rest")
    assert stored(web) == {}
    (problem,) = _problems(caplog)
    assert "not that of the cluster" in problem
    assert f"move {web.store_folder}/.state/cluster.json away" in problem
    assert problem in agent.reporter.status().problems


def test_contact_is_lost_within_a_second(web: SimulatedNode, begin: Any) -> None:
    """The open watch tells of the end at once, though the next probe is a minute away."""
    agent = begin()
    wait_until(lambda: web.api.requests["watch pods"], 5, "the watch")
    web.api.mode = Mode.REFUSED
    took = wait_until(lambda: agent._prober.contact.state.value == "lost", 5, "lost contact")
    assert took < 1.0
    web.api.mode = Mode.SERVING
    wait_until(lambda: isinstance(agent._pods.pods, Known), 5, "the pods again")


def test_fault_in_a_cycle_neither_ends_the_loop_nor_makes_it_hot(
    web: SimulatedNode, begin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong in one cycle, there is a next one; after ever longer pauses."""
    agent = begin()
    wait_until(lambda: stored(web) == {WEB: [1]}, 5, "the checkpoint")

    def faulty() -> None:
        raise RuntimeError("unforeseen")

    agent.fault = faulty
    before = agent.cycles
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        agent._wake.set()  # a flood of events
        time.sleep(0.005)
    assert 2 <= agent.cycles - before <= 4
    agent.fault = lambda: None
    before = agent.cycles
    wait_until(lambda: agent.cycles > before and agent._faults == 0, 5, "a sound cycle")
    assert "the cycle failed; the next one follows" in caplog.messages


def test_once_fails_when_its_cycle_does(node: SimulatedNode) -> None:
    """A run that could not do its one cycle says so."""
    agent = make(node)

    def faulty() -> None:
        raise RuntimeError("unforeseen")

    agent.fault = faulty
    assert not agent.run(once=True)
    assert agent.cycles == 1


def withhold_masters(node: SimulatedNode) -> None:
    """Have an API server that has not told its own address yet, as a new one has not."""
    node.cluster.delete("endpoints", "default", "kubernetes")


def test_masters_are_asked_for_again_until_they_are_known(
    web: SimulatedNode, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon, although all else that wakes the loop is a minute away; and kept for worse times."""
    monkeypatch.setattr(master_turns, "MASTERS_RETRY_SECONDS", 0.1)
    withhold_masters(web)
    agent = begin(timing={**QUICK["timing"], "resync": "10m", "tick": "10m"})
    wait_until(lambda: web.api.requests["get endpoints"] > 2, 5, "more questions")
    assert isinstance(agent._turns.masters, Unknown)
    web.cluster.apply("endpoints", control_plane.endpoints("127.0.0.1"))
    wait_until(lambda: isinstance(agent._turns.masters, Known), 5, "the masters")
    wait_until(lambda: _saved_masters(web) == ["127.0.0.1"], 5, "the state")


def _saved_masters(node: SimulatedNode) -> object:
    found = Store(node.store_folder).read_state(master_turns.MASTERS_STATE)
    return isinstance(found, Known) and found.value.get("names")


def test_known_masters_are_asked_for_after_resync_only(
    web: SimulatedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While they are not known, soon and then ever later."""
    agent = make(web, timing={**QUICK["timing"], "resync": "20s"})
    monkeypatch.setattr(agent._pods, "_client", object())
    answers: list[Fact[Masters]] = [Unknown("not yet")] * 3
    answers += [Known(Masters(("node-1",), "node-1"))] * 2
    asked: list[float] = []

    def read_masters(*_: Any) -> Fact[Masters]:
        asked.append(now)
        return answers[len(asked) - 1]

    monkeypatch.setattr(master_turns, "read_masters", read_masters)
    for tick in range(2 * 32):
        now = 1000 + tick / 2
        agent._turns.read(ContactState.REACHABLE, Moment("boot", now, 0.0))
        agent._turns.read(ContactState.SUSPECT, Moment("boot", now + 100.0, 0.0))
    assert asked == [1000.0, 1002.0, 1005.0, 1009.5, 1029.5]
    assert agent._turns.masters == answers[-1]


def test_a_master_that_may_not_be_alone_any_more_is_not_known_to_be(
    web: SimulatedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other answer that tells nothing leaves what was known."""
    agent = make(web)
    monkeypatch.setattr(agent._pods, "_client", object())
    known = Known(Masters(("node-1",), "node-1"))
    answers: list[Fact[Masters]] = [known, Unknown("no answer"), NOT_ALONE_YET]
    found = []
    for turn, answer in enumerate(answers):
        monkeypatch.setattr(master_turns, "read_masters", lambda *_, answer=answer: answer)
        agent._turns.read(ContactState.REACHABLE, Moment("boot", 1e6 * (turn + 1), 0.0))
        found.append(agent._turns.masters)
    assert found == [known, known, NOT_ALONE_YET]


def test_a_master_that_seems_alone_is_not_sure_of_it_amid_an_outage(
    web: SimulatedNode, begin: Any
) -> None:
    """The others may have joined since: before its copy makes way the API is asked again."""
    assert make(web).run(once=True)
    Store(web.store_folder).write_hold(Workload("kube-system", "Pod", "web"), Hold(ACTIVE, 0.0, ""))
    reboot_without_api(web)
    assert make(web).run(once=True)
    wait_until(lambda: web.copies("web"), 5, "the copy")
    web.restore_network()
    web.cluster.apply("endpoints", control_plane.endpoints("10.0.0.9"))
    agent = begin()
    wait_until(lambda: has_others(agent._turns.masters), 5, "the others")
    assert web.manifests()


def test_unknown_masters_do_not_make_it_hot_while_a_copy_is_active(
    web: SimulatedNode, begin: Any
) -> None:
    """They are asked for ever more seldom."""
    withhold_masters(web)
    assert make(web).run(once=True)
    Store(web.store_folder).write_hold(Workload("kube-system", "Pod", "web"), Hold(ACTIVE, 0.0, ""))
    reboot_without_api(web)
    assert make(web).run(once=True)
    wait_until(lambda: web.copies("web"), 5, "the copy")
    web.restore_network()
    agent = begin()
    wait_until(lambda: isinstance(agent._pods.pods, Known), 5, "the pods")
    wait_until(lambda: agent._is_settled, 5, "a decision")
    wait_until(_rests(agent), 10, "rest")
    assert web.manifests()
    assert agent._judged is ContactState.REACHABLE
    assert isinstance(agent._turns.masters, Unknown)


def test_unknown_masters_do_not_make_it_hot_without_a_client(
    web: SimulatedNode, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probes may be answered while there is nothing yet, or never, to ask the API with."""
    monkeypatch.setattr(agent_module.NodePods, "start", lambda _: None)
    agent = begin()
    wait_until(lambda: agent._judged is ContactState.REACHABLE, 5, "contact")
    wait_until(_rests(agent), 5, "rest")
    assert isinstance(agent._turns.masters, Unknown)


def test_flood_of_events_does_not_make_it_hot(web: SimulatedNode, begin: Any) -> None:
    """However many events come in, there is a pause between two cycles."""
    agent = begin()
    wait_until(lambda: stored(web) == {WEB: [1]}, 5, "the checkpoint")
    before, end = agent.cycles, time.monotonic() + 1.0
    while time.monotonic() < end:
        agent._wake.set()
    assert agent.cycles - before <= 1.0 / agent_module.SHORTEST_PAUSE_SECONDS + 1


def test_state_that_cannot_be_saved_is_told_once(
    web: SimulatedNode,
    begin: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A full disk is told once, not every cycle, and what was to be saved is saved later."""
    real, is_full = Store.write_state, True

    def write_state(store: Store, name: str, value: Any) -> bool:
        if is_full:
            raise StoreError("no room")
        return real(store, name, value)

    monkeypatch.setattr(Store, "write_state", write_state)
    agent = begin(timing={**QUICK["timing"], "tick": "100ms"})
    wait_until(lambda: stored(web) == {WEB: [1]}, 5, "the checkpoint")
    before = agent.cycles
    wait_until(lambda: agent.cycles > before + 3, 5, "more cycles")
    assert _problems(caplog) == ["no room"]
    assert "no room" in agent.reporter.status().problems
    assert not _saved_kubelet(web)
    is_full = False
    wait_until(lambda: _saved_kubelet(web), 5, "the state")


def _saved_kubelet(node: SimulatedNode) -> object:
    found = Store(node.store_folder).read_state(kept_memory.CONTACT_STATE)
    return isinstance(found, Known) and found.value.get("kubelet")


@pytest.mark.parametrize("mode", [Mode.SERVING, Mode.REFUSED, Mode.BLACK_HOLE])
def test_stop_ends_the_loop_at_once(web: SimulatedNode, begin: Any, mode: Mode) -> None:
    """Whatever the network does, the end of the agent takes no time."""
    agent = begin()
    thread = begin.threads[-1]
    wait_until(lambda: web.api.requests["watch pods"], 5, "the watch")
    web.api.mode = mode
    if mode is not Mode.SERVING:
        agent._prober.kick()
        wait_until(lambda: agent._prober.contact.state.value == "lost", 5, "lost contact")
    began = time.monotonic()
    agent.stop()
    thread.join(10)
    assert time.monotonic() - began < 2.0


def test_stop_ends_a_snapshot_in_a_black_hole(web: SimulatedNode, begin: Any) -> None:
    """A request that hangs in the middle of a cycle does not keep the agent from ending."""
    reference = {"configMapKeyRef": {"name": "settings", "key": "a"}}
    container = {
        "name": "late",
        "image": "late",
        "env": [{"name": "A", "valueFrom": reference}],
    }
    settings = {"metadata": {"name": "settings", "namespace": "kube-system"}, "data": {"a": "1"}}
    web.cluster.apply("configmaps", settings)
    agent = begin()
    thread = begin.threads[-1]
    wait_until(lambda: stored(web) == {WEB: [1]}, 5, "the first checkpoint")
    find = agent._pods.find

    def in_a_black_hole(path: str) -> Any:
        web.api.mode = Mode.BLACK_HOLE
        return find(path)

    agent._pods.find = in_a_black_hole  # type: ignore[method-assign]
    run_pod(web, "late", container)
    wait_until(lambda: web.api.mode is Mode.BLACK_HOLE, 5, "the snapshot")
    client = agent._pods.client
    assert client is not None
    began = time.monotonic()
    agent.stop()
    thread.join(10)
    assert time.monotonic() - began < 2.0


def test_agent_leaves_nothing_behind(web: SimulatedNode) -> None:
    """Neither threads nor handles stay when it has ended."""
    assert make(web).run(once=True)
    own = {"probe", "endpoint", "pods", "runtime-events"}
    assert not own & {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            {"selection": {"labelSelectors": [{"matchLabels": {1: "a", "b": "c"}}]}},
            "selection.labelSelectors[0].matchLabels: expected a mapping of texts",
        ),
        (
            {"selection": {"labelSelectors": [{}, {"matchLabel": {}}]}},
            "selection.labelSelectors[1].matchLabel: no such setting",
        ),
        (
            {"selection": {"labelSelectors": [{"matchExpressions": [{"key": "a"}]}]}},
            "selection.labelSelectors[0].matchExpressions[0].operator: "
            "expected In, NotIn, Exists, DoesNotExist",
        ),
        ({"stageZero": [{"name": ["a"]}]}, "stageZero[0].name: no such setting"),
        ({"stageZero": [{"names": "a"}]}, "stageZero[0].names: expected a list of texts"),
        ({"stageZero": [{"selector": ["a"]}]}, "stageZero[0].selector: expected a mapping"),
    ],
)
def test_wrong_selector_is_told_at_the_start(overrides: dict[str, Any], expected: str) -> None:
    """What is wrong deep in a list is told before anything begins, not in the first snapshot."""
    header = {"apiVersion": API_VERSION, "kind": KIND}
    with pytest.raises(ConfigError) as caught:
        Agent(load(yaml.safe_dump(header | overrides)))
    assert caught.value.problems == (expected,)


def test_wake_is_never_lost() -> None:
    """What is set before, while or after somebody waits ends that wait, and only one."""
    wake = Wake()
    wake.set()
    wake.set()
    began = time.monotonic()
    wake.wait(10)
    assert time.monotonic() - began < 1.0
    wake.wait(0.05)
    assert time.monotonic() - began >= 0.05
    threading.Timer(0.05, wake.set).start()
    wake.wait(10)
    assert time.monotonic() - began < 5.0
    wake.set()
    wake.clear()
    began = time.monotonic()
    wake.wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_boot_id_that_cannot_be_read_is_no_end(
    web: SimulatedNode, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing boot id is told; the identity of the kubelet's socket still tells its runs."""
    web.boot_id_file.unlink()
    assert make(web).run(once=True)
    assert any("cannot read the boot id" in message for message in caplog.messages)
    assert stored(web) == {WEB: [1]}


def test_exhausted_handles_are_told_not_mistaken(
    web: SimulatedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that cannot be read is not an empty one: nothing is decided on it."""
    assert make(web).run(once=True)
    agent = make(web)
    assert isinstance(agent._store.read(), Known)
    real = agent._store._calls.open

    def exhausted(path: str, *args: Any, **kwargs: Any) -> int:
        if str(web.store_folder) in path:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(agent._store._calls, "open", exhausted)
    agent._store.invalidate()
    before = sorted(path for path in Path(web.store_folder).rglob("*") if path.is_dir())
    assert agent.run(once=True)
    assert sorted(p for p in Path(web.store_folder).rglob("*") if p.is_dir()) == before
