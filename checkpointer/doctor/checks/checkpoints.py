"""Is what is stored whole, would the kubelet run it, and are its images and tokens good?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from checkpointer.core.facts import Fact, Unknown
from checkpointer.core.hold import RELEASED, hold_of
from checkpointer.doctor.facts import Examined, Facts
from checkpointer.doctor.result import Answer, failed, passed, skipped, warned
from checkpointer.report.hand_overs import refusal
from checkpointer.report.spans import DAY, age

TOKEN_SECONDS: Final = DAY

_NOTHING: Final = skipped("no checkpoint is stored")
_SNAPSHOT: Final = "`checkpointer prepare-reboot` takes new snapshots while the API answers"


def stored(facts: Facts) -> Iterator[Answer]:
    """Every checkpoint has a revision that verifies."""
    if isinstance(facts.examined, Unknown):
        yield failed(facts.examined.reason, f"repair {facts.config.store_directory}")
        return
    for problem in facts.store_problems:
        yield warned(problem, "look at that folder; remove it if it is not needed")
    found = facts.examined.value
    if not found:
        yield failed(
            "no checkpoint is stored: nothing would come back",
            "select pods (annotation or selection.labelSelectors), and let the agent run while "
            "the API answers",
        )
        return
    for one in found:
        for problem in one.checkpoint.problems:
            say = warned if one.serving else failed
            yield say(f"{one.workload}: {problem}", _SNAPSHOT)
        if one.serving is None and not one.checkpoint.problems:
            yield failed(f"{one.workload}: it has no revision", _SNAPSHOT)
    count = sum(one.serving is not None for one in found)
    yield passed(f"{count} of {len(found)} checkpoints have a revision that verifies")


def acceptance(facts: Facts) -> Iterator[Answer]:
    """The kubelet would run every one of them."""
    if not (serving := _serving(facts)):
        yield _NOTHING
        return
    count = 0
    for one in serving:
        if isinstance(one.refusals, Unknown):
            yield failed(f"{one.workload}: {one.refusals.reason}", _SNAPSHOT)
        elif one.refusals.value:
            reasons = "; ".join(one.refusals.value)
            yield failed(f"{one.workload}: the kubelet would refuse it: {reasons}", _SNAPSHOT)
        else:
            count += 1
    yield passed(f"the kubelet would take {count} of {len(serving)} manifests")


def images(facts: Facts) -> Iterator[Answer]:
    """Their images are on the node."""
    cure = (
        "pull it with the runtime's tool, such as `crictl pull`, and keep the kubelet's image "
        "garbage collection from removing it"
    )
    yield from _per_image(facts, "absent", "is not on this node", cure, "are on this node")


def pull_records(facts: Facts) -> Iterator[Answer]:
    """The kubelet would start their images without asking the registry."""
    cure = (
        "give the node credentials of its own for the registry, load the image with the "
        "runtime's tool, or set imagePullCredentialsVerificationPolicy: NeverVerify"
    )
    what = "is here, but the kubelet would pull it again: a copy has not the pod's pull secret"
    yield from _per_image(facts, "restricted", what, cure, "need no credentials")


def tokens(facts: Facts) -> Iterator[Answer]:
    """Their service-account tokens last."""
    if not (serving := _serving(facts)):
        yield _NOTHING
        return
    said = False
    for one in serving:
        if isinstance(one.token_expires, Unknown):
            yield warned(f"{one.workload}: {one.token_expires.reason}", _SNAPSHOT)
            said = True
        elif one.token_expires.value is not None:
            left, said = one.token_expires.value - facts.now, True
            what = f"{one.workload}: its service-account token"
            if left <= 0:
                yield failed(f"{what} has expired {age(-left)} ago", _SNAPSHOT)
            elif left < TOKEN_SECONDS:
                yield warned(
                    f"{what} expires in {age(left)}: a longer outage makes it useless",
                    "the agent renews it while the API answers; "
                    "see --service-account-extend-token-expiration of the API server",
                )
            else:
                yield passed(f"{what} is good for {age(left)}")
    if not said:
        yield passed("no checkpoint holds a token that expires")


def crashes(facts: Facts) -> Iterator[Answer]:
    """None of them was tried and kept crashing."""
    serving = _serving(facts)
    found = [
        (one, sorted(one.checkpoint.record.failed))
        for one in serving
        if any(r.number in one.checkpoint.record.failed for r in one.checkpoint.revisions)
    ]
    if not serving:
        yield _NOTHING
        return
    for one, numbers in found:
        shown = ", ".join(str(number) for number in numbers)
        is_out = one.serving is not None and one.serving.number in numbers
        say = failed if is_out else warned
        yield say(
            f"{one.workload}: revision {shown} was activated and kept crashing",
            "see its containers' logs; a new revision is taken when the parent changes",
        )
    if not found:
        yield passed("no stored revision is known to crash")


def parents(facts: Facts) -> Iterator[Answer]:
    """No parent has failed when its copy made way for it."""
    found = () if isinstance(facts.examined, Unknown) else facts.examined.value
    if not found:
        yield _NOTHING
        return
    is_well = True
    for one in found:
        way = one.checkpoint.record.hand_over
        cure = (
            f"see why: `checkpointer logs {one.workload.name}`, its pod's events; then mend it or "
            "roll it back: what changes is tried anew"
        )
        if told := refusal(one.checkpoint, None):
            is_well = False
            yield failed(f"{one.workload}: {told} (pod {way.refused})", cure)
        elif way.failures:
            is_well = False
            what = f"{way.failures} in a row: its parent was not back in time"
            yield warned(f"{one.workload}: hand-overs to its parent have failed, {what}", cure)
    if is_well:
        yield passed("none has failed when its copy made way for it")


def holds(facts: Facts) -> Iterator[Answer]:
    """Nobody holds one by hand."""
    found = () if isinstance(facts.examined, Unknown) else facts.examined.value
    if not found:
        yield _NOTHING
        return
    is_free = True
    for one in found:
        if (hold := hold_of(one.checkpoint, facts.moment)) is None:
            continue
        is_free = False
        over = f", for {age(hold.seconds_left(facts.moment))} more" if hold.until else ""
        what = f"{one.workload}: held {hold}{over}"
        cure = f"to leave it to the agent again: `checkpointer {{}} --lift {one.workload}`"
        if hold.wanted == RELEASED:
            what += ": it is not activated, not in an outage either"
            yield failed(what, cure.format("release"))
        else:
            what += ": its copy stays, also when its parent could take over"
            yield warned(what, cure.format("activate"))
    if is_free:
        yield passed("no checkpoint is held by hand")


def _serving(facts: Facts) -> list[Examined]:
    if isinstance(facts.examined, Unknown):
        return []
    return [one for one in facts.examined.value if one.serving is not None]


def _per_image(facts: Facts, kind: str, what: str, cure: str, all_is_well: str) -> Iterator[Answer]:
    if not (serving := _serving(facts)):
        yield _NOTHING
        return
    unknown: set[str] = set()
    is_well = True
    for one in serving:
        fact: Fact[frozenset[str]] = getattr(one, kind)
        if isinstance(fact, Unknown):
            unknown.add(fact.reason)
            continue
        for image in sorted(fact.value):
            is_well = False
            yield failed(f"{one.workload}: image {image} {what}", cure)
    for reason in sorted(unknown):
        yield skipped(reason)
    if is_well and not unknown:
        yield passed(f"the images of all {len(serving)} checkpoints {all_is_well}")
