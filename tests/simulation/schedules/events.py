"""What may happen in a schedule: a draw of events, and what each of them does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from checkpointer.store.layout import CURRENT, REVISIONS, workload_folder
from tests.simulation.schedules.node import FAULTS, Node
from tests.simulation.schedules.workloads import Kind

if TYPE_CHECKING:
    from tests.simulation.schedules.world import World

HOURS = (-30 * 86400.0, -26 * 3600.0, -3600.0, 3600.0, 26 * 3600.0, 400 * 86400.0)
LIES = ("empty", "partial", "other", "twin")
DISK_FAULTS = ("full", "read-only", "broken")


@dataclass(frozen=True)
class Event:
    """Something that happens at a moment to a node, for so many seconds where it lasts."""

    at: float
    name: str
    node: int = 0
    kind: int = 0
    seconds: float = 0.0
    choice: int = 0

    def __str__(self) -> str:
        return (
            f"Event({self.at}, {self.name!r}, node={self.node}, kind={self.kind}, "
            f"seconds={self.seconds}, choice={self.choice})"
        )


def draw(random: Random, length: float, nodes: int, kinds: int) -> tuple[Event, ...]:
    """Draw a schedule: few events, often close together, for that is where it goes wrong."""
    count = random.choice((1, 2, 3, 4, 5, 7, 10))
    names = list(EVENTS)
    weights = [_WEIGHTS.get(name, 1) for name in names]
    when = random.uniform(0.0, length)
    events = []
    for name in random.choices(names, weights, k=count):
        near = random.random() < 0.6
        when = when + random.expovariate(1 / 8) if near else random.uniform(0.0, length)
        when %= length
        events.append(
            Event(
                round(when, 2),
                name,
                random.randrange(nodes),
                random.randrange(kinds),
                round(random.choice((0.5, 3.0, 20.0, 90.0, 240.0)) * random.uniform(0.5, 1.2), 2),
                random.randrange(60),
            )
        )
    return tuple(sorted(events, key=lambda event: event.at))


def happen(world: World, event: Event) -> None:
    """Let an event happen."""
    node = world.nodes[event.node]
    EVENTS[event.name](world, node, event)


def _power(world: World, node: Node, event: Event) -> None:
    node.cut_power()


def _power_everywhere(world: World, node: Node, event: Event) -> None:
    for one in world.nodes:
        one.cut_power()


def _kubelet(world: World, node: Node, event: Event) -> None:
    node.kubelet.stop()
    world.timeline.after(min(event.seconds, 60.0), node.kubelet.start)


def _runtime_restart(world: World, node: Node, event: Event) -> None:
    node.stop_runtime(min(event.seconds, 60.0))


def _runtime_hangs(world: World, node: Node, event: Event) -> None:
    node.runtime.hangs = True
    world.timeline.after(event.seconds, node.start_runtime)


def _agent_restart(world: World, node: Node, event: Event) -> None:
    node.stop_agent()
    world.timeline.after(min(event.seconds, 120.0), node.start_agent)


def _agent_killed(world: World, node: Node, event: Event) -> None:
    node.disk.kill_in = event.choice + 1


def _network(world: World, node: Node, event: Event) -> None:
    def mend() -> None:
        node.has_network = True
        world.look()

    node.has_network = False
    world.look()
    world.timeline.after(event.seconds, mend)


def _fault(world: World, node: Node, event: Event) -> None:
    world.set_fault(node, FAULTS[event.choice % len(FAULTS)])
    world.timeline.after(event.seconds, lambda: world.set_fault(node, ""))


def _flapping(world: World, node: Node, event: Event) -> None:
    random = Random(event.choice)
    when, is_bad = 0.0, False
    while when < min(event.seconds, 60.0):
        is_bad = not is_bad
        fault = random.choice(FAULTS) if is_bad else ""
        world.timeline.after(when, lambda fault=fault: world.set_fault(node, fault))
        when += random.uniform(0.2, 6.0)
    world.timeline.after(when, lambda: world.set_fault(node, ""))


def _api_down(world: World, node: Node, event: Event) -> None:
    def mend() -> None:
        world.cluster.is_up = True
        world.look()

    world.cluster.is_up = False
    world.look()
    world.timeline.after(event.seconds, mend)


def _container_dies(world: World, node: Node, event: Event) -> None:
    """Let a workload's containers die: all, or of two the one or the other."""
    kind = world.kind(event)
    dying = (kind.containers, kind.containers[:1], kind.containers[-1:])[event.choice % 3]
    for container_id, process in list(node.runtime.processes.items()):
        if process.kind is kind and process.container in dying:
            node.runtime.exit(container_id)
            if not process.is_copy and kind.stage == 0:
                world.cluster.kills[kind.name, process.version] += 1


def _rollout(world: World, node: Node, event: Event) -> None:
    world.roll(world.kind(event), is_broken=False)


def _broken_rollout(world: World, node: Node, event: Event) -> None:
    kind = world.kind(event)
    world.roll(kind, is_broken=True)
    world.timeline.after(event.seconds, lambda: world.roll(kind, is_broken=False))


def _revision_rots(world: World, node: Node, event: Event) -> None:
    """A good rollout, after which the new version cannot start any more; half of them die of it."""
    kind = world.kind(event)
    world.roll(kind, is_broken=False)
    version = world.cluster.versions[kind.name]

    def rot() -> None:
        world.invariants.disturb()
        world.cluster.broken.add((kind.name, version))
        for one in world.nodes if event.choice % 2 else ():
            one.runtime.exit_all(kind, version)

    world.timeline.after(max(event.seconds, 30.0), rot)


def _pod_deleted(world: World, node: Node, event: Event) -> None:
    for pod in world.cluster.pods_of(node.name):
        if pod.kind is world.kind(event) and node.can_use_api():
            world.cluster.delete(pod)


def _workload_deleted(world: World, node: Node, event: Event) -> None:
    kind = world.kind(event)
    if kind.stage > 0 and not kind.is_controller:
        world.cluster.unwanted.add((kind.name, node.name))
        world.cluster.poke()


def _lie(world: World, node: Node, event: Event) -> None:
    def end() -> None:
        node.lie = ""
        world.cluster.tell()

    node.lie = LIES[event.choice % len(LIES)]
    node.lies_to_kubelet = event.choice % 16 >= 12
    world.cluster.tell()
    world.timeline.after(event.seconds, end)


def _clock(world: World, node: Node, event: Event) -> None:
    node.jump += HOURS[event.choice % len(HOURS)]


def _disk(world: World, node: Node, event: Event) -> None:
    def mend() -> None:
        node.disk.fault = ""

    node.disk.fault = DISK_FAULTS[event.choice % len(DISK_FAULTS)]
    world.timeline.after(event.seconds, mend)


def _damage(world: World, node: Node, event: Event) -> None:
    """Truncate or change one file of a workload's checkpoint, or its active manifest; or remove all
    that is stored of it."""
    kind = world.kind(event)
    folder = workload_folder(node.store, kind.workload)
    if event.choice % 7 == 6 and folder.is_dir():
        shutil.rmtree(folder)
        node.damaged.add(kind.name)
        _tell(node, folder)
        return
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files += sorted(node.manifests.glob(f"pod-checkpointer-*{kind.workload.digest}.json"))
    if not files:
        return
    path = files[event.choice % len(files)]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if event.choice % 2 else b"\0" + content[1:])
    is_revision = folder / REVISIONS in path.parents or path == folder / CURRENT
    (node.damaged if is_revision else node.tampered).add(kind.name)
    _tell(node, path)


def _foreign_file(world: World, node: Node, event: Event) -> None:
    path = node.manifests / f"foreign-{event.choice}.yaml"
    path.write_bytes(b"kind: Pod\n")
    node.foreign[path.name] = b"kind: Pod\n"
    _tell(node, path)


def _tell(node: Node, path: Path) -> None:
    if path.parent == node.manifests:
        node.kubelet.folder_changed()
    if node.agent is not None and not node.agent.is_dead:
        node.agent.told(path)


def _refusals(world: World, node: Node, event: Event) -> None:
    node.kubelet.refusals = 1 + event.choice % 3


def _copies_crash(world: World, node: Node, event: Event) -> None:
    kind: Kind = world.kind(event)
    node.bad_copies.add(kind.name)
    world.timeline.after(event.seconds, lambda: node.bad_copies.discard(kind.name))


EVENTS: dict[str, Callable[[World, Node, Event], None]] = {
    "power cut": _power,
    "power cut everywhere": _power_everywhere,
    "kubelet restart": _kubelet,
    "runtime restart": _runtime_restart,
    "runtime hangs": _runtime_hangs,
    "agent restart": _agent_restart,
    "agent killed": _agent_killed,
    "no network": _network,
    "fault": _fault,
    "flapping": _flapping,
    "api down": _api_down,
    "container dies": _container_dies,
    "rollout": _rollout,
    "broken rollout": _broken_rollout,
    "revision rots": _revision_rots,
    "pod deleted": _pod_deleted,
    "workload deleted": _workload_deleted,
    "lie": _lie,
    "clock jump": _clock,
    "disk fault": _disk,
    "damage": _damage,
    "foreign file": _foreign_file,
    "refusals": _refusals,
    "copies crash": _copies_crash,
}
_WEIGHTS = {
    "power cut": 5,
    "power cut everywhere": 3,
    "kubelet restart": 3,
    "agent restart": 2,
    "agent killed": 3,
    "no network": 3,
    "fault": 6,
    "api down": 3,
    "container dies": 2,
    "refusals": 3,
    "copies crash": 2,
    "revision rots": 2,
}
