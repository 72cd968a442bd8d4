"""Taking a snapshot: all of a pod or nothing, a new revision only when something differs."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint, Record, Revision
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.errors import CheckpointerError, NotCheckpointableError
from checkpointer.node.cri import ImageInfo
from checkpointer.node.kubelet import Kubelet
from checkpointer.settings import SnapshotSettings, snapshot_settings
from checkpointer.simulation import atomic_writer
from checkpointer.snapshot import Snapshooter
from checkpointer.store.errors import StoreError
from checkpointer.store.revisions import Store

WEB = Workload("kube-system", "DaemonSet", "web")
INLINE = {"checkpointer.alpha.coreos.com/inline-secrets": "true"}
SECRET = "hunter2"


class FakeApi:
    """Objects by path; anything else does not exist, or is what a test says."""

    def __init__(self) -> None:
        self.objects: dict[str, Fact[Mapping[str, Any] | None]] = {}
        self.asked: list[str] = []

    def find(self, path: str) -> Fact[Mapping[str, Any] | None]:
        self.asked.append(path)
        return self.objects.get(path, Known(None))


class Bench:
    """A snapshooter on a real store, a kubelet's folder, and an API made up."""

    def __init__(self, folder: Path) -> None:
        self.volume = folder / "kubelet/pods/uid-1/volumes/kubernetes.io~secret/v"
        self.store = Store(folder / "store")
        self.api = FakeApi()
        self.kubelet = Kubelet(folder / "kubelet")
        self.active: Unknown | None = None
        self.render(b"one")

    def render(self, content: bytes) -> None:
        self.volume.mkdir(parents=True, exist_ok=True)
        atomic_writer.write(self.volume, {"key": atomic_writer.File(content, 0o600)})

    def settings(self, **changes: Any) -> SnapshotSettings:
        found = snapshot_settings(Config(), "node-1", "https://api:6443")
        return replace(found, **changes)

    def take(
        self, pod: Mapping[str, Any], active: int | None = None, **changes: Any
    ) -> Revision | None:
        shooter = Snapshooter(self.store, self.kubelet, self.api, self.settings(**changes))
        return shooter.take(pod, self.checkpoint, self.active or Known(active), 12.5)

    @property
    def checkpoint(self) -> Checkpoint | None:
        found = self.store.read()
        assert isinstance(found, Known)
        return next(iter(found.value.checkpoints), None)

    @property
    def numbers(self) -> list[int]:
        found = self.checkpoint
        return [r.number for r in found.revisions] if found else []


@pytest.fixture
def bench(folder: Path) -> Bench:
    return Bench(folder)


def pod(
    environment: tuple[dict[str, Any], ...] = (), annotations: Any = None, image: str = "web:1"
) -> dict[str, Any]:
    """Return a DaemonSet's pod on the host's network with a secret for a volume."""
    owner = {"kind": "DaemonSet", "name": "web", "controller": True, "uid": "o", "apiVersion": "v1"}
    container = {
        "name": "web",
        "image": image,
        "env": list(environment),
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "ports": [{"containerPort": 80, "hostPort": 80}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-abcde",
            "namespace": "kube-system",
            "uid": "uid-1",
            "labels": {"app": "web", "controller-revision-hash": "x"},
            "annotations": annotations or {},
            "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": "node-1",
            "hostNetwork": True,
            "containers": [container],
            "volumes": [{"name": "v", "secret": {"secretName": "web"}}],
        },
        "status": {"phase": "Running"},
    }


def from_secret(name: str = "env") -> dict[str, Any]:
    return {"name": "B", "valueFrom": {"secretKeyRef": {"name": name, "key": "b"}}}


SECRET_PATH = "/api/v1/namespaces/kube-system/secrets/env"
SECRET_OBJECT = {
    "kind": "Secret",
    "metadata": {"name": "env"},
    "data": {"b": base64.b64encode(SECRET.encode()).decode()},
}


def test_revision_is_all_that_the_pod_needs(bench: Bench) -> None:
    """Manifest and material are stored together, with where they came from."""
    stored = bench.take(pod())
    assert stored is not None
    assert (stored.number, stored.parent_uid, stored.parent_name) == (1, "uid-1", "web-abcde")
    assert stored.labels == (("app", "web"),)
    assert stored.app_containers == ("web",)
    assert (stored.shares_ports, stored.host_ports, stored.created_at) == (False, (80,), 12.5)
    assert bench.checkpoint is not None
    assert bench.checkpoint.workload == WEB
    root = bench.store.material_root(WEB, 1)
    assert (root / "v/key").read_bytes() == b"one"
    manifest = bench.store.manifest(WEB, 1)
    volume = next(v for v in manifest["spec"]["volumes"] if v["name"] == "v")
    assert volume["hostPath"] == {"path": str(root / "v"), "type": "Directory"}


@pytest.mark.parametrize(("mode", "shares"), [("ReadWriteOnce", False), ("ReadWriteMany", True)])
def test_revision_tells_whether_its_volume_has_one_writer(
    bench: Bench, mode: str, shares: bool
) -> None:
    """The API says so of the claim; such a copy ends before its parent starts."""
    core = "/api/v1/namespaces/kube-system/persistentvolumeclaims/data"
    bench.api.objects = {
        core: Known({"spec": {"accessModes": [mode], "volumeName": "pv"}}),
        "/api/v1/persistentvolumes/pv": Known({"spec": {"local": {"path": "/data"}}}),
    }
    parent = pod()
    parent["spec"]["hostNetwork"] = False
    (container,) = parent["spec"]["containers"]
    del container["ports"]
    container["volumeMounts"].append({"name": "data", "mountPath": "/data"})
    parent["spec"]["volumes"].append(
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    )
    stored = bench.take(parent)
    assert stored is not None
    assert stored.shares_ports is shares


def test_a_name_that_no_object_can_have_is_asked_for_like_any_other(bench: Bench) -> None:
    """A character that no address can hold is no fault that nobody foresaw."""
    parent = pod()
    parent["spec"]["containers"][0]["volumeMounts"].append({"name": "data", "mountPath": "/data"})
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "\ud800"}}
    parent["spec"]["volumes"].append(claim)
    with pytest.raises(NotCheckpointableError):
        bench.take(parent)
    assert any(path.endswith("/persistentvolumeclaims/%ED%A0%80") for path in bench.api.asked)


def test_nothing_new_is_no_revision(bench: Bench, kit: Any) -> None:
    """Taken again with nothing changed, not a byte is written; status and names do not count."""
    bench.take(pod())
    before = kit.tree(bench.store.root)
    again = pod()
    again["status"]["phase"] = "Pending"
    again["metadata"]["resourceVersion"] = "99"
    assert bench.take(again) is None
    assert kit.tree(bench.store.root) == before


@pytest.mark.parametrize("damage", ["revisions/2/manifest.json", "current"])
def test_damage_is_mended_by_a_new_revision_though_nothing_is_new(
    bench: Bench, damage: str
) -> None:
    """An older revision of the same content would leave the damage for ever."""
    for image in ("web:1", "web:2"):
        assert bench.take(pod(image=image))
    (bench.store.root / "kube-system/daemonset.web" / damage).write_bytes(b"{")
    bench.store.invalidate()
    newest = "web:1" if damage != "current" else "web:2"
    assert bench.take(pod(image=newest))
    assert bench.checkpoint is not None
    assert bench.checkpoint.is_current
    assert bench.numbers[0] == 3
    assert bench.take(pod(image=newest)) is None


def test_changed_content_is_a_new_revision(bench: Bench) -> None:
    """A new spec or new material each make one; the newest comes first."""
    bench.take(pod())
    assert bench.take(pod(image="web:2")) is not None
    bench.render(b"two")
    assert bench.take(pod(image="web:2")) is not None
    assert bench.numbers == [3, 2, 1]
    assert (bench.store.material_root(WEB, 2) / "v/key").read_bytes() == b"one"
    assert (bench.store.material_root(WEB, 3) / "v/key").read_bytes() == b"two"


def test_old_revisions_go_but_never_the_active_one(bench: Bench) -> None:
    """So many are kept as the configuration says, and what a running copy mounts."""
    for number in range(1, 6):
        bench.take(pod(image=f"web:{number}"), active=1, keep_revisions=2)
    assert bench.numbers == [5, 4, 1]


def test_the_last_known_good_revision_is_never_pruned(bench: Bench) -> None:
    """One that was good and then kept crashing as a copy is not it: the one before stays."""
    for number in range(1, 6):
        bench.take(pod(image=f"web:{number}"), keep_revisions=9)
    bench.store.write_record(WEB, Record(good=(5, 3), failed=(5,)))
    bench.take(pod(image="web:6"), keep_revisions=2)
    assert bench.numbers == [6, 5, 3]


def test_stored_revision_counts_though_an_old_one_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A revision that could not be removed is no reason to call the new one a failure."""

    def faulty(*_: Any) -> tuple[int, ...]:
        raise StoreError("cannot prune")

    monkeypatch.setattr(bench.store, "prune", faulty)
    assert bench.take(pod()) is not None
    assert bench.numbers == [1]
    assert "kube-system/daemonset/web: cannot prune" in caplog.messages


def test_nothing_is_pruned_while_it_is_unknown_what_is_active(bench: Bench) -> None:
    """The oldest revision may be the one that a manifest mounts."""
    bench.active = Unknown("cannot read the folder")
    for number in range(4):
        bench.take(pod(image=f"web:{number}"), keep_revisions=2)
    assert bench.numbers == [4, 3, 2, 1]


def test_missing_material_leaves_the_store_as_it_was(bench: Bench, kit: Any) -> None:
    """A volume that the kubelet has not rendered makes no half checkpoint."""
    bench.take(pod())
    before = kit.tree(bench.store.root)
    shutil.rmtree(bench.volume)
    with pytest.raises(CheckpointerError):
        bench.take(pod(image="web:2"))
    assert kit.tree(bench.store.root) == before


def test_too_much_material_is_refused(bench: Bench) -> None:
    """A pod whose volumes hold more than allowed is refused with the key to change."""
    bench.render(b"x" * 100)
    with pytest.raises(NotCheckpointableError, match=r"snapshot\.maxMaterialBytes \(99\)"):
        bench.take(pod(), max_material_bytes=99)
    assert bench.numbers == []


def test_secret_in_the_environment_is_refused_without_being_read(bench: Bench) -> None:
    """Unless the pod opts in: its value would be readable in the mirror pod."""
    bench.api.objects[SECRET_PATH] = Known(SECRET_OBJECT)
    with pytest.raises(NotCheckpointableError) as caught:
        bench.take(pod((from_secret(),)))
    assert str(WEB) in str(caught.value)
    assert SECRET not in str(caught.value)
    assert SECRET_PATH not in bench.api.asked
    assert bench.numbers == []


@pytest.mark.parametrize("how", ["annotation", "namespace"])
def test_secret_is_inlined_where_that_is_allowed(bench: Bench, how: str) -> None:
    """A pod opts in by its annotation, a node by the namespace."""
    bench.api.objects[SECRET_PATH] = Known(SECRET_OBJECT)
    by_pod = how == "annotation"
    stored = bench.take(
        pod((from_secret(),), INLINE if by_pod else None),
        secret_namespaces=() if by_pod else ("kube-system",),
    )
    assert stored is not None
    assert SECRET in json.dumps(bench.store.manifest(WEB, 1))


@pytest.mark.parametrize(
    "answer", [Unknown("the API did not answer"), Known(None)], ids=["unknown", "none"]
)
def test_missing_source_makes_no_revision(bench: Bench, answer: Any) -> None:
    """What could not be read, or does not exist and must, is no empty value."""
    bench.take(pod())
    bench.api.objects[SECRET_PATH] = answer
    with pytest.raises(NotCheckpointableError):
        bench.take(pod((from_secret(),), INLINE))
    assert bench.numbers == [1]


def test_unknown_optional_source_is_not_taken_for_absent(bench: Bench) -> None:
    """An optional secret that cannot be read now may well be there: wait, do not drop it."""
    optional = from_secret()
    optional["valueFrom"]["secretKeyRef"]["optional"] = True
    bench.api.objects[SECRET_PATH] = Unknown("the API did not answer")
    with pytest.raises(NotCheckpointableError):
        bench.take(pod((optional,), INLINE))
    bench.api.objects[SECRET_PATH] = Known(None)
    assert bench.take(pod((optional,), INLINE)) is not None


def test_names_are_quoted_into_paths(bench: Bench) -> None:
    """What a pod calls its sources cannot lead to another object."""
    with pytest.raises(NotCheckpointableError):
        bench.take(pod((from_secret("../../nodes/x?a=b"),), INLINE))
    assert f"{SECRET_PATH.removesuffix('env')}..%2F..%2Fnodes%2Fx%3Fa%3Db" in bench.api.asked
    assert not any(path.startswith("/api/v1/nodes/x") for path in bench.api.asked)


class Images:
    """A runtime that has every image."""

    def has_image(self, image: str) -> Fact[ImageInfo | None]:
        return Known(ImageInfo(f"sha256:{image}", (image,), (), 1, pinned=False))


@pytest.mark.parametrize(
    ("policy", "expected"), [("NeverVerifyPreloadedImages", []), ("AlwaysVerify", ["web:1"])]
)
def test_the_kubelets_policy_for_images_is_heeded(
    bench: Bench, policy: str, expected: list[str]
) -> None:
    """Under AlwaysVerify an image that was loaded by hand would have to be pulled."""
    (bench.kubelet.path / "image_manager/pulled").mkdir(parents=True)
    (bench.kubelet.path / "config.yaml").write_text(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
        f"imagePullCredentialsVerificationPolicy: {policy}\n"
    )
    shooter = Snapshooter(bench.store, bench.kubelet, bench.api, bench.settings())
    shooter.runtime = Images()
    _, _, options = shooter.explain(pod())
    assert options.secret_images == Known(frozenset(expected))


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ({"spec": {"containers": [{"name": "a", "image": 5}]}}, "spec.containers[0].image"),
        ({"spec": {"containers": [{"name": "a"}], "volumes": "x"}}, "spec.volumes"),
        ({"status": {"conditions": "x"}}, "status.conditions"),
    ],
)
def test_a_pod_of_another_form_is_refused_with_the_reason(
    bench: Bench, part: dict[str, Any], fault: str
) -> None:
    """A verdict like any other, and no fault of the agent's."""
    shooter = Snapshooter(bench.store, bench.kubelet, bench.api, bench.settings())
    shooter.runtime = Images()
    verdict, _, _ = shooter.explain({**pod(), **part})
    assert [finding.path for finding in verdict.refusals] == [fault]
    with pytest.raises(NotCheckpointableError, match="expected"):
        bench.take({**pod(), **part})


PROVIDED = {"alpha.kubernetes.io/provided-node-ip": "10.0.0.7"}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"spec": {"providerID": "aws:///a/i-1"}}, True),
        ({"spec": {"providerID": "aws:///a/i-1"}, "metadata": {"annotations": PROVIDED}}, False),
        ({"spec": {}, "metadata": {"annotations": None}}, False),
        ({}, False),
        (None, False),
    ],
)
def test_a_node_of_a_cloud_may_not_know_its_address(
    bench: Bench, node: Any, expected: bool
) -> None:
    """Where the kubelet's flags cannot be seen, what the API has of the node has to do."""
    bench.api.objects = {"/api/v1/nodes/node-1": Known(node)}
    shooter = Snapshooter(bench.store, bench.kubelet, bench.api, bench.settings())
    assert shooter.explain(pod())[2].has_cloud_address is expected


def test_the_digest_tells_whether_a_snapshot_would_differ(bench: Bench) -> None:
    """Equal to the newest revision's: nothing would be stored."""
    taken = bench.take(pod())
    assert taken is not None
    shooter = Snapshooter(bench.store, bench.kubelet, bench.api, bench.settings())
    assert shooter.digest(pod(), shooter.explain(pod())[0]) == taken.digest
    bench.render(b"two")
    assert shooter.digest(pod(), shooter.explain(pod())[0]) != taken.digest
