"""Which verdicts a snapshot reports: those that rest on facts, with what the volumes say."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.errors import NotCheckpointableError
from checkpointer.manifest.sanitize import Options
from checkpointer.manifest.verdict import Outcome, Verdict
from checkpointer.node.kubelet import Kubelet
from checkpointer.settings import SnapshotSettings
from checkpointer.snapshot import Snapshooter
from checkpointer.store.errors import MaterialError
from checkpointer.store.revisions import Store
from tests.unit.manifest.builders import make_container, make_pod

SETTINGS = SnapshotSettings(Options(node_name="node-1"), (), (), 1000, 3)
CORE = "/api/v1/namespaces/kube-system"


class Reader:
    """An API that has these objects, or cannot tell."""

    def __init__(self, objects: dict[str, Any] | None = None) -> None:
        self.objects = objects

    def find(self, path: str) -> Fact[Mapping[str, Any] | None]:
        return Unknown("HTTP 503") if self.objects is None else Known(self.objects.get(path))


def judged(store: Store, folder: Path, pod: dict[str, Any], reader: Reader) -> list[Verdict]:
    """Take a snapshot; return the verdicts that were reported, whatever came of it."""
    reported: list[Verdict] = []
    snapshooter = Snapshooter(
        store,
        Kubelet(folder / "kubelet"),
        reader,
        SETTINGS,
        lambda reported_pod, verdict: reported.append(verdict),
    )
    with suppress(NotCheckpointableError, MaterialError):
        snapshooter.take(pod, None, Known(None), 0.0)
    return reported


@pytest.mark.parametrize(
    ("source", "value", "resource"),
    [
        ("env", {"configMapKeyRef": {"name": "x", "key": "k"}}, "configmaps"),
        ("env", {"secretKeyRef": {"name": "x", "key": "k"}}, "secrets"),
        ("volumes", {"persistentVolumeClaim": {"claimName": "x"}}, "persistentvolumeclaims"),
    ],
)
def test_what_the_api_did_not_tell_is_no_verdict(
    store: Store, folder: Path, source: str, value: dict[str, Any], resource: str
) -> None:
    """A read that failed says nothing of the pod; that there is no such object does."""
    if source == "env":
        pod = make_pod(make_container(env=[{"name": "V", "valueFrom": value}]))
    else:
        pod = make_pod(volumes=[{"name": "v", **value}])
    opt_in = {"checkpointer.alpha.coreos.com/inline-secrets": "true"}
    pod["metadata"]["annotations"] = opt_in
    assert judged(store, folder, pod, Reader()) == []
    (verdict,) = judged(store, folder, pod, Reader({}))
    assert verdict.outcome is Outcome.REFUSED
    if resource != "persistentvolumeclaims":
        known = {f"{CORE}/{resource}/x": {"data": {"k": "dGV4dA=="}}}
        (verdict,) = judged(store, folder, pod, Reader(known))
        assert verdict.outcome is not Outcome.REFUSED


def test_a_secret_that_is_not_asked_for_is_a_verdict(store: Store, folder: Path) -> None:
    """Without the opt-in nothing is read, and the refusal is certain."""
    reference = {"secretKeyRef": {"name": "x", "key": "k"}}
    pod = make_pod(make_container(env=[{"name": "V", "valueFrom": reference}]))
    (verdict,) = judged(store, folder, pod, Reader())
    assert verdict.outcome is Outcome.REFUSED


@pytest.mark.parametrize("size", [None, 10, 2000], ids=["missing", "small", "too large"])
def test_volumes_have_their_say(store: Store, folder: Path, size: int | None) -> None:
    """A spec may be good and what it mounts not; the verdict is one."""
    pod = make_pod(volumes=[{"name": "v", "configMap": {"name": "x"}}])
    if size is not None:
        volume = folder / "kubelet/pods" / pod["metadata"]["uid"]
        volume = volume / "volumes/kubernetes.io~configmap/v"
        (volume / "..1").mkdir(parents=True)
        (volume / "..1/key").write_bytes(b"x" * size)
        (volume / "..data").symlink_to("..1")
        (volume / "key").symlink_to("..data/key")
    (verdict,) = judged(store, folder, pod, Reader({}))
    if size == 10:
        assert verdict.outcome is not Outcome.REFUSED
    else:
        assert [refusal.path for refusal in verdict.refusals] == ["spec.volumes"]
        assert verdict.manifest is None
