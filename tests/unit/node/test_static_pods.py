"""What lies in the manifest folder, as the kubelet reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from checkpointer.core.facts import Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.manifest.render import CHECKPOINT_OF, render
from checkpointer.node.static_pods import StaticPod, read_static_pods

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "proxy", "namespace": "kube-system"},
    "spec": {
        "hostNetwork": True,
        "initContainers": [{"name": "init", "image": "init:1"}],
        "containers": [{"name": "c", "image": "proxy:1", "ports": [{"containerPort": 8443}]}],
        "volumes": [{"name": "v", "hostPath": {"path": "/etc/proxy"}}, {"name": "e"}],
    },
}


def read(folder: Path) -> dict[str, StaticPod]:
    found = read_static_pods(folder, "node-1")
    assert isinstance(found, Known)
    return {pod.file_name: pod for pod in found.value}


def test_what_a_pod_takes_of_the_node_is_told(tmp_path: Path) -> None:
    """Whatever the file is called: the kubelet reads them all."""
    (tmp_path / "proxy.yaml.bak").write_text(json.dumps(POD))
    assert read(tmp_path)["proxy.yaml.bak"] == StaticPod(
        "proxy.yaml.bak",
        "kube-system",
        "proxy",
        host_ports=(8443,),
        host_paths=("/etc/proxy",),
        images=("init:1", "proxy:1"),
    )


def test_hidden_files_and_folders_are_nothing_to_the_kubelet(tmp_path: Path) -> None:
    """It ignores names that begin with a dot, and does not descend."""
    (tmp_path / ".x.yaml").write_text(json.dumps(POD))
    (tmp_path / "folder.yaml").mkdir()
    assert read(tmp_path) == {}


def test_links_are_followed_as_the_kubelet_follows_them(tmp_path: Path) -> None:
    """A dangling one is refused."""
    (tmp_path / "manifests").mkdir()
    (tmp_path / "real").write_text(json.dumps(POD))
    (tmp_path / "manifests/a.yaml").symlink_to(tmp_path / "real")
    (tmp_path / "manifests/b.yaml").symlink_to(tmp_path / "gone")
    found = read(tmp_path / "manifests")
    assert (found["a.yaml"].name, found["b.yaml"].problem) == (
        "proxy",
        "No such file or directory",
    )


def test_what_the_kubelet_refuses_says_why(tmp_path: Path) -> None:
    """No pod, no YAML, or a pod that static pods may not be."""
    (tmp_path / "a").write_text("{ no JSON")
    (tmp_path / "b").write_text("")
    spec = {**POD["spec"], "serviceAccountName": "proxy"}
    (tmp_path / "c").write_text(json.dumps({**POD, "spec": spec}))
    found = read(tmp_path)
    assert found["a"].problem == found["b"].problem == "it is neither JSON nor YAML of a pod"
    assert found["c"].problem.startswith("spec.serviceAccountName: ")


def test_of_several_documents_the_first_counts(tmp_path: Path) -> None:
    """The kubelet does not look further, nor does it say so."""
    other = {**POD, "metadata": {"name": "other"}}
    (tmp_path / "x.yaml").write_text(f"---\n{json.dumps(other)}\n---\n{json.dumps(POD)}\n")
    found = read(tmp_path)["x.yaml"]
    assert (found.namespace, found.name) == ("default", "other")


def test_our_mark_is_told_from_another_programs(tmp_path: Path) -> None:
    """The bootkube checkpointer used the same annotation."""
    workload = Workload("kube-system", "DaemonSet", "proxy")
    (tmp_path / "ours").write_bytes(render(POD, workload, "node-1", "d", 1, 1).content)
    metadata = {"name": "x", "annotations": {CHECKPOINT_OF: "proxy"}}
    (tmp_path / "theirs").write_text(json.dumps({**POD, "metadata": metadata}))
    found = read(tmp_path)
    assert (found["ours"].is_ours, found["ours"].is_marked) == (True, True)
    assert (found["theirs"].is_ours, found["theirs"].is_marked) == (False, True)


def test_a_missing_folder_is_unknown(tmp_path: Path) -> None:
    """Not an empty one."""
    found = read_static_pods(tmp_path / "gone", "node-1")
    assert found == Unknown(f"cannot read {tmp_path / 'gone'}: No such file or directory")
