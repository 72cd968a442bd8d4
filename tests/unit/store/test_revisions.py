"""The store keeps revisions whole, finds the one that serves, and removes only what it is told."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from checkpointer.core.checkpoint import Checkpoint, Record
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.hold import RELEASED, Hold
from checkpointer.core.workload import Workload
from checkpointer.store import layout
from checkpointer.store.contents import Stored
from checkpointer.store.errors import MaterialError, StoreError, UnsafePathError
from checkpointer.store.rendered import read_rendered
from checkpointer.store.revisions import Store

OTHER = Workload("kube-system", "Deployment", "kube-scheduler")


def contents(store: Store) -> Stored:
    """Read all, from disk."""
    store.invalidate()
    answer = store.read()
    assert isinstance(answer, Known), answer
    return answer.value


def checkpoint(store: Store) -> Checkpoint:
    """Read the only checkpoint, from disk."""
    (found,) = contents(store).checkpoints
    return found


def numbers(store: Store) -> list[int]:
    """The numbers of the revisions that serve, from disk."""
    return [revision.number for revision in checkpoint(store).revisions]


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


@pytest.fixture
def volumes(tmp_path: Path, kit):
    return kit.volumes_at(tmp_path / "rendered")


def folder_of(store: Store) -> Path:
    return store.root / "kube-system" / "daemonset.kube-apiserver"


def test_missing_root_is_an_empty_store(store):
    """Before the first snapshot there is nothing, and that is known."""
    assert store.read() == Known(Stored())
    assert store.clean() == ()
    assert not store.root.exists()


def test_added_revision_is_read_back_as_it_was_given(store, volumes, kit):
    """What add returns is what another process reads."""
    new = kit.new_revision(volumes)
    revision = store.add(new)
    assert revision == replace(new.revision, number=1)
    assert contents(Store(store.root)) == Stored((Checkpoint(kit.workload, (revision,)),))
    assert store.verify(kit.workload, 1) == ()


@pytest.mark.parametrize(
    ("told", "warnings"),
    [(["one", "two"], ("one", "two")), (None, ()), ("one", ()), ([7], ("7",))],
)
def test_warnings_are_sentences_whoever_has_sealed_them(store, volumes, kit, told, warnings):
    """A file that somebody has changed and sealed anew may have anything there."""
    store.add(kit.new_revision(volumes))
    path = folder_of(store) / "revisions/1/provenance.json"
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps({**document, "warnings": told}))
    seal = path.with_name("digests.json")
    digests = json.loads(seal.read_bytes())
    digests["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    seal.write_text(json.dumps(digests))
    assert store.warnings(kit.workload, 1) == warnings


def test_revisions_count_up_and_come_newest_first(store, volumes, kit):
    """The newest revision is the first one of a checkpoint."""
    for _ in range(3):
        store.add(kit.new_revision(volumes))
    assert numbers(store) == [3, 2, 1]
    assert (folder_of(store) / "current").read_bytes() == b"3\n"


def test_manifest_names_the_revisions_own_material(store, volumes, kit):
    """The manifest is made when the number is known, so its paths are those of this revision."""
    store.add(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes))
    material = store.material_root(kit.workload, 2)
    assert material == folder_of(store) / "revisions/2/material"
    assert store.manifest(kit.workload, 2)["spec"]["volumes"] == [
        {"name": "certs", "hostPath": {"path": f"{material}/certs"}},
        {"name": "api", "hostPath": {"path": f"{material}/api"}},
    ]
    assert (material.parent / "manifest.json").read_bytes().endswith(b"}\n")


def test_material_keeps_contents_modes_and_links(store, volumes, kit):
    """A pod sees in the copy what it saw in the volume."""
    store.add(kit.new_revision(volumes))
    material = store.material_root(kit.workload, 1)
    assert (material / "api/deep/er/file").read_bytes() == b"x"
    assert (material / "certs/tls.crt").read_bytes() == b"\x00\xff"
    assert os.readlink(material / "api/deep") == "..data/deep"
    assert stat.S_IMODE((material / "certs/tls.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((material / "certs").stat().st_mode) == 0o777
    assert stat.S_IMODE((material / "certs/..data").stat().st_mode) == 0o755


def test_all_but_material_is_for_root_alone(store, volumes, kit):
    """Folders are 0700 and files 0600, whatever the umask."""
    before = os.umask(0)
    try:
        store.add(kit.new_revision(volumes))
        store.write_record(kit.workload, Record(issue=1))
        store.write_state("contact", {})
    finally:
        os.umask(before)
    for path in [store.root, *store.root.rglob("*")]:
        if "material/" not in str(path):
            expected = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == expected, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_material_keeps_owners(store, tmp_path, kit):
    """A process of the pod's own user or group can read the copy too."""
    path = kit.render_volume(tmp_path / "v", {"token": kit.token}, mode=0o640)
    for name in ["", "..data/", "..data/token"]:
        os.chown(path / name, 0, 4321)
    os.chmod(path / "..data/", 0o2775)  # noqa: S103 what the kubelet does for an fsGroup
    volume = read_rendered(path, "kubernetes.io~secret", "v")
    store.add(kit.new_revision((volume,)))
    copied = store.material_root(kit.workload, 1) / "v"
    assert (copied / "token").stat().st_gid == 4321
    assert stat.S_IMODE((copied / "..data").stat().st_mode) == 0o2775
    assert copied.stat().st_gid == 4321
    assert store.verify(kit.workload, 1) == ()


def test_damaged_revision_is_skipped_and_the_one_before_serves(store, volumes, kit):
    """Damage costs one revision, with a sentence, and hides nothing else."""
    store.add(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes, OTHER))
    (folder_of(store) / "revisions/2/material/certs/..data/tls.key").write_bytes(b"kez")
    found = {c.workload: c for c in contents(store).checkpoints}
    assert [r.number for r in found[kit.workload].revisions] == [1]
    (problem,) = found[kit.workload].problems
    assert problem.startswith("revision 2 is skipped: ")
    assert problem.endswith("material/certs/..data/tls.key: content differs")
    assert [r.number for r in found[OTHER].revisions] == [1]
    assert found[OTHER].problems == ()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("revisions/1/manifest.json", b"{", True),
        ("record.json", b"{", True),
        ("revisions/2/manifest.json", b"{", False),
        ("current", b"x", False),
        ("current", b"3\n", False),
        ("current", b"1\n", True),
    ],
)
def test_damage_of_the_last_revision_is_told_apart(store, volumes, kit, name, content, expected):
    """It is to be stored anew; an older one cannot be."""
    for _ in range(2):
        store.add(kit.new_revision(volumes))
    assert checkpoint(store).is_current
    (folder_of(store) / name).write_bytes(content)
    assert checkpoint(store).is_current is expected


def test_number_of_a_damaged_revision_is_not_used_again(store, volumes, kit):
    """A new revision never gets the number of one that is there, be it damaged."""
    store.add(kit.new_revision(volumes))
    (folder_of(store) / "revisions/7").mkdir()
    assert store.add(kit.new_revision(volumes)).number == 8
    assert numbers(store) == [8, 1]


def test_number_that_the_pointer_names_is_not_used_again(store, volumes, kit):
    """Even when the current revision's folder is gone its manifest may be active."""
    store.add(kit.new_revision(volumes))
    (folder_of(store) / "current").write_bytes(b"5\n")
    assert checkpoint(store).problems == (
        f"{folder_of(store)}: revision 5, the current one, is missing",
    )
    assert numbers(store) == [1]
    assert store.add(kit.new_revision(volumes)).number == 6


LAST = layout.LAST_NUMBER


@pytest.mark.parametrize("pointer", [None, LAST, LAST + 1])
@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        ((), 2),
        ((LAST - 1,), LAST),
        ((LAST,), 2),
        ((LAST + 1,), 2),
        ((LAST - 1, LAST), 2),
        ((LAST, LAST + 1, 5), 6),
    ],
)
def test_number_of_a_new_revision_can_be_read(store, volumes, kit, planted, expected, pointer):
    """One that cannot would be stored, and its workload never served nor snapshotted again."""
    store.add(kit.new_revision(volumes))
    for number in planted:
        (folder_of(store) / f"revisions/{number}").mkdir()
    if pointer:
        (folder_of(store) / "current").write_bytes(b"%d\n" % pointer)
        assert not checkpoint(store).is_current
    if (pointer, expected) == (LAST, LAST):
        expected = 2  # which the pointer names, and is not used again
    assert store.add(kit.new_revision(volumes)).number == expected
    assert numbers(store)[0] == expected
    assert checkpoint(store).is_current


@pytest.mark.parametrize("content", [b"", b"1", b"0\n", b"-1\n", b"1\n1\n", b"\xff\n", b"x" * 99])
def test_unreadable_pointer_falls_back_to_the_newest_revision_that_verifies(
    store, volumes, kit, content
):
    """A pointer cut short is no number; all complete revisions count, and it is mended."""
    store.add(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes))
    pointer = folder_of(store) / "current"
    pointer.write_bytes(content)
    assert numbers(store) == [2, 1]
    (problem,) = checkpoint(store).problems
    assert str(pointer) in problem
    assert store.clean() == ()
    assert pointer.read_bytes() == b"2\n"
    assert checkpoint(store).problems == ()


def test_revision_beyond_the_pointer_was_never_committed(store, volumes, kit):
    """A process died between folder and pointer: the revision before serves."""
    store.add(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes))
    (folder_of(store) / "current").write_bytes(b"1\n")
    assert numbers(store) == [1]
    assert checkpoint(store).problems == ()
    assert store.add(kit.new_revision(volumes)).number == 3


def test_revision_moved_to_another_number_or_workload_does_not_serve(store, volumes, kit):
    """A copied folder is not a revision: its provenance says whose it is."""
    store.add(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes, OTHER))
    folder = folder_of(store)
    os.rename(folder / "revisions/1", folder / "revisions/3")
    (folder / "current").write_bytes(b"3\n")
    found = {c.workload: c for c in contents(store).checkpoints}
    assert found[kit.workload].revisions == ()
    assert "is that of revision 1" in found[kit.workload].problems[0]
    os.rename(folder / "revisions/3", folder / "revisions/1")
    os.rename(folder, folder.with_name("deployment.kube-proxy"))
    found = {c.workload: c for c in contents(store).checkpoints}
    moved = found[Workload("kube-system", "Deployment", "kube-proxy")]
    assert moved.revisions == ()
    assert "is that of kube-system/daemonset/kube-apiserver" in moved.problems[1]


def test_checkpoint_whose_every_revision_is_damaged_is_still_listed(store, volumes, kit):
    """Damaged is not the same as never there."""
    store.add(kit.new_revision(volumes))
    (folder_of(store) / "revisions/1/digests.json").unlink()
    found = checkpoint(store)
    assert found.revisions == ()
    assert "digests.json" in found.problems[0]


def test_workload_with_a_long_name_is_recognised(store, volumes, kit):
    """A shortened folder name says nothing; what lies in it does."""
    workload = Workload("kube-system", "DaemonSet", "a" * 253)
    store.add(kit.new_revision(volumes, workload))
    (found,) = contents(store).checkpoints
    assert found.workload == workload
    (next((store.root / "kube-system").iterdir()) / "revisions/1/provenance.json").unlink()
    assert contents(store).checkpoints == ()
    assert "nothing readable tells which workload this is" in contents(store).problems[1]


def test_unknown_files_are_ignored_and_stay(store, volumes, kit):
    """What is not ours is neither read nor removed, at any level."""
    store.add(kit.new_revision(volumes))
    strangers = [
        store.root / "README",
        store.root / "lost+found/x",
        store.root / "kube-system/notes",
        store.root / "kube-system/backup.tar/y",
        folder_of(store) / "notes",
        folder_of(store) / "revisions/1.bak/z",
        folder_of(store) / "revisions/01/z",
    ]
    for stranger in strangers:
        stranger.parent.mkdir(exist_ok=True)
        stranger.write_bytes(b"mine")
    link = store.root / "kube-system/daemonset.link"
    link.symlink_to(folder_of(store))
    assert contents(store).checkpoints[0].problems == ()
    assert len(contents(store).checkpoints) == 1
    assert contents(store).problems == ()
    assert store.clean() == ()
    store.prune(kit.workload, set())
    for stranger in strangers:
        assert stranger.read_bytes() == b"mine"
    assert link.is_symlink()
    store.remove(kit.workload)
    assert (folder_of(store) / "notes").exists()


def test_record_survives_and_is_written_only_when_it_differs(store, volumes, kit):
    """The record comes back from disk, and an equal one costs no write."""
    record = Record(parents=("u1", "u2"), issue=3, absent_seconds=2.5, failed=(4,))
    store.add(kit.new_revision(volumes))
    assert store.write_record(kit.workload, record) is True
    path = folder_of(store) / "record.json"
    inode = path.stat().st_ino
    assert store.write_record(kit.workload, record) is False
    assert Store(store.root).write_record(kit.workload, record) is False
    assert path.stat().st_ino == inode
    assert checkpoint(Store(store.root)).record == record
    assert store.read().value.checkpoints[0].record == record


def test_record_is_replaced_in_memory_without_verifying_again(store, volumes, kit):
    """A record changes in the middle of an outage; material is not read again for it."""
    store.add(kit.new_revision(volumes))
    before = store.read().value.checkpoints[0]
    (folder_of(store) / "revisions/1/manifest.json").unlink()
    store.write_record(kit.workload, Record(issue=9))
    assert store.read().value.checkpoints[0] == replace(before, record=Record(issue=9))


def test_record_without_revisions_is_a_checkpoint(store, kit):
    """What is remembered of a workload counts before its first revision."""
    store.write_record(kit.workload, Record(issue=1))
    assert checkpoint(store) == Checkpoint(kit.workload, (), Record(issue=1))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"format":2}', "format is not 1"),
        (b'{"format":1,"workload":{"namespace":"n","kind":"k"}}', "workload.name is missing"),
    ],
)
def test_damaged_record_is_a_problem_and_the_revisions_serve(store, volumes, kit, content, said):
    """A lost record makes the agent slower, not blind."""
    store.add(kit.new_revision(volumes))
    (folder_of(store) / "record.json").write_bytes(content)
    found = checkpoint(store)
    assert found.record == Record()
    assert [r.number for r in found.revisions] == [1]
    assert said in found.problems[0]


def test_record_of_another_workload_is_a_problem(store, volumes, kit):
    """A copied record would give this workload another one's issue."""
    store.add(kit.new_revision(volumes))
    store.write_record(OTHER, Record(issue=5))
    (store.root / "kube-system/deployment.kube-scheduler/record.json").replace(
        folder_of(store) / "record.json"
    )
    (found,) = [c for c in contents(store).checkpoints if c.workload == kit.workload]
    assert found.record == Record()
    assert "is that of kube-system/deployment/kube-scheduler" in found.problems[0]


HOLD = Hold(RELEASED, 12.5, "alice (uid 0)", "a drill")


def test_hold_comes_back_until_it_is_lifted(store, volumes, kit):
    """From disk, and to a reader that is told of the change; an equal one costs no write."""
    store.add(kit.new_revision(volumes))
    assert checkpoint(store).hold is None
    assert store.write_hold(kit.workload, HOLD) is True
    assert store.write_hold(kit.workload, HOLD) is False
    assert checkpoint(store).hold == checkpoint(Store(store.root)).hold == HOLD
    assert (folder_of(store) / "hold.json").stat().st_mode & 0o777 == 0o600
    store.write_record(kit.workload, Record(issue=9))
    assert checkpoint(store).hold == HOLD
    assert store.write_hold(kit.workload, None) is True
    assert store.write_hold(kit.workload, None) is False
    assert checkpoint(store).hold is None


def test_hold_of_what_is_not_stored_is_refused(store, kit):
    """A mistyped name must not look as if it were held."""
    with pytest.raises(StoreError, match="nothing is stored of it"):
        store.write_hold(kit.workload, HOLD)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format":1,"workload":{}}'])
def test_damaged_hold_is_a_problem_and_does_not_count(store, volumes, kit, content):
    """A node must not stay dark for a damaged file."""
    store.add(kit.new_revision(volumes))
    (folder_of(store) / "hold.json").write_bytes(content)
    found = checkpoint(store)
    assert found.hold is None
    assert [r.number for r in found.revisions] == [1]
    assert found.problems[0].startswith("the hold does not count: ")


def test_hold_of_another_workload_does_not_count(store, volumes, kit):
    """A copied file holds nothing."""
    store.add(kit.new_revision(volumes))
    store.write_record(OTHER, Record(issue=5))
    store.write_hold(OTHER, HOLD)
    other = store.root / "kube-system/deployment.kube-scheduler/hold.json"
    other.replace(folder_of(store) / "hold.json")
    (found,) = [c for c in contents(store).checkpoints if c.workload == kit.workload]
    assert found.hold is None
    assert "is that of kube-system/deployment/kube-scheduler" in found.problems[0]


def test_hold_goes_with_its_workload(store, volumes, kit):
    """Nothing is left that a later checkpoint of that name would be held by."""
    store.add(kit.new_revision(volumes))
    store.write_hold(kit.workload, HOLD)
    assert store.remove(kit.workload) is True
    assert not folder_of(store).exists()


def test_prune_keeps_what_it_is_told_and_the_one_that_serves(store, volumes, kit):
    """The revision that serves is kept even by a caller who forgets it."""
    for _ in range(5):
        store.add(kit.new_revision(volumes))
    assert store.prune(kit.workload, {2}) == (4, 3, 1)
    assert numbers(store) == [5, 2]
    assert store.prune(kit.workload, {2}) == ()
    assert store.prune(OTHER, set()) == ()


def test_prune_verifies_nothing_when_nothing_is_to_go(root, volumes, kit):
    """After every snapshot it is asked, and seldom has anything to remove."""
    calls = kit.FaultyCalls()
    store = Store(root, calls)
    for _ in range(2):
        store.add(kit.new_revision(volumes))
    calls.names.clear()
    assert store.prune(kit.workload, {1, 2}) == ()
    assert calls.names.count("read") == 2  # the pointer, to its end
    assert store.prune(kit.workload, {2}) == (1,)
    assert calls.names.count("read") > 20


def test_prune_keeps_the_good_one_behind_a_damaged_current_one(store, volumes, kit):
    """Good revisions never decrease to none."""
    for _ in range(3):
        store.add(kit.new_revision(volumes))
    (folder_of(store) / "revisions/3/manifest.json").unlink()
    assert store.prune(kit.workload, set()) == (1,)
    assert numbers(store) == [2]


def test_prune_removes_nothing_when_no_revision_verifies(store, volumes, kit):
    """A disk that fails to read for a while must not cost what is on it."""
    store.add(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes))
    for number in (1, 2):
        (folder_of(store) / f"revisions/{number}/manifest.json").write_bytes(b"{}")
    assert store.prune(kit.workload, set()) == ()
    assert sorted(os.listdir(folder_of(store) / "revisions")) == ["1", "2"]


def test_prune_with_an_unreadable_pointer_is_refused(store, volumes, kit):
    """Any revision may be the current one then."""
    store.add(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes))
    (folder_of(store) / "current").write_bytes(b"?")
    with pytest.raises(StoreError, match="current is not a revision's number"):
        store.prune(kit.workload, {2})
    assert numbers(store) == [2, 1]


def test_remove_leaves_nothing_of_a_workload(store, volumes, kit):
    """Folders that become empty go too; other workloads stay."""
    store.add(kit.new_revision(volumes))
    store.write_record(kit.workload, Record(issue=1))
    store.add(kit.new_revision(volumes, OTHER))
    assert store.remove(kit.workload) is True
    assert store.remove(kit.workload) is False
    assert [c.workload for c in contents(store).checkpoints] == [OTHER]
    store.remove(OTHER)
    assert os.listdir(store.root) == []


def test_workload_that_was_removed_can_be_added_again(store, volumes, kit):
    """Removal leaves nothing behind that a new checkpoint could stumble over."""
    store.add(kit.new_revision(volumes))
    store.remove(kit.workload)
    assert store.add(kit.new_revision(volumes)).number == 1
    assert numbers(store) == [1]


def test_manifest_that_does_not_match_its_digest_is_not_returned(store, volumes, kit):
    """Nobody activates a manifest that somebody changed."""
    store.add(kit.new_revision(volumes))
    path = folder_of(store) / "revisions/1/manifest.json"
    path.write_bytes(json.dumps({"kind": "Pod"}).encode())
    with pytest.raises(StoreError, match=r"manifest\.json does not match its digest"):
        store.manifest(kit.workload, 1)
    assert store.provenance(kit.workload, 1)["revision"]["number"] == 1
    with pytest.raises(StoreError, match="cannot read"):
        store.manifest(kit.workload, 2)


def test_warnings_of_the_sanitizer_are_kept(store, volumes, kit):
    """What was dropped from a pod can be read later."""
    store.add(replace(kit.new_revision(volumes), warnings=("spec.affinity was removed",)))
    assert store.provenance(kit.workload, 1)["warnings"] == ["spec.affinity was removed"]


@pytest.mark.parametrize("name", ["..", "a/b", "", ".x", "Up", "x y"])
def test_volume_name_that_is_no_plain_file_name_is_refused(store, volumes, kit, name):
    """The manifest joins root and name; only a name that is its own encoding is safe there."""
    bad = (replace(volumes[0], name=name),)
    with pytest.raises(StoreError, match="volume name"):
        store.add(kit.new_revision(bad))
    assert not store.root.exists()


def test_token_that_is_none_is_refused_before_anything_is_written(store, tmp_path, kit):
    """A revision that could never verify is not made."""
    kit.render_volume(tmp_path / "v", {"token": b"secret-but-no-jwt"})
    volume = read_rendered(tmp_path / "v", "p", "v")
    with pytest.raises(StoreError, match="token in volume v is not a service-account token") as e:
        store.add(kit.new_revision((replace(volume, token_paths=frozenset({"token"})),)))
    assert "secret-but-no-jwt" not in str(e.value)


def test_tokens_are_renewed_in_place(store, tmp_path, kit):
    """The token changes under the running pod; all else stays and the revision verifies."""
    store.add(kit.new_revision(kit.volumes_at(tmp_path / "a")))
    fresh = kit.volumes_at(tmp_path / "b", kit.jwt(exp=2_000_003_600), b"rotated")
    copy = store.material_root(kit.workload, 1) / "api"
    assert store.token_expiry(kit.workload, 1) == 2_000_000_000
    assert store.refresh_tokens(kit.workload, 1, fresh[1]) is True
    assert (copy / "token").read_bytes() == kit.jwt(exp=2_000_003_600)
    assert (copy / "namespace").read_bytes() == b"kube-system"
    assert sorted(os.listdir(copy)) == ["..checkpoint-2", "..data", "deep", "namespace", "token"]
    assert store.verify(kit.workload, 1) == ()
    assert store.token_expiry(kit.workload, 1) == 2_000_003_600
    assert store.refresh_tokens(kit.workload, 1, fresh[1]) is False
    assert numbers(store) == [1]


def test_renewal_takes_nothing_but_tokens(store, tmp_path, kit):
    """Other changes make a new revision; this one stays what its digests say."""
    store.add(kit.new_revision(kit.volumes_at(tmp_path / "a")))
    fresh = kit.volumes_at(tmp_path / "b", kit.token, b"rotated")
    assert store.refresh_tokens(kit.workload, 1, fresh[0]) is False
    assert (store.material_root(kit.workload, 1) / "certs/tls.key").read_bytes() == b"key"


def test_renewal_by_something_that_is_no_token_is_refused(store, tmp_path, kit):
    """A bad reading never replaces a token that works."""
    volumes = kit.volumes_at(tmp_path / "a")
    store.add(kit.new_revision(volumes))
    entries = tuple(
        replace(e, content=b"junk") if e.path == "token" else e for e in volumes[1].entries
    )
    with pytest.raises(StoreError, match="not a service-account token"):
        store.refresh_tokens(kit.workload, 1, replace(volumes[1], entries=entries))
    assert store.verify(kit.workload, 1) == ()


def test_renewal_of_a_volume_that_is_not_stored_is_refused(store, volumes, kit):
    """The caller names a volume of this revision."""
    store.add(kit.new_revision(volumes[:1]))
    with pytest.raises(StoreError, match="has no volume api"):
        store.refresh_tokens(kit.workload, 1, volumes[1])


def test_token_volumes_are_told(store, volumes, kit):
    """The agent asks which volumes to read again for their tokens."""
    store.add(kit.new_revision(volumes))
    assert store.token_volumes(kit.workload, 1) == ("api",)
    store.add(kit.new_revision(volumes[:1]))
    assert store.token_volumes(kit.workload, 2) == ()
    assert store.token_expiry(kit.workload, 2) is None


def test_expiry_of_a_damaged_volume_is_an_error(store, volumes, kit):
    """Unknown is not the same as no token."""
    store.add(kit.new_revision(volumes))
    (store.material_root(kit.workload, 1) / "api/..data").unlink()
    with pytest.raises(MaterialError, match="volume api"):
        store.token_expiry(kit.workload, 1)


def test_state_of_the_node_survives(store):
    """Small state is durable, and an equal one is not written again."""
    assert store.read_state("contact") == Known({})
    assert store.write_state("contact", {"kubelet": "k1"}) is True
    assert store.write_state("contact", {"kubelet": "k1"}) is False
    assert Store(store.root).read_state("contact") == Known({"kubelet": "k1"})
    assert contents(store).checkpoints == ()


def test_damaged_state_is_unknown(store):
    """What cannot be read is not taken for nothing."""
    store.write_state("contact", {"kubelet": "k1"})
    (store.root / ".state/contact.json").write_bytes(b'{"kube')
    answer = store.read_state("contact")
    assert isinstance(answer, Unknown)
    assert answer.reason.endswith("contact.json is not JSON")


def test_root_that_is_no_folder_is_unknown_and_refused(store, volumes, kit):
    """Nothing is read from, or written over, what is not a store."""
    store.root.write_bytes(b"")
    assert store.read() == Unknown(f"{store.root} is not a folder")
    with pytest.raises(UnsafePathError):
        store.add(kit.new_revision(volumes))


def test_failure_to_list_the_root_is_unknown(root, volumes, kit):
    """An I/O error at the root says nothing about what is stored."""
    Store(root).add(kit.new_revision(volumes))
    calls = kit.FaultyCalls(kit.Fault(0, error=errno.EIO))
    assert Store(root, calls).read() == Unknown(f"cannot read the store {root}: Input/output error")


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_being_out_of_handles_never_looks_like_damage(root, volumes, kit, error):
    """At whichever call: the answer is Unknown, and the next one is right."""
    revision = Store(root).add(kit.new_revision(volumes))
    calls = kit.FaultyCalls()
    Store(root, calls).read()
    for at in range(len(calls.names)):
        faulty = kit.FaultyCalls(kit.Fault(at, error=error))
        store = Store(root, faulty)
        assert isinstance(store.read(), Unknown), calls.names[at]
        assert store.read() == Known(Stored((Checkpoint(kit.workload, (revision,)),)))


def test_io_error_that_passes_is_forgotten(root, volumes, kit):
    """What could not be read is tried again by the next look, though nothing changed."""
    revision = Store(root).add(kit.new_revision(volumes))
    Store(root).write_record(kit.workload, Record(issue=1))
    good = Known(Stored((Checkpoint(kit.workload, (revision,), Record(issue=1)),)))
    calls = kit.FaultyCalls()
    assert Store(root, calls).read() == good
    for at in range(len(calls.names)):
        store = Store(root, kit.FaultyCalls(kit.Fault(at, error=errno.EIO)))
        assert store.read() != good, calls.names[at]
        assert store.read() == good, calls.names[at]


def test_unchanged_store_is_answered_from_memory(root, volumes, kit):
    """A second read makes no system call but a look at the root."""
    calls = kit.FaultyCalls()
    store = Store(root, calls)
    store.add(kit.new_revision(volumes))
    first = store.read().value
    before = len(calls.names)
    assert store.read().value is first
    assert len(calls.names) == before


def test_only_the_workload_that_changed_is_read_again(root, volumes, kit):
    """An invalidated workload is looked at anew, the others are not."""
    store = Store(root)
    store.add(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes, OTHER))
    first = {c.workload: c for c in store.read().value.checkpoints}
    (folder_of(store) / "revisions/1/manifest.json").unlink()
    assert {c.workload: c for c in store.read().value.checkpoints} == first
    store.invalidate(kit.workload)
    second = {c.workload: c for c in store.read().value.checkpoints}
    assert second[kit.workload].revisions == ()
    assert second[OTHER] is first[OTHER]


def test_changed_path_concerns_only_its_workload(root, volumes, kit):
    """A watcher of the folder does not have the whole store verified for every event."""
    store = Store(root)
    store.add(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes, OTHER))
    first = {c.workload: c for c in store.read().value.checkpoints}
    manifest = folder_of(store) / "revisions/1/manifest.json"
    content = manifest.read_bytes()
    manifest.unlink()
    for path in (
        root.parent,
        root / ".state/contact.json",
        root / "kube-system/.pod-checkpointer-removed-1",
        folder_of(store) / "revisions/.pod-checkpointer-new-1/manifest.json",
    ):
        assert store.invalidate_path(path) is False
    assert {c.workload: c for c in store.read().value.checkpoints} == first
    assert store.invalidate_path(manifest) is True
    second = {c.workload: c for c in store.read().value.checkpoints}
    assert second[kit.workload].revisions == ()
    assert second[OTHER] is first[OTHER]
    manifest.write_bytes(content)
    manifest.chmod(0o600)
    assert store.invalidate_path(root / "kube-system") is True
    assert {c.workload: c for c in store.read().value.checkpoints} == first


def test_stranger_that_was_invalidated_is_no_workload(root, volumes, kit):
    """A watcher tells of every path, also of what is not ours."""
    store = Store(root)
    store.add(kit.new_revision(volumes))
    first = store.read()
    (root / "kube-system/notes").write_bytes(b"")
    assert store.invalidate_path(root / "kube-system/notes") is True
    assert store.read() == first


def test_root_that_goes_away_or_is_replaced_is_noticed(root, volumes, kit):
    """The cache never outlives the folder it was read from."""
    store = Store(root)
    store.add(kit.new_revision(volumes))
    assert len(store.read().value.checkpoints) == 1
    os.rename(root, root.with_name("moved"))
    assert store.read() == Known(Stored())
    os.rename(root.with_name("moved"), root)
    assert len(store.read().value.checkpoints) == 1


def test_no_message_and_no_repr_holds_material(store, tmp_path, kit):
    """Values may be logged; what they hold may not."""
    volumes = kit.volumes_at(tmp_path / "a", secret=b"planted-secret")
    assert "planted-secret" not in repr(volumes)
    assert kit.token.decode() not in repr(kit.new_revision(volumes))
    store.add(kit.new_revision(volumes))
    (folder_of(store) / "revisions/1/material/certs/..data/tls.key").write_bytes(b"planted-two")
    assert "planted" not in repr(contents(store))
    assert "planted" not in repr(store.verify(kit.workload, 1))
