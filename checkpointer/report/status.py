"""The status: one frozen document of what the agent knows, for every reader alike.

`status` on the command line, `/statusz`, the page for browsers and the metrics are forms of it.
Building it is pure: no clock, no disk; a source that could not tell is in it with its reason. It
holds no secret: no manifest, no material, only names, numbers, times and sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Any

from checkpointer.config import API_VERSION
from checkpointer.core.checkpoint import (
    ActiveManifest,
    Checkpoint,
    Revision,
    choose_revision,
    last_known_good,
)
from checkpointer.core.contact import Contact
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.hold import hold_of
from checkpointer.core.moment import Moment
from checkpointer.core.observation import NOT_ASKED, KubeletRun, Observation, Pod
from checkpointer.core.occupancy import Occupancy, occupancies
from checkpointer.core.standing import Standing
from checkpointer.core.workload import Workload
from checkpointer.manifest.verdict import Finding, Outcome, Verdict
from checkpointer.report.hand_overs import (
    HandOverStatus,
    hand_over_status,
    refusal,
)
from checkpointer.report.protection import Protection, Unprotected, find_unprotected
from checkpointer.values import dataclass

KIND = "Status"

UNKNOWN = "unknown"
"""The state of contact, and of a checkpoint, of which nobody can tell."""

SOURCES = ("pods", "runtime", "kubelet", "manifests", "checkpoints")
"""The sources of an observation, by the names of its fields."""

ALWAYS_ACTIVE = "nothing: the agent's own copy is always active"


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """Who reports. Times are in seconds of the Unix epoch."""

    node_name: str
    version: str
    pid: int | None = None
    """None: no agent tells this, somebody else reports."""
    started_at: float | None = None
    is_dry_run: bool = False
    is_silent: bool = False
    """Whether an agent runs and does not answer, so that somebody else reports."""


@dataclass(frozen=True, slots=True)
class ContactStatus:
    """Whether this node can use the API."""

    state: str
    """`reachable`, `suspect`, `lost`, `denied`, or `unknown` while no agent tells."""
    reason: str
    since: float | None = None
    last_answer: float | None = None
    is_answering: bool = False
    cause: str = ""
    """Why it is in that state, as `reason` is what was seen last."""


@dataclass(frozen=True, slots=True)
class RevisionDetails:
    """What only the disk tells of the revision that serves."""

    material_bytes: int | None = None
    token_expiry: float | None = None
    """When the first of its tokens expires; None without tokens that tell."""
    warnings: tuple[str, ...] = ()
    """What was warned of when it was taken."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle of the loop saw and decided, and how long it took."""

    seen: Observation
    standings: Mapping[Workload, Standing]
    sentence: str
    now: Moment
    seconds: float = 0.0
    problems: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    """By the parent's UID: why its last snapshot failed."""


@dataclass(frozen=True, slots=True)
class CheckpointStatus:
    """One checkpoint as it stands."""

    workload: Workload
    state: str
    """`standby`, `waiting`, `frozen`, `active`, `handing over`, `held`, `unusable` or
    `unknown`."""
    waits_for: str
    runs: str
    """Who of it runs: `parent`, `copy`, `both`, `nothing`; empty while the runtime is not asked."""
    revision: Revision | None
    """The one that is active, else the one that would be activated."""
    stored: tuple[int, ...]
    """Numbers of all revisions that verify, newest first."""
    last_known_good: int | None
    """None when none has been yet."""
    failed: tuple[int, ...]
    issue: int
    manifest: ActiveManifest | None
    details: RevisionDetails
    verdict: str
    """The last verdict on its parent; empty when there has been none since the start."""
    warnings: tuple[str, ...]
    problems: tuple[str, ...]
    hold: str | None = None
    """Why it is held as it is by hand, until that is lifted."""
    hand_over: HandOverStatus | None = None
    is_own: bool = False
    """Whether it is the agent's own, whose copy is always active."""


@dataclass(frozen=True, slots=True)
class RefusedPod:
    """A pod that is selected and cannot be checkpointed, and why, a sentence each."""

    workload: Workload
    pod: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """All of it."""

    agent: AgentStatus
    contact: ContactStatus
    kubelet: Fact[KubeletRun]
    checkpoints: tuple[CheckpointStatus, ...] = ()
    refused: tuple[RefusedPod, ...] = ()
    unprotected: tuple[Unprotected, ...] = ()
    """The workloads that would not come back without the API."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """By source: why it could not tell."""
    problems: tuple[str, ...] = ()
    sentence: str = ""
    cycle_at: float | None = None
    cycle_seconds: float | None = None

    def as_document(self) -> dict[str, Any]:
        """Return the JSON form; times are RFC 3339, null is "not known" or "none"."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "node": self.agent.node_name,
            "agent": {
                "running": self.agent.pid is not None or self.agent.is_silent,
                "answering": self.agent.pid is not None,
                "version": self.agent.version,
                "pid": self.agent.pid,
                "startedAt": timestamp(self.agent.started_at),
                "dryRun": self.agent.is_dry_run,
            },
            "contact": {
                "state": self.contact.state,
                "reason": self.contact.reason,
                "cause": self.contact.cause or self.contact.reason,
                "since": timestamp(self.contact.since),
                "lastAnswer": timestamp(self.contact.last_answer),
                "answering": self.contact.is_answering,
            },
            "kubelet": _kubelet_document(self.kubelet),
            "cycle": {
                "time": timestamp(self.cycle_at),
                "seconds": self.cycle_seconds,
                "sentence": self.sentence,
            },
            "checkpoints": [_checkpoint_document(one) for one in self.checkpoints],
            "notCheckpointable": [
                {**_workload_document(one.workload), "pod": one.pod, "reasons": list(one.reasons)}
                for one in self.refused
            ],
            "unprotected": [
                {**_workload_document(one.workload), "reason": one.reason}
                for one in self.unprotected
            ],
            "unknown": [{"source": s, "reason": reason} for s, reason in self.unknown.items()],
            "problems": list(self.problems),
        }


def build_status(
    agent: AgentStatus,
    contact: ContactStatus,
    cycle: Cycle | None,
    verdicts: Mapping[Workload, Verdict],
    details: Mapping[Workload, RevisionDetails],
) -> Status:
    """Return the status after a cycle, or of an agent that has not finished its first one."""
    if cycle is None:
        reason = "no cycle has been finished yet"
        unknown = dict.fromkeys(SOURCES, reason)
        return Status(agent, contact, Unknown(reason), unknown=unknown)
    seen = cycle.seen
    checkpoints = _checkpoints(seen)
    running = _running(checkpoints, seen)
    manifests = _manifests(seen)
    refused, failed = _refused_pods(cycle, verdicts), _failed_snapshots(cycle, verdicts)
    return Status(
        agent=agent,
        contact=contact,
        kubelet=seen.kubelet,
        checkpoints=tuple(
            _checkpoint_status(
                checkpoint,
                cycle,
                manifests.get(checkpoint.workload),
                running.get(checkpoint.workload.digest),
                verdicts.get(checkpoint.workload),
                details.get(checkpoint.workload, RevisionDetails()),
            )
            for checkpoint in checkpoints
        ),
        refused=refused,
        unprotected=_unprotected(cycle, checkpoints, refused, failed, verdicts),
        unknown=unknown_sources(seen),
        problems=(
            *cycle.problems,
            *_refusals(checkpoints, manifests),
            *(f"{w}: the last snapshot failed: {why}" for w, why in sorted(failed.items())),
        ),
        sentence=cycle.sentence,
        cycle_at=cycle.now.wall,
        cycle_seconds=cycle.seconds,
    )


def build_protection(cycle: Cycle, verdicts: Mapping[Workload, Verdict]) -> Protection:
    """Return what the node's condition tells of the status after a cycle: no more than that, for
    it is asked for after each one."""
    checkpoints, itself = _checkpoints(cycle.seen), cycle.seen.itself
    own = itself.workload if itself is not None else None
    refused, failed = _refused_pods(cycle, verdicts), _failed_snapshots(cycle, verdicts)
    found = _unprotected(cycle, checkpoints, refused, failed, verdicts)
    return Protection(
        sum(checkpoint.workload != own for checkpoint in checkpoints),
        tuple(one.workload for one in found),
        tuple(sorted(c.workload for c in checkpoints if c.record.hand_over.refused)),
        unknown_sources(cycle.seen).get("checkpoints", ""),
    )


def contact_status(contact: Contact, now: Moment) -> ContactStatus:
    """Return the contact with its times on the wall clock."""

    def wall(monotonic: float | None) -> float | None:
        return None if monotonic is None else now.wall - (now.monotonic - monotonic)

    return ContactStatus(
        contact.state.value,
        contact.reason,
        wall(contact.since),
        wall(contact.last_answer),
        contact.is_answering,
        contact.cause,
    )


def serving_revision(checkpoint: Checkpoint, manifest: ActiveManifest | None) -> Revision | None:
    """Return the revision that is active, else the one that would be activated."""
    if manifest is not None:
        active = (r for r in checkpoint.revisions if r.number == manifest.revision)
        return next(active, None)
    return choose_revision(checkpoint)


def serving_revisions(seen: Observation) -> set[tuple[Workload, int]]:
    """Return, of each checkpoint that has one, the revision that is or would be active."""
    checkpoints = seen.checkpoints.value if isinstance(seen.checkpoints, Known) else ()
    manifests = _manifests(seen)
    found = ((c.workload, serving_revision(c, manifests.get(c.workload))) for c in checkpoints)
    return {(workload, revision.number) for workload, revision in found if revision}


def unknown_sources(seen: Observation) -> dict[str, str]:
    """Return the sources that could not tell, with the reason; one not asked is none of them."""
    facts = {name: getattr(seen, name) for name in SOURCES}
    return {
        name: fact.reason
        for name, fact in facts.items()
        if isinstance(fact, Unknown) and fact != NOT_ASKED
    }


def timestamp(seconds: float | None) -> str | None:
    """Return RFC 3339 in UTC to the second, as in the API; None for what no calendar has."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None


def _checkpoint_status(
    checkpoint: Checkpoint,
    cycle: Cycle,
    manifest: ActiveManifest | None,
    occupancy: Occupancy | None,
    verdict: Verdict | None,
    details: RevisionDetails,
) -> CheckpointStatus:
    hold = hold_of(checkpoint, cycle.now)
    standing = cycle.standings.get(checkpoint.workload, Standing(UNKNOWN))
    is_own = cycle.seen.itself is not None and cycle.seen.itself.workload == checkpoint.workload
    is_at_rest = is_own and standing == Standing("active")
    return CheckpointStatus(
        workload=checkpoint.workload,
        state=standing.state,
        waits_for=ALWAYS_ACTIVE if is_at_rest else standing.waits_for,
        runs=_runs(occupancy),
        revision=serving_revision(checkpoint, manifest),
        stored=tuple(revision.number for revision in checkpoint.revisions),
        last_known_good=last_known_good(checkpoint),
        failed=checkpoint.record.failed,
        issue=max(checkpoint.record.issue, manifest.issue if manifest else 0),
        manifest=manifest,
        details=details,
        verdict=verdict.outcome.value if verdict else "",
        warnings=_sentences(verdict.warnings) if verdict else details.warnings,
        problems=checkpoint.problems,
        hold=str(hold) if hold is not None else None,
        hand_over=hand_over_status(checkpoint.record.hand_over, cycle.now),
        is_own=is_own,
    )


def _checkpoints(seen: Observation) -> tuple[Checkpoint, ...]:
    """Return the stored ones, and what stands for active manifests without one."""
    stored = seen.checkpoints.value if isinstance(seen.checkpoints, Known) else ()
    return (*stored, *_orphans(seen, stored))


def _manifests(seen: Observation) -> Mapping[Workload, ActiveManifest]:
    """Return each checkpoint's file in the manifest folder, as far as that is known."""
    found = seen.manifests.value if isinstance(seen.manifests, Known) else ()
    return {manifest.workload: manifest for manifest in reversed(found)}


def _orphans(seen: Observation, stored: tuple[Checkpoint, ...]) -> list[Checkpoint]:
    """Return what stands for active manifests of which the store has nothing."""
    active = seen.manifests.value if isinstance(seen.manifests, Known) else ()
    orphans = {manifest.workload for manifest in active}
    orphans.difference_update(checkpoint.workload for checkpoint in stored if orphans)
    return [Checkpoint(workload, ()) for workload in sorted(orphans)]


def _refusals(
    checkpoints: Iterable[Checkpoint], manifests: Mapping[Workload, ActiveManifest]
) -> Iterator[str]:
    """Yield a sentence for each parent that is not given way to again."""
    for checkpoint in checkpoints:
        manifest = manifests.get(checkpoint.workload)
        if told := refusal(checkpoint, manifest.revision if manifest else None):
            yield f"{checkpoint.workload}: {told}"


def _running(checkpoints: tuple[Checkpoint, ...], seen: Observation) -> Mapping[str, Occupancy]:
    if not isinstance(seen.runtime, Known):
        return {}
    return occupancies(checkpoints, seen.runtime.value)


def _runs(occupancy: Occupancy | None) -> str:
    if occupancy is None:
        return ""
    who = {(True, True): "both", (True, False): "parent", (False, True): "copy"}
    return who.get((bool(occupancy.parent_running), bool(occupancy.copy_running)), "nothing")


def _refused_pods(cycle: Cycle, verdicts: Mapping[Workload, Verdict]) -> tuple[RefusedPod, ...]:
    pods = cycle.seen.pods.value if isinstance(cycle.seen.pods, Known) else ()
    found = [
        RefusedPod(pod.workload, pod.name, told)
        for pod in pods
        if (told := _reasons(pod, cycle.failures, verdicts))
    ]
    return tuple(sorted(found, key=lambda one: (one.workload, one.pod)))


def _unprotected(
    cycle: Cycle,
    checkpoints: tuple[Checkpoint, ...],
    refused: tuple[RefusedPod, ...],
    failed: Mapping[Workload, str],
    verdicts: Mapping[Workload, Verdict],
) -> tuple[Unprotected, ...]:
    stored = {checkpoint.workload for checkpoint in checkpoints}
    reasons = {workload: failed[workload] for workload in failed.keys() - stored}
    reasons |= {one.workload: "; ".join(one.reasons) for one in refused}
    return find_unprotected(cycle.seen, checkpoints, reasons, verdicts, cycle.now)


def _reasons(
    pod: Pod, failures: Mapping[str, str], verdicts: Mapping[Workload, Verdict]
) -> tuple[str, ...]:
    if not pod.stays:
        return ()
    if pod.excluded:
        return (pod.excluded,)
    if not pod.is_parent:
        return ()
    if pod.fault:
        return (pod.fault,)
    verdict = verdicts.get(pod.workload)
    if verdict is None:
        return (failures[pod.uid],) if pod.uid in failures else ()
    # What was judged and not refused can be checkpointed: only its snapshot has failed.
    return _sentences(verdict.refusals) if verdict.outcome is Outcome.REFUSED else ()


def _failed_snapshots(cycle: Cycle, verdicts: Mapping[Workload, Verdict]) -> dict[Workload, str]:
    """Return why the last snapshot of a parent failed that can be checkpointed: a full disk."""
    pods = cycle.seen.pods.value if isinstance(cycle.seen.pods, Known) else ()
    return {
        pod.workload: cycle.failures[pod.uid]
        for pod in pods
        if pod.uid in cycle.failures
        and pod.is_parent
        and pod.stays
        and pod.workload in verdicts
        and not _reasons(pod, cycle.failures, verdicts)
    }


def _sentences(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    return tuple(
        f"{f.path}: {f.reason}" + (f" (cure: {f.cure})" if f.cure else "") for f in findings
    )


def _kubelet_document(kubelet: Fact[KubeletRun]) -> dict[str, Any] | None:
    if isinstance(kubelet, Unknown):
        return None
    started = timestamp(kubelet.value.started_at / 1e9)
    return {"listening": kubelet.value.listening, "startedAt": started}


def _workload_document(workload: Workload) -> dict[str, Any]:
    return {"namespace": workload.namespace, "kind": workload.kind, "name": workload.name}


def _hand_over_document(one: HandOverStatus | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "to": one.to or None,
        "since": timestamp(one.since),
        "failures": one.failures,
        "refusedParent": one.refused or None,
    }


def _checkpoint_document(one: CheckpointStatus) -> dict[str, Any]:
    revision, manifest = one.revision, one.manifest
    return {
        **_workload_document(one.workload),
        "state": one.state,
        "waitsFor": one.waits_for,
        "runs": one.runs or None,
        "hold": one.hold,
        "handOver": _hand_over_document(one.hand_over),
        "itself": one.is_own,
        "stage": revision.stage if revision else None,
        "revision": revision.number if revision else None,
        "revisionTakenAt": timestamp(revision.created_at) if revision else None,
        "parentPod": revision.parent_name if revision else None,
        "storedRevisions": list(one.stored),
        "lastKnownGood": one.last_known_good,
        "failedRevisions": list(one.failed),
        "issue": one.issue,
        "manifest": manifest.file_name if manifest else None,
        "activeSince": timestamp(manifest.written_at / 1e9) if manifest else None,
        "materialBytes": one.details.material_bytes,
        "tokenExpiry": timestamp(one.details.token_expiry),
        "verdict": one.verdict or None,
        "warnings": list(one.warnings),
        "problems": list(one.problems),
    }
