"""One cycle's view of the world: every fact a decision may rest on, and nothing else."""

from __future__ import annotations

from checkpointer.core.checkpoint import ActiveManifest, Checkpoint
from checkpointer.core.contact import Contact
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.lease import Claim
from checkpointer.core.runtime import Runtime
from checkpointer.core.turns import Masters, Others
from checkpointer.core.workload import Workload
from checkpointer.values import dataclass

NOT_ASKED = Unknown("not asked: nothing depends on it")
"""What stands for a source that nobody asked; it is no source that failed to tell."""


@dataclass(frozen=True)
class Pod:
    """A pod that the API binds to this node and that is neither static, mirror nor ours.

    Without slots: `told_again` makes use of that.
    """

    workload: Workload
    uid: str
    name: str
    is_parent: bool
    """Whether it is selected for checkpointing and may be."""
    ready: bool
    terminating: bool
    finished: bool
    """Phase Succeeded or Failed: the kubelet will never run this pod (again)."""
    ready_seconds: float = 0.0
    """For how long the status says Ready, by the node's clock: the kubelet here wrote it."""
    container_ids: frozenset[str] = frozenset()
    """The runtime's ids of the app containers that the status speaks of."""
    signature: str = ""
    """Changes when the spec or the rendered material does, or may have."""
    template: str = ""
    """What its controller calls the template that it was made of; empty without one."""
    excluded: str = ""
    """Why it is no parent although it asks to be checkpointed; empty for all others."""
    fault: str = ""
    """Why it cannot be read; such a pod is there, and nothing good is known of it."""
    started_at: float | None = None
    """Since when it is on this node, in seconds of the Unix epoch; None when nobody tells."""
    content_signature: str = ""
    """Changes when the spec does, the content of what it mounts, or a label or annotation that its
    environment takes; not when a token is renewed, nor with any other label or annotation. Told
    of a parent that is refused; empty for all others, and while nobody can tell."""

    @property
    def stays(self) -> bool:
        """Whether it neither ends nor has ended."""
        return not (self.terminating or self.finished)

    @property
    def awaits_controller(self) -> bool:
        """Whether a controller that works would have deleted it by now, and made the next one.

        A DaemonSet's deletes what has failed (daemon_controller.go:podsShouldBeOnNode); others
        leave it and make the next one beside it, here or elsewhere.
        """
        return self.finished and self.workload.kind == "DaemonSet"

    def told_again(self, signature: str, content_signature: str, ready_seconds: float) -> Pod:
        """Return it as of now. For each pod in each cycle: a tenth of what `replace` takes."""
        again = object.__new__(Pod)
        again.__dict__.update(
            self.__dict__,
            signature=signature,
            content_signature=content_signature,
            ready_seconds=ready_seconds,
        )
        return again


@dataclass(frozen=True, slots=True)
class KubeletRun:
    """The kubelet's current run: who it is, since when, whether it is there.

    `identity` differs between two runs and needs no clock; `started_at` is in nanoseconds of
    the Unix epoch, as the socket's file time says.
    """

    identity: str
    started_at: int
    listening: bool


@dataclass(frozen=True, slots=True)
class Itself:
    """Which pod the agent runs in, and what the API says of what that belongs to."""

    workload: Workload
    pod_uid: str
    cluster: str = ""
    """A digest of the CA that the API is verified by; empty when it cannot be read."""
    owner: Fact[bool] = Unknown("not asked")
    """Whether the controller is there; an identity that may not read it cannot tell."""
    marker: Fact[bool] = Unknown("not asked")
    """Whether the Service of the controller's name is there: every node may read Services."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What all observers say at one moment."""

    contact: Contact
    pods: Fact[tuple[Pod, ...]]
    runtime: Fact[Runtime]
    kubelet: Fact[KubeletRun]
    manifests: Fact[tuple[ActiveManifest, ...]]
    checkpoints: Fact[tuple[Checkpoint, ...]]
    masters: Fact[Masters] = Unknown("not read yet")
    """As the API last told them."""
    others: Fact[Others] | None = None
    """What the other masters' API servers answer; None when nobody has asked."""
    claim: Claim = Claim.UNUSED
    """What the masters' lease allows this node."""
    itself: Itself | None = None
    """None when the agent runs in no pod, or it cannot be told in which."""
    is_own_cluster: Fact[bool] = Known(True)
    """Whether the API that answers is that of the cluster that the store belongs to."""
    has_untold_pods: bool = False
    """Whether the API has pods here of which not even the workload can be told: then none that is
    not among `pods` is absent."""
