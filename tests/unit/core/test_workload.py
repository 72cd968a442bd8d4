"""Workload identity: who a pod is across restarts and rollouts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.core.workload import (
    TEMPLATE_LABELS,
    Workload,
    controller_of,
    identifying_labels,
    workload_of,
)


def raw_pod(
    name: str, owner: tuple[str, str] | None = None, labels: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return the parts of a v1 Pod that tell who it is."""
    metadata: dict[str, Any] = {"name": name, "namespace": "kube-system"}
    if owner is not None:
        kind, owner_name = owner
        metadata["ownerReferences"] = [{"kind": kind, "name": owner_name, "controller": True}]
    if labels is not None:
        metadata["labels"] = labels
    return {"metadata": metadata}


@pytest.mark.parametrize(
    ("pod", "kind", "name"),
    [
        (raw_pod("proxy-x7k2p", ("DaemonSet", "proxy")), "DaemonSet", "proxy"),
        (
            raw_pod(
                "dns-5d78c9-x7k2p", ("ReplicaSet", "dns-5d78c9"), {"pod-template-hash": "5d78c9"}
            ),
            "Deployment",
            "dns",
        ),
        (
            raw_pod("a-b-1-x7k2p", ("ReplicaSet", "a-b-1"), {"pod-template-hash": "1"}),
            "Deployment",
            "a-b",
        ),
        (
            raw_pod("dns-x7k2p", ("ReplicaSet", "dns"), {"pod-template-hash": "5d"}),
            "ReplicaSet",
            "dns",
        ),
        (raw_pod("dns-x7k2p", ("ReplicaSet", "dns"), {}), "ReplicaSet", "dns"),
        (raw_pod("dns-x7k2p", ("ReplicaSet", "dns"), None), "ReplicaSet", "dns"),
        (raw_pod("etcd-0", ("StatefulSet", "etcd")), "StatefulSet", "etcd"),
        (raw_pod("backup-x7k2p", ("Job", "backup")), "Job", "backup"),
        (raw_pod("etcd-node-1", ("Node", "node-1")), "Node", "node-1"),
        (raw_pod("tunnel"), "Pod", "tunnel"),
    ],
)
def test_a_workload_is_the_controller_or_the_bare_pod(
    pod: dict[str, Any], kind: str, name: str
) -> None:
    """A ReplicaSet's pod is its Deployment's if the template's hash says so."""
    assert workload_of(pod) == Workload("kube-system", kind, name)


def test_two_pods_of_one_rollout_each_are_one_workload() -> None:
    """A rollout must not leave two checkpoints of one thing."""
    old = raw_pod("dns-5d-aaaaa", ("ReplicaSet", "dns-5d"), {"pod-template-hash": "5d"})
    new = raw_pod("dns-7f-bbbbb", ("ReplicaSet", "dns-7f"), {"pod-template-hash": "7f"})
    assert workload_of(old) == workload_of(new)


def test_an_owner_that_is_not_the_controller_does_not_count() -> None:
    """Only `controller: true` says who makes the pod anew."""
    pod = raw_pod("tunnel")
    pod["metadata"]["ownerReferences"] = [{"kind": "ConfigMap", "name": "x"}]
    assert controller_of(pod) is None
    assert workload_of(pod) == Workload("kube-system", "Pod", "tunnel")


def test_the_controller_is_found_among_other_owners() -> None:
    """Its place in the list does not matter."""
    pod = raw_pod("proxy-x7k2p", ("DaemonSet", "proxy"))
    pod["metadata"]["ownerReferences"].insert(0, {"kind": "ConfigMap", "name": "x"})
    assert workload_of(pod) == Workload("kube-system", "DaemonSet", "proxy")


LONG = "n" * 60
MIDDLE = "n" * 50


@pytest.mark.parametrize(
    ("kind", "name", "pod_name", "expected"),
    [
        ("DaemonSet", "proxy", "proxy-x7k2p", True),
        ("DaemonSet", "proxy", "proxy-5d78c9-x7k2p", False),
        ("DaemonSet", "proxy", "proxy-x7k2", False),
        ("DaemonSet", "proxy", "proxy-x7k2pp", False),
        ("DaemonSet", "proxy", "proxy-X7K2P", False),
        ("DaemonSet", "proxy", "proxyx7k2p", False),
        ("DaemonSet", "proxy", "my-proxy-x7k2p", False),
        ("DaemonSet", "proxy", "proxy-x7k2p\n", False),
        ("DaemonSet", "pro.y", "proxy-x7k2p", False),
        ("DaemonSet", LONG, "n" * 58 + "x7k2p", True),
        ("DaemonSet", LONG, "n" * 57 + "mx7k2p", False),
        ("DaemonSet", "n" * 57, "n" * 57 + "-x7k2p", True),
        ("DaemonSet", "n" * 58, "n" * 58 + "x7k2p", True),
        ("Deployment", "dns", "dns-5d78c9-x7k2p", True),
        ("Deployment", "dns", "dns-x7k2p", False),
        ("Deployment", "dns", "dns-5d78c9abcde-x7k2p", False),
        ("Deployment", "dns", "dns-a-5d78c9-x7k2p", False),
        ("Deployment", MIDDLE, MIDDLE + "-5d78c9ax7k2p", True),
        ("Deployment", MIDDLE, MIDDLE + "-5d78c9-x7k2p", True),
        ("Deployment", LONG, "n" * 58 + "x7k2p", True),
        ("ReplicaSet", "dns", "dns-x7k2p", True),
        ("StatefulSet", "etcd", "etcd-0", True),
        ("StatefulSet", "etcd", "etcd-12", True),
        ("StatefulSet", "etcd", "etcd-x7k2p", False),
        ("StatefulSet", "etcd", "etcd-", False),
        ("Job", "backup", "backup-x7k2p", True),
        ("Pod", "tunnel", "tunnel", True),
        ("Pod", "tunnel", "tunnel-x7k2p", False),
    ],
)
def test_a_workload_may_own_the_names_its_controller_gives(
    kind: str, name: str, pod_name: str, expected: bool
) -> None:
    """The names that the API server generates, cut ones too, and none that only look alike."""
    workload = Workload("kube-system", kind, name)
    assert workload.may_own("kube-system", pod_name) is expected
    assert workload.may_own("default", pod_name) is False


def test_digests_keep_namespace_and_name_apart() -> None:
    """`a-b/c` and `a/b-c` read alike in a file name."""
    digests = {
        Workload("a-b", "DaemonSet", "c").digest,
        Workload("a", "DaemonSet", "b-c").digest,
        Workload("a", "Deployment", "b-c").digest,
        Workload("a", "DaemonSet", "b").digest,
    }
    assert len(digests) == 4


def test_a_digest_is_what_is_on_disk() -> None:
    """It names files and marks pods that outlive the agent's version: it never changes."""
    assert Workload("kube-system", "DaemonSet", "kube-apiserver").digest == "3882bcb5e75adef8"


NAMES = st.text("ab-.c", min_size=1, max_size=6)


@given(st.lists(st.tuples(NAMES, NAMES, NAMES), unique=True, max_size=20))
def test_digests_differ_where_workloads_do(parts: list[tuple[str, str, str]]) -> None:
    """However the names are cut up."""
    assert len({Workload(*part).digest for part in parts}) == len(parts)


def test_a_workload_is_told_in_one_word() -> None:
    """The form of every message."""
    assert str(Workload("kube-system", "DaemonSet", "proxy")) == "kube-system/daemonset/proxy"


def test_labels_of_one_template_do_not_identify() -> None:
    """They differ between two pods of one workload."""
    labels = {"app": "dns", **dict.fromkeys(TEMPLATE_LABELS, "x")}
    assert identifying_labels(labels) == {"app": "dns"}
