"""A store that somebody else could write to is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from checkpointer.core.facts import Unknown
from checkpointer.store.errors import UnsafePathError
from checkpointer.store.revisions import Store
from checkpointer.store.safety import check_folder

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give folders away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    (tmp_path / "above").mkdir(mode=0o755)
    (tmp_path / "above/store").mkdir(mode=0o700)
    return tmp_path / "above/store"


def test_own_folder_below_safe_ones_is_fine(path):
    """Also when it is still missing, or lies below a sticky /tmp."""
    check_folder(path)
    check_folder(path / "not/yet")
    path.parent.chmod(0o1777)
    check_folder(path)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_folder_above_that_others_may_write_to_is_refused(path, mode):
    """Who can rename the store can replace it."""
    path.parent.chmod(mode)
    with pytest.raises(UnsafePathError, match=rf"above is writable by others \(mode 0{mode:o}\)"):
        check_folder(path)


def test_root_that_others_may_write_to_is_refused(path):
    """Sticky or not: they could have put anything in it."""
    path.chmod(0o1777)
    with pytest.raises(UnsafePathError, match="store is writable by others"):
        check_folder(path)
    answer = Store(path).read()
    assert answer == Unknown(
        f"{path} is writable by others (mode 1777): they could replace what lies there; "
        f"see what does, then chmod go-w {path}"
    )


@pytest.mark.parametrize("which", ["store", "above"])
def test_symbolic_link_on_the_way_is_refused(path, which):
    """A link leads where its owner wants."""
    victim = path if which == "store" else path.parent
    os.rename(victim, victim.with_name("real"))
    victim.symlink_to("real")
    with pytest.raises(UnsafePathError, match=f"{which} is a symbolic link, expected a folder"):
        check_folder(path)


@needs_root
@pytest.mark.parametrize("which", ["store", "above"])
def test_folder_of_somebody_else_is_refused(path, which):
    """The owner of a folder can do anything to it."""
    os.chown(path if which == "store" else path.parent, 12345, -1)
    with pytest.raises(UnsafePathError, match=f"{which} belongs to user 12345, expected"):
        check_folder(path)


@needs_root
def test_who_is_not_root_is_told_to_become_it():
    """And not to give the store of root to somebody else."""
    code = (
        "import os, sys; from pathlib import Path; from checkpointer.store.safety import *\n"
        "path = Path(sys.argv[1]); os.setuid(65534)\n"
        "try: check_folder(path)\n"
        "except UnsafePathError as error: print(error)"
    )
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        Path(folder).chmod(0o711)
        done = subprocess.run(
            [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
        )
        expected = f"{folder} belongs to root, and this does not run as root: try sudo\n"
        assert done.stdout == expected


@pytest.mark.parametrize("bad", ["relative/store", "/tmp/../etc/store"])
def test_path_that_is_not_plain_is_refused(bad):
    """What is checked must be what is used."""
    with pytest.raises(UnsafePathError, match="is not an absolute path"):
        check_folder(Path(bad))


def test_root_that_others_may_read_is_closed(path):
    """A folder made by a package or by hand is narrowed to 0700."""
    path.chmod(0o755)
    Store(path).prepare()
    assert path.stat().st_mode & 0o777 == 0o700


def test_missing_folders_above_the_root_are_made(path):
    """A fresh node has no /etc/kubernetes yet; it is made as others expect it."""
    Store(path / "a/b").prepare()
    assert (path / "a").stat().st_mode & 0o777 == 0o755
    assert (path / "a/b").stat().st_mode & 0o777 == 0o700
