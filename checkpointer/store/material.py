"""A rendered volume as a value: everything the kubelet wrote for a pod to mount.

The kubelet's AtomicWriter (pkg/volume/util/atomic_writer.go) keeps the real files in a folder
`..<timestamp>`, a link `..data` to it, and one link `<name> -> ..data/<name>` per first path
element. Here that is: `entries`, what lies in that folder. Beside it the kubelet makes plain
folders where another volume is mounted inside this one (nested_volumes.go): `mount_points`; a
read-only copy needs them, nobody could create them later.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import field
from enum import Enum

from checkpointer.values import dataclass, replace


class Kind(Enum):
    """What an entry is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, folder or symbolic link; `path` is relative and has no `..` element.

    Content is never shown. `label` is the SELinux label without its categories (those belong to
    one pod's run); None where there is none. A link has no mode of its own.
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    content: bytes = field(default=b"", repr=False)
    target: str = ""
    label: str | None = None


@dataclass(frozen=True, slots=True)
class RenderedVolume:
    """One volume of a pod, read at one moment; entries are sorted by path, folders first."""

    name: str
    plugin: str
    folder: Entry
    """The volume's own folder; path ``."""
    data: Entry
    """The folder that `..data` leads to; path `..data`."""
    entries: tuple[Entry, ...] = ()
    mount_points: tuple[Entry, ...] = ()
    token_paths: frozenset[str] = frozenset()
    """Paths of service-account tokens among the entries: renewed in place, not in the digest."""

    @property
    def links(self) -> tuple[str, ...]:
        """Return the names of the links into `..data`: the first path elements, sorted."""
        return tuple(sorted({entry.path.split("/", 1)[0] for entry in self.entries}))

    @property
    def tokens(self) -> tuple[Entry, ...]:
        """Return the entries that are service-account tokens."""
        return tuple(entry for entry in self.entries if entry.path in self.token_paths)

    @property
    def digest(self) -> str:
        """Return SHA-256 (hex) over paths, kinds, modes, owners, contents save the tokens'."""
        text = json.dumps(self.description(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def description(self) -> dict[str, list[str]]:
        """Return what a stored copy must look like, by path; the form of digests.json."""
        described = {"": _describe(self.folder), "..data": _describe(self.data)}
        for entry in self.entries:
            described[f"..data/{entry.path}"] = _describe(entry, entry.path in self.token_paths)
        described |= {name: ["link", f"..data/{name}"] for name in self.links}
        return described | {entry.path: _describe(entry) for entry in self.mount_points}

    def owned_by(self, uid: int, gid: int) -> RenderedVolume:
        """Return the volume with other owners: all that a process that is not root can write."""

        def owned(entry: Entry) -> Entry:
            return replace(entry, uid=uid, gid=gid)

        return replace(
            self,
            folder=owned(self.folder),
            data=owned(self.data),
            entries=tuple(map(owned, self.entries)),
            mount_points=tuple(map(owned, self.mount_points)),
        )

    def with_tokens_of(self, other: RenderedVolume) -> RenderedVolume:
        """Return this volume with the token contents of another reading of it."""
        fresh = {entry.path: entry.content for entry in other.tokens}
        return replace(
            self,
            entries=tuple(
                replace(entry, content=fresh[entry.path])
                if entry.path in self.token_paths and entry.path in fresh
                else entry
                for entry in self.entries
            ),
        )


def _describe(entry: Entry, is_token: bool = False) -> list[str]:
    if entry.kind is Kind.LINK:
        return [entry.kind.value, entry.target]
    described = [entry.kind.value, f"{entry.mode:04o}", f"{entry.uid}:{entry.gid}"]
    if entry.kind is Kind.FILE:
        described.append("token" if is_token else hashlib.sha256(entry.content).hexdigest())
    return described


def material_digest(volumes: tuple[RenderedVolume, ...]) -> str:
    """Return SHA-256 (hex) over the digests of volumes, in the order of their names."""
    text = "".join(f"{v.name}={v.digest}\n" for v in sorted(volumes, key=lambda v: v.name))
    return hashlib.sha256(text.encode()).hexdigest()
