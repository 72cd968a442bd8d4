"""The metrics in Prometheus' text form, made of the status and the counters when asked for.

Names and units follow Prometheus' conventions; a point in time is a timestamp, so that its age is
the query's business. Labels are bounded by what is checkpointed on one node. Imported at the
first scrape: until then the library costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Known
from checkpointer.manifest.verdict import Outcome
from checkpointer.report.happenings import Kind
from checkpointer.report.status import SOURCES, CheckpointStatus, Status
from checkpointer.report.tally import Histogram, Tally
from checkpointer.report.verdicts import Verdicts
from checkpointer.values import dataclass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "pod_checkpointer_"
STATES = (
    "standby",
    "waiting",
    "frozen",
    "active",
    "handing over",
    "held",
    "unusable",
    "unknown",
)
WORKLOAD = ("namespace", "kind", "name")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where the numbers come from, at one moment."""

    status: Status
    tally: Tally
    verdicts: Verdicts
    store_bytes: int | None
    undelivered_events: int


class Metrics:
    """A registry of its own: nothing that a library registers by itself is in it."""

    def __init__(self, inputs: Callable[[], Inputs]) -> None:
        self._inputs = inputs
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def exposition(self) -> tuple[bytes, str]:
        """Return all metrics and the content type of their form."""
        return generate_latest(self._registry), CONTENT_TYPE

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering asks for no numbers."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, in the order of docs/monitoring.md."""
        now = self._inputs()
        status, tally = now.status, now.tally
        yield _build_info(status)
        yield from _contact(status)
        yield from _probes(tally)
        yield from _cycles(status, tally)
        yield from _sources(status)
        yield from _checkpoints(status)
        yield from _by_checkpoint(status)
        yield from _verdicts(status, now.verdicts)
        yield from _happenings(tally)
        if now.store_bytes is not None:
            text = "Size of all files in the store, every revision with its material."
            yield GaugeMetricFamily(f"{PREFIX}store_bytes", text, float(now.store_bytes))
        text = "Kubernetes Events that wait for the API."
        yield GaugeMetricFamily(f"{PREFIX}events_waiting", text, float(now.undelivered_events))


def _build_info(status: Status) -> Metric:
    family = GaugeMetricFamily(
        f"{PREFIX}build_info", "The agent's version; always 1.", labels=["version"]
    )
    family.add_metric([status.agent.version], 1.0)
    return family


def _contact(status: Status) -> Iterator[Metric]:
    contact = status.contact
    family = GaugeMetricFamily(
        f"{PREFIX}contact_state",
        "Whether contact with the API is in this state: 1 for one of them, 0 for the others.",
        labels=["state"],
    )
    for state in ContactState:
        family.add_metric([state.value], float(contact.state == state.value))
    yield family
    yield from _optional(
        "contact_since_timestamp_seconds", "When contact entered its state.", contact.since
    )
    yield from _optional(
        "last_answer_timestamp_seconds", "When the API last answered a probe.", contact.last_answer
    )


def _probes(tally: Tally) -> Iterator[Metric]:
    family = HistogramMetricFamily(
        f"{PREFIX}probe_seconds",
        "How long one probe of one API endpoint took, by its outcome.",
        labels=["outcome"],
    )
    for outcome, histogram in tally.probes.items():
        buckets, total = histogram.read()
        family.add_metric([outcome.value.replace(" ", "_")], buckets, total)
    yield family


def _cycles(status: Status, tally: Tally) -> Iterator[Metric]:
    yield _histogram("cycle_seconds", "How long one cycle of the loop took.", tally.cycles)
    yield CounterMetricFamily(
        f"{PREFIX}cycle_failures", "Cycles that ended by a fault.", float(tally.failed_cycles)
    )
    yield from _optional(
        "last_cycle_timestamp_seconds", "When the last finished cycle began.", status.cycle_at
    )


def _sources(status: Status) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        f"{PREFIX}source_unknown",
        "Whether this source of facts could not tell in the last cycle.",
        labels=["source"],
    )
    for source in SOURCES:
        family.add_metric([source], float(source in status.unknown))
    yield family
    if isinstance(status.kubelet, Known):
        yield GaugeMetricFamily(
            f"{PREFIX}kubelet_up",
            "Whether the kubelet listens on its socket.",
            float(status.kubelet.value.listening),
        )


def _checkpoints(status: Status) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        f"{PREFIX}checkpoints",
        "Checkpoints of this node by where they stand, but for the agent's own.",
        labels=["state"],
    )
    for state in STATES:
        count = sum(one.state == state and not one.is_own for one in status.checkpoints)
        family.add_metric([state.replace(" ", "_")], float(count))
    yield family
    if own := next((one for one in status.checkpoints if one.is_own), None):
        yield GaugeMetricFamily(
            f"{PREFIX}own_copy_active",
            "Whether the agent's own copy is in the kubelet's folder, as it always should be.",
            float(own.manifest is not None),
        )
    if "checkpoints" not in status.unknown:
        yield GaugeMetricFamily(
            f"{PREFIX}unprotected_workloads",
            "Selected or stored workloads of this node that would not come back without the API.",
            float(len(status.unprotected)),
        )


def _by_checkpoint(status: Status) -> Iterator[Metric]:
    rows: tuple[tuple[str, str, Callable[[CheckpointStatus], float | None]], ...] = (
        (
            "checkpoint_active",
            "Whether the manifest lies in the kubelet's folder; not told of the agent's own.",
            lambda one: None if one.is_own else float(one.manifest is not None),
        ),
        (
            "checkpoint_active_since_timestamp_seconds",
            "When the active manifest was written; absent without one, and of the agent's own.",
            lambda one: one.manifest.written_at / 1e9 if one.manifest and not one.is_own else None,
        ),
        (
            "checkpoint_revision",
            "Number of the revision that is active or would be activated.",
            lambda one: one.revision.number if one.revision else None,
        ),
        (
            "checkpoint_revision_timestamp_seconds",
            "When that revision was taken.",
            lambda one: one.revision.created_at if one.revision else None,
        ),
        (
            "checkpoint_last_known_good_revision",
            "Number of the newest revision whose parent stayed Ready for long; absent without one.",
            lambda one: one.last_known_good,
        ),
        (
            "checkpoint_stage",
            "Stage of that revision: 0 brings contact back and goes first.",
            lambda one: one.revision.stage if one.revision else None,
        ),
        (
            "checkpoint_failed_revisions",
            "Stored revisions that kept crashing as copies and are passed over.",
            lambda one: float(len(set(one.failed) & set(one.stored))),
        ),
        (
            "checkpoint_material_bytes",
            "Size of the material that the revision mounts.",
            lambda one: one.details.material_bytes,
        ),
        (
            "checkpoint_token_expiry_timestamp_seconds",
            "When the first service-account token in the revision expires; absent without tokens.",
            lambda one: one.details.token_expiry,
        ),
        (
            "checkpoint_held",
            "Whether the checkpoint is held by hand.",
            lambda one: float(one.hold is not None),
        ),
        (
            "checkpoint_hand_over_since_timestamp_seconds",
            "When the copy made way for its parent; absent while no hand-over is under way.",
            lambda one: one.hand_over.since if one.hand_over and one.hand_over.to else None,
        ),
        (
            "checkpoint_hand_over_failures",
            "How many hand-overs to its parent have failed in a row.",
            lambda one: float(one.hand_over.failures if one.hand_over else 0),
        ),
        (
            "checkpoint_parent_refused",
            "Whether its parent failed when it was given way, and gets no other try as it is.",
            lambda one: float(bool(one.hand_over and one.hand_over.refused)),
        ),
    )
    for name, text, value_of in rows:
        family = GaugeMetricFamily(f"{PREFIX}{name}", text, labels=WORKLOAD)
        for one in status.checkpoints:
            if (value := value_of(one)) is not None:
                workload = one.workload
                family.add_metric([workload.namespace, workload.kind, workload.name], float(value))
        yield family


def _verdicts(status: Status, verdicts: Verdicts) -> Iterator[Metric]:
    gauge = GaugeMetricFamily(
        f"{PREFIX}workloads",
        "Selected workloads by the last verdict on them; those not judged yet are in none.",
        labels=["verdict"],
    )
    counter = CounterMetricFamily(
        f"{PREFIX}verdict_changes",
        "How often the verdict on a workload changed to this one.",
        labels=["verdict"],
    )
    counts, changes = verdicts.by_outcome, verdicts.changes
    for outcome in Outcome:
        gauge.add_metric([outcome.name.lower()], float(counts[outcome]))
        counter.add_metric([outcome.name.lower()], float(changes[outcome]))
    yield gauge
    yield counter
    yield GaugeMetricFamily(
        f"{PREFIX}refused_pods",
        "Selected pods of this node that cannot be checkpointed; the status tells why.",
        float(len(status.refused)),
    )


_COUNTED = (
    (Kind.SNAPSHOT, "snapshots", "Revisions that were stored."),
    (Kind.SNAPSHOT_FAILED, "snapshot_failures", "Snapshots that failed, once per reason."),
    (Kind.ACTIVATED, "activations", "Checkpoints that were activated."),
    (Kind.ISSUED_ANEW, "refusals", "Manifests that the kubelet did not start, issued anew."),
    (Kind.FELL_BACK, "fallbacks", "Copies that kept crashing, replaced by an older revision."),
    (Kind.RELEASED, "releases", "Checkpoints that were released."),
    (Kind.HAND_OVER_FAILED, "hand_over_failures", "Releases after which no parent came up."),
    (
        Kind.PARENT_REFUSED,
        "parent_refusals",
        "Parents that failed when they were given way, and get no other try as they are.",
    ),
    (Kind.STARTED_ANEW, "started_anew", "Times a pod was started anew without its backoff."),
    (Kind.REPLACED, "replaced_pods", "Pods deleted for their controller to make them anew."),
    (Kind.REMOVED, "removals", "Checkpoints that were removed from the store."),
    (Kind.FAILED, "action_failures", "Other actions that failed, once per reason."),
)


def _happenings(tally: Tally) -> Iterator[Metric]:
    happenings = tally.happenings
    for kind, name, text in _COUNTED:
        yield CounterMetricFamily(f"{PREFIX}{name}", text, float(happenings[kind]))
    text = "From the release of a checkpoint until its parent was Ready."
    yield _histogram("hand_over_seconds", text, tally.hand_overs)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets, total = histogram.read()
    return HistogramMetricFamily(f"{PREFIX}{name}", text, buckets, total)


def _optional(name: str, text: str, value: float | None) -> Iterator[Metric]:
    """Yield a gauge without labels; absent, as a whole, while there is no value."""
    if value is not None:
        yield GaugeMetricFamily(f"{PREFIX}{name}", text, value)
