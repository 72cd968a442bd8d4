"""Where a folder lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpointer.core.facts import Known
from checkpointer.node.disk import Place, look_at

MOUNTS = (
    "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "22 21 0:5 / /proc rw shared:1 - proc proc rw\n"
    "23 21 0:6 / {place} rw shared:2 master:3 - xfs /dev/sdb rw\n"
    "24 23 0:7 / {place} rw - tmpfs tmpfs rw\n"
    "25 23 0:8 / {place}/with\\040space rw - nfs4 server:/x rw\n"
    "broken\n"
)


def place_of(path: Path, mounts: Path) -> Place:
    found = look_at(path, mounts)
    assert isinstance(found, Known)
    return found.value


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS.format(place=tmp_path / "mnt"))
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [("mnt", "tmpfs"), ("mnt/a/b", "tmpfs"), ("mntx", "ext4"), ("mnt/with space", "nfs4")],
)
def test_the_nearest_mount_above_decides_and_of_two_the_later(
    tmp_path: Path, mounts: Path, name: str, kind: str
) -> None:
    """As the kernel has it: the later one covers the other."""
    (tmp_path / name).mkdir(parents=True)
    assert place_of(tmp_path / name, mounts).kind == kind


def test_a_folder_that_is_not_there_yet_would_lie_where_its_parent_does(
    tmp_path: Path, mounts: Path
) -> None:
    """Its room and kind are known before it is made."""
    (tmp_path / "mnt").mkdir()
    found = place_of(tmp_path / "mnt/a/b", mounts)
    assert (found.exists, found.kind, found.path) == (False, "tmpfs", tmp_path / "mnt/a/b")
    assert 0 < found.free_bytes <= found.total_bytes


def test_a_file_is_no_folder(tmp_path: Path, mounts: Path) -> None:
    """Nor is it one that does not exist."""
    (tmp_path / "mnt").write_text("")
    assert not place_of(tmp_path / "mnt", mounts).exists


def test_modes_and_owner_are_the_folders_own(tmp_path: Path, mounts: Path) -> None:
    """Without the type bits."""
    (tmp_path / "mnt").mkdir(mode=0o700)
    found = place_of(tmp_path / "mnt", mounts)
    assert (found.mode, found.owner) == (0o700, (tmp_path / "mnt").stat().st_uid)


def test_without_mountinfo_the_kind_is_not_known(tmp_path: Path) -> None:
    """And all else is."""
    found = place_of(tmp_path, tmp_path / "missing")
    assert (found.kind, found.exists) == ("", True)
