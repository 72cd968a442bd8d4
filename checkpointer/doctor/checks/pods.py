"""The pods that are meant to be checkpointed: may they be, can they be, and were they lately?"""

from __future__ import annotations

from collections.abc import Iterator

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.doctor.facts import Facts, SelectedPod
from checkpointer.doctor.result import Answer, failed, passed, skipped, warned


def selected(facts: Facts) -> Iterator[Answer]:
    """Every selected pod can be checkpointed."""
    pods = selected_pods(facts)
    if isinstance(pods, Unknown):
        yield skipped(pods.reason)
        return
    allowed = [pod for pod in pods.value if not pod.exclusion]
    for pod in allowed:
        if pod.refusals:
            reasons = "; ".join(f"{one.path}: {one.reason}" for one in pod.refusals)
            cures = [one.cure for one in pod.refusals if one.cure]
            yield failed(
                f"{_shown(pod)}: not checkpointable: {reasons}",
                "; ".join(cures) or f"see `checkpointer explain {_path(pod)}`",
            )
        elif not pod.is_ready:
            yield warned(
                f"{_shown(pod)}: not Ready: no snapshot is taken of it",
                f"see `kubectl -n {pod.workload.namespace} describe pod {pod.name}`",
            )
    good = sum(not pod.refusals for pod in allowed)
    if not allowed:
        yield warned(
            "no pod of this node is selected",
            'annotate pods with checkpointer.alpha.coreos.com/checkpoint: "true", or set '
            "selection.labelSelectors",
        )
    else:
        yield passed(f"{good} of {len(allowed)} selected pods are checkpointable")


def allowed(facts: Facts) -> Iterator[Answer]:
    """The configuration allows every pod that asks."""
    pods = selected_pods(facts)
    if isinstance(pods, Unknown):
        yield skipped(pods.reason)
        return
    excluded = [pod for pod in pods.value if pod.exclusion]
    for pod in excluded:
        yield warned(
            f"{_shown(pod)}: asks to be checkpointed, but {pod.exclusion}",
            "allow it in this node's configuration (selection.*), or remove its annotation",
        )
    if not excluded:
        yield passed("this node's configuration allows every pod that asks")


def freshness(facts: Facts) -> Iterator[Answer]:
    """The newest revision of each is what its parent is now."""
    pods = selected_pods(facts)
    if isinstance(pods, Unknown) or isinstance(facts.examined, Unknown):
        yield skipped("what the parents are now is not known")
        return
    cure = "`checkpointer prepare-reboot` takes snapshots now; the agent's log says why it did not"
    newest = {one.workload: one.checkpoint.revisions[:1] for one in facts.examined.value}
    is_fresh = True
    for pod in pods.value:
        if pod.exclusion or pod.refusals or not pod.is_ready:
            continue
        if not newest.get(pod.workload):
            is_fresh = False
            yield failed(f"{_shown(pod)}: is Ready and has no checkpoint", cure)
        elif pod.digest is not None and newest[pod.workload][0].digest != pod.digest:
            is_fresh = False
            yield warned(f"{_shown(pod)}: has changed since its newest revision", cure)
    here = {pod.workload for pod in pods.value}
    for workload in sorted(newest.keys() - here):
        is_fresh = False
        yield warned(
            f"{workload}: no pod of it is on this node any more; its checkpoint goes when the API "
            "has said so for long enough (timing.absent)",
            "nothing, if it was moved away on purpose",
        )
    if is_fresh:
        yield passed("the newest revisions are what their parents are now")


def selected_pods(facts: Facts) -> Fact[tuple[SelectedPod, ...]]:
    """Return the pods that are meant to be checkpointed, where the API told them."""
    return facts.api.value.pods if isinstance(facts.api, Known) else facts.api


def _path(pod: SelectedPod) -> str:
    return f"{pod.workload.namespace}/{pod.name}"


def _shown(pod: SelectedPod) -> str:
    return f"{pod.workload} (pod {pod.name})"
