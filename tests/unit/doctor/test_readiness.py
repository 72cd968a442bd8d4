"""The one line before `reboot`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from checkpointer.core.checkpoint import Checkpoint
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.hold import Hold
from checkpointer.core.workload import Workload
from checkpointer.doctor.checks import check
from checkpointer.doctor.facts import ApiView, Examined
from checkpointer.doctor.readiness import Readiness, readiness
from checkpointer.manifest.verdict import Finding
from checkpointer.node.static_pods import StaticPod
from tests.unit.doctor.builders import AGENT, EXAMINED, NOW, POD, REVISION, WEB, healthy

DNS = Workload("kube-system", "DaemonSet", "dns")


def ready(**changes: Any) -> Readiness:
    facts = healthy(**changes)
    return readiness(facts, check(facts))


def test_a_healthy_node_brings_all_of_it_back() -> None:
    """By their names."""
    found = ready()
    assert found.line == "this node would bring back: kube-system/daemonset/web"
    assert found.lost() == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"refusals": Known(("spec: bad", "more"))}, "the kubelet would refuse it (spec: bad)"),
        ({"absent": Known(frozenset({"b", "a"}))}, "image a is not on this node"),
        ({"restricted": Known(frozenset({"a"}))}, "the kubelet would pull image a again"),
        ({"checkpoint": Checkpoint(WEB, ())}, "no revision of it verifies"),
        (
            {"checkpoint": replace(EXAMINED.checkpoint, hold=Hold("released", NOW, "root", "why"))},
            "it is held released by hand, root: why",
        ),
    ],
)
def test_what_would_not_come_back_says_why(changes: dict[str, Any], words: str) -> None:
    """One reason each: the first that holds it."""
    found = ready(examined=Known((replace(EXAMINED, **changes),)))
    assert found.line == (f"this node would bring back: nothing; would not: {WEB} because {words}")
    assert [outlook.workload for outlook in found.lost()] == [WEB]


def test_what_is_held_active_comes_back_as_it_is_held() -> None:
    """Its copy is there and stays; a hold that is over counts no more, either way."""
    held = Hold("active", NOW - 60, "root")
    checkpoint = replace(EXAMINED.checkpoint, hold=held)
    found = ready(examined=Known((replace(EXAMINED, checkpoint=checkpoint),)))
    assert found.line == f"this node would bring back: {WEB} (held active by hand, root)"
    over = replace(checkpoint, hold=replace(held, wanted="released", until=NOW))
    found = ready(examined=Known((replace(EXAMINED, checkpoint=over),)))
    assert found.line == f"this node would bring back: {WEB}"


def test_what_cannot_be_told_is_not_promised() -> None:
    """Without the runtime nobody knows about images."""
    found = ready(examined=Known((replace(EXAMINED, absent=Unknown("it is silent")),)))
    assert found.line == (
        f"this node would bring back: nothing; it cannot be told of: {WEB} because it is silent"
    )
    assert [outlook.is_unknown for outlook in found.lost()] == [True]


def test_a_positive_obstacle_is_told_before_a_doubt() -> None:
    """What is known to be wrong is wrong whatever else is not known."""
    one = replace(EXAMINED, refusals=Unknown("?"), absent=Known(frozenset({"a"})))
    assert "would not: " in ready(examined=Known((one,))).line


def test_somebody_elses_static_pod_on_the_same_port_keeps_it_from_running() -> None:
    """The kubelet would reject the copy for good."""
    foreign = StaticPod("proxy.yaml", "kube-system", "proxy", host_ports=(8080,))
    found = ready(static_pods=Known((AGENT, foreign)))
    assert "because proxy.yaml is a static pod that takes its port 8080" in found.line


def test_selected_pods_without_a_checkpoint_are_told() -> None:
    """With the API's help: a pod that is refused, one that was not taken; not one excluded."""
    refused = replace(POD, workload=DNS, refusals=(Finding("spec.volumes[0]", "a claim"),))
    pods = (POD, refused, replace(POD, workload=Workload("x", "Pod", "y"), exclusion="no"))
    view = Known(ApiView(Known(pods), Known(0.0), Known("v1.36.2")))
    assert ready(api=view).line == (
        f"this node would bring back: {WEB}; "
        f"would not: {DNS} because it is not checkpointable (spec.volumes[0])"
    )
    pods = (POD, replace(POD, workload=DNS))
    view = Known(ApiView(Known(pods), Known(0.0), Known("v1.36.2")))
    assert "because no snapshot of it was taken yet" in ready(api=view).line


@pytest.mark.parametrize(
    "changes",
    [{"static_pods": Known(())}, {"store_safety": "/s is writable"}, {"examined": Unknown("gone")}],
)
def test_what_holds_everything_is_told_instead(changes: dict[str, Any]) -> None:
    """No agent at boot, no store that may be used: nothing comes back, whatever is stored."""
    found = ready(**changes)
    assert found.line.startswith("this node would bring back nothing, because ")
    assert len(found.lost()) == len(found.outlooks)


def test_stage_zero_is_told_apart() -> None:
    """What restores contact matters most; of what does not verify the stage is not known."""
    first = replace(EXAMINED, absent=Known(frozenset({"a"})))
    vip = _checkpoint("vip", stage=0)
    gone = Examined(Checkpoint(DNS, ()), *[Known(())] * 4)  # type: ignore[arg-type]
    found = ready(examined=Known((first, replace(vip, absent=Known(frozenset({"v"}))), gone)))
    assert len(found.lost()) == 3
    assert [outlook.workload.name for outlook in found.lost(only_stage_zero=True)] == ["dns", "vip"]


def _checkpoint(name: str, stage: int) -> Examined:
    workload = Workload("kube-system", "DaemonSet", name)
    revision = replace(REVISION, stage=stage, host_ports=())
    return replace(EXAMINED, checkpoint=Checkpoint(workload, (revision,)))
