"""All that the doctor looks at, each part with its own "could not tell"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint, Revision, choose_revision
from checkpointer.core.contact import ProbeResult
from checkpointer.core.facts import Fact
from checkpointer.core.moment import Moment
from checkpointer.core.observation import KubeletRun
from checkpointer.core.runtime import Runtime
from checkpointer.core.workload import Workload
from checkpointer.manifest.verdict import Finding
from checkpointer.node.agent_lock import AgentLock
from checkpointer.node.certificates import NodeIdentity
from checkpointer.node.cri import RuntimeVersion
from checkpointer.node.disk import Place
from checkpointer.node.kubelet_settings import KubeletSettings
from checkpointer.node.static_pods import StaticPod
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Examined:
    """A stored checkpoint, and what would become of the revision of it that serves."""

    checkpoint: Checkpoint
    refusals: Fact[tuple[str, ...]]
    """Why the kubelet would not run it."""
    absent: Fact[frozenset[str]]
    """Its images that the runtime does not have."""
    restricted: Fact[frozenset[str]]
    """Its images that the kubelet would pull again for want of credentials."""
    token_expires: Fact[float | None]
    """When the first of its tokens expires, in seconds of the Unix epoch."""

    @property
    def workload(self) -> Workload:
        """Return whose checkpoint it is."""
        return self.checkpoint.workload

    @property
    def serving(self) -> Revision | None:
        """Return the revision that would be activated; None when none verifies."""
        return choose_revision(self.checkpoint)


@dataclass(frozen=True, slots=True)
class SelectedPod:
    """A pod of this node that is meant to be checkpointed, as the API has it."""

    workload: Workload
    name: str
    stage: int
    is_ready: bool
    exclusion: str = ""
    """Why the configuration does not let it be; nothing else is known of it then."""
    refusals: tuple[Finding, ...] = ()
    """Why it is not checkpointable."""
    digest: str | None = None
    """What a revision taken now would have; None when that cannot be told."""


@dataclass(frozen=True, slots=True)
class ApiView:
    """What the API said."""

    pods: Fact[tuple[SelectedPod, ...]]
    clock_offset_seconds: Fact[float]
    """By how much its clock is ahead of ours, to a second or so."""
    kubelet_version: Fact[str]


@dataclass(frozen=True, slots=True)
class AgentSays:
    """What the running agent says of itself, through its socket."""

    contact: str
    """`reachable`, `suspect`, `lost` or `denied`."""
    reason: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentSilent:
    """Its socket took the question, and nobody answered in time."""

    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at a node."""

    config: Config
    node_name: str
    moment: Moment
    is_root: bool
    manifest_folder: Path
    """The configured one, without links."""
    kubelet: Fact[KubeletSettings]
    """With its folder for static pods without links, too."""
    kubelet_run: Fact[KubeletRun]
    kubelet_version: Fact[str]
    runtime_endpoint: str
    runtime: Fact[RuntimeVersion]
    containers: Fact[Runtime]
    identity: Fact[NodeIdentity]
    probes: Fact[Mapping[str, ProbeResult]]
    """By endpoint."""
    api: Fact[ApiView]
    is_synchronized: Fact[bool]
    store_place: Fact[Place]
    store_safety: str
    """Why the store's folder must not be used; empty when it may."""
    manifest_place: Fact[Place]
    examined: Fact[tuple[Examined, ...]]
    store_problems: tuple[str, ...]
    """About folders of the store that nobody can tell the workload of."""
    static_pods: Fact[tuple[StaticPod, ...]]
    lock: Fact[AgentLock]
    agent: Fact[AgentSays | AgentSilent]
    leftovers: tuple[Path, ...] = field(default=())
    """Folders of other checkpointers."""

    @property
    def now(self) -> float:
        """When this was looked at, in seconds of the Unix epoch."""
        return self.moment.wall
