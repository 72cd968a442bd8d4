"""Only files of ours are read as active, written or removed; everything else stays as it is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkpointer.core.checkpoint import ActiveManifest
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.manifest.render import file_name
from checkpointer.node.manifests import PREFIX, Folder, ManifestFolder
from checkpointer.store.errors import ForeignFileError, StoreError

WORKLOAD = Workload("kube-system", "DaemonSet", "kube-apiserver")
NAME = f"{PREFIX}kube-apiserver-0123456789abcdef.json"


@dataclass(frozen=True)
class Mark:
    """What mark_of finds."""

    workload: Workload
    revision: int
    issue: int
    uid: str


READ: list[bytes] = []


def manifest(revision: int = 1, issue: int = 0, uid: str = "u") -> bytes:
    """A file with our mark."""
    return json.dumps({"mark": [revision, issue, uid]}).encode()


def mark_of(content: bytes) -> Mark | None:
    """Find the mark of `manifest`."""
    READ.append(content)
    try:
        return Mark(WORKLOAD, *json.loads(content)["mark"])
    except (ValueError, KeyError, TypeError):
        return None


@pytest.fixture
def folder(tmp_path: Path) -> ManifestFolder:
    (tmp_path / "manifests").mkdir()
    READ.clear()
    return ManifestFolder(tmp_path / "manifests", mark_of)


def observed(folder: ManifestFolder) -> Folder:
    answer = folder.observe()
    assert isinstance(answer, Known), answer
    return answer.value


def test_written_manifest_is_observed_as_active(folder):
    """With its mark and the time of its file."""
    assert folder.write(NAME, manifest(3, 1, "x")) is True
    written_at = (folder.path / NAME).stat().st_mtime_ns
    expected = ActiveManifest(NAME, WORKLOAD, 3, 1, "x", written_at)
    assert observed(folder) == Folder(ours=(expected,))
    assert (folder.path / NAME).stat().st_mode & 0o7777 == 0o600


def test_equal_manifest_is_not_written_again(folder):
    """A rename of equal bytes would restart the pod (peers.md P4)."""
    folder.write(NAME, manifest())
    inode = (folder.path / NAME).stat().st_ino
    assert folder.write(NAME, manifest()) is False
    assert (folder.path / NAME).stat().st_ino == inode


def test_manifest_of_ours_is_replaced_and_removed(folder):
    """A new issue takes the place of the old one; removal happens once."""
    folder.write(NAME, manifest(issue=0))
    assert folder.write(NAME, manifest(issue=1)) is True
    assert observed(folder).ours[0].issue == 1
    assert folder.remove(NAME) is True
    assert folder.remove(NAME) is False
    assert observed(folder) == Folder()


def test_foreign_files_are_told_by_name_and_hidden_ones_are_not(folder):
    """The kubelet does not read hidden names; ours are not foreign."""
    for name in (
        "etcd.yaml",
        "backup~",
        "a.json",
        ".hidden",
        ".pod-checkpointer-new-0123456789abcdef",
    ):
        (folder.path / name).write_bytes(manifest())
    (folder.path / "sub").mkdir()
    folder.write(NAME, manifest())
    assert observed(folder).foreign == ("a.json", "backup~", "etcd.yaml", "sub")
    assert [m.file_name for m in observed(folder).ours] == [NAME]


def test_a_manifest_that_somebody_has_copied_is_told_of(folder):
    """Both carry our mark, and both are removed as ours are."""
    folder.write(NAME, manifest())
    assert observed(folder).problems == ()
    second = NAME.replace(".json", "-2.json")
    (folder.path / second).write_bytes(manifest())
    for _ in range(2):
        (problem,) = observed(folder).problems
        assert problem.startswith(f"{second} and {NAME} in {folder.path} are all the copy of")
        assert f"leave only {file_name(WORKLOAD)};" in problem
    folder.remove(second)
    assert observed(folder).problems == ()


def make_foreign(kind: str, path: Path) -> None:
    """Put something that is not ours where a manifest of ours would be."""
    if kind == "unmarked":
        path.write_bytes(b"{}")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.with_name(".target").write_bytes(manifest())
        path.symlink_to(".target")
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(10 << 20)


FOREIGN = ["unmarked", "empty", "folder", "pipe", "link", "large"]


@pytest.mark.parametrize("kind", FOREIGN)
def test_file_with_our_name_but_not_our_mark_is_left_alone(folder, kind):
    """It is foreign, with the reason; it is neither replaced nor removed nor followed."""
    make_foreign(kind, folder.path / NAME)
    status = (folder.path / NAME).lstat()
    found = observed(folder)
    assert (found.ours, found.foreign) == ((), (NAME,))
    (problem,) = found.problems
    assert NAME in problem
    assert "left alone" in problem
    with pytest.raises(ForeignFileError, match=NAME):
        folder.write(NAME, manifest())
    with pytest.raises(ForeignFileError, match=NAME):
        folder.remove(NAME)
    after = (folder.path / NAME).lstat()
    assert (after.st_ino, after.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


def test_mark_is_looked_for_at_the_moment_of_removal(folder):
    """What was ours when it was observed may be somebody's by now."""
    folder.write(NAME, manifest())
    observed(folder)
    (folder.path / NAME).write_bytes(b"edited by hand")
    with pytest.raises(ForeignFileError, match="it has our prefix but not our mark"):
        folder.remove(NAME)
    assert (folder.path / NAME).read_bytes() == b"edited by hand"


@pytest.mark.parametrize("name", ["x.json", "../x", f"{PREFIX}/../x", f".{PREFIX}x", "", "\0"])
def test_name_that_is_not_ours_is_refused(folder, name):
    """No path is made of a name that could lead elsewhere."""
    for change in (lambda: folder.write(name, manifest()), lambda: folder.remove(name)):
        with pytest.raises(StoreError, match="is not a file name that begins with"):
            change()
    assert os.listdir(folder.path) == []


def test_manifest_that_could_not_be_recognised_is_not_written(folder):
    """Without our mark nobody could ever remove it; too large, the kubelet would not read it."""
    with pytest.raises(StoreError, match="does not carry our mark"):
        folder.write(NAME, b"{}")
    with pytest.raises(StoreError, match="more than the kubelet reads"):
        folder.write(NAME, manifest() + b" " * (10 << 20))
    assert os.listdir(folder.path) == []


def test_missing_folder_is_unknown(folder):
    """It may be unmounted: that is not a folder without manifests."""
    folder.path.rmdir()
    answer = folder.observe()
    assert answer == Unknown(f"{folder.path} is not a folder: No such file or directory")
    folder.path.write_bytes(b"")
    assert folder.observe() == Unknown(f"{folder.path} is not a folder: Not a directory")
    with pytest.raises(StoreError, match="cannot clean"):
        folder.clean()


def test_folder_is_never_made(folder):
    """A static-pod folder that appears would make a running kubelet start what is in it."""
    folder.path.rmdir()
    with pytest.raises(StoreError, match="No such file or directory"):
        folder.write(NAME, manifest())
    assert not folder.path.exists()


def test_unchanged_file_is_not_read_again(folder):
    """At rest a cycle costs one listing and a look at each file's times."""
    folder.write(NAME, manifest())
    READ.clear()
    first = observed(folder)
    assert len(READ) == 1
    assert observed(folder) == first
    assert len(READ) == 1
    (folder.path / NAME).write_bytes(b"foreign now")
    assert observed(folder).ours == ()
    assert len(READ) == 2


def test_clean_removes_our_temporary_files_and_nothing_else(folder):
    """Other hidden files are somebody's (the bootkube checkpointer deleted them all)."""
    stays = [
        ".x",
        ".pod-checkpointer",
        ".pod-checkpointer-mine.json.swp",
        "etcd.yaml",
        ".#etcd.yaml",
    ]
    for name in [*stays, ".pod-checkpointer-new-0123456789abcdef", NAME]:
        (folder.path / name).write_bytes(b"")
    (folder.path / ".pod-checkpointer-folder").mkdir()
    (folder.path / ".pod-checkpointer-link").symlink_to("etcd.yaml")
    assert folder.clean() == (".pod-checkpointer-new-0123456789abcdef",)
    kept = {*stays, NAME, ".pod-checkpointer-folder", ".pod-checkpointer-link"}
    assert set(os.listdir(folder.path)) == kept


NAMES = st.sampled_from([NAME, f"{PREFIX}b.json", "etcd.yaml", ".x", "pod-checkpointer"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "remove", "foreign", "delete", "clean"]), NAMES),
    max_size=12,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS)
def test_whatever_happens_no_foreign_file_is_touched(folder, steps):
    """Files that others wrote are as they left them, whatever we were asked to do."""
    for name in os.listdir(folder.path):
        (folder.path / name).unlink()
    foreign: dict[str, bytes] = {}
    for number, (step, name) in enumerate(steps):
        path = folder.path / name
        try:
            if step == "write":
                folder.write(name, manifest(issue=number))
            elif step == "remove":
                folder.remove(name)
            elif step == "clean":
                folder.clean()
            elif step == "foreign":
                foreign[name] = b"%d" % number
                path.write_bytes(foreign[name])
            else:
                foreign.pop(name, None)
                path.unlink(missing_ok=True)
        except (ForeignFileError, StoreError):
            pass
        for other, content in foreign.items():
            assert (folder.path / other).read_bytes() == content
        found = observed(folder)
        assert {m.file_name for m in found.ours}.isdisjoint(foreign)
        assert {m.file_name for m in found.ours} | set(found.foreign) == {
            n for n in os.listdir(folder.path) if not n.startswith(".")
        }
