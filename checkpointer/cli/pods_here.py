"""The pods that the runtime shows, under the names by which an operator asks for them."""

from __future__ import annotations

from collections.abc import Iterable

from checkpointer.cli.command import UsageError
from checkpointer.cli.local_node import names_of
from checkpointer.core.checkpoint import Checkpoint
from checkpointer.core.occupancy import SOURCE_ANNOTATION, WORKLOAD_LABEL, occupancies
from checkpointer.core.runtime import Container, ContainerState, Runtime, Sandbox
from checkpointer.values import dataclass

STATIC, COPY, API = "static pod", "copy", "API pod"


@dataclass(frozen=True, slots=True)
class PodHere:
    """One pod of this node: its sandboxes and containers, newest first, dead ones included."""

    uid: str
    namespace: str
    name: str
    kind: str
    """STATIC, COPY (a checkpoint's) or API."""
    checkpoint: Checkpoint | None
    """Its workload's, if it has one."""
    sandboxes: tuple[Sandbox, ...]
    containers: tuple[Container, ...]

    @property
    def is_running(self) -> bool:
        """Tell whether any of its containers runs."""
        return bool(self.running)

    @property
    def running(self) -> tuple[Container, ...]:
        """Return its running containers."""
        return tuple(c for c in self.containers if c.state is ContainerState.RUNNING)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def pods_here(runtime: Runtime, checkpoints: Iterable[Checkpoint]) -> tuple[PodHere, ...]:
    """Return all pods that the runtime lists, newest first, those that run before the others."""
    checkpoints = tuple(checkpoints)
    found = occupancies(checkpoints, runtime)
    owners: dict[str, Checkpoint] = {}
    for checkpoint in checkpoints:
        occupancy = found[checkpoint.workload.digest]
        for one in (*occupancy.parent_sandboxes, *occupancy.copy_sandboxes):
            owners[one.uid] = checkpoint
        owners |= dict.fromkeys(checkpoint.record.parents, checkpoint)
    by_uid: dict[str, list[Sandbox]] = {}
    for sandbox in sorted(runtime.sandboxes, key=lambda s: -s.created_at):
        by_uid.setdefault(sandbox.uid, []).append(sandbox)
    pods = []
    for uid, sandboxes in by_uid.items():
        newest = sandboxes[0]
        containers = sorted(
            (c for c in runtime.containers if c.pod_uid == uid),
            key=lambda c: (-c.created_at, -c.attempt),
        )
        pods.append(
            PodHere(
                uid,
                newest.namespace,
                newest.name,
                _kind(newest),
                owners.get(uid),
                tuple(sandboxes),
                tuple(containers),
            )
        )
    return tuple(sorted(pods, key=lambda p: (not p.is_running, -p.sandboxes[0].created_at)))


def find_pod(pods: Iterable[PodHere], wanted: str, node_name: str) -> PodHere:
    """Return the pod meant: of a workload the one that runs, else the newest.

    Raises UsageError that lists what there is.
    """
    pods = tuple(pods)
    found = [pod for pod in pods if wanted.lower() in _names(pod, node_name)]
    running = [pod for pod in found if pod.is_running]
    among = {(pod.namespace, pod.name if pod.checkpoint is None else "") for pod in found}
    workloads = {str(pod.checkpoint.workload) for pod in found if pod.checkpoint}
    if len(among) > 1 or len(workloads) > 1 or len(running) > 1:
        which = ", ".join(str(pod) for pod in found)
        raise UsageError(f"{wanted}: there are several, say which: {which}")
    if found:
        return found[0]
    there = ", ".join(sorted({str(pod) for pod in pods if pod.is_running}))
    raise UsageError(
        f"{wanted}: the runtime shows no pod of that name; "
        + (f"these run: {there}" if there else "none runs at all")
    )


def _kind(sandbox: Sandbox) -> str:
    source = sandbox.annotations.get(SOURCE_ANNOTATION, "api")
    if source == "api":
        return API
    return COPY if WORKLOAD_LABEL in sandbox.labels else STATIC


def _names(pod: PodHere, node_name: str) -> set[str]:
    """Return every name by which it may be asked for, in lower case."""
    short = {pod.name, pod.name.removesuffix(f"-{node_name}")}
    found = {*short, *(f"{pod.namespace}/{name}" for name in short)}
    if pod.checkpoint is not None:
        found |= names_of(pod.checkpoint)
    return {name.lower() for name in found}
