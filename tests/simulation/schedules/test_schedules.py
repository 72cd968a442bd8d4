"""Whole nodes in virtual time: what is promised holds whatever happens, and a breach would show."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from checkpointer import master_turns
from checkpointer.config import Config
from checkpointer.core import hand_over, situation, under_way
from checkpointer.core.contact import ContactRules, ContactState
from checkpointer.core.facts import Fact, Known
from checkpointer.core.hold import RELEASED, Hold
from checkpointer.core.plan import Activate, Remove, Snapshot
from checkpointer.core.turns import Masters, Others
from tests.simulation.schedules.__main__ import explain, fast_folder
from tests.simulation.schedules.events import EVENTS, Event
from tests.simulation.schedules.kubelet import NodeKubelet
from tests.simulation.schedules.node import FAULTS, TWIN, Node
from tests.simulation.schedules.worker import Program, Worker
from tests.simulation.schedules.workloads import API, DNS, ETCD, MANAGER, Kind
from tests.simulation.schedules.world import (
    LAYOUTS,
    SETTLED_SECONDS,
    Layout,
    Schedule,
    World,
    booting_in,
    masters_cut,
    schedule_of,
    shrink,
    with_plugin,
)

FIRST_SEED = 1
SECONDS = float(os.environ.get("SCHEDULES_SECONDS", "20"))
"""How long schedules are run for by the test of a few of them; `make simulate` runs more."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as path:
        yield path


def layout(name: str) -> Layout:
    return next(one for one in LAYOUTS if one.name == name)


def schedule(name: str, *events: Event, length: float = 90.0, dark: bool = False) -> Schedule:
    return Schedule(1, layout(name), events, length, tells_events=True, ends_dark=dark)


def world_of(folder: Path, name: str, *events: Event, **options: object) -> World:
    world = World(schedule(name, *events, **options), folder)
    outcome = world.run()
    assert outcome.broken is None, outcome.broken
    return world


def actions(world: World, *names: str) -> list[str]:
    """Return what the first node's agent did, of these kinds."""
    return [
        f"{type(action).__name__} {action.workload.name}"
        for _, plan in world.nodes[0].plans
        for action in plan.actions
        if type(action).__name__ in names
    ]


def test_promises_hold_over_some_thousands_of_schedules(folder: Path) -> None:
    """For as long as CI gives; a failing seed is shown with its smallest schedule."""
    end, seed = time.monotonic() + SECONDS, FIRST_SEED
    while time.monotonic() < end:
        outcome = World(schedule_of(seed), folder).run()
        assert outcome.broken is None, "\n".join(explain(seed))
        seed += 1
    assert seed > FIRST_SEED


def test_a_schedule_runs_the_same_way_each_time(folder: Path) -> None:
    """Or a failing seed could not be replayed."""
    runs = []
    for _ in range(2):
        world = World(schedule_of(7), folder)
        outcome = world.run()
        runs.append((outcome.steps, [(when, p.sentence) for when, p in world.nodes[0].plans]))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", [one.name for one in LAYOUTS])
@pytest.mark.parametrize("event", list(EVENTS))
def test_each_event_alone_is_survived(folder: Path, name: str, event: str) -> None:
    """With every workload and for a short, a middling and a long time."""
    for index, seconds in enumerate((0.5, 20.0, 240.0)):
        kind = index % len(layout(name).kinds)
        world_of(folder, name, Event(5.0, event, 0, kind, seconds, 3 * index), length=30.0)


def test_a_power_cycle_of_a_self_hosted_node_is_one_activation_and_one_release(
    folder: Path,
) -> None:
    """Its API server's copy alone; the parents follow, and the folder is empty again."""
    world = world_of(folder, "single", Event(5.0, "power cut"))
    assert actions(world, "Activate", "Release") == [
        "Activate kube-apiserver",
        "Release kube-apiserver",
    ]
    assert world.invariants.longest_down <= 10.0


def activations(world: World) -> list[Activate]:
    plans = (plan for _, plan in world.nodes[0].plans)
    return [action for plan in plans for action in plan.actions if isinstance(action, Activate)]


SIDECAR = Layout("sidecar", (replace(DNS, beside="metrics"),), 1, False)


def world_with(folder: Path, form: Layout, *events: Event) -> World:
    return World(replace(schedule("single", *events), layout=form), folder)


def restarts(node: Node, kind: Kind) -> dict[str, int]:
    """Return the restart counts of a workload's newest containers here, by their names."""
    shown = node.runtime.observe()
    assert isinstance(shown, Known)
    mine = [c for c in shown.value.containers if c.pod_name.startswith(kind.name)]
    return {container.name: container.attempt for container in mine}


def test_a_crash_looping_container_leaves_the_one_beside_it_alone(folder: Path) -> None:
    """Each has a backoff of its own, in one sandbox; the pod is Ready only with both."""
    world = world_with(folder, SIDECAR, Event(5.0, "broken rollout", seconds=240.0))
    node, seen = world.nodes[0], []

    def look() -> None:
        pods = world.cluster.pods_of(node.name)
        sandboxes = len(list(node.runtime.ready_sandboxes()))
        seen.append((restarts(node, DNS), sandboxes, [p.ready_at for p in pods]))
        seen.append(node.is_serving(world.cluster.kinds[0]))

    world.timeline.at(SETTLED_SECONDS + 60.0, look)
    assert world.run().broken is None
    (counts, sandboxes, ready), is_serving = seen
    assert counts["metrics"] == 0
    assert counts[DNS.main] >= 3
    assert (sandboxes, ready, is_serving) == (1, [None], False)


def test_a_container_that_serves_nothing_dies_alone(folder: Path) -> None:
    """The API server beside it serves on, and is not started again; no copy comes."""
    world = world_with(folder, layout("plugin"), Event(5.0, "container dies", choice=2))
    assert world.run().broken is None
    assert restarts(world.nodes[0], API) == {API.main: 0, "kms": 1}
    assert world.invariants.api_gaps == []
    assert actions(world, "Activate") == []


def test_a_plugin_that_the_kubelet_never_starts_again_has_its_pod_count_as_down(
    folder: Path,
) -> None:
    """It dies with the kubelet away, which then has no contact and does not know the pod: nobody
    can tell that it was the plugin, and not the API server, that died."""
    events = (
        Event(3.0, "kubelet restart", seconds=18.0),
        Event(5.0, "container dies", choice=2),
        Event(16.0, "fault", seconds=150.0),
    )
    world = world_of(folder, "plugin", *events, length=240.0)
    assert actions(world, "Activate") == [f"Activate {API.name}"]


@pytest.mark.parametrize("has_lease", [False, True])
@pytest.mark.parametrize("name", ["masters", "masters with plugins"])
def test_masters_whose_last_version_rots_come_back_on_the_one_before(
    folder: Path, name: str, has_lease: bool
) -> None:
    """Each of them, though the first one that is back answers for all: none stays dark beside it,
    by a copy that crash-loops or a parent of which only the plugin runs."""
    rots = Event(1.0, "revision rots", seconds=200.0)
    cut = Event(300.0, "power cut everywhere")
    plain = schedule(name, rots, cut, length=900.0)
    world = World(replace(plain, has_lease=has_lease, stays_back=True), folder)
    dark: dict[str, float] = {}

    def look() -> None:
        for node in world.nodes:
            dark[node.name] = 0.0 if node.serves_api() else dark.get(node.name, 0.0) + 5.0
            assert dark[node.name] <= 120.0

    for moment in range(350, 900, 5):
        world.timeline.at(SETTLED_SECONDS + moment, look)
    outcome = world.run()
    assert outcome.broken is None, outcome.broken


def test_a_copy_refused_by_a_restarted_kubelet_is_issued_anew_beside_its_plugin(
    folder: Path,
) -> None:
    """The plugin runs on in a pod that this run of the kubelet does not know."""
    events = (
        Event(1.0, "revision rots", seconds=30.0),
        Event(40.0, "power cut"),
        Event(48.15, "kubelet restart", seconds=1.0, choice=56),
        Event(49.02, "refusals", seconds=20.0, choice=26),
    )
    plain = replace(schedule("plugin", *events, length=240.0), seed=31)
    world = World(plain, folder)
    assert world.run().broken is None
    assert max(end - start for start, end in world.invariants.api_gaps) < 120.0


@pytest.mark.parametrize("name", ["single", "plugin"])
def test_an_image_that_takes_its_time_is_pulled_while_the_copy_serves(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Though the plugin beside it is made at once: that needs none of the copy's ports."""
    start = NodeKubelet._start
    world = World(schedule(name, Event(60.0, "rollout"), length=300.0), folder)
    pulled: list[float] = []

    def start_when_pulled(self: NodeKubelet, worker: Worker, program: Program) -> None:
        if worker.pod is None or worker.version == 1 or program.name != API.main:
            start(self, worker, program)
            return
        pulled.append(world.timeline.now + 30.0)
        if (left := pulled[0] - world.timeline.now) > 0:
            self._plan(worker, program, left, self._restart)
        else:
            start(self, worker, program)

    monkeypatch.setattr(NodeKubelet, "_start", start_when_pulled)
    assert world.run().broken is None
    assert max(end - start for start, end in world.invariants.api_gaps) < 10.0


def test_a_copy_has_both_containers(folder: Path) -> None:
    """A power cycle of an API server with a plugin is one activation and one release as well."""
    world = world_with(folder, layout("plugin"), Event(5.0, "power cut"))
    names = set()
    node = world.nodes[0]

    def note() -> None:
        processes = node.runtime.processes.values()
        names.update(p.container for p in processes if p.is_copy and p.kind.is_api)

    for tenths in range(600):
        world.timeline.at(SETTLED_SECONDS + tenths / 10, note)
    assert world.run().broken is None
    assert names == {API.main, "kms"}
    assert actions(world, "Activate", "Release") == [
        "Activate kube-apiserver",
        "Release kube-apiserver",
    ]


def test_a_power_cycle_in_the_dark_brings_every_workload_back(folder: Path) -> None:
    """And the copies stay for as long as the API is away."""
    dark = Event(1.0, "api down", seconds=600.0)
    world = world_of(folder, "way", dark, Event(5.0, "power cut"), dark=True)
    node = world.nodes[0]
    assert all(node.is_serving(kind) and node.has_copy(kind) for kind in world.cluster.kinds)


def test_three_masters_power_cycled_together_come_back(folder: Path) -> None:
    """On every node, whoever was first; their copies go one after the other, in their turns."""
    world = world_of(folder, "masters", Event(5.0, "power cut everywhere"))
    for node in world.nodes:
        for kind in world.cluster.kinds:
            assert node.is_serving(kind)


def test_another_cluster_with_the_same_authority_has_nothing_removed(folder: Path) -> None:
    """However long it answers in our cluster's place, and the agent's restarts make no difference:
    its list is not ours."""
    events = (Event(5.0, "lie", seconds=1500.0, choice=2), Event(700.0, "agent restart"))
    world = world_of(folder, "edge", *events, length=1600.0)
    assert actions(world, "Remove") == []


def refused(fault: str) -> tuple[Event, Event]:
    """Return an API that answers our identity so for minutes, amid which the power is cut."""
    choice = FAULTS.index(fault)
    return Event(5.0, "fault", seconds=240.0, choice=choice), Event(20.0, "power cut")


@pytest.mark.parametrize("fault", ["unauthorized", "forbidden"])
def test_while_denied_nothing_is_activated(folder: Path, fault: str) -> None:
    """However long, with every workload down: the API is there, and our credentials are not."""
    world = World(schedule("edge", *refused(fault), length=250.0), folder)
    node, seen = world.nodes[0], []

    def look() -> None:
        assert node.agent is not None
        up = [kind.name for kind in world.cluster.kinds if node.is_serving(kind)]
        seen.append((node.agent.contact.state, up))

    world.timeline.at(SETTLED_SECONDS + 240.0, look)
    assert world.run().broken is None
    assert seen == [(ContactState.DENIED, [])]
    assert actions(world, "Activate") == []


@pytest.mark.parametrize("name", [one.name for one in LAYOUTS])
def test_another_cluster_with_pods_of_our_names_has_nothing_stored(folder: Path, name: str) -> None:
    """They are Ready for long, in the very contact in which ours were; then it is a new contact."""
    twin = Event(5.0, "lie", seconds=240.0, choice=3)
    events = (twin, Event(60.0, "agent restart"), Event(120.0, "no network", seconds=20.0))
    world = World(schedule(name, *events, length=300.0), folder)
    parents: set[str] = set()

    def look() -> None:
        assert world.nodes[0].agent is not None
        stored = world.nodes[0].agent.store.read()
        assert isinstance(stored, Known)
        parents.update(uid for c in stored.value.checkpoints for uid in c.record.parents)

    for at in (100.0, 150.0, 200.0):
        world.timeline.at(at, look)
    outcome = world.run()
    assert outcome.broken is None, outcome.broken
    assert parents
    assert not any(uid.startswith(TWIN) for uid in parents)
    snapshots = [at for at, p in world.nodes[0].plans for a in p.actions if isinstance(a, Snapshot)]
    lie_from, lie_to = SETTLED_SECONDS + 5.0, SETTLED_SECONDS + 245.0
    assert [at for at in snapshots if lie_from < at < lie_to] == []
    assert min(snapshots) < lie_from
    assert max(snapshots) > lie_to


def test_a_nodes_first_contact_may_be_with_another_cluster(folder: Path) -> None:
    """A master whose API server starts late has none pinned before: it belongs to that one."""
    twin = Event(2.0, "lie", node=2, seconds=246.0, choice=3)
    late = booting_in(layout("masters"), 45.0)
    plain = replace(schedule("masters", twin, length=300.0), layout=late)
    world = World(plain, folder)
    assert world.run().broken is None
    agent = world.nodes[2].agent
    assert agent is not None
    stored = agent.store.read()
    assert isinstance(stored, Known)
    uids = [r.parent_uid for c in stored.value.checkpoints for r in c.revisions]
    assert [uid for uid in uids if uid.startswith(TWIN)] == uids != []


def test_what_is_deleted_is_removed_one_by_one_whoever_restarts_the_agent(folder: Path) -> None:
    """A minute apart, also when a new run of the agent does not know of the last removal."""
    gone = [Event(1.0 + kind, "workload deleted", kind=kind) for kind in range(2)]
    restarts = [Event(300.0 + 15 * at, "agent restart", seconds=0.5) for at in range(8)]
    world = world_of(folder, "edge", *gone, *restarts, length=700.0)
    assert sorted(actions(world, "Remove")) == ["Remove gateway", "Remove kube-proxy"]
    when = [at for at, p in world.nodes[0].plans if any(isinstance(a, Remove) for a in p.actions)]
    assert all(later - earlier >= 60.0 for earlier, later in pairwise(when))


@pytest.mark.parametrize("choice", [0, 2, 3, 6], ids=["current", "digests", "manifest", "all"])
def test_a_damaged_checkpoint_is_stored_anew(folder: Path, choice: int) -> None:
    """Its parent is there to be read: not only at the resync, which may be ten minutes away."""
    early = Event(25.0, "damage", choice=choice)
    late = replace(early, at=100.0)
    world = world_of(folder, "way", early, late, length=120.0)
    assert world.nodes[0].damaged == set()
    assert len(actions(world, "Snapshot")) == 3 + 2
    assert world.invariants.longest_damaged < 60.0


def hasty(config: Config) -> Config:
    return replace(config, timing=replace(config.timing, absent_seconds=3.0))


def lame(config: Config) -> Config:
    return replace(config, timing=replace(config.timing, stage_delay_seconds=1e6))


def patient(config: Config) -> Config:
    return replace(config, timing=replace(config.timing, snapshot_retry_seconds=600.0))


def hot(config: Config) -> Config:
    return replace(config, timing=replace(config.timing, tick_seconds=0.01, watch_seconds=0.01))


@pytest.mark.parametrize(
    ("spoil", "promise", "events"),
    [
        (hasty, "nothing wanted is removed", [Event(5.0, "lie", seconds=240.0, choice=1)]),
        (
            lame,
            "what is wanted runs again in time",
            [Event(1.0, "api down", seconds=600.0), Event(5.0, "power cut")],
        ),
        (hot, "the agent never loops hot", []),
        (patient, "what is damaged is stored anew", [Event(5.0, "damage", choice=6)]),
    ],
)
def test_an_agent_that_breaks_a_promise_is_found_out(
    folder: Path,
    spoil: Callable[[Config], Config],
    promise: str,
    events: list[Event],
) -> None:
    """A simulation that cannot fail would prove nothing."""
    world = World(schedule("way", *events, length=240.0, dark=True), folder)
    for node in world.nodes:
        node.config = spoil(node.config)
    broken = world.run().broken
    assert broken is not None
    assert broken.promise == promise


ROTTEN_PARENT = (Event(1.0, "revision rots", seconds=30.0), Event(40.0, "power cut"))
"""The version of before is activated in the end, and makes way for a parent that cannot start."""


def test_a_version_that_dies_and_cannot_start_again_is_replaced(folder: Path) -> None:
    """Its parent crashes, then its copy, and the version of before serves."""
    rotten = Event(1.0, "revision rots", seconds=90.0, choice=1)
    world = world_of(folder, "single", rotten, length=240.0)
    assert actions(world, "Activate").count("Activate kube-apiserver") >= 3
    assert 20.0 < world.invariants.longest_down < 200.0


@pytest.mark.parametrize("name", ["single", "plugin"])
def test_a_hand_over_to_a_parent_that_cannot_start_ends_with_the_copy(
    folder: Path, name: str
) -> None:
    """Long before its deadline: the parent dies at once, and again, whatever runs beside it."""
    world = World(schedule(name, *ROTTEN_PARENT, length=240.0), folder)
    assert world.run().broken is None
    assert "Release kube-apiserver" in actions(world, "Release")
    assert 0.0 < world.invariants.longest_given_way < 60.0


def test_an_agent_that_waits_for_its_parent_for_ever_is_found_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulation that cannot fail would prove nothing."""
    monkeypatch.setattr(hand_over, "CRASHES", 1_000_000)
    monkeypatch.setattr(under_way, "LATE_SECONDS", 1e6)
    world = World(schedule("single", *ROTTEN_PARENT, length=240.0), folder)
    node = world.nodes[0]
    node.config = replace(node.config, timing=replace(node.config.timing, hand_over_seconds=1e6))
    broken = world.run().broken
    assert broken is not None
    assert broken.promise == "a hand-over ends with an API server"


def test_a_copy_that_crashed_while_no_agent_ran_is_replaced_at_once(folder: Path) -> None:
    """Its kubelet is minutes deep in the backoff when the agent is back."""
    events = (
        Event(1.0, "revision rots", seconds=30.0),
        Event(36.0, "power cut"),
        Event(48.0, "agent restart", seconds=66.0),
    )
    node = world_of(folder, "way", *events, length=240.0).nodes[0]
    later = [(at, plan) for at, plan in node.plans if at > node.agent_since]
    at, plan = later[0]
    assert "revision 2 keeps crashing" in plan.sentence
    assert at - node.agent_since < 5.0


@pytest.mark.parametrize(
    ("rots_after", "then"),
    [
        (47.0, Event(48.0, "agent restart", seconds=120.0)),
        (86.0, Event(81.0, "disk fault", seconds=106.0, choice=40)),
    ],
)
def test_an_api_server_that_crashes_beside_its_plugin_unseen_is_soon_replaced(
    folder: Path, rots_after: float, then: Event
) -> None:
    """No agent was there to count its crashes, or no disk to act on them; the kubelet is minutes
    deep in its backoff, and three crashes more would take as many times longer."""
    rots = Event(1.0, "revision rots", seconds=rots_after, choice=1)
    world = world_of(folder, "plugin", rots, then, length=240.0)
    assert world.invariants.longest_down < 150.0


def test_what_is_left_of_a_copy_that_was_taken_out_by_hand_is_replaced(folder: Path) -> None:
    """It crash-loops beside its plugin, is released, and the hold is lifted soon after: a kubelet
    that has not reached the API stops nothing of it, and starts nothing again."""
    events = (Event(1.0, "revision rots", seconds=30.0), Event(40.0, "power cut"))
    world = World(replace(schedule("plugin", *events, length=300.0), seed=12), folder)
    node = world.nodes[0]

    def hold(wanted: Hold | None) -> None:
        assert node.agent is not None
        world.invariants.disturb()
        node.agent.store.write_hold(API.workload, wanted)
        node.agent.store.invalidate(API.workload)

    world.timeline.at(112.0, lambda: hold(Hold(RELEASED, node.wall(), "an operator")))
    world.timeline.at(122.0, lambda: hold(None))
    outcome = world.run()
    assert outcome.broken is None, outcome.broken
    assert all(end - start < 120.0 for start, end in world.invariants.api_gaps)


@pytest.mark.parametrize("call", range(0, 12, 3))
def test_an_agent_that_dies_amid_a_fall_back_ends_it_when_it_is_back(
    folder: Path, call: int
) -> None:
    """The record names the failed revision, the manifest may still be of it."""
    events = (
        Event(1.0, "revision rots", seconds=30.0, choice=1),
        Event(100.0, "agent killed", choice=call),
    )
    world = world_of(folder, "single", *events, length=240.0)
    assert 60.0 < world.invariants.longest_down < 120.0


def short_lived(folder: Path, name: str, lives: float, length: float) -> World:
    """Return a world that is rolled out to an API server that serves for so long and dies."""
    world = World(schedule(name, length=length), folder)
    kind = world.cluster.kinds[0]

    def roll() -> None:
        world.cluster.lives[kind.name, world.cluster.versions[kind.name] + 1] = lives
        world.roll(kind, is_broken=False)

    world.timeline.at(SETTLED_SECONDS + 60.0, roll)
    return world


@pytest.mark.parametrize("lives", [8.0, 15.0, 25.0, 45.0])
@pytest.mark.parametrize("name", ["single", "plugin"])
def test_an_api_server_that_serves_for_a_moment_and_dies_is_given_up(
    folder: Path, name: str, lives: float
) -> None:
    """Each of its lives ends the loss of contact, and none is long enough for it to be good."""
    world = short_lived(folder, name, lives, length=1200.0)
    outcome = world.run()
    assert outcome.broken is None, outcome.broken
    assert sum(end - start for start, end in world.invariants.api_gaps) < 60.0
    activated = [a.revision for a in activations(world)]
    assert activated[-1] == 1, "the last known good, until the rollout that ends all faults"


def test_a_good_version_that_is_killed_again_and_again_is_taken_over_when_it_changes(
    folder: Path,
) -> None:
    """Nobody can tell it from one that dies by itself; the version of before serves until then."""
    kills = [Event(at, "container dies") for at in (85.0, 115.0, 150.0, 185.0)]
    world = world_of(folder, "single", Event(60.0, "rollout"), *kills, length=900.0)
    assert [a.revision for a in activations(world)] == [1, 1]
    assert sum(end - start for start, end in world.invariants.api_gaps) < 60.0


def test_a_failing_schedule_is_shrunk_to_the_events_that_matter(folder: Path) -> None:
    """Three others are left out."""
    noise = [Event(2.0 * at, "foreign file", choice=at) for at in range(1, 4)]
    failing = replace(schedule("way", *noise, Event(9.0, "power cut")), ends_dark=True)

    class Impatient(World):
        """Finds every workload down as soon as the power is cut."""

        def run(self):
            self.invariants.down_seconds = 1.0
            return super().run()

    broken = Impatient(failing, folder).run().broken
    assert broken is not None
    small = shrink(failing, broken, folder, Impatient)
    assert [event.name for event in small.events] == ["power cut"]


def test_contact_rules_are_the_ones_that_are_shipped(folder: Path) -> None:
    """What is simulated is the default configuration, but for the polling."""
    world = World(schedule("single"), folder)
    assert world.nodes[0].config.contact == ContactRules()


@pytest.mark.parametrize("has_lease", [False, True])
@pytest.mark.parametrize("seed", range(1, 7))
def test_three_masters_lose_the_api_only_once(folder: Path, seed: int, has_lease: bool) -> None:
    """Once any of the three answers again, one of them always does, whenever the power goes and
    whoever is back first; the lease is given back."""
    world = World(replace(masters_cut(seed), has_lease=has_lease), folder)
    outcome = world.run()
    assert outcome.broken is None, outcome.broken
    assert len(world.invariants.api_gaps) == 1
    assert world.cluster.lease.holder == ""
    if has_lease:  # by time slots it may take longer: a moment has to fall into one
        assert not any(node.has_copy(API) for node in world.nodes)


def test_a_lease_is_given_back_though_the_disk_takes_no_note_of_it(folder: Path) -> None:
    """The parent is Ready; the record says otherwise for as long as the disk is full."""
    full = Event(61.47, "disk fault", node=1, seconds=30.0, choice=18)
    events = schedule("masters", Event(4.33, "power cut everywhere"), full, length=300.0)
    slow = booting_in(layout("masters"), 25.0)
    world = World(replace(events, seed=29, has_lease=True, layout=slow), folder)
    outcome = world.run()
    assert outcome.broken is None, outcome.broken


def test_a_master_that_died_with_the_lease_holds_nobody_up_for_long(folder: Path) -> None:
    """It had taken it and lost its power: the others go on a minute later."""
    world = World(replace(masters_cut(1), has_lease=True), folder)
    world.cluster.lease.create({"metadata": {}, "spec": {"holderIdentity": "node-9"}})
    outcome = world.run()
    assert outcome.broken is None, outcome.broken
    assert not any(node.has_copy(API) for node in world.nodes)


def test_masters_that_hand_over_while_alone_are_found_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulation that cannot fail would prove nothing."""
    monkeypatch.setattr(master_turns, "has_company", lambda *_: True)
    monkeypatch.setattr(situation, "has_company", lambda *_: True)
    outcomes = [
        World(replace(masters_cut(seed), has_lease=True), folder).run().broken
        for seed in (9, 18, 32)
    ]
    assert "the API stays once it is back" in {b.promise for b in outcomes if b is not None}


@pytest.mark.parametrize("has_lease", [False, True])
def test_a_lease_that_is_shorter_than_a_hand_over_lets_no_second_one_begin(
    folder: Path, has_lease: bool
) -> None:
    """Nor does a time slot. Who may take three minutes to start is waited for as long, and renews
    the lease where it can."""
    slow = booting_in(layout("masters"), 90.0)
    cut = Event(200.0, "power cut everywhere")  # they have been up for long enough by then
    events = schedule("masters", cut, length=900.0)
    world = World(replace(events, has_lease=has_lease, layout=slow), folder)
    world.invariants.down_seconds = 400.0
    for node in world.nodes:
        timing = replace(node.config.timing, hand_over_seconds=180.0)
        node.config = replace(node.config, timing=timing)
    outcome = world.run()
    assert outcome.broken is None, outcome.broken
    assert not any(node.has_copy(API) for node in world.nodes)
    lease = world.cluster.lease
    if lease.body is not None:
        taken = lease.body["spec"]["leaseTransitions"]
        assert lease.writes > 2 * taken  # more than taken and given back
    assert has_lease == (lease.body is not None)


@pytest.mark.parametrize("seed", [2, 4])
def test_a_master_that_was_off_when_the_others_were_read_is_not_forgotten(
    folder: Path, seed: int
) -> None:
    """The endpoints do not name it then; when all have lost their power it is waited for."""
    events = (
        Event(60.0, "no network", 2, seconds=150.0),
        *(Event(90.0 + at, "agent restart", at, seconds=0.5) for at in range(2)),
        Event(260.0, "power cut everywhere"),
    )
    slow = booting_in(layout("masters"), 45.0)
    away = schedule("masters", *events, length=460.0)
    world = World(replace(away, seed=seed, layout=slow), folder)
    seen: list[Fact[Masters]] = []
    world.timeline.at(SETTLED_SECONDS + 259.0, lambda: seen.extend(map(masters_of, world.nodes)))
    outcome = world.run()
    assert outcome.broken is None, outcome.broken
    assert {len(m.value.names) for m in seen if isinstance(m, Known)} == {3}


def masters_of(node: Node) -> Fact[Masters]:
    assert node.agent is not None
    return node.agent.masters


WITH_ETCD = Layout("masters with etcd", (API, ETCD, MANAGER), 3, True)


@pytest.mark.parametrize("has_lease", [False, True])
def test_masters_keep_most_of_their_etcds(folder: Path, has_lease: bool) -> None:
    """None of them sees that another one's is away, and they take longer to start than the API
    server's time slot lasts."""
    cut = schedule("masters", Event(200.0, "power cut everywhere"), length=1000.0)
    options = {"layout": WITH_ETCD, "has_lease": has_lease, "stays_back": True}
    world = World(replace(cut, **options), folder)
    outcome = world.run()
    assert outcome.broken is None, outcome.broken
    assert not any(node.has_copy(kind) for node in world.nodes for kind in (API, ETCD))


def test_masters_that_do_not_wait_for_each_other_are_found_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their API servers take longer to start than a time slot lasts."""

    def has_any(others: Fact[Others] | None, *_: object) -> bool:
        return isinstance(others, Known) and others.value.serving > 0

    monkeypatch.setattr(master_turns, "has_company", has_any)
    monkeypatch.setattr(situation, "has_company", has_any)
    outcomes = [
        World(replace(masters_cut(seed), has_lease=False), folder).run().broken for seed in (5, 10)
    ]
    assert "masters hand over one at a time" in {b.promise for b in outcomes if b is not None}


ROTTEN_MASTERS = (
    Event(11.24, "power cut", node=1),
    Event(17.56, "fault", seconds=0.55, choice=50),
    Event(42.62, "rollout"),
    Event(46.38, "power cut"),
    Event(69.94, "flapping", node=2, seconds=60.21, choice=53),
    Event(84.45, "revision rots", node=1, seconds=22.69, choice=41),
    Event(94.79, "container dies", kind=1, choice=23),
)
"""Of three API servers one serves in the end; the other two cannot start, nor their copies."""


def test_an_api_server_that_has_not_served_for_long_holds_no_other_one_up(folder: Path) -> None:
    """What it gives way then takes nothing from the API, which a third one serves throughout."""
    events = schedule("masters", *ROTTEN_MASTERS, length=240.0, dark=True)
    world = World(replace(events, seed=301309, has_lease=True, replaces=True), folder)
    assert world.run().broken is None
    assert len(world.invariants.api_gaps) == 1


def test_a_parent_probed_at_its_dying_copy_holds_the_turn(folder: Path) -> None:
    """Ready by its copy's last answer, it does not serve yet: the next master still waits."""
    events = (
        Event(9.75, "power cut", node=2, seconds=22.87, choice=53),
        Event(14.33, "power cut everywhere"),
        Event(25.15, "kubelet restart", seconds=270.08, choice=6),
    )
    plain = schedule("masters with plugins", *events, length=30.0)
    world = World(replace(plain, seed=1005085, has_lease=True, replaces=True), folder)
    assert world.run().broken is None


def test_a_pod_made_before_the_clock_went_back_is_not_left_to_the_kubelet(folder: Path) -> None:
    """Its sandbox looks younger than the kubelet's run: for five minutes nothing would come."""
    events = (
        Event(11.82, "kubelet restart", seconds=268.54, choice=8),
        Event(23.32, "container dies", kind=2, seconds=1.81, choice=48),
        Event(48.98, "fault", seconds=262.8, choice=19),
        Event(56.57, "clock jump", seconds=50.86, choice=44),
    )
    world_of(folder, "edge", *events, dark=True)


def test_no_copy_comes_beside_the_successor_of_a_pod_that_was_leaving(folder: Path) -> None:
    """Its manifest is damaged just when the successor is made: the agent was told of no other."""
    rots = Event(16.8, "revision rots", seconds=56.13, choice=29)
    damage = Event(23.88, "damage", seconds=3.11, choice=29)
    drawn = with_plugin(700931)
    world = World(replace(drawn, events=(rots, damage)), folder)
    assert world.run().broken is None


def test_a_pod_that_nobody_can_make_is_waited_for(folder: Path) -> None:
    """The API answers, so that no copy comes; it runs again with a controller-manager that does."""
    rots = Event(1.0, "revision rots", kind=1, seconds=30.0, choice=1)
    deleted = Event(40.0, "pod deleted", kind=2)
    world = world_of(folder, "single", rots, deleted, length=300.0)
    assert world.invariants.longest_down < 200.0
    assert actions(world, "Activate") == []
    assert world.nodes[0].is_serving(DNS)


def test_a_copy_refused_after_the_clock_went_back_is_issued_anew(folder: Path) -> None:
    """A board without a battery for its clock boots in the past: the copy's dead sandbox is then
    younger than the kubelet's run, and must not be taken for a sign that the kubelet has it."""
    events = (
        Event(1.6, "power cut"),
        Event(8.6, "refusals", choice=0),
        Event(8.7, "clock jump", choice=0),
        Event(8.8, "power cut"),
    )
    world_of(folder, "single", *events, length=30.0)


def test_a_crashed_copy_refused_by_a_restarted_kubelet_is_issued_anew(folder: Path) -> None:
    """With the API away nobody stops the sandbox that the kubelet's last run had made for it."""
    events = (
        Event(17.8, "rollout"),
        Event(26.4, "copies crash", seconds=107.0),
        Event(209.4, "refusals"),
        Event(210.3, "kubelet restart", seconds=2.9),
    )
    world_of(folder, "single", *events, length=240.0, dark=True)
