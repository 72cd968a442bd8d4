"""Facts for the core's tests: a small node at one moment, and how to vary it.

Times are seconds of the monotonic clock; the node's clock runs along with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from checkpointer.core.checkpoint import ActiveManifest, Checkpoint, Record, Revision
from checkpointer.core.contact import Contact, ContactState
from checkpointer.core.decide import decide
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.lease import Claim
from checkpointer.core.moment import Moment
from checkpointer.core.observation import Itself, KubeletRun, Observation, Pod
from checkpointer.core.occupancy import SOURCE_ANNOTATION, WORKLOAD_LABEL
from checkpointer.core.plan import Memory, Plan, Track
from checkpointer.core.rules import Rules
from checkpointer.core.runtime import Container, ContainerState, Runtime, Sandbox
from checkpointer.core.situation import Situation
from checkpointer.core.turns import Masters, Others
from checkpointer.core.workload import Workload

API = Workload("kube-system", "DaemonSet", "kube-apiserver")
DNS = Workload("kube-system", "Deployment", "coredns")
PROXY = Workload("kube-system", "DaemonSet", "kube-proxy")

NOW = 1000.0
LOST_SINCE = 900.0
ACTIVATED = 950.0
WALL_AT_BOOT = 1_700_000_000.0

RULES = Rules()


def at(seconds: float) -> Moment:
    """Return the clocks' reading so many seconds after the boot."""
    return Moment("boot-1", seconds, WALL_AT_BOOT + seconds)


def stamp(seconds: float) -> int:
    """Return the file or runtime time of that moment, in nanoseconds."""
    return round((WALL_AT_BOOT + seconds) * 1e9)


def reachable(since: float = 0.0) -> Contact:
    return Contact(ContactState.REACHABLE, since, "ok", successes=9, is_answering=True)


def suspect(since: float = NOW) -> Contact:
    return Contact(ContactState.SUSPECT, since, "connection refused", failures=1)


def lost(since: float = LOST_SINCE) -> Contact:
    return Contact(ContactState.LOST, since, "connection refused", failures=3)


def recovering(since: float = LOST_SINCE) -> Contact:
    return Contact(ContactState.LOST, since, "connection refused", successes=1, is_answering=True)


def denied(since: float = LOST_SINCE) -> Contact:
    return Contact(ContactState.DENIED, since, "HTTP 403")


SAME_KUBELET = KubeletRun("run-1", stamp(0), listening=True)
"""The run that was there when contact was last good."""
NEW_KUBELET = KubeletRun("run-2", stamp(LOST_SINCE + 5), listening=True)
"""A run that began after contact was lost."""


def revision(number: int = 1, **changes: Any) -> Revision:
    """Return a stage-0 revision on the host's network."""
    usual = Revision(
        number=number,
        digest=f"digest-{number}",
        parent_uid="parent-uid",
        parent_name="kube-apiserver-x7k2p",
        labels=(("k8s-app", "kube-apiserver"),),
        app_containers=("apiserver",),
        stage=0,
        shares_ports=False,
        created_at=0.0,
    )
    return replace(usual, **changes)


def checkpoint(
    workload: Workload = API, *revisions: Revision, record: Record | None = None
) -> Checkpoint:
    return Checkpoint(
        workload, revisions or (revision(),), record or Record(parents=("parent-uid",), issue=4)
    )


def manifest(workload: Workload = API, **changes: Any) -> ActiveManifest:
    usual = ActiveManifest(
        f"pod-checkpointer-{workload.digest}.json",
        workload,
        revision=1,
        issue=4,
        uid="copy-uid",
        written_at=stamp(ACTIVATED),
    )
    return replace(usual, **changes)


def pod(workload: Workload = API, uid: str = "parent-uid", **changes: Any) -> Pod:
    """Return a Ready parent as the API tells of it."""
    usual = Pod(
        workload=workload,
        uid=uid,
        name=f"{workload.name}-x7k2p",
        is_parent=True,
        ready=True,
        terminating=False,
        finished=False,
        ready_seconds=3600.0,
        container_ids=frozenset({f"{uid}-apiserver"}),
        signature="spec-1",
        content_signature="content-1",
    )
    return replace(usual, **changes)


OTHER_POD = pod(Workload("default", "Deployment", "shop"), "other-uid", is_parent=False)
"""Any pod: with it in it, the API's list is not empty."""


def parent_sandbox(uid: str = "parent-uid", **changes: Any) -> Sandbox:
    usual = Sandbox(
        id=f"{uid}-sandbox",
        namespace="kube-system",
        name="kube-apiserver-x7k2p",
        uid=uid,
        attempt=0,
        ready=True,
        created_at=stamp(-3600),
        labels={"k8s-app": "kube-apiserver", "pod-template-generation": "7"},
        annotations={SOURCE_ANNOTATION: "api"},
    )
    return replace(usual, **changes)


def copy_sandbox(workload: Workload = API, uid: str = "copy-uid", **changes: Any) -> Sandbox:
    usual = Sandbox(
        id=f"{uid}-sandbox",
        namespace=workload.namespace,
        name=f"{workload.name}-checkpoint-0123abcd-node-1",
        uid=uid,
        attempt=0,
        ready=True,
        created_at=stamp(ACTIVATED + 1),
        labels={"k8s-app": "kube-apiserver", WORKLOAD_LABEL: workload.digest},
        annotations={SOURCE_ANNOTATION: "file"},
    )
    return replace(usual, **changes)


def container_of(sandbox: Sandbox, name: str = "apiserver", **changes: Any) -> Container:
    usual = Container(
        id=f"{sandbox.uid}-{name}",
        sandbox_id=sandbox.id,
        name=name,
        namespace=sandbox.namespace,
        pod_name=sandbox.name,
        pod_uid=sandbox.uid,
        attempt=0,
        state=ContainerState.RUNNING,
        created_at=sandbox.created_at,
    )
    return replace(usual, **changes)


def dead(container: Container, attempt: int = 0) -> Container:
    return replace(container, state=ContainerState.EXITED, attempt=attempt)


def made(sandbox: Sandbox, name: str = "apiserver", **changes: Any) -> Runtime:
    """Return the sandbox with a container in it that is made and not started yet."""
    container = container_of(sandbox, name, state=ContainerState.CREATED, **changes)
    return Runtime((sandbox,), (container,))


EMPTY = Runtime()
ALONE = Known(Masters(("node-1",), "node-1"))
PARENT_RUNS = Runtime((parent_sandbox(),), (container_of(parent_sandbox()),))
PARENT_DIED_IN_PLACE = Runtime((parent_sandbox(),), (dead(container_of(parent_sandbox())),))
COPY_RUNS = Runtime((copy_sandbox(),), (container_of(copy_sandbox()),))


def both(first: Runtime, second: Runtime) -> Runtime:
    return Runtime(first.sandboxes + second.sandboxes, first.containers + second.containers)


def situation(contact: Contact, now: float = NOW, **changes: Any) -> Situation:
    usual = Situation(
        contact,
        Known(SAME_KUBELET),
        SAME_KUBELET.identity,
        RULES,
        "boot-1",
        WALL_AT_BOOT + now,
        now,
        0.0,
    )
    return replace(usual, **changes)


@dataclass(frozen=True, slots=True)
class Node:
    """Everything a decision rests on. As it is: booted, the API away, one checkpoint stored."""

    contact: Contact = field(default_factory=lost)
    pods: Fact[tuple[Pod, ...]] = Unknown("contact is lost")
    runtime: Fact[Runtime] = Known(EMPTY)
    kubelet: Fact[KubeletRun] = Known(NEW_KUBELET)
    manifests: Fact[tuple[ActiveManifest, ...]] = Known(())
    checkpoints: Fact[tuple[Checkpoint, ...]] = field(
        default_factory=lambda: Known((checkpoint(),))
    )
    masters: Fact[Masters] = ALONE
    others: Fact[Others] | None = Known(Others(serving=1))
    claim: Claim = Claim.UNUSED
    memory: Memory = Memory(contact_kubelet=SAME_KUBELET.identity, last_removal=0.0)
    rules: Rules = RULES
    failed_snapshots: frozenset[str] = frozenset()
    itself: Itself | None = None
    has_untold_pods: bool = False
    is_own_cluster: Fact[bool] = Known(True)

    def but(self, **changes: Any) -> Node:
        return replace(self, **changes)

    def with_track(self, workload: Workload = API, **changes: Any) -> Node:
        track = replace(self.memory.tracks.get(workload, Track()), **changes)
        tracks = {**self.memory.tracks, workload: track}
        return self.but(memory=replace(self.memory, tracks=tracks))

    def observe(self) -> Observation:
        return Observation(
            self.contact,
            self.pods,
            self.runtime,
            self.kubelet,
            self.manifests,
            self.checkpoints,
            masters=self.masters,
            others=self.others,
            claim=self.claim,
            itself=self.itself,
            has_untold_pods=self.has_untold_pods,
            is_own_cluster=self.is_own_cluster,
        )

    def decide(self, now: float = NOW) -> Plan:
        return decide(self.observe(), self.memory, self.rules, self.failed_snapshots, at(now))

    def then(self, plan: Plan) -> Node:
        """Return the node of the next cycle: what was remembered, and the written records."""
        assert isinstance(self.checkpoints, Known)
        stored = tuple(
            replace(c, record=plan.records.get(c.workload, c.record))
            for c in self.checkpoints.value
        )
        return self.but(memory=plan.memory, checkpoints=Known(stored))


BOOTED = Node()
ACTIVE = Node(
    runtime=Known(COPY_RUNS),
    manifests=Known((manifest(),)),
).with_track(activated_at=ACTIVATED, parent_exits=frozenset(), excused_attempts=0)
"""Its copy is up and the API still away."""
AT_REST = Node(
    contact=reachable(),
    checkpoints=Known((checkpoint(record=Record(parents=("parent-uid",), issue=4, good=(1,))),)),
    pods=Known((pod(), OTHER_POD)),
    runtime=Unknown("not asked: nothing depends on it"),
    kubelet=Known(SAME_KUBELET),
)
