"""When the kubelet restarts a container that has died: its crash-loop backoff, and how it ends.

Initial 10 s, doubling, at most 300 s or what the node's configuration says; the first restart is
immediate. Since 1.34 the retry comes between the end of the backoff and half of what is left of
it later, before that on a grid of 10 to 15 s (pkg/kubelet/pod_workers.go, completeWork). The
kubelet keeps its count in memory and the runtime does not list when a container ended, so this
is an estimate from what it does list: the restart count, and when the container was made.

The restart count lives in the pod's status and goes on over a restart of the kubelet and a power
cycle; the backoff does not. But each backoff takes its time: no more of them can have passed than
there was time for.

The kubelet reckons it from when the newest dead container of the name ended, as the runtime tells
(kuberuntime_manager.go, doBackOff): one that the runtime has forgotten is not waited for. To look
at the pod again before its time it wants more, such as the end of its sandbox (kubelet.go,
isSyncPodWorthy). Both done, it made a new sandbox and a container in it half a second later (seen
on 1.36, deep in the backoff; with the dead container forgotten and the sandbox left, when it was
due).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from checkpointer.core.facts import Known
from checkpointer.core.occupancy import Occupancy
from checkpointer.core.runtime import Container, ContainerState, Sandbox
from checkpointer.core.situation import Situation

INITIAL_SECONDS = 10.0


def dead_of(sandbox: Sandbox, occupancy: Occupancy) -> tuple[Container, ...] | None:
    """Return this parent's dead app containers; None where one may run or is about to start."""
    mine = [c for c in occupancy.parent_others if c.pod_uid == sandbox.uid]
    may_run = any(c.pod_uid == sandbox.uid for c in occupancy.parent_running)
    if may_run or any(c.state is not ContainerState.EXITED for c in mine):
        return None
    return tuple(mine)


def dead_main_of(sandbox: Sandbox, occupancy: Occupancy, main: str | None) -> tuple[Container, ...]:
    """Return this parent's dead main containers; none where one runs or is about to start."""
    if main is None:
        return ()
    mine = [*occupancy.parent_running, *occupancy.parent_others]
    found = [c for c in mine if c.pod_uid == sandbox.uid and c.name == main]
    return tuple(found) if all(c.state is ContainerState.EXITED for c in found) else ()


def is_in_use(sandbox: Sandbox, occupancy: Occupancy) -> bool:
    """Tell whether any container of this parent runs, also one that is no app: a sidecar, say."""
    return any(uid == sandbox.uid for uid, _ in occupancy.parent_up)


def kubelet_knows(made: Iterable[Sandbox | Container], situation: Situation) -> bool:
    """Tell whether the kubelet that runs now has made one of these: it restarts their pod."""
    kubelet = situation.kubelet
    if not isinstance(kubelet, Known) or not kubelet.value.listening:
        return False
    return any(is_made_since(kubelet.value.started_at, m, situation) for m in made)


def is_made_since(started_at: int, made: Sandbox | Container, situation: Situation) -> bool:
    """Tell whether it was made since the kubelet's start.

    What is of the future was made before the clock went back, and so before a start that is not.
    """
    now = (situation.wall + 1.0) * 1e9  # the clocks are not read at the same moment
    is_of_the_past = made.created_at <= now or started_at > now
    return made.created_at > started_at and is_of_the_past


def start_in(sandbox: Sandbox, dead: Sequence[Container], situation: Situation) -> float:
    """Return the seconds until the kubelet starts it again at the earliest; below 0 when overdue.

    `dead` are this parent's dead containers, at least one; some may be of a sandbox before. One
    that ran for long before it died is started later than this says.
    """
    counted_from = sandbox.created_at / 1e9
    if isinstance(situation.kubelet, Known):
        counted_from = max(counted_from, situation.kubelet.value.started_at / 1e9)
    last = max(dead, key=lambda c: c.created_at)
    made, limit = last.created_at / 1e9, situation.rules.backoff_limit_seconds
    count = min(last.attempt, _most(made - counted_from, limit))
    return made + _backoff(count, limit) - situation.wall


def _most(seconds: float, limit_seconds: float) -> int:
    """Return the highest restart count that this time suffices for; the first costs none."""
    count = 1
    while (passed := _backoff(count, limit_seconds)) <= seconds and passed < limit_seconds:
        seconds -= passed
        count += 1
    return count


def _backoff(attempt: int, limit_seconds: float) -> float:
    """Return how long the kubelet waits after the death of the container with this attempt."""
    if attempt <= 0:
        return 0.0
    return min(INITIAL_SECONDS * 2.0 ** min(attempt - 1, 16), limit_seconds)
