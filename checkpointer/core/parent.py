"""What the agent remembers of a parent from one look at the runtime to the next."""

from __future__ import annotations

from collections import Counter

from checkpointer.core.checkpoint import Revision, main_container
from checkpointer.core.occupancy import Occupancy, whole_pods
from checkpointer.core.plan import Track
from checkpointer.core.runtime import Container, ContainerState
from checkpointer.core.workload import Workload
from checkpointer.values import replace

QUICK_SECONDS, QUICK_DEATHS = 1.5, 2
"""How soon, from its making to the look that finds it dead, a container dies of a port that is
taken (an API server of 1.36: after 0.7 s), and how many times in a row that proves it."""

UP_SECONDS = 20.0
"""How long a parent must run to count as up again: one that keeps crashing runs in between."""


def with_parent(track: Track, occupancy: Occupancy, now: float) -> Track:
    """Return the track with what runs of the parent, since when, and how often it has died.

    The deaths that the first look finds are old ones. Containers that die together are one death
    of the pod; what died with the sandbox that we ended is none. The kubelet keeps one dead
    container of each name, so between two looks more may have died than are counted.
    """
    running = frozenset(c.id for c in occupancy.parent_running)
    if running != track.parent_running:
        since = now if running else None
        track = replace(track, parent_running=running, parent_since=since)
    dead = [c for c in occupancy.parent_others if c.state is not ContainerState.CREATED]
    exits = frozenset(c.id for c in dead)
    if exits == track.parent_exits:
        return track
    crashes = 0
    if track.parent_exits is not None:
        new = [c for c in dead if c.id not in track.parent_exits]
        died = Counter(c.name for c in new if c.sandbox_id != track.ended_sandbox)
        crashes = max(died.values(), default=0)
    return replace(track, parent_exits=exits, parent_crashes=track.parent_crashes + crashes)


def died_since(before: Track, track: Track, occupancy: Occupancy) -> tuple[Container, ...]:
    """Return the parent's containers that are dead in `track`, and were not yet in `before`.

    Those that the first look finds are old ones.
    """
    if before.parent_exits is None or track.parent_exits is None:
        return ()
    new = track.parent_exits - before.parent_exits
    return tuple(c for c in occupancy.parent_others if c.id in new)


def with_quick_deaths(
    before: Track, track: Track, occupancy: Occupancy, main: str | None, wall: float
) -> Track:
    """Return the track with what died since the look before held against its ports, or not.

    `wall` is the node's clock, as the runtime's times are. A plugin needs none of the `main`
    container's ports.
    """
    died = [c for c in died_since(before, track, occupancy) if main in (None, c.name)]
    lives = [wall - c.created_at / 1e9 for c in died]
    if not lives:
        return track
    is_quick = any(abs(seconds) <= QUICK_SECONDS for seconds in lives)
    return replace(track, quick_deaths=track.quick_deaths + 1 if is_quick else 0)


def finds_ports_taken(track: Track) -> bool:
    """Tell whether the parent dies as one does whose ports are taken: at once, and again."""
    return track.quick_deaths >= QUICK_DEATHS


def is_in_place(stage: int, track: Track, occupancy: Occupancy) -> bool:
    """Tell whether the parent runs, so that a copy would be one too many.

    An API server that the API took away has closed its port when contact is lost, and may take
    half a minute to end (seen on 1.36: for the connections that are open). It does not come back,
    and nobody can make its successor meanwhile.
    """
    return bool(occupancy.parent_running) and not (stage == 0 and track.was_leaving)


def is_partly_dead(occupancy: Occupancy) -> bool:
    """Tell whether some of the parent runs, and no pod of it without a dead app container."""
    running = occupancy.parent_running
    return bool(running) and not whole_pods(running, occupancy.parent_others)


def has_lost_its_main(occupancy: Occupancy, workload: Workload, revision: Revision) -> bool:
    """Tell whether some of the parent runs, but not its main container: dead, or never made.

    Where nobody can tell which that is, any container that is dead may be it. One that a rollout
    has renamed is none that any revision knows.
    """
    main, running = main_container(workload, revision), occupancy.parent_running
    if main is None:
        return is_partly_dead(occupancy)
    names = {container.name for container in running}
    if not names or main in names or not names.issubset(revision.app_containers):
        return False
    known = {container.id for container in running}
    return is_partly_dead(occupancy) or all(i in known for _, i in occupancy.parent_up)


def has_run_for(track: Track, seconds: float, now: float) -> bool:
    """Tell whether what runs of the parent has run for so long."""
    return track.parent_since is not None and now - track.parent_since >= seconds
