"""Refused parents: what is a change of one, and that the content of others is not even read."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.checkpoint import HandOver, Record
from checkpointer.core.contact import Contact, ContactState
from checkpointer.core.facts import Known
from checkpointer.core.hand_over import informed
from checkpointer.core.moment import Moment
from checkpointer.core.observation import Pod
from checkpointer.core.workload import Workload
from checkpointer.manifest.render import mark_of
from checkpointer.manifest.select import Selection
from checkpointer.node.kubelet import Kubelet
from checkpointer.node.manifests import ManifestFolder
from checkpointer.observe import Observer, PodReader
from checkpointer.simulation import atomic_writer
from checkpointer.store.material import RenderedVolume
from checkpointer.store.revisions import Store

CHECKPOINT = {"checkpointer.alpha.coreos.com/checkpoint": "true"}

API_ACCESS = {
    "name": "api-access",
    "projected": {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "kube-root-ca.crt"}},
        ]
    },
}
CERTS = {"name": "certs", "secret": {"secretName": "certs"}}


def mounting(*volumes: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """Return a selected pod that mounts these volumes, and has one that it does not mount."""
    mounts = [{"name": volume["name"]} for volume in volumes]
    usual = {"name": "a", "namespace": "kube-system", "uid": "uid-a", "annotations": CHECKPOINT}
    return {
        "metadata": {**usual, "resourceVersion": "1", **metadata},
        "spec": {
            "containers": [{"name": "x", "image": "y", "volumeMounts": mounts}],
            "volumes": [*volumes, {"name": "idle", "configMap": {"name": "idle"}}],
        },
        "status": {"phase": "Running"},
    }


def at(monotonic: float) -> Moment:
    return Moment("boot", monotonic, 1e9 + monotonic)


@dataclass
class Mounting:
    """A node whose kubelet renders what one pod mounts; each look is later than the one before."""

    folder: Path
    reader: PodReader
    raw: dict[str, Any] = field(default_factory=lambda: mounting(API_ACCESS, CERTS))
    refused: frozenset[str] = frozenset({"uid-a"})
    seconds: float = 100.0

    def render(self, token: bytes = b"1", ca: bytes = b"ca", key: bytes = b"key") -> None:
        self.write("projected/api-access", {"token": token, "ca.crt": ca})
        self.write("secret/certs", {"tls.key": key})

    def write(self, volume: str, files: dict[str, bytes]) -> None:
        root = self.folder / f"kubelet/pods/uid-a/volumes/kubernetes.io~{volume}"
        root.mkdir(parents=True, exist_ok=True)
        atomic_writer.write(root, {name: atomic_writer.File(b) for name, b in files.items()})

    def unmount(self) -> None:
        """Take the files away as a reboot does: the folders stay."""
        for root in (self.folder / "kubelet/pods/uid-a/volumes").glob("*/*"):
            shutil.rmtree(root)
            root.mkdir()

    def look(self) -> Pod:
        self.seconds += 5.0
        (found,) = self.reader.read((self.raw,), at(self.seconds), self.refused).pods
        return found


@pytest.fixture
def mounts(folder: Path) -> Mounting:
    found = Mounting(folder, PodReader(Selection(), Kubelet(folder / "kubelet")))
    found.render()
    return found


def test_a_renewed_token_is_no_change_of_a_refused_parent(mounts: Mounting) -> None:
    """The kubelet renews it every 48 minutes; a snapshot is due, the refusal stands."""
    first = mounts.look()
    way = informed(HandOver(refused="uid-a", refused_template="T2", failures=5), Known((first,)))
    assert way.refused_signature
    mounts.render(token=b"2")
    second = mounts.look()
    assert second.signature != first.signature
    assert informed(way, Known((second,))) == way


@pytest.mark.parametrize("kind", ["labels", "annotations"])
def test_what_others_write_on_a_refused_parent_is_no_change(mounts: Mounting, kind: str) -> None:
    """A network plugin does, for each new sandbox; nothing that runs is different."""
    first = mounts.look()
    way = informed(HandOver(refused="uid-a", refused_template="T2", failures=5), Known((first,)))
    written = {**mounts.raw["metadata"].get(kind, {}), "cni.example.org/podIP": "10.1.0.7"}
    mounts.raw = mounting(API_ACCESS, CERTS, **{kind: written}, resourceVersion="2")
    assert informed(way, Known((mounts.look(),))) == way


@pytest.mark.parametrize("kind", ["labels", "annotations"])
@pytest.mark.parametrize("containers", ["containers", "initContainers"])
def test_what_a_refused_parent_reads_of_its_metadata_is_a_reason_to_try_again(
    mounts: Mounting, kind: str, containers: str
) -> None:
    """Its container would be told of it at its next start."""
    source = {"fieldRef": {"fieldPath": f"metadata.{kind}['example.org/zone']"}}
    seen = set()
    for version, value in enumerate(("a", "b", "b", None)):
        written = {**CHECKPOINT, "other": str(version)}
        written |= {"example.org/zone": value} if value else {}
        both = {"annotations": CHECKPOINT, kind: written}
        mounts.raw = mounting(API_ACCESS, CERTS, **both, resourceVersion=str(version))
        mounts.raw["spec"].setdefault(containers, [{"name": "init"}])[0]["env"] = [
            {"name": "MODE", "value": "x"},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "ZONE", "valueFrom": source},
        ]
        seen.add(mounts.look().content_signature)
    assert len(seen - {""}) == 3


def test_the_same_content_after_a_reboot_is_no_change(mounts: Mounting) -> None:
    """While nothing is rendered nobody can tell, be the folders there or not."""
    first = mounts.look()
    mounts.unmount()
    assert mounts.look().content_signature == ""
    shutil.rmtree(mounts.folder / "kubelet/pods")
    assert mounts.look().content_signature == ""
    mounts.render(token=b"2")
    after = PodReader(Selection(), Kubelet(mounts.folder / "kubelet"))
    mounts.reader = after
    assert mounts.look().content_signature == first.content_signature != ""


@pytest.mark.parametrize("changed", [{"ca": b"new"}, {"key": b"new"}])
def test_what_a_refused_parent_mounts_is_a_reason_to_try_again(
    mounts: Mounting, changed: dict[str, bytes]
) -> None:
    """A secret's or configMap's content, also of one beside a token in a projected volume."""
    way = informed(HandOver(refused="uid-a", failures=5), Known((mounts.look(),)))
    mounts.render(token=b"2", **changed)
    assert informed(way, Known((mounts.look(),))) == HandOver()


def test_what_a_refused_parent_is_made_of_is_a_reason_to_try_again(mounts: Mounting) -> None:
    """Its spec counts; what its status says does not."""
    way = informed(HandOver(refused="uid-a"), Known((mounts.look(),)))
    mounts.raw = mounting(API_ACCESS, CERTS, resourceVersion="1.1")
    mounts.raw["status"]["phase"] = "Pending"
    assert informed(way, Known((mounts.look(),))) == way
    mounts.raw = mounting(API_ACCESS, resourceVersion="2")
    assert informed(way, Known((mounts.look(),))) == HandOver()


def test_files_are_read_of_refused_parents_alone_and_once(mounts: Mounting) -> None:
    """A thousand pods' secrets are not read to notice a change that nobody waits for."""
    kubelet = CountingKubelet(mounts.folder / "kubelet")
    mounts.reader = PodReader(Selection(), kubelet)
    mounts.refused = frozenset({"uid-b"})
    assert (mounts.look().content_signature, kubelet.read) == ("", [])
    mounts.refused = frozenset({"uid-a"})
    first = mounts.look().content_signature
    assert mounts.look().content_signature == first != ""
    assert kubelet.read == ["api-access", "certs"]
    mounts.refused = frozenset()
    assert mounts.look().content_signature == ""
    mounts.render(key=b"new")
    mounts.refused = frozenset({"uid-a"})
    assert mounts.look().content_signature not in ("", first), "and none is told of old"


class CountingKubelet(Kubelet):
    """Notes which volumes are read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read: list[str] = []

    def read_volume(self, pod_uid: str, plugin: str, name: str, *rest: Any) -> RenderedVolume:
        self.read.append(name)
        return super().read_volume(pod_uid, plugin, name, *rest)


@pytest.mark.parametrize("volumes", [3, ["x"], [{"name": "v", "projected": {"sources": [1]}}]])
def test_malformed_volumes_of_a_refused_parent_tell_nothing(mounts: Mounting, volumes: Any) -> None:
    """It is a pod like any other, and stops no decision on others."""
    mounts.raw["spec"]["volumes"] = volumes
    mounts.raw["spec"]["containers"][0]["volumeMounts"] = [{"name": "v"}]
    assert mounts.look().content_signature == ""


def test_the_observer_goes_by_what_the_records_say(mounts: Mounting, kit: Any) -> None:
    """Also by a record that a run of the agent before this one has written."""
    store, workload = Store(mounts.folder / "store"), Workload("kube-system", "Pod", "a")
    (mounts.folder / "manifests").mkdir()
    store.add(kit.new_revision(workload))
    kubelet = Kubelet(mounts.folder / "kubelet")
    folder = ManifestFolder(mounts.folder / "manifests", mark_of)
    watcher = Observer(PodReader(Selection(), kubelet), kubelet, folder, store)

    def look(seconds: float) -> str:
        contact = Contact(ContactState.REACHABLE, 0.0, "HTTP 200")
        seen = watcher.observe(contact, Known((mounts.raw,)), at(seconds), False)
        assert isinstance(seen.pods, Known)
        return seen.pods.value[0].content_signature

    assert look(100.0) == ""
    store.write_record(workload, Record(hand_over=HandOver(refused="uid-a")))
    assert look(105.0) == mounts.look().content_signature != ""
