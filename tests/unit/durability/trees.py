"""Folders as values: read one, make one so, and tell whether two mean the same."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

from checkpointer.store.durable import PREFIX


class Item(NamedTuple):
    """A file, folder or symbolic link; `content` is a link's target, and empty for a folder."""

    kind: str
    mode: int
    owner: tuple[int, int]
    content: bytes = b""


Tree = dict[str, Item]
"""All below a folder, by the path relative to it."""

Shape = tuple[tuple[str, Item], ...]

_TEMPORARY = re.compile(re.escape(PREFIX) + r"([a-z]+)-[0-9a-f]{16}")


def scan(root: Path) -> Tree:
    """Return what lies below a folder."""
    found: Tree = {}
    _scan(str(root), "", found)
    return found


def _scan(folder: str, prefix: str, found: Tree) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            status = entry.stat(follow_symlinks=False)
            owner = (status.st_uid, status.st_gid)
            if stat.S_ISDIR(status.st_mode):
                found[path] = Item("folder", stat.S_IMODE(status.st_mode), owner)
                _scan(entry.path, path + "/", found)
            elif stat.S_ISLNK(status.st_mode):
                found[path] = Item("link", 0o777, owner, os.readlink(entry.path).encode())
            else:
                mode = stat.S_IMODE(status.st_mode)
                with open(entry.path, "rb", buffering=0) as file:
                    found[path] = Item("file", mode, owner, file.read())


def restore(root: Path, wanted: Tree) -> None:
    """Make a folder hold just this; what is so already is left alone."""
    found = scan(root)
    for path in sorted(found):
        item = found[path]
        new = wanted.get(path)
        if new == item:
            continue
        place = root / path
        if item.kind == "folder" and new is not None and new.kind == "folder":
            place.chmod(new.mode)
            os.chown(place, *new.owner)
        elif item.kind == "folder":
            shutil.rmtree(place, ignore_errors=True)
        elif os.path.lexists(place):  # unless it went with its folder
            place.unlink()
    for path in sorted(wanted):
        place = root / path
        if found.get(path) != wanted[path] and not (
            wanted[path].kind == "folder" and place.is_dir()
        ):
            _make(place, wanted[path])


def _make(place: Path, item: Item) -> None:
    if item.kind == "link":
        os.symlink(item.content.decode(), place)
        os.lchown(place, *item.owner)
        return
    if item.kind == "folder":
        os.mkdir(place)
    else:
        with open(place, "wb", buffering=0) as file:
            file.write(item.content)
    os.chown(place, *item.owner)
    os.chmod(place, item.mode)


def shape(tree: Tree) -> Shape:
    """Return what is equal for two trees that differ in random parts of temporary names only."""
    return tuple(sorted((_TEMPORARY.sub(rf"{PREFIX}\1", p), item) for p, item in tree.items()))


def temporaries(tree: Tree) -> list[str]:
    """Return the paths that only a process at work may have left."""
    return [p for p in tree if _TEMPORARY.search(p) or p.endswith("/..data_tmp")]
