"""This node as a command sees it, with nothing but its disk and its runtime.

Everything is read as the agent reads it; nothing waits for the agent, the API, or a runtime that
hangs for longer than a short deadline.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from checkpointer.cli.command import UsageError
from checkpointer.config import Config
from checkpointer.core.checkpoint import ActiveManifest, Checkpoint, Revision
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.moment import Moment
from checkpointer.core.runtime import Runtime
from checkpointer.core.workload import Workload
from checkpointer.errors import CheckpointerError
from checkpointer.manifest.render import mark_of
from checkpointer.node.agent_lock import find_agent
from checkpointer.node.kubelet import read_moment
from checkpointer.node.manifests import Folder
from checkpointer.node.patience import check_answers
from checkpointer.node.patient_manifests import PatientManifestFolder
from checkpointer.store.revisions import Store

if TYPE_CHECKING:
    from checkpointer.node.cri import ContainerRuntime

RUNTIME_SECONDS = 2.0


class NodeError(CheckpointerError):
    """Something on this node could not be read; the message says what."""


class LocalNode:
    """The node that this command runs on."""

    def __init__(self, config: Config, runtime_seconds: float = RUNTIME_SECONDS) -> None:
        """Raises SilentError when the store is on a dead mount."""
        check_answers(config.store_directory)
        self.config = config
        self.name = config.node_name or socket.gethostname().lower()
        self.store = Store(config.store_directory)
        self.folder = PatientManifestFolder(config.manifest_directory, mark_of)
        self._runtime_seconds = runtime_seconds

    @cached_property
    def kubelet_directory(self) -> Path:
        """Return the kubelet's folder. Raises SilentError when it is on a dead mount."""
        check_answers(self.config.kubelet_directory)
        return self.config.kubelet_directory

    @cached_property
    def runtime(self) -> ContainerRuntime | None:
        """Return the container runtime, by its socket; None when there is none."""
        from checkpointer.node.cri import ContainerRuntime, find_endpoint

        endpoint = self.config.runtime_endpoint or find_endpoint()
        return ContainerRuntime(endpoint, self._runtime_seconds) if endpoint else None

    def needed_runtime(self) -> ContainerRuntime:
        """Return the container runtime. Raises NodeError when no socket of one was found."""
        if self.runtime is None:
            raise NodeError(
                "no container runtime socket was found; name it with --set runtimeEndpoint="
                "unix:///path/to/socket"
            )
        return self.runtime

    def running(self) -> Fact[Runtime]:
        """Return what the runtime lists now."""
        if self.runtime is None:
            return Unknown("no container runtime socket was found")
        return self.runtime.observe()

    def needed_running(self) -> Runtime:
        """Return what the runtime lists now. Raises NodeError when it does not answer."""
        found = self.needed_runtime().observe()
        if isinstance(found, Unknown):
            raise NodeError(
                f"the container runtime does not answer: {found.reason}; try "
                "`systemctl status containerd` (or crio), then again"
            )
        return found.value

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Return what the store holds. Raises NodeError when it cannot be read."""
        self.store.invalidate()
        found = self.store.read()
        if isinstance(found, Unknown):
            raise NodeError(found.reason)
        return found.value.checkpoints

    def checkpoint(self, wanted: str) -> Checkpoint:
        """Return the one checkpoint of that name. Raises UsageError that lists those there are."""
        return find_checkpoint(self.checkpoints(), wanted, self.store.root)

    def manifests(self) -> Folder:
        """Return what lies in the kubelet's manifest folder. Raises NodeError."""
        found = self.folder.observe()
        if isinstance(found, Unknown):
            raise NodeError(f"{found.reason}; is manifestDirectory the kubelet's staticPodPath?")
        return found.value

    def active(self, workload: Workload) -> ActiveManifest | None:
        """Return the workload's manifest in the kubelet's folder. Raises NodeError."""
        return next((m for m in self.manifests().ours if m.workload == workload), None)

    def now(self) -> Moment:
        """Read the clocks."""
        return read_moment(self.config.boot_id_file)

    def is_agent_running(self) -> bool:
        """Tell whether somebody holds the instance lock; it is not taken."""
        found = find_agent(self.config.lock_file)
        return isinstance(found, Known) and found.value.is_held


def find_checkpoint(
    checkpoints: Iterable[Checkpoint], wanted: str, root: Path | str = "the store"
) -> Checkpoint:
    """Return the one checkpoint meant by `name`, `namespace/name` or `namespace/kind/name`.

    The parent pod's name will do as well. Raises UsageError that lists what there is.
    """
    checkpoints = tuple(checkpoints)
    found = [c for c in checkpoints if wanted.lower() in names_of(c)]
    if len(found) == 1:
        return found[0]
    if found:
        which = ", ".join(str(c.workload) for c in found)
        raise UsageError(f"{wanted}: there are several, say which: {which}")
    there = ", ".join(str(c.workload) for c in checkpoints)
    raise UsageError(
        f"{wanted or repr(wanted)}: no checkpoint of that name; "
        + (f"there are: {there}" if there else f"{root} holds none at all")
    )


def names_of(checkpoint: Checkpoint) -> set[str]:
    """Return every name by which a checkpoint may be asked for, in lower case."""
    workload = checkpoint.workload
    parents = {r.parent_name for r in checkpoint.revisions[:1]}
    short = {workload.name, *parents}
    qualified = {f"{workload.namespace}/{name}" for name in short}
    kind = {f"{workload.kind}/{workload.name}"}
    return {name.lower() for name in (*short, *qualified, *kind, str(workload))}


def revision_of(checkpoint: Checkpoint, number: int | None) -> Revision:
    """Return a revision that verifies, the newest by default. Raises UsageError."""
    if not checkpoint.revisions:
        problems = "; ".join(checkpoint.problems) or "none is stored"
        raise NodeError(f"{checkpoint.workload}: no revision that verifies: {problems}")
    if number is None:
        return checkpoint.revisions[0]
    for revision in checkpoint.revisions:
        if revision.number == number:
            return revision
    there = ", ".join(str(r.number) for r in checkpoint.revisions)
    raise UsageError(
        f"{checkpoint.workload}: no revision {number} that verifies; there are {there}"
    )
