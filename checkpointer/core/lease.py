"""The Lease by which masters take turns where the identity may use one (coordination.k8s.io/v1).

It is asked for only when a hand-over of stage 0 is due, taken before the copy goes, since the API
server here goes with it, and given back when the hand-over is over. It lies in etcd: masters that
each talk to an API server of their own see the same one. A holder that can still reach the API
renews it while its hand-over is under way. One that died holds it for a minute at most. That is
counted by each node's own clock from when it first saw the lease as it is, as client-go's leader
election does: the clocks need not agree. A holder that cannot renew it, with its own API server
away, is seen to be away by that (`turns`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from checkpointer.core.checkpoint import Checkpoint, Record
from checkpointer.core.facts import Fact, Known
from checkpointer.core.workload import Workload
from checkpointer.values import dataclass, replace

LONGEST_SECONDS = 60.0
"""A crashed holder blocks nobody for longer, whatever the lease says."""

FRESH_SECONDS = 5.0
"""How old a taken lease may be for a hand-over to begin on it: it must cover all of it."""

RENEW_SECONDS = 20.0
"""How often a holder renews it: three times within its shortest usual time."""

HOLD_SECONDS = 300.0
"""For how long after its deadline a hand-over that goes on, with the API there, still holds it: a
parent that serves and never is Ready must not keep the other masters for ever."""

ASK_AGAIN_SECONDS = 1.0
"""How soon a lease that another master holds is looked at again."""

FAILING_SECONDS = 60.0
"""How long asking may fail until the time slots are used instead. Not at the first failure: an
API server that has just started refuses what it allows a moment later."""

FAILING_GAP_SECONDS = 30.0
"""The longest time between two failures that counts as failing: it is to be asked all the while."""
TRY_AGAIN_SECONDS = 10.0
"""How often it is asked for again while that fails, though nothing waits for it at the moment."""

FAILED_SECONDS = 600.0
"""How long the time slots are used then, before the lease is tried again."""


class Claim(Enum):
    """What the lease allows this node now."""

    UNUSED = "unused"
    """There is none to be used: the time slots count."""
    OPEN = "open"
    """It must be taken before a hand-over of stage 0 may begin."""
    OURS = "ours"
    """It has just been taken: a hand-over may begin."""


class Turn(Enum):
    """What a decision wants of the other masters, and of the lease."""

    NONE = "none"
    """Nothing: one that is held can be given back."""
    WANTED = "wanted"
    """A hand-over of stage 0 is due and waits for nothing else."""
    KEPT = "kept"
    """A hand-over of stage 0 is under way, and its deadline has not passed."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease as it was last seen."""

    holder: str
    """Name of a node; empty when it was given back."""
    version: str
    """Differs after every change."""
    seconds: float
    """For how long the holder has taken it."""
    since: float
    """When it was first seen like this, on this node's monotonic clock."""


def seen(last: Lease | None, holder: str, version: str, seconds: float, now: float) -> Lease:
    """Return the lease as it is now; unchanged, its time runs on from the first look."""
    if last is not None and last.version == version:
        return last
    return Lease(holder, version, seconds, now)


def may_take(lease: Lease | None, own: str, now: float) -> bool:
    """Tell whether this node may take it; None stands for one that is still to be created."""
    if lease is None or lease.holder in ("", own):
        return True
    return now - lease.since >= min(lease.seconds, LONGEST_SECONDS)


@dataclass(frozen=True, slots=True)
class Asking:
    """What became of asking for the lease; times are on the monotonic clock."""

    lease: Lease | None = None
    asked_at: float | None = None
    taken_at: float | None = None
    """When this node took it; None when it does not hold it."""
    failing_since: float | None = None
    failed_at: float | None = None
    """When asking failed last."""
    given_up_at: float | None = None
    """When asking had failed for too long."""


def is_due(asking: Asking, now: float) -> bool:
    """Tell whether it is time to ask for the lease that a hand-over waits for."""
    return asking.asked_at is None or now - asking.asked_at >= ASK_AGAIN_SECONDS


def claim(asking: Asking, now: float) -> Claim:
    """Return what this node may do by the lease as far as it knows."""
    if asking.given_up_at is not None and now - asking.given_up_at < FAILED_SECONDS:
        return Claim.UNUSED
    if asking.taken_at is not None and now - asking.taken_at < FRESH_SECONDS:
        return Claim.OURS
    return Claim.OPEN


def failed(asking: Asking, now: float) -> Asking:
    """Return it after another failure to ask; one after a time in which nobody asked is a first."""
    since, last = asking.failing_since, asking.failed_at
    if since is None or last is None or now - last > FAILING_GAP_SECONDS:
        return replace(asking, failing_since=now, failed_at=now)
    given_up_at = now if now - since >= FAILING_SECONDS else asking.given_up_at
    return replace(asking, failed_at=now, given_up_at=given_up_at)


def try_again_in(asking: Asking, now: float) -> float | None:
    """Return in how many seconds to ask again whether it can be taken at all; None: not at all."""
    if asking.failing_since is None or claim(asking, now) is Claim.UNUSED:
        return None
    return max(0.0, (asking.asked_at or 0.0) + TRY_AGAIN_SECONDS - now)


def needs_renewal(asking: Asking, now: float) -> bool:
    """Tell whether it is time to renew the lease that this node holds."""
    last = max(asking.taken_at or 0.0, asking.asked_at or 0.0)
    return asking.taken_at is not None and now - last >= RENEW_SECONDS


def under_way_since(
    checkpoints: Fact[tuple[Checkpoint, ...]], records: Mapping[Workload, Record], boot_id: str
) -> float | None:
    """Return since when stage 0 is being handed over, deadline passed or not; None when it is not.

    `records` are those that a decision has changed.
    """
    stored = checkpoints.value if isinstance(checkpoints, Known) else ()
    first = (c for c in stored if c.revisions and c.revisions[0].stage == 0)
    ways = [records.get(c.workload, c.record).hand_over for c in first]
    return max((w.since for w in ways if w.to and w.boot_id == boot_id), default=None)


def turn_of(is_wanted: bool, hand_over_left: float) -> Turn:
    """Return what a decision wants; `hand_over_left` is of the stage-0 hand-over under way."""
    if hand_over_left > 0:
        return Turn.KEPT
    return Turn.WANTED if is_wanted else Turn.NONE
