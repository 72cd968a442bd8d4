"""What is stored: checkpoints, their revisions, and the few things remembered beside them."""

from __future__ import annotations

from checkpointer.core.hold import Hold
from checkpointer.core.workload import Workload
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Revision:
    """One immutable version of a checkpoint, complete on disk and verified by its digests."""

    number: int
    digest: str
    """SHA-256 (hex) over the sanitized spec and the material: equal content, equal digest."""
    parent_uid: str
    parent_name: str
    labels: tuple[tuple[str, str], ...]
    """The parent's labels, sorted, without those of a pod template's hash."""
    app_containers: tuple[str, ...]
    """Names of the containers that make the workload run: spec.containers, not init containers."""
    stage: int
    shares_ports: bool
    """Whether parent and copy can run side by side: no ports of the host, or shared ones, and no
    volume that only one is to write to."""
    created_at: float
    """Seconds of the Unix epoch, by the node's clock: for people, never for a decision."""
    host_ports: tuple[int, ...] = ()
    host_network: bool = True
    """Whether the copy may answer the parent's probes: both are on the host's network."""
    template: str = ""
    """What the controller calls the pod template that the parent was made of; empty without one."""
    has_init: bool = False
    """Whether init containers run before the app containers: they need no ports."""
    graceful: bool = False
    """Whether the copy must be ended by the kubelet, with the pod's own grace, never killed."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """What survives of giving way to a parent: one that is under way, or the last that failed."""

    to: str = ""
    """UID of the pod that the copy has made way for; empty when none is under way."""
    template: str = ""
    """The template of that pod, as in `Revision`."""
    boot_id: str = ""
    """The boot that `since` belongs to."""
    since: float = 0.0
    """Seconds since that boot: when it began; or, with none under way, when the last one failed."""
    failures: int = 0
    """How many failed in a row."""
    is_owed: bool = False
    """Whether the one under way has failed, and the copy's manifest is still to be written: until
    it is seen, whoever dies and whatever write fails in between, the copy is to come back."""
    refused: str = ""
    """UID of a parent that had all it needed and failed: none like it is given way to again."""
    refused_template: str = ""
    """Its template. Without `refused` that pod is gone: one like it is tried after the wait."""
    refused_signature: str = ""
    """Its content signature, as soon as it is told: a change of it is a reason to try again."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """The last parent that was deleted, so that its controller made it anew."""

    uid: str = ""
    boot_id: str = ""
    at: float = 0.0
    """Seconds since that boot."""


@dataclass(frozen=True, slots=True)
class Record:
    """What must survive a restart of the agent, per workload; changes only when it must."""

    parents: tuple[str, ...] = ()
    """UIDs of the API's pods of this workload on this node, as last seen; sorted."""
    issue: int = 0
    """Counts up to make a manifest a new pod to the kubelet, which never retries a refused one."""
    issued_in: str = ""
    """The boot in which it came to this count: the last activation's."""
    absent_seconds: float = 0.0
    """For how long the API has positively said that nothing of this workload is wanted here."""
    failed: tuple[int, ...] = ()
    """Revisions that were activated and kept crashing; skipped while another one is left."""
    good: tuple[int, ...] = ()
    """Revisions whose parent stayed Ready for long, newest first: the first is the last known
    good."""
    hand_over: HandOver = HandOver()
    replaced: Replaced = Replaced()


@dataclass(frozen=True, slots=True)
class OwnRecord:
    """What must survive a restart about the agent's own installation; changes rarely."""

    workload: Workload | None = None
    """The controller of the agent's own pods."""
    cluster: str = ""
    """Which cluster has shown them: a digest of its CA."""
    has_marker: bool = False
    """Whether the installation's marker has been seen there: only then its absence tells."""
    gone_seconds: float = 0.0
    """For how long the API has positively said that the installation is gone."""
    leaving: bool = False
    """Whether that was long enough: everything of ours goes."""
    gave_way_to: int = 0
    """The revision of itself that the agent last gave way to, that it may prove itself."""
    tries: int = 0
    refusals: int = 0
    """How often the copy gave way in a row because its credentials were refused."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One workload's stored revisions, newest first; none when every one failed to verify."""

    workload: Workload
    revisions: tuple[Revision, ...]
    record: Record = Record()
    problems: tuple[str, ...] = ()
    """What was skipped and why, one sentence each."""
    hold: Hold | None = None
    """What an operator wants of it by hand; in force or not."""
    is_current: bool = True
    """Whether the first revision is the one that was stored last: that one is not damaged."""


@dataclass(frozen=True, slots=True)
class ActiveManifest:
    """A file of ours in the kubelet's manifest folder."""

    file_name: str
    workload: Workload
    revision: int
    issue: int
    uid: str
    written_at: int = 0
    """The file's time in nanoseconds of the Unix epoch: about when it was activated."""


def choose_revision(checkpoint: Checkpoint, proven: bool = False) -> Revision | None:
    """Return the newest revision that has not failed, or the newest when every one has.

    With `proven`, or where a copy or a parent has failed before, the last known good is preferred:
    what came after it may be what is broken. Among others, where a copy has failed, what a refused
    parent was made of comes last.
    """
    record, way = checkpoint.record, checkpoint.record.hand_over
    sound = [r for r in checkpoint.revisions if r.number not in record.failed]
    is_in_doubt = proven or bool(record.failed or way.refused or way.refused_template)
    good = [r for r in sound if is_in_doubt and r.number in record.good]
    others = [r for r in sound if not (record.failed and _is_refused(r, way))]
    return next(iter(good or others or sound or checkpoint.revisions), None)


def _is_refused(revision: Revision, way: HandOver) -> bool:
    return bool(revision.template) and revision.template == way.refused_template


def main_container(workload: Workload, revision: Revision) -> str | None:
    """Return the app container that does the workload's work; None where that cannot be told.

    The only one, or in stage 0 the one that has the name of the workload, else the end of it: what
    runs beside `kube-apiserver` is its plugins, and without it they serve nobody. In a later stage
    the one of that name may be behind a proxy that holds the ports.
    """
    names = revision.app_containers
    if len(names) == 1:
        return names[0]
    if revision.stage > 0:
        return None
    found = [name for name in names if f"-{workload.name}".endswith(f"-{name}")]
    return max(found, key=len, default=None)


def last_known_good(checkpoint: Checkpoint) -> int | None:
    """Return the newest stored revision whose parent stayed Ready for long; None without one yet.

    One that kept crashing as a copy is none.
    """
    record = checkpoint.record
    stored = {revision.number for revision in checkpoint.revisions} - {*record.failed}
    return next((number for number in record.good if number in stored), None)


def active_revision(checkpoint: Checkpoint, manifest: ActiveManifest) -> Revision | None:
    """Return the revision that is active, or the one to take when it does not verify any more."""
    active = (r for r in checkpoint.revisions if r.number == manifest.revision)
    return next(active, None) or choose_revision(checkpoint)
