"""When the kubelet restarts a container that has died: its crash-loop backoff.

Initial 10 s, doubling, at most 300 s or what the node's configuration says; the first restart is
immediate. Since 1.34 the retry comes between the end of the backoff and half of what is left of
it later, before that on a grid of 10 to 15 s (pkg/kubelet/pod_workers.go, completeWork). The
kubelet keeps its count in memory and the runtime does not list when a container ended, so this
is an estimate from what it does list: the restart count, and when the container was made.
"""

from __future__ import annotations

from checkpointer.core.runtime import Container

INITIAL_SECONDS = 10.0


def next_start(dead: Container, limit_seconds: float) -> float:
    """Return the earliest time of the next start, in seconds of the Unix epoch.

    `dead` is the newest container of its name. One that ran for long before it died is started
    later than this says.
    """
    return dead.created_at / 1e9 + backoff_after(dead.attempt, limit_seconds)


def backoff_after(attempt: int, limit_seconds: float) -> float:
    """Return how long the kubelet waits after the death of the container with this attempt."""
    if attempt <= 0:
        return 0.0
    return min(INITIAL_SECONDS * 2.0 ** min(attempt - 1, 16), limit_seconds)
