"""What the simulated kubelet makes of the files in its manifest folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from checkpointer.simulation.static_pods import HASH, SOURCE, StaticPods

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "kube-system"},
    "spec": {"containers": [{"name": "web", "image": "docker.io/library/web:1"}]},
}


def with_spec(**spec: Any) -> dict[str, Any]:
    return {**POD, "spec": {**POD["spec"], **spec}}


def names(pods: StaticPods) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in pods.read().values())


@pytest.fixture
def pods(tmp_path: Path) -> StaticPods:
    return StaticPods(tmp_path, "Node-1")


@pytest.mark.parametrize("name", ["web.json", "web", "web.json~", "web.bak"])
def test_any_name_is_read(pods: StaticPods, name: str) -> None:
    """There is no filter on endings."""
    (pods.folder / name).write_text(json.dumps(POD))
    assert names(pods) == ["web-node-1"]


def test_hidden_files_and_folders_are_not(pods: StaticPods) -> None:
    """A name that begins with a dot, or a folder, is not looked at."""
    (pods.folder / ".web.json").write_text("{ not JSON")
    (pods.folder / "folder").mkdir()
    assert names(pods) == []
    assert pods.refused == {}


def test_defaults_are_those_of_the_file_source(pods: StaticPods) -> None:
    """Name suffix, node, UID, hash, source and the toleration are set."""
    (pods.folder / "web.json").write_text(json.dumps(POD))
    ((uid, pod),) = pods.read().items()
    assert len(uid) == 32
    assert pod["metadata"]["annotations"][HASH] == uid
    assert pod["metadata"]["annotations"][SOURCE] == "file"
    assert pod["spec"]["nodeName"] == "Node-1"
    assert pod["spec"]["tolerations"] == [{"operator": "Exists", "effect": "NoExecute"}]


def test_uid_follows_the_content_unless_given(pods: StaticPods) -> None:
    """Another content is another pod; an explicit UID stays what it is."""
    path = pods.folder / "web.json"
    path.write_text(json.dumps(POD))
    (first,) = pods.read()
    path.write_text(json.dumps(with_spec(hostNetwork=True)))
    (second,) = pods.read()
    assert first != second
    path.write_text(json.dumps({**POD, "metadata": {"name": "web", "uid": "mine"}}))
    assert list(pods.read()) == ["mine"]


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (with_spec(serviceAccountName="web"), "serviceaccounts"),
        (with_spec(volumes=[{"name": "v", "secret": {"secretName": "s"}}]), "secrets"),
        ({**POD, "metadata": {}}, "metadata.name"),
        ({**POD, "kind": "PodList"}, "Kind"),
    ],
    ids=["service account", "secret volume", "no name", "list"],
)
def test_bad_file_is_refused_whole(pods: StaticPods, manifest: dict[str, Any], why: str) -> None:
    """One fault and the file is no pod; the reason is kept."""
    (pods.folder / "web.json").write_text(json.dumps(manifest))
    assert names(pods) == []
    assert why.lower() in pods.refused["web.json"].lower()


def test_file_that_turns_bad_keeps_its_pod_until_the_relist(pods: StaticPods) -> None:
    """The event path keeps the old pod, the relist drops it."""
    path = pods.folder / "web.json"
    path.write_text(json.dumps(POD))
    assert names(pods) == ["web-node-1"]
    path.write_text("{")
    assert names(pods) == ["web-node-1"]
    pods.relist_seconds = 0.0
    assert names(pods) == []


def test_of_two_files_for_one_pod_the_last_name_wins(pods: StaticPods) -> None:
    """Byte order of the names decides."""
    (pods.folder / "a").write_text(json.dumps(POD))
    (pods.folder / "b").write_text(json.dumps({**POD, "metadata": {**POD["metadata"], "uid": "b"}}))
    assert list(pods.read()) == ["b"]


def test_yaml_is_read_up_to_the_first_document(pods: StaticPods) -> None:
    """Later documents are ignored without a word."""
    (pods.folder / "two.yaml").write_text(json.dumps(POD).replace("{", " {", 1) + "\n")
    (pods.folder / "one.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: first}\n"
        "spec: {containers: [{name: a, image: b}]}\n---\nkind: Nonsense\n"
    )
    assert names(pods) == ["first-node-1", "web-node-1"]


def test_missing_folder_is_an_empty_set(tmp_path: Path) -> None:
    """All static pods are gone then."""
    assert StaticPods(tmp_path / "none", "node-1").read() == {}
