"""A node's disk, the agent's changes of it, and what must hold whatever became of one.

The changes are made by the code that the agent makes them with: the applier on the real store,
manifest folder and journal, the snapshooter on rendered volumes. Each is written as the next
cycle would do it again: idempotent, from what is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from checkpointer.apply import Applier
from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint, Record
from checkpointer.core.contact import initial_contact
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.hold import ACTIVE, Hold
from checkpointer.core.moment import Moment
from checkpointer.core.observation import Observation
from checkpointer.core.plan import Action, Activate, Leave, Memory, Plan, Release, Remove, Snapshot
from checkpointer.core.workload import Workload
from checkpointer.manifest.render import file_name, mark_of
from checkpointer.node.images import PRELOADED
from checkpointer.node.kubelet import Kubelet
from checkpointer.node.manifests import ManifestFolder
from checkpointer.node.set_aside import hidden_path, put_back, set_aside
from checkpointer.settings import snapshot_settings
from checkpointer.simulation import atomic_writer
from checkpointer.snapshot import Snapshooter
from checkpointer.store.durable import Disk
from checkpointer.store.journal import Journal, read_journal
from checkpointer.store.layout import workload_folder
from checkpointer.store.revisions import Store
from tests.unit.durability.trees import Tree, restore, scan, temporaries
from tests.unit.store.conftest import jwt
from tests.unit.store.faulty import FaultyCalls

NODE = "node-1"
WEB = Workload("kube-system", "DaemonSet", "web")
OTHER = Workload("kube-system", "DaemonSet", "other")
ITSELF = Workload("kube-system", "DaemonSet", "pod-checkpointer")
PLUGIN = "kubernetes.io~projected"
LATER = 1000.0
"""Seconds: by then whatever was held back after a failure is tried again."""

SETTINGS = replace(snapshot_settings(Config(), NODE, "https://api:6443"), keep_revisions=2)

FOREIGN = {
    "manifests/etcd.yaml": b"kind: Pod # somebody's",
    "manifests/.etcd.yaml.swp": b"an editor's",
    "store/kube-system/daemonset.web/stranger": b"nobody knows",
}


class NoApi:
    """Knows no object."""

    def find(self, path: str) -> Fact[Mapping[str, Any] | None]:
        return Known(None)


def pod_of(workload: Workload) -> dict[str, Any]:
    """Return a DaemonSet's pod with a volume that holds a token."""
    owner = {"kind": workload.kind, "name": workload.name, "controller": True}
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{workload.name}-abcde",
            "namespace": workload.namespace,
            "uid": f"uid-{workload.name}",
            "labels": {"app": workload.name},
            "ownerReferences": [{**owner, "uid": "o", "apiVersion": "apps/v1"}],
        },
        "spec": {
            "nodeName": NODE,
            "hostNetwork": True,
            "containers": [
                {
                    "name": "main",
                    "image": "web:1",
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                }
            ],
            "volumes": [{"name": "v", "projected": {"sources": [token]}}],
        },
    }


class Node:
    """The folders of one node below `root`: what the agent writes to is in `disk`."""

    def __init__(self, root: Path) -> None:
        self.disk = root / "disk"
        self.store, self.manifests = self.disk / "store", self.disk / "manifests"
        self.kubelet = root / "kubelet"
        self.manifests.mkdir(parents=True, exist_ok=True)
        self.disk.chmod(0o700)

    def render(self, workload: Workload, content: bytes, expiry: int = 1) -> None:
        """Have the kubelet render the volume of a workload's pod."""
        volume = self.kubelet / f"pods/uid-{workload.name}/volumes/{PLUGIN}/v"
        volume.mkdir(parents=True, exist_ok=True)
        token = atomic_writer.File(jwt(exp=expiry), 0o600)
        atomic_writer.write(volume, {"token": token, "ca": atomic_writer.File(content)})

    def put_foreign_files(self) -> None:
        for name, content in FOREIGN.items():
            if (self.disk / name).parent.is_dir():
                (self.disk / name).write_bytes(content)

    def tree(self) -> Tree:
        return scan(self.disk)

    def become(self, tree: Tree) -> None:
        restore(self.disk, tree)


class Process:
    """One run of the agent: what it knows of the disk goes with it."""

    def __init__(self, node: Node, calls: FaultyCalls | None = None) -> None:
        self.node = node
        self._calls = calls or FaultyCalls()
        self.store = Store(node.store, calls)
        self.folder = ManifestFolder(node.manifests, mark_of, calls)
        self.disk = Disk(calls)
        self.journal = Journal(node.store, calls, file_bytes=300)
        self.applier = Applier(self.store, self.folder, NODE)
        kubelet = Kubelet(node.kubelet)
        snapshooter = Snapshooter(self.store, kubelet, NoApi(), SETTINGS)
        # As if read already: to find it out takes a look at every process of this machine.
        snapshooter._pull_policy = kubelet.incarnation(""), PRELOADED
        self.applier.snapshooter = snapshooter
        self._at = 0.0

    def clean(self) -> tuple[str, ...]:
        """Do what an agent does once after its start; return what could not be done."""
        self.folder.clean()
        return self.store.clean()

    def apply(self, *actions: Action, records: Mapping[Workload, Record] | None = None) -> bool:
        """Carry a plan out as a cycle does."""
        self._at += LATER
        contact = initial_contact(0.0)
        with self._calls.disarmed():  # an agent applies only what it has seen
            stored, found = self.store.read(), self.folder.observe()
        checkpoints = Known(stored.value.checkpoints) if isinstance(stored, Known) else stored
        manifests = Known(found.value.ours) if isinstance(found, Known) else found
        seen = Observation(
            contact, Unknown("-"), Unknown("-"), Unknown("-"), manifests, checkpoints
        )
        pods = Known(tuple(map(pod_of, (WEB, OTHER, ITSELF))))
        plan = Plan("", Memory(), actions, records or {})
        return self.applier.apply(plan, seen, pods, Moment("boot", self._at, 12.5))

    def found(self, workload: Workload) -> Checkpoint:
        """Return what is stored of a workload; nothing of the store may be damaged."""
        with self._calls.disarmed():
            stored = self.store.read()
        assert isinstance(stored, Known), stored
        assert stored.value.problems == ()
        of = {c.workload: c for c in stored.value.checkpoints}
        assert [c.problems for c in of.values() if c.problems] == []
        return of.get(workload, Checkpoint(workload, ()))


@dataclass(frozen=True)
class Change:
    """One change of the disk: how a node comes to stand before it, and how to tell it done."""

    prepare: Callable[[Node], object]
    do: Callable[[Process], object]
    """Returns False when a part of it failed; or raises DiskError."""
    is_done: Callable[[Process], object]
    workload: Workload = WEB


def stored(node: Node, *contents: bytes, workload: Workload = WEB) -> Process:
    """Store a revision for each content, and one of another workload."""
    process = Process(node)
    for owner, content in [(OTHER, b"other"), *((workload, content) for content in contents)]:
        node.render(owner, content)
        assert process.apply(snapshot(owner))
    node.put_foreign_files()
    return process


def snapshot(workload: Workload) -> Snapshot:
    return Snapshot(workload, f"uid-{workload.name}")


def activate(process: Process, workload: Workload, revision: int, issue: int) -> bool:
    """Activate with the record that goes before it."""
    record = replace(process.found(workload).record, issue=issue)
    action = Activate(workload, revision, issue, "lost")
    return process.apply(action, records={workload: record})


def newest(process: Process, workload: Workload = WEB) -> int:
    revisions = process.found(workload).revisions
    return revisions[0].number if revisions else 0


def material(process: Process, workload: Workload = WEB) -> bytes:
    """Return what the newest revision's volume holds; nothing without one."""
    if not (number := newest(process, workload)):
        return b""
    (volume,) = process.store.volumes(workload, number)
    return next(entry.content for entry in volume.entries if entry.path == "ca")


def prune(process: Process) -> bool:
    process.store.prune(WEB, {2})
    return [r.number for r in process.found(WEB).revisions] == [2]


def release(process: Process) -> bool:
    if not (process.node.manifests / file_name(WEB)).exists():
        return process.apply()
    return process.apply(Release(WEB, file_name(WEB), "back"))


def leave(process: Process) -> bool:
    name = file_name(ITSELF)
    is_there = (process.node.manifests / name).exists()
    if not is_there and not process.node.store.exists():
        return process.apply()
    return process.apply(Leave(ITSELF, name if is_there else None, "uninstalled"))


def active(process: Process, workload: Workload = WEB) -> tuple[int, int] | None:
    """Return revision and issue of the active manifest."""
    found = process.folder.observe()
    assert isinstance(found, Known)
    assert found.value.problems == ()
    of = {m.workload: (m.revision, m.issue) for m in found.value.ours}
    return of.get(workload)


def prepare_active(node: Node) -> None:
    assert activate(stored(node, b"1", b"2"), WEB, 2, 1)


def prepare_own(node: Node) -> None:
    """Let nothing be left but the agent itself."""
    stored(node, b"1", workload=ITSELF)
    shutil.rmtree(workload_folder(node.store, OTHER))
    process = Process(node)
    assert activate(process, ITSELF, 1, 1)
    process.store.write_state("itself", {"leaving": True})
    process.journal.append([entry(1)])


def entry(number: int) -> dict[str, Any]:
    return {"seq": number, "kind": "started", "reason": "x" * 100}


def journal(process: Process) -> set[int]:
    return {found["seq"] for found in read_journal(process.node.store).entries}


def prepare_journal(node: Node, *numbers: int) -> None:
    process = stored(node, b"1")
    for number in numbers:
        process.journal.append([entry(number)])


def litter(node: Node) -> None:
    """Leave what a process that died may have left anywhere."""
    stored(node, b"1", b"2")
    node.manifests.joinpath(".pod-checkpointer-new-0123456789abcdef").write_bytes(b"half")
    folder = workload_folder(node.store, WEB)
    for parent in (node.store, folder.parent, folder, folder / "revisions"):
        (parent / ".pod-checkpointer-new-0123456789abcdef").write_bytes(b"half")
        doomed = parent / ".pod-checkpointer-removed-0123456789abcdef/deep"
        doomed.mkdir(parents=True)
        (doomed / "file").write_bytes(b"half")
    copy = folder / "revisions/2/material/v"
    (copy / "..checkpoint-9").mkdir()
    (copy / "..data_tmp").symlink_to("..checkpoint-9")


def swapped(node: Node, content: bytes, expiry: int, *contents: bytes) -> None:
    """Store revisions, then have the kubelet render something newer."""
    stored(node, *contents)
    node.render(WEB, content, expiry)


def set_etcd_aside(node: Node) -> None:
    stored(node, b"1")
    set_aside(Disk(), node.manifests / "etcd.yaml")


def restart_etcd(process: Process) -> bool:
    """Set a foreign manifest aside and put it back, as `checkpointer restart` does."""
    path = process.node.manifests / "etcd.yaml"
    put_back(process.disk, path)
    set_aside(process.disk, path)
    put_back(process.disk, path)
    return True


def is_etcd_there(process: Process) -> bool:
    path = process.node.manifests / "etcd.yaml"
    return path.exists() and not os.path.lexists(hidden_path(path))


def expiry(process: Process) -> float | None:
    return process.store.token_expiry(WEB, newest(process))


HOLD = Hold(ACTIVE, 12.5, "root")


CHANGES: dict[str, Change] = {
    "first snapshot": Change(
        lambda node: node.render(WEB, b"1"),
        lambda p: p.apply(snapshot(WEB)),
        lambda p: material(p) == b"1",
    ),
    "snapshot": Change(
        lambda node: swapped(node, b"3", 1, b"1", b"2"),
        lambda p: p.apply(snapshot(WEB)),
        lambda p: material(p) == b"3",
    ),
    "token": Change(
        lambda node: swapped(node, b"2", 7, b"1", b"2"),
        lambda p: p.apply(snapshot(WEB)),
        lambda p: (material(p), expiry(p)) == (b"2", 7),
    ),
    "prune": Change(
        lambda node: stored(node, b"1", b"2"),
        prune,
        lambda p: [r.number for r in p.found(WEB).revisions] == [2],
    ),
    "remove": Change(
        prepare_active,
        lambda p: release(p) and p.apply(Remove(WEB, "unwanted")),
        lambda p: not p.found(WEB).revisions and active(p) is None,
    ),
    "record": Change(
        lambda node: stored(node, b"1"),
        lambda p: p.apply(records={WEB: Record(issue=2)}),
        lambda p: p.found(WEB).record == Record(issue=2),
    ),
    "state": Change(
        lambda node: stored(node, b"1"),
        lambda p: p.store.write_state("contact", {"kubelet": "k"}) is not None,
        lambda p: p.store.read_state("contact") == Known({"kubelet": "k"}),
    ),
    "hold": Change(
        lambda node: stored(node, b"1"),
        lambda p: p.store.write_hold(WEB, HOLD) is not None,
        lambda p: p.found(WEB).hold == HOLD,
    ),
    "activate": Change(
        lambda node: stored(node, b"1", b"2"),
        lambda p: activate(p, WEB, 2, 1),
        lambda p: active(p) == (2, 1),
    ),
    "fall back": Change(
        prepare_active,
        lambda p: activate(p, WEB, 1, 2),
        lambda p: active(p) == (1, 2),
    ),
    "release": Change(prepare_active, release, lambda p: active(p) is None),
    "itself": Change(
        lambda node: (stored(node), node.render(ITSELF, b"own")),
        lambda p: p.apply(snapshot(ITSELF)) and activate(p, ITSELF, newest(p, ITSELF), 1),
        lambda p: active(p, ITSELF) == (newest(p, ITSELF), 1),
        ITSELF,
    ),
    "leave": Change(
        prepare_own,
        leave,
        lambda p: not p.node.store.exists() and active(p, ITSELF) is None,
        ITSELF,
    ),
    "journal": Change(
        lambda node: prepare_journal(node, 1),
        lambda p: p.journal.append([entry(2)]) is None,
        lambda p: journal(p) == {1, 2},
    ),
    "first entry": Change(
        prepare_journal,
        lambda p: p.journal.append([entry(1)]) is None,
        lambda p: journal(p) == {1},
    ),
    "rotate": Change(
        lambda node: prepare_journal(node, 1, 2, 3),
        lambda p: p.journal.append([entry(4)]) is None,
        lambda p: journal(p) == {1, 2, 3, 4},
    ),
    "clean": Change(
        litter,
        lambda p: p.clean() == (),
        lambda p: newest(p) == 2 and temporaries(p.node.tree()) == [],
    ),
    "restart": Change(lambda node: stored(node, b"1"), restart_etcd, is_etcd_there),
    "put back": Change(
        set_etcd_aside,
        lambda p: put_back(p.disk, p.node.manifests / "etcd.yaml") is not None,
        is_etcd_there,
    ),
}
