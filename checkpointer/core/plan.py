"""What a decision consists of: actions to apply, what to remember, and one sentence.

Actions are idempotent and name what they want to be true; the agent may die between any two
and the next cycle decides the rest anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from checkpointer.core.checkpoint import OwnRecord, Record
from checkpointer.core.lease import Turn
from checkpointer.core.standing import Standing
from checkpointer.core.workload import Workload
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Store a new revision of this parent if anything differs from the newest one."""

    workload: Workload
    uid: str


@dataclass(frozen=True, slots=True)
class Activate:
    """Put this revision's manifest into the kubelet's folder, then end what it replaces.

    `issue` makes it a new pod to the kubelet. `stop_sandboxes` are those of a copy that it
    replaces: with the API away the kubelet would not stop them.
    """

    workload: Workload
    revision: int
    issue: int
    reason: str
    stop_sandboxes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Release:
    """Kill these containers of the copy, and take its manifest out of the kubelet's folder."""

    workload: Workload
    file_name: str
    reason: str
    kill: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill containers of a copy whose manifest is gone: the rest of an interrupted release."""

    workload: Workload
    kill: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StartAnew:
    """Forget these dead containers of a parent and end its sandbox: the kubelet starts it at once.

    See `backoff`.
    """

    workload: Workload
    sandbox: str
    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplaceParent:
    """Delete this pod in the API, if it still is that one, for its controller to make it anew."""

    workload: Workload
    name: str
    uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a checkpoint that nothing wants any more from the store."""

    workload: Workload
    reason: str


@dataclass(frozen=True, slots=True)
class GiveWay:
    """End this instance of the agent, so that the one that is parked may work."""

    workload: Workload
    reason: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Remove what is left of ours on the node: the agent's own checkpoint, its manifest last."""

    workload: Workload
    file_name: str | None
    reason: str


Action = Snapshot | Activate | Release | Kill | StartAnew | ReplaceParent | Remove | GiveWay | Leave


@dataclass(frozen=True, slots=True)
class Track:
    """What is remembered of one workload between cycles of one run of the agent.

    Times are on the monotonic clock. Losing all of it only makes the agent slower.
    """

    down_since: float | None = None
    activated_at: float | None = None
    confirmed_at: float | None = None
    """When it was last seen that the kubelet needs no time to start the copy, or can have none."""
    issues: int = 0
    parent_running: frozenset[str] = frozenset()
    """The parent's running app containers, by id, as last seen."""
    parent_since: float | None = None
    """Since when just these have been running."""
    parent_exits: frozenset[str] | None = None
    """The parent's app containers that were seen dead, by id; None before the first look."""
    parent_crashes: int = 0
    """How many more have died since the agent began to count: at a loss or a hand-over."""
    quick_deaths: int = 0
    """How many times in a row it has died as soon as it was started beside the active copy."""
    short_lives: tuple[str, int] = ("", 0)
    """UID of a parent, and how often in a row it died soon after its start."""
    started_anew: tuple[int, float] = (0, 0.0)
    """How often the parent was to be started anew in this hand-over, and when last."""
    ended_sandbox: str = ""
    """The parent's sandbox that was ended for that: what dies in it was killed with it."""
    copy_ran_at: float | None = None
    """When the copy that made way was last seen running: one may keep its grace."""
    was_leaving: bool = False
    """Whether the API, when it last told of this node's pods, had no parent here that stays."""
    refused: str = ""
    """UID of the first parent that the API showed to be refused beside the active copy."""
    excused_attempts: int | None = None
    """Restarts of the copy that count no more: outlived, beside a parent that was up, or from
    before this run of the agent and not known to be crashes. None until that is told."""
    running_since: float | None = None
    """Since when the copy has been seen running without a break."""
    bare_since: tuple[str, float] | None = None
    """UID of a copy that the kubelet has taken and made no container of, and since when."""
    released_at: float | None = None
    """When its manifest was taken out by hand."""
    absent_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last snapshot of a parent that was tried."""

    signature: str
    at: float
    revision: int = 0
    """The revision that it was stored as, or found equal to; 0 until a look at the store tells."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered between cycles; `contact_kubelet` and `own` must survive a restart."""

    contact_kubelet: str | None = None
    """Identity of the kubelet's run that was last seen while contact was Reachable."""
    kubelet_seen: tuple[str, float] | None = None
    """The kubelet's current run, and when it was first seen."""
    tracks: Mapping[Workload, Track] = field(default_factory=dict)
    ready_since: Mapping[str, float] = field(default_factory=dict)
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    last_cycle: float | None = None
    last_removal: float | None = None
    stage_zero_at: float | None = None
    """When a stage-0 checkpoint was last activated in this outage."""
    own: OwnRecord = OwnRecord()
    began: float | None = None
    """When this run of the agent began to work."""
    is_uninstalled: bool = False
    """Whether the API said in the last cycle that the installation is gone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome of one decision."""

    sentence: str
    memory: Memory
    actions: tuple[Action, ...] = ()
    records: Mapping[Workload, Record] = field(default_factory=dict)
    """Records that changed, to be written before the actions are applied."""
    standings: Mapping[Workload, Standing] = field(default_factory=dict)
    wake_in: float = 30.0
    turn: Turn = Turn.NONE
    """What is wanted of the other masters."""
