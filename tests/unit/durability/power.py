"""What a disk may hold after a power cut: a file system that notes what is not synced yet.

It follows real system calls. Creating a name, removing or renaming one, writing, and changing a
mode or owner wait until an fsync of the file or folder that they belong to. Two models of when
else they reach the disk:

- `JOURNALED` is ext4's (data=ordered, delayed allocation), xfs' and btrfs': changes of names,
  modes and owners reach the disk in their order, all of them at the latest with the next fsync of
  anything; what is written to a file only with an fsync of that file.
- `POSIX` promises no more than the standard: each waiting change of names, modes or owners is
  there or not, in any combination, and an fsync is about just that file or folder.

In both, what was written to a file and not synced is there, missing, there in half, or zeros. A
rename is one change (rename(2) is atomic, and every program counts on it). Owners of symbolic
links cannot be synced by themselves and do not matter to any reader here.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from tests.unit.durability.trees import Item, Shape, Tree, scan, shape

Writer = Callable[[bytes, bytes], bytes]
"""Makes of a file's synced and its current content what a power cut leaves."""

WRITTEN: tuple[Writer, ...] = (
    lambda _, now: now,
    lambda synced, _: synced,
    lambda synced, now: now[: (len(synced) + len(now)) // 2],
    lambda synced, now: synced + bytes(max(len(now) - len(synced), 0)),
)


class Model(Enum):
    """When what is not synced reaches the disk."""

    JOURNALED = "journaled"
    POSIX = "posix"


@dataclass(slots=True)
class Inode:
    """A file, folder or link: its item, and the names in it if it is a folder."""

    item: Item
    names: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Inode:
        return Inode(self.item, dict(self.names))


Inodes = dict[int, Inode]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that waits to be synced; `inode` is what an fsync of it has to be called on."""

    inode: int
    names: tuple[tuple[str, int | None], ...] = ()
    """Names of a folder, and what they lead to from now on."""
    mode: int | None = None
    owner: tuple[int, int] | None = None
    content: bytes | None = None
    """What is written at the end of a file."""

    def apply(self, inodes: Inodes) -> None:
        inode = inodes[self.inode]
        for name, target in self.names:
            inode.names.pop(name, None)
            if target is not None:
                inode.names[name] = target
        item = inode.item
        if self.mode is not None:
            inode.item = item._replace(mode=self.mode)
        if self.owner is not None:
            inode.item = item._replace(owner=self.owner)
        if self.content is not None:
            inode.item = item._replace(content=item.content + self.content)


class PoweredDisk:
    """Follows what is done to the folder `root`, and tells what a power cut would leave of it."""

    def __init__(self, root: Path, model: Model, is_thorough: bool = False) -> None:
        self._root, self.model, self._is_thorough = str(root), model, is_thorough
        self._now: Inodes = {}
        self._synced: Inodes = {}
        self._waiting: list[Change] = []
        self._handles: dict[int, int] = {}
        self._top = self._new(Item("folder", 0o700, (os.geteuid(), os.getegid())))
        self._load(scan(root))
        self._random = random.Random(1)  # noqa: S311 - the same states every time
        self.is_watching = True
        """Whether to collect states."""
        self._left_behind: set[int] | None = None
        self.states: dict[Shape, Tree] = {}
        """All that a power cut might have left, at any moment of the watch."""
        self.cuts = self.combinations = 0
        """Moments looked at, and combinations of what had reached the disk at them."""

    def done(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Take note of a system call that was done."""
        note = getattr(self, f"_{name}", None)
        if note is None:
            return
        waiting = len(self._waiting)
        note(*args, *([result] if name in ("open", "write") else []))
        if self.is_watching and len(self._waiting) > waiting:
            self._cut()

    def leave_behind(self) -> None:
        """Note that the process died: from now on watch what it did not sync, and only that.

        It is lost, all of it or any one change, while the next process' changes are kept: what
        those alone may leave is what they leave after no death.
        """
        self._left_behind = {id(change) for change in self._waiting}
        self.is_watching = True

    def tree(self) -> Tree:
        """Return what is there as long as the power is."""
        return self._tree(self._now)

    def synced(self) -> list[Tree]:
        """Return what may be there after a power cut now."""
        before, self.states = self.states, {}
        self._cut()
        found, self.states = self.states, before
        return list(found.values())

    # What the calls do.

    def _open(self, path: str, flags: int, *rest: Any) -> None:
        inode, handle = self._find(path), rest[-1]
        if inode is None and flags & os.O_CREAT and self._is_inside(path):
            status = os.lstat(path)
            owner = (status.st_uid, status.st_gid)
            inode = self._name(path, Item("file", status.st_mode & 0o7777, owner))
        self._handles.pop(handle, None)
        if inode is not None:
            self._handles[handle] = inode

    def _close(self, handle: int) -> None:
        self._handles.pop(handle, None)

    def _write(self, handle: int, content: memoryview, count: int) -> None:
        self._wait(Change(self._handles[handle], content=bytes(content[:count])))

    def _fchmod(self, handle: int, mode: int) -> None:
        self._wait(Change(self._handles[handle], mode=mode))

    def _fchown(self, handle: int, uid: int, gid: int) -> None:
        self._wait(Change(self._handles[handle], owner=(uid, gid)))

    def _chmod(self, path: str, mode: int) -> None:
        self._wait(Change(self._inode(path), mode=mode))

    def _lchown(self, path: str, uid: int, gid: int) -> None:
        self._wait(Change(self._inode(path), owner=(uid, gid)))

    def _mkdir(self, path: str, _: int) -> None:
        if self._is_inside(path):
            status = os.lstat(path)
            owner = (status.st_uid, status.st_gid)
            self._name(path, Item("folder", status.st_mode & 0o7777, owner))

    def _symlink(self, target: str, path: str) -> None:
        status = os.lstat(path)
        self._name(path, Item("link", 0o777, (status.st_uid, status.st_gid), target.encode()))

    def _link(self, source: str, target: str) -> None:
        folder, name = os.path.split(target)
        self._wait(Change(self._inode(folder), ((name, self._inode(source)),)))

    def _unlink(self, path: str) -> None:
        folder, name = os.path.split(path)
        if self._is_inside(path):
            self._wait(Change(self._inode(folder), ((name, None),)))

    _rmdir = _unlink

    def _rename(self, source: str, target: str) -> None:
        folder, name = os.path.split(target)
        assert os.path.dirname(source) == folder, "renamed to another folder"
        inode = self._inode(source)
        names = ((os.path.basename(source), None), (name, inode))
        self._wait(Change(self._inode(folder), names))

    def _fsync(self, handle: int) -> None:
        inode = self._handles.get(handle)
        if inode is None:
            return
        is_journaled = self.model is Model.JOURNALED
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if change.inode == inode or (is_journaled and change.content is None):
                change.apply(self._synced)
            else:
                self._waiting.append(change)

    # What is there.

    def _new(self, item: Item) -> int:
        number = len(self._now)
        self._now[number], self._synced[number] = Inode(item), Inode(item)
        return number

    def _load(self, tree: Tree) -> None:
        for path in sorted(tree):
            number = self._new(tree[path])
            folder, name = os.path.split(f"{self._root}/{path}")
            for inodes in (self._now, self._synced):
                inodes[self._inode(folder)].names[name] = number

    def _name(self, path: str, item: Item) -> int:
        number = self._new(item)
        folder, name = os.path.split(path)
        self._wait(Change(self._inode(folder), ((name, number),)))
        return number

    def _wait(self, change: Change) -> None:
        change.apply(self._now)
        self._waiting.append(change)

    def _is_inside(self, path: str) -> bool:
        return path.startswith(self._root + "/")

    def _inode(self, path: str) -> int:
        inode = self._find(path)
        assert inode is not None, path
        return inode

    def _find(self, path: str) -> int | None:
        if path != self._root and not self._is_inside(path):
            return None
        number = self._top
        for name in path.removeprefix(self._root).strip("/").split("/"):
            if name:
                found = self._now[number].names.get(name)
                if found is None:
                    return None
                number = found
        return number

    def _tree(self, inodes: Inodes) -> Tree:
        found: Tree = {}

        def walk(number: int, prefix: str) -> None:
            for name, child in inodes[number].names.items():
                found[prefix + name] = inodes[child].item
                if inodes[child].item.kind == "folder":
                    walk(child, f"{prefix}{name}/")

        walk(self._top, "")
        return found

    # What may be there after a power cut.

    def _cut(self) -> None:
        """Collect what a power cut at this moment may leave."""
        self.cuts += 1
        for kept, writers in self._outcomes():
            self.combinations += 1
            tree = self._left(kept, writers)
            self.states.setdefault(shape(tree), tree)

    def _left(self, kept: frozenset[int], writers: dict[int, Writer]) -> Tree:
        inodes = dict(self._synced)
        for index, change in enumerate(self._waiting):
            if index in kept:
                if inodes[change.inode] is self._synced[change.inode]:
                    inodes[change.inode] = inodes[change.inode].copy()
                change.apply(inodes)
        for number, writer in writers.items():
            synced, now = self._synced[number].item, self._now[number].item
            content = writer(synced.content, now.content)
            inodes[number] = replace(
                inodes[number], item=inodes[number].item._replace(content=content)
            )
        return self._tree(inodes)

    def _outcomes(self) -> Iterator[tuple[frozenset[int], dict[int, Writer]]]:
        """Return which waiting changes are kept, and what becomes of what is written."""
        changes = [i for i, change in enumerate(self._waiting) if change.content is None]
        files = sorted({c.inode for c in self._waiting if c.content is not None})
        for kept in self._kept(changes):
            for writers in self._written(files):
                yield frozenset(kept), writers

    def _kept(self, changes: list[int]) -> Iterator[tuple[int, ...]]:
        if self._left_behind is not None:
            old = [one for one in changes if id(self._waiting[one]) in self._left_behind]
            for lost in {tuple(old), *((one,) for one in old)} if old else ():
                yield tuple(one for one in changes if one not in lost)
        elif self.model is Model.JOURNALED:
            yield tuple(changes)  # fewer are what an earlier cut leaves
        elif len(changes) <= (8 if self._is_thorough else 3):
            for count in range(len(changes) + 1):
                yield from itertools.combinations(changes, count)
        else:
            yield ()
            yield tuple(changes)
            for one in changes:
                yield tuple(other for other in changes if other != one)
            if self._is_thorough:
                yield from ((one,) for one in changes)
                for _ in range(64):
                    yield tuple(one for one in changes if self._random.random() < 0.5)

    def _written(self, files: list[int]) -> Iterator[dict[int, Writer]]:
        if not files or self._left_behind is not None:
            yield dict.fromkeys(files, WRITTEN[0])
            return
        for writer in WRITTEN:
            yield dict.fromkeys(files, writer)
        if len(files) > 1:
            for one, writer in itertools.product(files, WRITTEN[1:]):
                yield {**dict.fromkeys(files, WRITTEN[0]), one: writer}
