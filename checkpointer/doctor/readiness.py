"""The one line before `reboot`: what this node would bring back, what not, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from checkpointer.core.facts import Known, Unknown
from checkpointer.core.hold import RELEASED, Hold, hold_of
from checkpointer.core.workload import Workload
from checkpointer.doctor.checks.manifests import conflict_of
from checkpointer.doctor.checks.pods import selected_pods
from checkpointer.doctor.facts import Examined, Facts
from checkpointer.doctor.result import Outcome, Result
from checkpointer.values import dataclass

BLOCKING: Final = ("static-pod-path", "manifest-folder", "store-folder", "agent-at-boot")
"""Checks that speak for every checkpoint: when one of them fails, nothing comes back."""


_NO_SNAPSHOT: Final = "no snapshot of it was taken yet"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a reboot without the API would do to one workload."""

    workload: Workload
    stage: int
    reason: str = ""
    """Why it would not come back, or why that cannot be told; empty when it would."""
    is_unknown: bool = False
    hold: str = ""
    """What an operator wants of it by hand, and who; empty when nobody does."""

    @property
    def comes_back(self) -> bool:
        """Tell whether it positively would."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Readiness:
    """All workloads of a node, sorted; nothing of it comes back while something blocks."""

    outlooks: tuple[Outlook, ...]
    blocker: str = ""
    """What keeps everything from coming back."""

    def lost(self, *, only_stage_zero: bool = False) -> tuple[Outlook, ...]:
        """Return those that would not, or might not, come back."""
        return tuple(
            outlook
            for outlook in self.outlooks
            if (self.blocker or not outlook.comes_back)
            and (outlook.stage == 0 or not only_stage_zero)
        )

    @property
    def line(self) -> str:
        """Return it as one sentence."""
        if self.blocker:
            return f"this node would bring back nothing, because {self.blocker}"
        back = [
            f"{outlook.workload} (held {outlook.hold})" if outlook.hold else str(outlook.workload)
            for outlook in self.outlooks
            if outlook.comes_back
        ]
        parts = [f"would bring back: {', '.join(back) or 'nothing'}"]
        for words, is_unknown in (("would not", False), ("it cannot be told of", True)):
            found = [
                f"{outlook.workload} because {outlook.reason}"
                for outlook in self.outlooks
                if outlook.reason and outlook.is_unknown is is_unknown
            ]
            if found:
                parts.append(f"{words}: {', '.join(found)}")
        return f"this node {'; '.join(parts)}"


def readiness(facts: Facts, results: Iterable[Result]) -> Readiness:
    """Return what would come back, by the facts and by the checks that speak for all."""
    blocker = next(
        (
            result.what
            for result in results
            if result.check in BLOCKING and result.outcome is Outcome.FAIL
        ),
        "",
    )
    if isinstance(facts.examined, Unknown):
        return Readiness((), blocker or facts.examined.reason)
    found = {one.workload: _outlook(one, facts) for one in facts.examined.value}
    pods = selected_pods(facts)
    for pod in pods.value if isinstance(pods, Known) else ():
        if pod.workload not in found and not pod.exclusion:
            paths = ", ".join(finding.path for finding in pod.refusals)
            reason = f"it is not checkpointable ({paths})" if paths else _NO_SNAPSHOT
            found[pod.workload] = Outlook(pod.workload, pod.stage, reason)
    return Readiness(tuple(found[workload] for workload in sorted(found)), blocker)


def _outlook(one: Examined, facts: Facts) -> Outlook:
    revision = one.serving
    if revision is None:
        # Nobody can tell its stage; it counts as what the node needs most.
        return Outlook(one.workload, 0, "no revision of it verifies")
    hold = hold_of(one.checkpoint, facts.moment)
    reason, unknown = _obstacle(one, hold, facts), _doubt(one)
    return Outlook(
        one.workload,
        revision.stage,
        reason or unknown,
        is_unknown=not reason and bool(unknown),
        hold=str(hold or ""),
    )


def _obstacle(one: Examined, hold: Hold | None, facts: Facts) -> str:
    if hold is not None and hold.wanted == RELEASED:
        return f"it is held {hold}"
    if isinstance(one.refusals, Known) and one.refusals.value:
        return f"the kubelet would refuse it ({one.refusals.value[0]})"
    if isinstance(one.absent, Known) and one.absent.value:
        return f"image {min(one.absent.value)} is not on this node"
    if isinstance(one.restricted, Known) and one.restricted.value:
        return f"the kubelet would pull image {min(one.restricted.value)} again"
    if isinstance(facts.static_pods, Known):
        return conflict_of(one, facts.static_pods.value)
    return ""


def _doubt(one: Examined) -> str:
    facts = (one.refusals, one.absent, one.restricted)
    return next((fact.reason for fact in facts if isinstance(fact, Unknown)), "")
