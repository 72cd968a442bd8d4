"""The times and counts that a decision goes by; all times in seconds."""

from __future__ import annotations

from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class ContactRules:
    """Thresholds of contact."""

    failures: int = 3
    server_error_seconds: float = 15.0
    denied_seconds: float = 15.0
    successes: int = 3
    recovery_seconds: float = 5.0
    jitter_seconds: float = 0.0
    """This node's own share of the recovery jitter, drawn once by the caller."""
    healthy_interval_seconds: float = 13.0
    suspect_interval_seconds: float = 0.1
    lost_interval_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of snapshot, activation, release and removal."""

    ready_seconds: float = 10.0
    """How long a parent must stay Ready before it is snapshotted."""
    snapshot_retry_seconds: float = 60.0
    resync_seconds: float = 600.0
    """How often a parent is snapshotted again although nothing is seen to have changed: values
    that only the API holds (environment from configMaps) change without a trace on the node."""
    grace_seconds: float = 30.0
    """How long a parent may be down when the kubelet may still restart it by itself."""
    hand_over_seconds: float = 60.0
    """How long a workload whose copy has made way may be down before the copy comes back."""
    good_seconds: float = 60.0
    """How long a parent must have been Ready for its revision to be a known good one."""
    stage_delay_seconds: float = 30.0
    """How long the later stage waits for stage 0 to bring contact back."""
    confirm_seconds: float = 30.0
    """How long the kubelet may take from manifest to sandbox; more than its relist of 20 s."""
    confirm_limit_seconds: float = 600.0
    backoff_limit_seconds: float = 300.0
    """The kubelet's longest wait before it restarts a container (maxContainerRestartPeriod)."""
    parent_crash_limit: int = 3
    """Crashes of a parent, during one loss of contact, after which its copy runs beside it."""
    crash_limit: int = 3
    """Restarts of a copy, none of them running, after which another revision is tried."""
    absent_seconds: float = 300.0
    """How long the API must say that nothing of a workload is wanted here before it is removed."""
    leave_seconds: float = 60.0
    """How long the API must say that the agent's installation is gone before everything goes."""
    removal_interval_seconds: float = 60.0
    tick_seconds: float = 30.0
    """The safety net: a cycle with nothing to wait for is repeated after this time."""
    lost_watch_seconds: float = 1.0
    """How often the runtime is asked while contact is lost and events cannot tell."""
    watch_seconds: float = 0.05
    """How often the runtime is asked while a copy is active and events cannot tell."""
    backoff_watch_seconds: float = 0.2
    """The same amid a hand-over, and while a parent waits in its backoff or is long in coming."""
    replace_parents: bool = False
    """Whether a parent deep in its backoff may be deleted, for its controller to make it anew."""
