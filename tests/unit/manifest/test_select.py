"""Which pods are parents, in which stage, and whether their copies can stand beside them."""

from __future__ import annotations

from typing import Any

import pytest

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.manifest.select import (
    LabelSelector,
    Requirement,
    Selection,
    StageRule,
    exclusion,
    host_ports,
    is_meant,
    is_ready,
    opts_in_to_inlining,
    shares_ports,
    stage_of,
)
from checkpointer.manifest.sources import BoundClaim

ASKS = {"checkpointer.alpha.coreos.com/checkpoint": "true"}


def make_pod(
    *,
    annotations: dict[str, str] | None = None,
    owner: tuple[str, str] | None = ("DaemonSet", "web"),
    status: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """Return a pod that asks to be checkpointed."""
    owners = [{"kind": owner[0], "name": owner[1], "controller": True}] if owner else []
    return {
        "metadata": {
            "name": "web-abcde",
            "namespace": "kube-system",
            "annotations": ASKS if annotations is None else annotations,
            "ownerReferences": owners,
            **metadata,
        },
        "spec": {"containers": [{"name": "main", "image": "reg.example/web:1"}], **(spec or {})},
        "status": status or {"phase": "Running"},
    }


def is_selected(pod: dict[str, Any], selection: Selection) -> bool:
    return is_meant(pod, selection) and exclusion(pod, selection) is None


def test_asking_pod_in_an_allowed_namespace_is_a_parent() -> None:
    """The historic annotation selects, in kube-system by default."""
    assert is_selected(make_pod(), Selection())


@pytest.mark.parametrize("annotations", [{}, {"checkpointer.alpha.coreos.com/checkpoint": "yes"}])
def test_pod_that_does_not_ask_is_none(annotations: dict[str, str]) -> None:
    """Only `true` asks."""
    assert not is_selected(make_pod(annotations=annotations), Selection())


def test_annotation_alone_buys_nothing() -> None:
    """A namespace that the node does not allow stays outside, whoever annotates there."""
    pod = make_pod(namespace="team-a")
    assert not is_selected(pod, Selection())
    assert exclusion(pod, Selection()) == (
        "this node's configuration does not allow namespace team-a"
    )
    assert is_selected(pod, Selection(namespaces=("kube-system", "team-a")))
    assert is_selected(pod, Selection(namespaces=("*",)))
    assert not is_selected(pod, Selection(namespaces=("team-*",)))


def test_annotation_can_be_switched_off() -> None:
    """With selectors only, pods cannot ask."""
    assert not is_selected(make_pod(), Selection(annotation=False))


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (LabelSelector(), True),
        (LabelSelector((("app", "web"),)), True),
        (LabelSelector((("app", "db"),)), False),
        (LabelSelector((), (Requirement("app", "In", ("db", "web")),)), True),
        (LabelSelector((), (Requirement("app", "In", ("db",)),)), False),
        (LabelSelector((), (Requirement("tier", "In", ("a",)),)), False),
        (LabelSelector((), (Requirement("app", "NotIn", ("web",)),)), False),
        (LabelSelector((), (Requirement("tier", "NotIn", ("a",)),)), True),
        (LabelSelector((), (Requirement("app", "Exists"),)), True),
        (LabelSelector((), (Requirement("tier", "Exists"),)), False),
        (LabelSelector((), (Requirement("tier", "DoesNotExist"),)), True),
        (LabelSelector((), (Requirement("app", "DoesNotExist"),)), False),
        (LabelSelector((), (Requirement("app", "Like", ("web",)),)), False),
        (LabelSelector((("app", "web"),), (Requirement("tier", "Exists"),)), False),
    ],
)
def test_selectors_are_those_of_the_api(selector: LabelSelector, matches: bool) -> None:
    """matchLabels and matchExpressions mean what they mean everywhere."""
    pod = make_pod(annotations={}, labels={"app": "web"})
    assert is_selected(pod, Selection(selectors=(selector,))) is matches


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (make_pod(owner=("Node", "edge-07")), "it is a static pod"),
        (make_pod(annotations={**ASKS, "kubernetes.io/config.mirror": "x"}), "it is a static pod"),
        (
            make_pod(annotations={**ASKS, "kubernetes.io/config.source": "file"}),
            "it is a static pod",
        ),
        (make_pod(labels={"checkpointer.alpha.coreos.com/workload": "x"}), "it is one of our own"),
        (
            make_pod(annotations={**ASKS, "checkpointer.alpha.coreos.com/checkpoint-of": "x"}),
            "it is one of our own",
        ),
        (make_pod(deletionTimestamp="2026-01-01T00:00:00Z"), "it is terminating"),
        (make_pod(status={"phase": "Succeeded"}), "it has finished"),
        (make_pod(status={"phase": "Failed"}), "it has finished"),
        (make_pod(owner=("Job", "backup")), "it belongs to a Job"),
    ],
)
def test_what_can_never_be_a_parent(pod: dict[str, Any], reason: str) -> None:
    """Static, mirror, own, terminating, finished and Job-owned pods are left out, and say why."""
    assert not is_selected(pod, Selection())
    found = exclusion(pod, Selection())
    assert found is not None
    assert found.startswith(reason)


def test_source_api_is_no_static_pod() -> None:
    """The kubelet marks API pods, too."""
    annotations = {**ASKS, "kubernetes.io/config.source": "api"}
    assert is_selected(make_pod(annotations=annotations), Selection())


@pytest.mark.parametrize(
    ("selection", "allowed"),
    [
        (Selection(service_accounts=("web",)), True),
        (Selection(service_accounts=("kube-system:web",)), True),
        (Selection(service_accounts=("other:web", "default")), False),
        (Selection(owner_kinds=("DaemonSet",)), True),
        (Selection(owner_kinds=("Deployment", "Pod")), False),
        (Selection(images=("reg.example/*",)), True),
        (Selection(images=("reg.example/web:1",)), True),
        (Selection(images=("reg.example/web",)), False),
    ],
)
def test_allow_lists(selection: Selection, allowed: bool) -> None:
    """Every list must allow the pod."""
    assert is_selected(make_pod(spec={"serviceAccountName": "web"}), selection) is allowed


def test_every_image_must_be_allowed() -> None:
    """One foreign init container is enough to stay outside."""
    pod = make_pod(spec={"initContainers": [{"name": "i", "image": "other.example/x"}]})
    assert not is_selected(pod, Selection(images=("reg.example/*",)))


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ([], False),
        ([{"type": "Ready", "status": "True"}], True),
        ([{"type": "Ready", "status": "Unknown"}], False),
        ([{"type": "ContainersReady", "status": "True"}], False),
    ],
)
def test_ready(conditions: list[dict[str, str]], ready: bool) -> None:
    """Only the condition Ready counts, and only when it is true."""
    assert is_ready({"status": {"conditions": conditions}}) is ready


def test_pod_without_status_is_not_ready() -> None:
    """Nothing known is not Ready."""
    assert not is_ready({})


@pytest.mark.parametrize(
    ("namespace", "name", "stage"),
    [
        ("kube-system", "kube-apiserver", 0),
        ("kube-system", "etcd", 0),
        ("kube-system", "self-hosted-etcd", 0),
        ("kube-system", "kube-vip-ds", 0),
        ("kube-system", "kube-vip-cloud-provider", 1),
        ("kube-system", "coredns", 1),
        ("team-a", "etcd", 1),
    ],
)
def test_default_stages(namespace: str, name: str, stage: int) -> None:
    """What brings contact back goes first; the rest follows."""
    assert stage_of(make_pod(namespace=namespace, owner=("DaemonSet", name))) == stage


@pytest.mark.parametrize(("wish", "stage"), [("0", 0), ("1", 1), ("2", 1), ("", 1)])
def test_stage_by_annotation(wish: str, stage: int) -> None:
    """The pod's own word counts if it is one of the two."""
    annotations = {"checkpointer.alpha.coreos.com/stage": wish}
    assert stage_of(make_pod(annotations=annotations)) == stage


def test_stage_by_rule() -> None:
    """The first rule that matches decides."""
    rules = (
        StageRule(1, names=("web-slow",)),
        StageRule(0, selector=LabelSelector((("tier", "tunnel"),))),
        StageRule(0, names=("web*",)),
    )
    assert stage_of(make_pod(), rules) == 0
    assert stage_of(make_pod(owner=("DaemonSet", "web-slow")), rules) == 1
    assert stage_of(make_pod(owner=("DaemonSet", "x"), labels={"tier": "tunnel"}), rules) == 0
    assert stage_of(make_pod(owner=("DaemonSet", "x")), rules) == 1


@pytest.mark.parametrize(
    ("spec", "ports", "shares"),
    [
        ({}, (), True),
        ({"containers": [{"ports": [{"containerPort": 80}]}]}, (), True),
        ({"containers": [{"ports": [{"containerPort": 80, "hostPort": 8080}]}]}, (8080,), False),
        ({"hostNetwork": True, "containers": [{}]}, (), False),
        (
            {"hostNetwork": True, "containers": [{"args": ["--permit-port-sharing"]}]},
            (),
            True,
        ),
        (
            {
                "hostNetwork": True,
                "containers": [{"command": ["/kube-apiserver", "--permit-port-sharing=true"]}],
            },
            (),
            True,
        ),
        (
            {"hostNetwork": True, "containers": [{"args": ["--permit-port-sharing=false"]}]},
            (),
            False,
        ),
        (
            {
                "hostNetwork": True,
                "containers": [{"ports": [{"containerPort": 443}]}],
                "initContainers": [
                    {"restartPolicy": "Always", "ports": [{"containerPort": 80}]},
                    {"ports": [{"containerPort": 22}]},
                ],
            },
            (80, 443),
            False,
        ),
    ],
)
def test_ports_of_the_node(spec: dict[str, Any], ports: tuple[int, ...], shares: bool) -> None:
    """Host ports, and on the host's network all declared ports, belong to one pod at a time,
    unless its program says that it shares them."""
    assert host_ports({"spec": spec}) == ports
    assert shares_ports({"spec": spec}, {}) is shares


def claim(*modes: str) -> Fact[BoundClaim | None]:
    return Known(BoundClaim({"spec": {"accessModes": list(modes)}}, None))


def claiming(mount: dict[str, Any], **source: Any) -> dict[str, Any]:
    """Return a pod of a network of its own with a mount of the volume `data`."""
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data", **source}}
    containers = [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "data", **mount}]}]
    return {"spec": {"containers": containers, "volumes": [volume]}}


@pytest.mark.parametrize(
    ("fact", "shares"),
    [
        (claim("ReadWriteOncePod"), False),
        (claim("ReadWriteOnce"), False),
        (claim("ReadWriteOnce", "ReadOnlyMany"), False),
        (claim("ReadOnlyMany"), True),
        (claim("ReadWriteMany"), True),
        (claim("ReadWriteOnce", "ReadWriteMany"), True),
        (claim(), False),
        (Known(None), False),
        (Unknown("no answer"), False),
    ],
)
def test_a_volume_has_one_writer(fact: Fact[BoundClaim | None], shares: bool) -> None:
    """Unless its claim says otherwise, parent and copy are not up at the same time."""
    assert shares_ports(claiming({}), {"data": fact}) is shares
    assert shares_ports(claiming({"readOnly": True}), {"data": fact})
    assert shares_ports(claiming({}, readOnly=True), {"data": fact})
    assert shares_ports(claiming({"name": "other"}), {"data": fact})


def test_a_volume_has_one_writer_on_the_hosts_network_too() -> None:
    """Whatever the program says of its ports."""
    pod = claiming({})
    pod["spec"]["hostNetwork"] = True
    pod["spec"]["containers"][0]["args"] = ["--permit-port-sharing"]
    assert not shares_ports(pod, {"data": claim("ReadWriteOnce")})
    assert shares_ports(pod, {"data": claim("ReadWriteMany")})


def test_opt_in_is_an_annotation() -> None:
    """A pod opts in to its secrets being published with `true` only."""
    key = "checkpointer.alpha.coreos.com/inline-secrets"
    assert opts_in_to_inlining(make_pod(annotations={key: "true"}))
    assert not opts_in_to_inlining(make_pod(annotations={key: "1"}))
