"""Who of a workload is up in the runtime: the parent, a copy of ours, or nobody.

The runtime is the truth for "running"; the API and the kubelet's own view are not (the kubelet
keeps counting pods as running that died with the machine).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from checkpointer.core.checkpoint import Checkpoint
from checkpointer.core.observation import Pod
from checkpointer.core.runtime import Container, ContainerState, Runtime, Sandbox
from checkpointer.core.workload import identifying_labels
from checkpointer.values import dataclass

WORKLOAD_LABEL = "checkpointer.alpha.coreos.com/workload"
"""Our mark on a copy: the digest of its workload; pod labels reach the sandbox."""

SOURCE_ANNOTATION = "kubernetes.io/config.source"

FORMER_COPY = "checkpointer.alpha.coreos.com/checkpoint-of"
"""On a copy of the bootkube checkpointer: the parent's name. Such a copy is none of ours: while
it runs it does its parent's work, and one of ours beside it would fight it for the ports."""


_Containers = dict[str, list[Container]]
"""Containers by the digest of their workload."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """A workload's sandboxes and app containers, apart by whose they are."""

    copy_sandboxes: tuple[Sandbox, ...] = ()
    """All sandboxes of copies, dead ones included: without one, the kubelet refused the copy."""
    copy_containers: tuple[Container, ...] = ()
    """All containers of copies, dead ones included: their attempts tell of a crash loop."""
    parent_sandboxes: tuple[Sandbox, ...] = ()
    """The parent's ready sandboxes."""
    parent_running: tuple[Container, ...] = ()
    parent_others: tuple[Container, ...] = ()
    """The parent's app containers that do not run: about to start, or dead."""
    parent_up: frozenset[tuple[str, str]] = frozenset()
    """Pod UID and id of every container of the parent that runs, whatever its name: a rollout may
    have added some that no stored revision knows."""

    @property
    def copy_running(self) -> tuple[Container, ...]:
        return tuple(c for c in self.copy_containers if c.state is ContainerState.RUNNING)

    @property
    def is_running(self) -> bool:
        """Whether anything runs that a copy, made active now, would fight."""
        return bool(self.parent_running) or self.is_copy_whole

    @property
    def is_copy_whole(self) -> bool:
        """Whether a copy runs, and no app container of it is dead."""
        return bool(whole_pods(self.copy_running, self.copy_containers))


def occupancy_of(checkpoint: Checkpoint, runtime: Runtime) -> Occupancy:
    """Return who of the checkpoint's workload is up.

    A parent is known by its UID, or, when it is a pod that the agent has not seen in the API
    (it was made while contact was lost), by labels and a name that its controller would give.
    """
    return occupancies([checkpoint], runtime)[checkpoint.workload.digest]


def occupancies(checkpoints: Iterable[Checkpoint], runtime: Runtime) -> Mapping[str, Occupancy]:
    """Return the occupancy of every checkpoint's workload, by the workload's digest.

    One pass over the runtime's lists, so that a node with a thousand checkpoints stays cheap.
    """
    checkpoints = tuple(checkpoints)
    by_namespace: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        by_namespace.setdefault(checkpoint.workload.namespace, []).append(checkpoint)
    digests = {c.workload.digest: c for c in checkpoints}
    by_uid = {uid: digest for digest, c in digests.items() for uid in c.record.parents}
    copies: dict[str, list[Sandbox]] = {d: [] for d in digests}
    parents: dict[str, list[Sandbox]] = {d: [] for d in digests}
    owner_of_uid: dict[str, tuple[str, bool]] = {}
    for sandbox in runtime.sandboxes:
        mark = sandbox.labels.get(WORKLOAD_LABEL)
        if mark is not None and not _is_from_api(sandbox):
            if mark in digests and digests[mark].workload.namespace == sandbox.namespace:
                owner_of_uid[sandbox.uid] = (mark, True)
                copies[mark].append(sandbox)
            continue
        owner = by_uid.get(sandbox.uid) or next(
            (
                c.workload.digest
                for c in by_namespace.get(sandbox.namespace, ())
                if _looks_like_parent(sandbox, c)
            ),
            None,
        )
        if owner is not None:
            owner_of_uid[sandbox.uid] = (owner, False)
            parents[owner].append(sandbox)
    # The lists are not of one moment: a container may show without its sandbox.
    for uid, digest in by_uid.items():
        owner_of_uid.setdefault(uid, (digest, False))
    copy_containers, running, others, up = _containers(digests, owner_of_uid, runtime)
    return {
        digest: Occupancy(
            copy_sandboxes=tuple(copies[digest]),
            copy_containers=tuple(copy_containers[digest]),
            parent_sandboxes=tuple(s for s in parents[digest] if s.ready),
            parent_running=tuple(running[digest]),
            parent_others=tuple(others[digest]),
            parent_up=frozenset(up[digest]),
        )
        for digest in digests
    }


def _containers(
    digests: Mapping[str, Checkpoint],
    owner_of_uid: Mapping[str, tuple[str, bool]],
    runtime: Runtime,
) -> tuple[_Containers, _Containers, _Containers, dict[str, set[tuple[str, str]]]]:
    """Return, by workload, app containers of copies, of parents those that may run and those that
    do not, and all that run of parents."""
    copies: _Containers = {digest: [] for digest in digests}
    running: _Containers = {digest: [] for digest in digests}
    idle: _Containers = {digest: [] for digest in digests}
    up: dict[str, set[tuple[str, str]]] = {digest: set() for digest in digests}
    live = {sandbox.id for sandbox in runtime.sandboxes if sandbox.ready}
    others: list[tuple[str, Container]] = []
    with_app: set[str] = set()
    for container in runtime.containers:
        digest, is_copy = owner_of_uid.get(container.pod_uid, (None, False))
        if digest is None:
            continue
        if not is_copy and container.state is ContainerState.RUNNING:
            up[digest].add((container.pod_uid, container.id))
        is_app = _is_app(container, digests[digest])
        if is_app:
            with_app.add(container.pod_uid)
        if is_copy and is_app:
            copies[digest].append(container)
        elif not is_copy and _may_run(container, live):
            if is_app:
                running[digest].append(container)
            else:
                others.append((digest, container))
        elif is_app:
            idle[digest].append(container)
    for digest, container in others:
        # A rollout may have renamed the containers, and the runtime does not tell init containers
        # apart: in a pod without any known name, what runs counts. No copy must start beside it.
        if container.pod_uid not in with_app:
            running[digest].append(container)
    return copies, running, idle, up


def whole_pods(running: Iterable[Container], others: Iterable[Container]) -> frozenset[str]:
    """Return the UIDs of the pods of which something runs and nothing is dead, each by itself.

    The dead containers of a pod that was replaced are listed for a while beside its successor's.
    """
    up = {(c.pod_uid, c.name) for c in running}
    dead = {(c.pod_uid, c.name) for c in others if c.state is ContainerState.EXITED}
    return frozenset({uid for uid, _ in up} - {uid for uid, _ in dead - up})


def is_current(pod: Pod, running: Set[tuple[str, str]]) -> bool:
    """Tell whether the pod's status speaks of what runs now; `running` are pod UIDs and ids.

    The API goes on telling the status from before a power cycle until the kubelet writes another.
    """
    return bool(pod.container_ids) and {(pod.uid, i) for i in pod.container_ids} <= running


def _may_run(container: Container, live: Set[str]) -> bool:
    """Tell whether a container runs, as far as the runtime can tell.

    One in an unknown state may, unless its sandbox went: that is what a power cut leaves.
    """
    if container.state is ContainerState.UNKNOWN:
        return container.sandbox_id in live
    return container.state is ContainerState.RUNNING


def _is_app(container: Container, checkpoint: Checkpoint) -> bool:
    """Tell whether a container is one that makes the workload run, by any stored revision."""
    for revision in checkpoint.revisions:  # for each container in each cycle: no generator
        if container.name in revision.app_containers:
            return True
    return not checkpoint.revisions


def _is_from_api(sandbox: Sandbox) -> bool:
    """Tell whether the kubelet had it from the API: whoever may label such a pod, it is no copy."""
    return sandbox.annotations.get(SOURCE_ANNOTATION) == "api"


def _looks_like_parent(sandbox: Sandbox, checkpoint: Checkpoint) -> bool:
    name = sandbox.name
    if sandbox.annotations.get(SOURCE_ANNOTATION, "api") != "api":
        name = sandbox.annotations.get(FORMER_COPY, "")
    if not checkpoint.workload.may_own(sandbox.namespace, name):
        return False
    labels = identifying_labels(sandbox.labels)
    wanted = [dict(revision.labels) for revision in checkpoint.revisions]
    return any(
        {key: labels.get(key) for key in revision_labels} == revision_labels
        for revision_labels in wanted
    )
