"""A rendered volume is read as one consistent whole, or refused with the reason."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from checkpointer.store.errors import CannotTellError, MaterialError
from checkpointer.store.material import Kind, material_digest
from checkpointer.store.rendered import read_rendered

PLUGIN = "kubernetes.io~projected"


def read(path: Path, *tokens: str, **options: object):
    return read_rendered(path, PLUGIN, "v", tokens, **options)


@pytest.fixture
def volume(tmp_path, kit) -> Path:
    return kit.render_volume(tmp_path / "v", {"a": b"1", "d/e/f": b"22", "token": kit.token})


def test_volume_is_read_with_modes_owners_and_contents(volume):
    """Every entry below `..data`, folders before what they hold."""
    found = read(volume, "token")
    assert [(e.path, e.kind, e.mode) for e in found.entries] == [
        ("a", Kind.FILE, 0o644),
        ("d", Kind.FOLDER, 0o755),
        ("d/e", Kind.FOLDER, 0o755),
        ("d/e/f", Kind.FILE, 0o644),
        ("token", Kind.FILE, 0o644),
    ]
    assert found.entries[3].content == b"22"
    assert (found.folder.mode, found.data.mode) == (0o777, 0o755)
    assert {(e.uid, e.gid) for e in found.entries} == {(os.geteuid(), os.getegid())}
    assert found.links == ("a", "d", "token")
    assert [entry.path for entry in found.tokens] == ["token"]


def test_empty_volume_of_an_optional_source_is_fine(tmp_path, kit):
    """The kubelet writes `..data` for a secret that does not exist, if it is optional."""
    kit.render_volume(tmp_path / "v", {})
    assert read(tmp_path / "v").entries == ()


def test_volume_that_is_not_rendered_is_refused(tmp_path):
    """After a reboot a tmpfs volume's folder is there and empty: that is not its content."""
    (tmp_path / "v").mkdir()
    with pytest.raises(MaterialError, match=r"^volume v \(.*/v\) is not rendered: it has no "):
        read(tmp_path / "v")
    with pytest.raises(MaterialError, match="No such file or directory"):
        read(tmp_path / "missing")


def test_mount_points_of_nested_volumes_are_kept(volume):
    """A read-only copy needs the folders that the kubelet made to mount others in."""
    (volume / "nested/deep").mkdir(parents=True)
    (volume / "nested").chmod(0o750)
    found = read(volume)
    assert [(e.path, e.mode) for e in found.mount_points] == [
        ("nested", 0o750),
        ("nested/deep", 0o755),
    ]
    (volume / "nested/deep/file").write_bytes(b"")
    with pytest.raises(MaterialError, match=r"nested beside \.\.data is not empty"):
        read(volume)


def test_update_during_the_reading_is_read_again(volume, kit):
    """The link is looked at before and after; a mixture is never returned."""
    updates = iter(range(2, 4))

    class Calls(kit.FaultyCalls):
        def read(self, handle, size):
            content = super().read(handle, size)
            if (number := next(updates, None)) is not None:
                kit.render_volume(volume, {"a": b"%d" % number, "b": b"x"}, stamp=str(number))
            return content

    found = read(volume, calls=Calls())
    assert {e.path: e.content for e in found.entries} == {"a": b"3", "b": b"x"}


def test_volume_that_never_rests_is_refused(volume, kit):
    """After a few tries it is somebody else's turn."""
    numbers = iter(range(2, 1000))

    class Calls(kit.FaultyCalls):
        def read(self, handle, size):
            kit.render_volume(volume, {"a": b"x"}, stamp=str(next(numbers)))
            return super().read(handle, size)

    with pytest.raises(MaterialError, match="changed on each of 5 readings"):
        read(volume, calls=Calls())


def test_stale_links_between_two_steps_of_an_update_do_not_matter(volume):
    """The kubelet removes links to entries that are gone after it has swapped `..data`."""
    (volume / "gone").symlink_to("..data/gone")
    (volume / "..data_tmp").symlink_to("..2026_half")
    (volume / "..2026_half").mkdir()
    (volume / "..2026_half/a").write_bytes(b"half")
    assert read(volume).links == ("a", "d", "token")


def test_link_inside_the_volume_is_kept_and_one_out_of_it_refused(volume):
    """No file outside the volume gets into a copy, nor a link that leads out of it."""
    data = volume / "..data"
    (data / "d/ok").symlink_to("../a")
    (entry,) = [e for e in read(volume).entries if e.path == "d/ok"]
    assert (entry.kind, entry.target) == (Kind.LINK, "../a")
    for target in ("/etc/shadow", "../../a", "../../../x", ".."):
        (data / "d/bad").unlink(missing_ok=True)
        (data / "d/bad").symlink_to(target)
        if target == "..":
            assert read(volume)
        else:
            with pytest.raises(MaterialError, match="the link d/bad leads out of the volume"):
                read(volume)


@pytest.mark.parametrize("target", ["/etc", "../other", "a", "..", ".", "..x/y"])
def test_data_link_that_leads_elsewhere_is_refused(volume, target):
    """`..data` names a folder of the writer's, in the volume."""
    (volume / "..data").unlink()
    (volume / "..data").symlink_to(target)
    with pytest.raises(MaterialError, match=r"\.\.data leads out of the volume"):
        read(volume)


def test_what_no_atomic_writer_leaves_is_refused(volume):
    """A file or a foreign link beside `..data` is not understood, so not copied."""
    (volume / "stray").write_bytes(b"")
    with pytest.raises(MaterialError, match="stray is neither link nor folder"):
        read(volume)
    (volume / "stray").unlink()
    (volume / "stray").symlink_to("/etc/shadow")
    with pytest.raises(MaterialError, match="the link stray leads out of the volume"):
        read(volume)


def test_reserved_name_is_refused(volume):
    """A key that begins with two dots could pass for the writer's own."""
    (volume / "..data/..evil").write_bytes(b"")
    with pytest.raises(MaterialError, match=r"the name '\.\.evil' is reserved"):
        read(volume)


def test_special_file_is_refused_and_does_not_hang(volume):
    """A pipe would be waited for."""
    os.mkfifo(volume / "..data/pipe")
    with pytest.raises(MaterialError, match="pipe is neither file, folder nor link"):
        read(volume)


def test_size_limit_is_for_the_whole_volume(volume):
    """A volume too large is refused, and says how large it may be."""
    total = sum(len(entry.content) for entry in read(volume).entries)
    assert read(volume, size_limit=total)
    with pytest.raises(MaterialError, match=r"token has \d+ bytes, the limit is"):
        read(volume, size_limit=total - 1)


def test_volume_itself_is_never_a_link(volume, tmp_path):
    """A link in the kubelet's folder could lead anywhere."""
    (tmp_path / "link").symlink_to(volume)
    with pytest.raises(MaterialError, match="cannot read volume v"):
        read(tmp_path / "link")


def test_token_must_be_there_and_look_like_one(volume):
    """A copy without its token, or with rubbish, is not made; rubbish is not shown."""
    with pytest.raises(MaterialError, match="has no token at d/token"):
        read(volume, "token", "d/token")
    with pytest.raises(MaterialError, match="a is not a service-account token"):
        read(volume, "a")


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOMEM])
def test_being_out_of_handles_is_not_a_fault_of_the_volume(volume, kit, error):
    """The pod is not called impossible to checkpoint for it."""
    calls = kit.FaultyCalls()
    read(volume, calls=calls)
    for at in range(len(calls.names)):
        with pytest.raises(CannotTellError):
            read(volume, calls=kit.FaultyCalls(kit.Fault(at, error=error)))


def test_no_handle_stays_open(volume, kit):
    """Neither on success nor on failure."""
    before = len(os.listdir("/proc/self/fd"))
    calls = kit.FaultyCalls()
    read(volume, calls=calls)
    for at in range(len(calls.names)):
        with pytest.raises(MaterialError):
            read(volume, calls=kit.FaultyCalls(kit.Fault(at, error=errno.EIO)))
    assert len(os.listdir("/proc/self/fd")) == before


def test_digest_tells_every_difference_but_tokens(volume, kit):
    """Equal content, equal digest; a renewed token is not a new revision."""
    digest = read(volume, "token").digest
    kit.render_volume(volume, {"a": b"1", "d/e/f": b"22", "token": kit.jwt(exp=1)}, stamp="2")
    assert read(volume, "token").digest == digest
    assert read(volume).digest != digest
    seen = {digest}
    for change in (
        lambda data: (data / "a").write_bytes(b"2"),
        lambda data: (data / "a").chmod(0o600),
        lambda data: (data / "d").chmod(0o700),
        lambda data: data.chmod(0o700),
        lambda data: volume.chmod(0o700),
        lambda data: (data / "b").write_bytes(b""),
        lambda data: (data / "l").symlink_to("a"),
        lambda data: (volume / "nested").mkdir(),
    ):
        change(volume / os.readlink(volume / "..data"))
        seen.add(read(volume, "token").digest)
    assert len(seen) == 9


def test_owners_are_in_the_digest(volume):
    """Another group may mean that a process cannot read it."""
    found = read(volume)
    entries = (replace(found.entries[0], gid=4321), *found.entries[1:])
    assert replace(found, entries=entries).digest != found.digest


def test_digest_of_material_does_not_depend_on_order(volume, tmp_path, kit):
    """Volumes are a set; each counts under its name."""
    one = read(volume)
    two = replace(one, name="w")
    assert material_digest((one, two)) == material_digest((two, one))
    assert material_digest((one,)) != material_digest((two,))
    assert material_digest(()) != material_digest((one,))


def test_name_that_is_no_text_is_kept(volume):
    """A file name is bytes; messages and digests take them all."""
    path = os.fsencode(volume) + b"/..data/\xff\n"
    with open(path, "wb") as file:
        file.write(b"x")
    found = read(volume)
    assert found.entries[-1].content == b"x"
    assert len(found.digest) == 64
    os.unlink(path)
    os.mkfifo(path)
    with pytest.raises(MaterialError) as error:
        read(volume)
    assert str(error.value).isprintable()


def test_selinux_label_is_read_without_categories(volume):
    """Categories are those of one pod's run; the copy is for any."""
    try:
        label = b"system_u:object_r:container_file_t:s0:c1,c2\0"
        os.setxattr(volume / "..data/a", "security.selinux", label)
    except OSError as error:
        pytest.skip(f"no SELinux labels here: {error}")
    labels = {entry.path: entry.label for entry in read(volume).entries}
    assert labels["a"] == "system_u:object_r:container_file_t:s0"
    assert labels["d"] is None


def test_label_is_set_on_the_copy_and_not_needed_where_there_are_none(tmp_path, kit):
    """A file system without labels needs none; any other failure is one."""
    from checkpointer.store.durable import Disk

    class Calls(kit.FaultyCalls):
        def setxattr(self, handle, name, value):
            assert (name, value) == ("security.selinux", b"u:r:t:s0\0")
            raise OSError(self.reason, "")

    calls = Calls()
    calls.reason = errno.ENOTSUP
    Disk(calls).create_file(tmp_path / "f", b"x", label="u:r:t:s0")
    assert (tmp_path / "f").read_bytes() == b"x"
    calls.reason = errno.EPERM
    with pytest.raises(PermissionError):
        Disk(calls).create_file(tmp_path / "g", b"x", label="u:r:t:s0")


def test_sticky_volume_folder_keeps_its_bit(tmp_path, kit):
    """The kernel's default for a tmpfs is 1777."""
    kit.render_volume(tmp_path / "v", {"a": b""}).chmod(0o1777)
    assert read(tmp_path / "v").folder.mode == 0o1777
    assert stat.S_IMODE((tmp_path / "v").stat().st_mode) == 0o1777
    shutil.rmtree(tmp_path / "v")
