"""From an old checkpoint back to its parent: who controlled it, and which files it mounts."""

from __future__ import annotations

import pytest

from checkpointer.bootkube.parents import OldVolume, controller_by_labels, parent_of
from checkpointer.core.workload import workload_of
from checkpointer.manifest.select import CHECKPOINT
from tests.unit.bootkube.old_node import API_SERVER, SCHEDULER, api_server, scheduler

ROOTS = {
    "secret": "/etc/kubernetes/checkpoint-secrets",
    "configMap": "/etc/kubernetes/checkpoint-configmaps",
}


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("api-x7k2p", {"controller-revision-hash": "1"}, ("DaemonSet", "api")),
        ("api-x7k2p", {"pod-template-generation": "1"}, ("DaemonSet", "api")),
        ("a-6f7-x7k2p", {"pod-template-hash": "6f7"}, ("ReplicaSet", "a-6f7")),
        ("other-x7k2p", {"pod-template-hash": "6f7"}, None),
        (
            "db-0",
            {"controller-revision-hash": "1", "statefulset.kubernetes.io/pod-name": "db-0"},
            ("StatefulSet", "db"),
        ),
        ("tunnel", {"app": "tunnel"}, None),
        ("tunnel", {"controller-revision-hash": "1"}, None),
        ("tunnel-x7k2p", {}, None),
    ],
)
def test_the_controller_is_told_by_its_labels(
    name: str, labels: dict[str, str], expected: tuple[str, str] | None
) -> None:
    """Those that apps/v1 gives; a pod without any counts as one without a controller."""
    assert controller_by_labels(name, labels) == expected


def test_workloads_are_those_that_the_agent_would_find() -> None:
    """The same as for the parents in the API, so that its own snapshots follow on."""
    assert workload_of(parent_of(api_server(""), ROOTS)[0]) == API_SERVER
    assert workload_of(parent_of(scheduler(), ROOTS)[0]) == SCHEDULER


def test_host_paths_of_material_become_volumes_again() -> None:
    """Only those in its folders for this very pod; the rest was the parent's own."""
    old = api_server("")
    parent, volumes = parent_of(old, ROOTS)
    assert volumes == (
        OldVolume("secrets", "secret", "kube-apiserver"),
        OldVolume("audit", "configMap", "audit-policy"),
    )
    assert parent["spec"]["volumes"] == [
        {"name": "ssl-certs-host", "hostPath": {"path": "/usr/share/ca-certificates"}},
        {"name": "secrets", "secret": {"secretName": "kube-apiserver"}},
        {"name": "audit", "configMap": {"name": "audit-policy"}},
    ]
    assert "hostPath" in old["spec"]["volumes"][1], "the old manifest is left as it was"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/kubernetes/checkpoint-secrets/kube-system/other/kube-apiserver",
        "/etc/kubernetes/checkpoint-secrets/kube-system/kube-apiserver-x7k2p/a/b",
        "/etc/kubernetes/checkpoint-secrets/kube-system/kube-apiserver-x7k2p/..",
        "/etc/kubernetes/checkpoint-secrets/kube-system/kube-apiserver-x7k2p/",
        "/etc/kubernetes/checkpoint-secrets-2/kube-system/kube-apiserver-x7k2p/a",
        "/etc/kubernetes",
    ],
)
def test_other_paths_are_not_taken_for_material(path: str) -> None:
    """Another pod's, outside of its folder, or above it: they stay what they are."""
    old = api_server("")
    old["spec"]["volumes"] = [{"name": "v", "hostPath": {"path": path}}]
    assert parent_of(old, ROOTS)[1] == ()


def test_parents_identity_is_kept() -> None:
    """Name and UID are its parent's, and the historic annotation says that it was selected."""
    metadata = parent_of(api_server(""), ROOTS)[0]["metadata"]
    assert metadata["name"] == "kube-apiserver-x7k2p"
    assert metadata["uid"] == "7c0b1a9e-2f1d-4b4a-8a55-9a3f6c1d2e3f"
    assert metadata["annotations"] == {CHECKPOINT: "true"}
