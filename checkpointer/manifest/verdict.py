"""What sanitizing says about one pod: its verdict, with every change and the reason for it.

One verdict per pod serves the status, the metrics, the Event on the pod and `explain`. It never
holds the value of a secret outside the manifest itself.
"""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from typing import Any

from checkpointer.core.workload import Workload
from checkpointer.values import dataclass


class Outcome(Enum):
    """The three things that can be said of a pod; the value is the sentence for people."""

    CHECKPOINTABLE = "checkpointable"
    WITH_WARNINGS = "checkpointable with warnings"
    REFUSED = "not checkpointable"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the parent and its copy.

    `path` is a field path as in Kubernetes errors (`spec.containers[0].ports`); `action` is one
    of dropped, rewritten, substituted, added.
    """

    path: str
    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A warning or a refusal: where, why, and what an operator can do about it, if anything."""

    path: str
    reason: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class MaterialVolume:
    """A volume whose rendered files must be copied from the parent's folder under the kubelet's.

    `plugin` is the folder name below `pods/<uid>/volumes/` (pkg/volume, EscapeQualifiedName).
    """

    name: str
    plugin: str
    optional: bool
    """Whether the kubelet starts the pod although nothing of the source exists."""
    tokens: tuple[str, ...] = ()
    """Paths in the volume of service-account tokens: refreshed in place, not in the digest."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one pod. `manifest` is None exactly when the outcome is REFUSED."""

    outcome: Outcome
    workload: Workload
    manifest: dict[str, Any] | None
    volumes: tuple[MaterialVolume, ...] = ()
    changes: tuple[Change, ...] = ()
    warnings: tuple[Finding, ...] = ()
    refusals: tuple[Finding, ...] = ()
    obstacles: tuple[Finding, ...] = ()
    """Those of the warnings by which the copy could not start on the node as it is now."""


@dataclass(slots=True)
class Ledger:
    """Collects what one run of the sanitizer finds, in the order in which it finds it."""

    changes: list[Change] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    refusals: list[Finding] = field(default_factory=list)
    obstacles: list[Finding] = field(default_factory=list)

    def change(self, path: str, action: str, reason: str) -> None:
        """Record a difference between parent and copy."""
        self.changes.append(Change(path, action, reason))

    def warn(self, path: str, reason: str, cure: str = "") -> None:
        """Record something that the copy may do differently."""
        self.warnings.append(Finding(path, reason, cure))

    def obstruct(self, path: str, reason: str, cure: str = "") -> None:
        """Warn of something by which the copy could not start as the node is now."""
        self.warn(path, reason, cure)
        self.obstacles.append(self.warnings[-1])

    def refuse(self, path: str, reason: str, cure: str = "") -> None:
        """Record why this pod cannot be checkpointed."""
        self.refusals.append(Finding(path, reason, cure))
