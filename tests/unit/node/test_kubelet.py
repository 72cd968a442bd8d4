"""Which run of the kubelet this is, and what it has rendered, told from its folder alone."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from checkpointer.core.facts import Known, Unknown
from checkpointer.manifest.mounted import MountedVolume
from checkpointer.node.kubelet import SOCKETS, Kubelet, read_boot_id
from checkpointer.store.errors import MaterialError

PLUGIN = "kubernetes.io~secret"


def listen(path: Path) -> socket.socket:
    """Make a socket file anew, as each run of the kubelet does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_PATH)
    try:
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    server.listen()
    return server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose sockets have addresses longer than the kernel takes."""
    return tmp_path / ("long" * 30)


@pytest.fixture
def running(folder: Path) -> Iterator[socket.socket]:
    with closing(listen(folder / SOCKETS[0])) as server:
        yield server


def identity(folder: Path, boot_id: str = "boot") -> str:
    answer = Kubelet(folder).incarnation(boot_id)
    assert isinstance(answer, Known), answer
    return answer.value


def test_run_is_the_same_while_its_socket_is(folder, running):
    """Asking twice, or connecting, changes nothing."""
    first = identity(folder)
    socket.socket(socket.AF_UNIX).close()
    assert identity(folder) == first
    run = Kubelet(folder).run("boot").value
    assert run.identity == first
    assert run.started_at == (folder / SOCKETS[0]).stat().st_mtime_ns
    assert run.listening is True


def test_restart_is_another_run(folder, running):
    """The socket is made anew, and no clock has to have moved for it."""
    first = identity(folder)
    os.rename(folder / SOCKETS[0], folder / "old")
    with closing(listen(folder / SOCKETS[0])):
        status = (folder / "old").stat()
        os.utime(folder / SOCKETS[0], ns=(status.st_atime_ns, status.st_mtime_ns))
        assert identity(folder) != first


def test_reboot_is_another_run(folder, running):
    """A socket file that survived the reboot belongs to a kubelet that did not."""
    assert identity(folder, "one boot") != identity(folder, "another boot")


def test_kubelet_that_is_gone_does_not_listen(folder):
    """Its socket file stays when it is killed."""
    listen(folder / SOCKETS[0]).close()
    assert Kubelet(folder).run("boot").value.listening is False


def test_socket_of_the_older_feature_does_too(folder):
    """Without pod-resources the device plugins' socket tells; the two are never taken for one."""
    with closing(listen(folder / SOCKETS[1])):
        first = identity(folder)
        (folder / "pod-resources").mkdir()
        os.link(folder / SOCKETS[1], folder / SOCKETS[0])
        assert identity(folder) != first


def test_no_socket_is_unknown(folder):
    """A kubelet that never ran, or a wrong folder, is not a kubelet that did not restart."""
    answer = Kubelet(folder).incarnation("boot")
    assert isinstance(answer, Unknown)
    assert answer.reason.startswith(f"the kubelet has no socket at {folder}/pod-resources/")
    assert Kubelet(folder).run("boot") == answer
    folder.parent.joinpath("file").write_bytes(b"")
    assert isinstance(Kubelet(folder.parent / "file").run("boot"), Unknown)


def test_boot_id_is_the_kernels(tmp_path):
    """It is read, and when it cannot be, that is said."""
    assert len(read_boot_id().value) == 36
    (tmp_path / "id").write_text("abc\n")
    assert read_boot_id(tmp_path / "id") == Known("abc")
    (tmp_path / "id").write_text("\n")
    assert isinstance(read_boot_id(tmp_path / "id"), Unknown)
    assert isinstance(read_boot_id(tmp_path / "none"), Unknown)


def render(folder: Path, stamp: str, content: bytes) -> Path:
    """Write or update a secret volume of pod `u` as the kubelet does."""
    path = folder / "pods/u/volumes" / PLUGIN / "certs"
    data = path / f"..2026_{stamp}"
    data.mkdir(parents=True)
    (data / "key").write_bytes(content)
    (path / "..data_tmp").symlink_to(data.name)
    os.rename(path / "..data_tmp", path / "..data")
    if not (path / "key").is_symlink():
        (path / "key").symlink_to("..data/key")
    return path


def test_volume_of_a_pod_is_read(folder):
    """From the place where the kubelet renders it."""
    render(folder, "1", b"x")
    found = Kubelet(folder).read_volume("u", PLUGIN, "certs")
    assert (found.name, found.plugin) == ("certs", PLUGIN)
    assert [(entry.path, entry.content) for entry in found.entries] == [("key", b"x")]


def test_volume_over_the_limit_is_refused(folder):
    """A volume too large for the store is a reason, not an accident."""
    path = render(folder, "1", b"xx")
    with pytest.raises(MaterialError, match=r"key has 2 bytes, the limit is 1"):
        Kubelet(folder, size_limit=1).read_volume("u", PLUGIN, "certs")
    shutil.rmtree(path)


@pytest.mark.parametrize(
    "names", [("..", PLUGIN, "v"), ("u", "a/b", "v"), ("u", PLUGIN, ""), ("u", PLUGIN, "a\0")]
)
def test_name_that_climbs_is_refused(folder, names):
    """UID, plugin and name come from the API; each is one file name."""
    with pytest.raises(MaterialError, match="is no file name"):
        Kubelet(folder).read_volume(*names)


def test_marks_of_a_pod_change_with_each_volume(folder):
    """One look at all its volumes tells whether any of them was updated."""
    kubelet = Kubelet(folder)
    assert kubelet.volume_marks("u") == ""
    render(folder, "1", b"x")
    first = kubelet.volume_marks("u")
    assert first == kubelet.volume_marks("u") != ""
    render(folder, "2", b"x")
    assert kubelet.volume_marks("u") != first
    assert kubelet.volume_marks("..") == kubelet.volume_marks("a/b") == "?"


def test_marks_tell_of_a_volume_that_is_rendered_only_now(folder):
    """Its folder is there before its content; and no other plugin's volume is rendered."""
    kubelet = Kubelet(folder)
    volumes = folder / "pods/u/volumes"
    (volumes / PLUGIN / "certs").mkdir(parents=True)
    (volumes / "kubernetes.io~empty-dir/scratch").mkdir(parents=True)
    assert kubelet.volume_marks("u") == "certs="
    render(folder, "1", b"x")
    assert kubelet.volume_marks("u") not in ("certs=", "?")


CERTS = MountedVolume("certs", PLUGIN)


def test_content_mark_goes_by_content_alone(folder):
    """Not by when and where it was rendered; and it tells little of what may be a secret."""
    render(folder, "1", b"x")
    first = Kubelet(folder).content_mark("u", [CERTS])
    assert len(first.value) == 8
    shutil.rmtree(folder / "pods")
    render(folder, "2", b"x")
    assert Kubelet(folder).content_mark("u", [CERTS]) == first
    (folder / "pods/u").rename(folder / "pods/other")
    assert Kubelet(folder).content_mark("other", [CERTS]) != first, "salted with the UID"
    (folder / "pods/other").rename(folder / "pods/u")
    render(folder, "3", b"y")
    assert Kubelet(folder).content_mark("u", [CERTS]) != first


def test_content_mark_leaves_out_what_is_issued(folder):
    """Whatever form a token has; that it is there still counts."""
    volume = MountedVolume("certs", PLUGIN, frozenset({"key"}))
    render(folder, "1", b"x")
    first = Kubelet(folder).content_mark("u", [volume])
    render(folder, "2", b"y")
    assert Kubelet(folder).content_mark("u", [volume]) == first


def test_content_mark_is_unknown_until_all_is_rendered(folder):
    """After a reboot the folders are there, and empty; before the first mount there are none."""
    both = [CERTS, MountedVolume("late", PLUGIN)]
    render(folder, "1", b"x")
    assert isinstance(Kubelet(folder).content_mark("u", both), Unknown)
    (folder / "pods/u/volumes" / PLUGIN / "late").mkdir()
    answer = Kubelet(folder).content_mark("u", both)
    assert isinstance(answer, Unknown)
    assert "late" in answer.reason


def test_content_mark_of_what_cannot_be_taken_is_known(folder):
    """Else a change of the spec would go unseen for ever beside a volume that is too large."""
    render(folder, "1", b"xx")
    kubelet = Kubelet(folder, size_limit=1)
    first = kubelet.content_mark("u", [CERTS])
    assert isinstance(first, Known)
    assert kubelet.content_mark("u", []) != first


def test_content_mark_is_unknown_without_handles(folder):
    """What the node is out of is no change of what a pod mounts."""
    render(folder, "1", b"x")
    kubelet = Kubelet(folder)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        answer = kubelet.content_mark("u", [CERTS])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert isinstance(answer, Unknown)
