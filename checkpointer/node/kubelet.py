"""What the kubelet leaves on disk: which run of it this is, and the volumes it has rendered.

Nothing is asked of the kubelet itself: its own idea of running pods is a cache of what the API
last confirmed (peers.md P1).
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.moment import Moment
from checkpointer.core.observation import KubeletRun
from checkpointer.manifest.mounted import PLUGINS, MountedVolume
from checkpointer.store.errors import CannotTellError, MaterialError
from checkpointer.store.material import RenderedVolume
from checkpointer.store.rendered import DATA, SIZE_LIMIT, read_rendered
from checkpointer.values import replace

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

SOCKETS = ("pod-resources/kubelet.sock", "device-plugins/kubelet.sock")
"""Made anew by each run of the kubelet; the first is the newer feature."""

_RENDERED = frozenset(PLUGINS.values())

_MARK_LENGTH = 8
"""Hex digits: enough to notice a change; many guesses at a secret have the same."""

_UNTAKEN = "untaken"

_CONNECT_SECONDS = 0.2


def read_boot_id(path: Path = BOOT_ID) -> Fact[str]:
    """Return what the kernel calls this boot."""
    try:
        boot_id = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        return Unknown(f"cannot read the boot id from {path}: {error}")
    return Known(boot_id) if boot_id else Unknown(f"{path} is empty")


def read_moment(boot_id_file: Path = BOOT_ID) -> Moment:
    """Read the clocks; the boot is empty when nobody can tell it."""
    boot_id = read_boot_id(boot_id_file)
    return Moment(
        boot_id.value if isinstance(boot_id, Known) else "",
        time.clock_gettime(time.CLOCK_BOOTTIME),
        time.time(),
    )


class Kubelet:
    """The kubelet's folder, `/var/lib/kubelet` by default."""

    def __init__(self, kubelet_dir: Path, size_limit: int = SIZE_LIMIT) -> None:
        self.path = kubelet_dir
        self._size_limit = size_limit

    def incarnation(self, boot_id: str) -> Fact[str]:
        """Return a name of the kubelet's current run that no other run has.

        It is made of the boot's id and the identity of the socket file that each run makes
        anew. It is the same as long as that file is; no clock is compared.
        """
        run = self._socket()
        return run if isinstance(run, Unknown) else Known(_identity(boot_id, *run.value))

    def run(self, boot_id: str) -> Fact[KubeletRun]:
        """Return the kubelet's current run, with its start and whether it listens."""
        found = self._socket()
        if isinstance(found, Unknown):
            return found
        path, status = found.value
        identity = _identity(boot_id, path, status)
        return Known(KubeletRun(identity, status.st_mtime_ns, _is_listening(path)))

    def read_volume(
        self, pod_uid: str, plugin: str, name: str, token_paths: Iterable[str] = ()
    ) -> RenderedVolume:
        """Read a pod's rendered volume; `plugin` is as in `kubernetes.io~projected`.

        Raises MaterialError with the reason why it cannot be taken, CannotTellError.
        """
        path = self._volume(pod_uid, plugin, name)
        return read_rendered(path, plugin, name, token_paths, size_limit=self._size_limit)

    def volume_marks(self, pod_uid: str) -> str:
        """Return what changes when any rendered volume of a pod does, without reading contents.

        What cannot be read is left out: taking the snapshot will say so.
        """
        found: list[str] = []
        try:
            _check_names(pod_uid)
            # No Path in here: each pod of the node is looked at again and again.
            volumes = f"{self.path}/pods/{pod_uid}/volumes"
            for plugin in _names(volumes):
                if plugin in _RENDERED:
                    with os.scandir(f"{volumes}/{plugin}") as entries:
                        found += [f"{entry.name}={_version(entry)}" for entry in entries]
        except (OSError, MaterialError):
            found.append("?")
        found.sort()
        return " ".join(found)

    def content_mark(self, pod_uid: str, volumes: Iterable[MountedVolume]) -> Fact[str]:
        """Return what changes with the content of these volumes, and with nothing else.

        A renewed token does not change it, nor the same content rendered anew after a reboot.
        Unknown while one of them is not rendered, or cannot be read just now; what is too large
        or out of shape counts as such, whatever it holds. It is kept in a record: as short as
        will do, and salted with the UID, so that it tells less of a secret than digests.json.
        """
        digests = []
        for volume in volumes:
            try:
                found = self.read_volume(pod_uid, volume.plugin, volume.name)
                digest = replace(found, token_paths=volume.issued).digest
            except CannotTellError as error:
                return Unknown(str(error))
            except MaterialError as error:
                if isinstance(error.__cause__, OSError):
                    return Unknown(str(error))
                digest = _UNTAKEN
            digests.append(f"{volume.plugin}/{volume.name}={digest}")
        text = "\0".join([pod_uid, *sorted(digests)])
        return Known(hashlib.sha256(text.encode()).hexdigest()[:_MARK_LENGTH])

    def _volume(self, pod_uid: str, plugin: str, name: str) -> Path:
        try:
            _check_names(pod_uid, plugin, name)
        except MaterialError as error:
            raise MaterialError(f"volume {name!r} of pod {pod_uid!r}: {error}") from None
        return self.path / "pods" / pod_uid / "volumes" / plugin / name

    def _socket(self) -> Fact[tuple[Path, os.stat_result]]:
        for name in SOCKETS:
            path = self.path / name
            try:
                status = path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                return Unknown(f"cannot read {path}: {error.strerror}")
            return Known((path, status))
        return Unknown(f"the kubelet has no socket at {self.path}/{' or '.join(SOCKETS)}")


def _check_names(*parts: str) -> None:
    """Raise MaterialError unless each part is the name of one file."""
    for part in parts:
        if not part or part in (".", "..") or "/" in part or "\0" in part:
            raise MaterialError(f"{part!r} is no file name")


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _version(volume: os.DirEntry[str]) -> str:
    """Return what changes with each update of a volume; empty while it is not rendered."""
    try:
        return f"{volume.inode()}:{os.readlink(f'{volume.path}/{DATA}')}"
    except FileNotFoundError:
        return ""


def _identity(boot_id: str, path: Path, status: os.stat_result) -> str:
    parts = (boot_id, path.parent.name, status.st_dev, status.st_ino, status.st_mtime_ns)
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]


def _is_listening(path: Path) -> bool:
    """Connect once. Through an open folder: a socket's address has at most 107 bytes."""
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            return True
    except BlockingIOError:
        return True  # it listens; too many wait to be accepted
    except OSError:
        return False
    finally:
        os.close(folder)
