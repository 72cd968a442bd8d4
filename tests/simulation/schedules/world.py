"""One schedule: a cluster built from a seed, what happens to it, and what must hold throughout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from checkpointer.config import HandOverConfig
from checkpointer.core.contact import ContactState
from tests.simulation.schedules.cluster import Cluster
from tests.simulation.schedules.events import Event, draw, happen
from tests.simulation.schedules.invariants import BrokenError, Invariants
from tests.simulation.schedules.node import FAULTS, Node
from tests.simulation.schedules.timeline import Timeline
from tests.simulation.schedules.workloads import (
    API,
    API_WITH_PLUGIN,
    DNS,
    GATEWAY,
    MANAGER,
    PROXY,
    WAY,
    Kind,
)

SETTLED_SECONDS = 40.0
"""How long a cluster runs in peace before anything happens: its checkpoints are stored then."""
LENGTHS = (30.0, 90.0, 240.0)
PEACE_SECONDS = 260.0
"""How long nothing more happens at the end: as long as anything may take, and some more."""
REST_SECONDS = 70.0
"""After so long without a change of anything while all is as it should be, the end may come sooner:
a hand-over's deadline has passed by then, and what a revision needs to be known good."""
LOOK_SECONDS = 10.0


@dataclass(frozen=True)
class Layout:
    """The form of a cluster."""

    name: str
    kinds: tuple[Kind, ...]
    nodes: int
    is_self_hosted: bool


LAYOUTS = (
    Layout("single", (API, MANAGER, DNS), 1, True),
    Layout("edge", (PROXY, GATEWAY, DNS), 1, False),
    Layout("way", (WAY, PROXY, DNS), 1, False),
    Layout("masters", (API, MANAGER), 3, True),
    Layout("plugin", (API_WITH_PLUGIN, MANAGER, DNS), 1, True),
    Layout("masters with plugins", (API_WITH_PLUGIN, MANAGER), 3, True),
)
_WEIGHTS = (6, 6, 4, 1, 6, 1)
BOOT_SECONDS = (2.0, 25.0, 45.0)
"""How long masters' API servers may take to start."""


@dataclass(frozen=True)
class Schedule:
    """What a seed stands for."""

    seed: int
    layout: Layout
    events: tuple[Event, ...]
    length: float
    tells_events: bool
    ends_dark: bool
    """Whether the API is away at the end: elsewhere, for self-hosted it is as it comes."""
    has_lease: bool = False
    """Whether masters take turns by a lease, or else by time slots."""
    replaces: bool = False
    """Whether parents deep in their backoff may be deleted, to be made anew."""
    stays_back: bool = False
    """Whether nothing happens after which the API may go a second time."""


@dataclass(frozen=True)
class Outcome:
    """What came of a schedule."""

    steps: int
    broken: BrokenError | None
    virtual_seconds: float


def schedule_of(seed: int) -> Schedule:
    """Return the schedule of a seed."""
    random = Random(seed)
    layout = random.choices(LAYOUTS, _WEIGHTS)[0]
    return _drawn(seed, random, layout)


def with_plugin(seed: int) -> Schedule:
    """Return the schedule of a seed on a single node whose API server has a plugin beside it."""
    layout = next(layout for layout in LAYOUTS if layout.name == "plugin")
    return _drawn(seed, Random(seed), layout)


def _drawn(seed: int, random: Random, layout: Layout) -> Schedule:
    length = random.choice(LENGTHS)
    events = draw(random, length, layout.nodes, len(layout.kinds))
    tells_events, ends_dark = random.random() < 0.9, random.random() < 0.3
    options = random.random() < 0.5, random.random() < 0.5
    if layout.name == "masters":
        layout = booting_in(layout, random.choice(BOOT_SECONDS))
    return Schedule(seed, layout, events, length, tells_events, ends_dark, *options)


def masters_cut(seed: int) -> Schedule:
    """Return a schedule of three masters that lose their power together, and of nothing else."""
    masters = next(layout for layout in LAYOUTS if layout.name == "masters")
    random = Random(seed)
    cut = Event(round(random.uniform(0.0, 60.0), 2), "power cut everywhere")
    tells_events = random.random() < 0.9
    options = random.random() < 0.5, random.random() < 0.5
    masters = booting_in(masters, random.choice(BOOT_SECONDS))
    return Schedule(seed, masters, (cut,), 90.0, tells_events, False, *options, stays_back=True)


def booting_in(layout: Layout, seconds: float) -> Layout:
    """Return the layout with API servers that take so long to start."""
    kinds = (replace(k, boot_seconds=seconds) if k.is_api else k for k in layout.kinds)
    return replace(layout, kinds=tuple(kinds))


class World:
    """A running schedule."""

    def __init__(self, schedule: Schedule, folder: Path) -> None:
        self.schedule, self.timeline = schedule, Timeline()
        layout = schedule.layout
        random = Random(schedule.seed + 1)
        self.cluster = Cluster(self.timeline, random, layout.kinds, layout.is_self_hosted)
        for index in range(layout.nodes):
            name = f"node-{index + 1}"
            node = Node(
                name, self.cluster, self.timeline, random, folder / name, schedule.tells_events
            )
            namespace = "kube-system" if schedule.has_lease else ""
            options = HandOverConfig(namespace, schedule.replaces)
            node.config = replace(node.config, hand_over=options)
        self.invariants = Invariants(self)

    @property
    def nodes(self) -> list[Node]:
        return self.cluster.nodes

    def kind(self, event: Event) -> Kind:
        return self.cluster.kinds[event.kind]

    def run(self) -> Outcome:
        """Run it to its end, or to the first promise that is broken."""
        broken = None
        try:
            self._run()
        except BrokenError as error:
            broken = error
        return Outcome(self.timeline.steps, broken, self.timeline.now)

    def look(self) -> None:
        for node in self.nodes:
            node.look()

    def set_fault(self, node: Node, fault: str) -> None:
        assert fault in ("", *FAULTS)
        node.fault = fault
        self.invariants.disturb()
        self.look()

    def roll(self, kind: Kind, *, is_broken: bool) -> None:
        """Change a workload's pod template."""
        self.cluster.versions[kind.name] += 1
        if is_broken:
            self.cluster.broken.add((kind.name, self.cluster.versions[kind.name]))
        self.invariants.disturb()
        self.cluster.poke()

    def _run(self) -> None:
        self._bootstrap()
        self.timeline.run(SETTLED_SECONDS, self.invariants.check)
        for event in self.schedule.events:
            self.timeline.at(SETTLED_SECONDS + event.at, lambda event=event: self._happen(event))
        self.timeline.run(SETTLED_SECONDS + self.schedule.length, self.invariants.check)
        self._heal()
        self._run_in_peace()
        self.invariants.check_end()

    def _run_in_peace(self) -> None:
        """Run on until all has been at rest for long: what would follow is looking around."""
        began = since = self.timeline.now
        before = self._state()
        while self.timeline.now < began + PEACE_SECONDS:
            self.timeline.run(self.timeline.now + LOOK_SECONDS, self.invariants.check)
            before, last = self._state(), before
            if before != last or not all(map(self._is_as_it_should_be, self.nodes)):
                since = self.timeline.now
            elif self.timeline.now - since >= REST_SECONDS:
                return

    def _state(self) -> list[object]:
        """Return what changes when anything is done."""
        return [(n.disk.changes, len(n.plans), n.runtime.version) for n in self.nodes]

    def _is_as_it_should_be(self, node: Node) -> bool:
        """Tell whether its agent has contact, and all its workloads run by their own pods; or,
        where the API stays away, whether they run."""
        agent = node.agent
        if agent is None or agent.is_dead:
            return False
        wanted = {k.name for k in self.cluster.kinds if self.cluster.is_wanted(k, node.name)}
        if not self.cluster.is_up:
            return agent.contact.state is ContactState.LOST and wanted <= node.serving()
        if agent.contact.state is not ContactState.REACHABLE:
            return False
        pods = [p for p in self.cluster.pods_of(node.name) if p.ready_at is not None]
        current = {p.kind.name for p in pods if p.version == self.cluster.versions[p.kind.name]}
        is_whole = not node.damaged and not node.copies()
        return is_whole and wanted <= node.serving() and wanted <= current

    def _bootstrap(self) -> None:
        """Start everything; a first API server has to be there for the first pods."""
        self.cluster.start()
        for node in self.nodes:
            node.kubelet.start()
            node.kubelet.bootstrap()
            node.start_agent()
        self.look()

    def _happen(self, event: Event) -> None:
        self.invariants.disturb()
        happen(self, event)

    def _heal(self) -> None:
        """End every fault but those that are the point: what is gone stays gone."""
        self.cluster.is_up = self.schedule.layout.is_self_hosted or not self.schedule.ends_dark
        for node in self.nodes:
            node.has_network, node.fault, node.lie = True, "", ""
            node.disk.fault, node.disk.kill_in = "", None
            node.kubelet.refusals = 0
            node.bad_copies.clear()
            node.start_runtime()
            node.kubelet.start()
            node.start_agent()
        for kind in self.cluster.kinds:
            if (kind.name, self.cluster.versions[kind.name]) in self.cluster.faulty:
                self.roll(kind, is_broken=False)
        self.invariants.disturb()
        self.cluster.tell()
        self.look()


def shrink(
    schedule: Schedule, broken: BrokenError, folder: Path, kind: type[World] = World
) -> Schedule:
    """Return the schedule with as few events as still break the same promise."""
    best = schedule
    index = 0
    while index < len(best.events):
        fewer = replace(best, events=best.events[:index] + best.events[index + 1 :])
        outcome = kind(fewer, folder).run()
        if outcome.broken is not None and outcome.broken.promise == broken.promise:
            best = fewer
        else:
            index += 1
    return best


def describe(events: Sequence[Event], layout: Layout) -> list[str]:
    """Return a line for each event, in words."""
    return [
        f"{event.at:7.2f} s  {event.name}, node-{event.node + 1}, "
        f"{layout.kinds[event.kind].name}, {event.seconds} s, choice {event.choice}"
        for event in events
    ]
