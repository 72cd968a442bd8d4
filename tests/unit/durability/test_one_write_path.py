"""Everything that the product leaves on a disk goes through the injected system calls."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import checkpointer

CHANGING = frozenset(
    [
        "chmod",
        "chown",
        "copy_file_range",
        "fchmod",
        "fchown",
        "fdatasync",
        "fsync",
        "lchown",
        "link",
        "makedirs",
        "mkdir",
        "mkfifo",
        "mknod",
        "posix_fallocate",
        "pwrite",
        "pwritev",
        "removedirs",
        "remove",
        "rename",
        "renames",
        "replace",
        "rmdir",
        "sendfile",
        "setxattr",
        "symlink",
        "truncate",
        "ftruncate",
        "unlink",
        "utime",
        "write",
        "writev",
    ]
)
"""Of os: what changes a disk. Opening is looked at by its flags."""
METHODS = frozenset(
    [
        "chmod",
        "hardlink_to",
        "lchmod",
        "mkdir",
        "rename",
        "rmdir",
        "symlink_to",
        "touch",
        "unlink",
        "write_bytes",
        "write_text",
    ]
)
"""Of Path; `replace` is of strings and values too, which take other arguments."""
MODULES = frozenset(["io", "os", "shutil", "subprocess", "tempfile"])
"""Looked at by their names: under another one they are not recognised."""
OPENING = frozenset(["open", "io.open", "os.fdopen"])
"""What takes the mode second."""

ALLOWED = {
    "store/system_calls.py": "they themselves",
    "store/lock.py": "the lock in /run, which a power cut is to remove",
    "node/kubeconfig.py": "a client's key in a file in memory",
    "report/agent_socket.py": "the socket of a running agent, which is stale after any death",
    "doctor/gather.py": "the kubelet's program, asked for its version",
    "cli/demo.py": "a folder of its own in /tmp",
    "__main__.py": "the null device, for an output that is closed",
    "simulation/": "the simulated node, which is not the product's to keep",
}
"""Where something else may be changed, and why that need not last."""


def changes(tree: ast.AST) -> list[str]:
    """Return what in a module may change a disk without the injected calls.

    Not seen: a method kept in a variable, `getattr`, a library that writes by itself.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.Import):
                found += [
                    f"{a.name} as {a.asname}" for a in node.names if a.asname and a.name in MODULES
                ]
            module = node.module if isinstance(node, ast.ImportFrom) else ""
            found += [name for name in ("subprocess", "tempfile") if name in (*names, module)]
            if module == "shutil" and set(names) - {"get_terminal_size", "which"}:
                found.append("shutil")
            if module == "os":
                found += [f"os.{name}" for name in names if name in CHANGING]
        if isinstance(node, ast.Call) and ast.unparse(node.func) in OPENING:
            found += ["open"] * _is_for_writing(_modes(node, 1))
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        text = ast.unparse(node)
        if (
            (owner == "os" and name in CHANGING)
            or (
                owner == "os"
                and name == "open"
                and not (_is_null(node) or _is_reading(node.args[1:2]))
            )
            or (owner == "shutil" and name not in ("get_terminal_size", "which"))
            or (name in METHODS and not owner.endswith(("calls", "disk", "self", "super()")))
            or (name == "replace" and len(node.args) == 1 and not node.keywords)
            or (name == "open" and owner not in MODULES and _is_for_writing(_modes(node, 0)))
        ):
            found.append(text)
    return found


def _modes(call: ast.Call, position: int) -> list[ast.expr]:
    """Return the mode that an `open` is called with, if any."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    return [*call.args[position : position + 1], *named]


def _is_for_writing(modes: list[ast.expr]) -> bool:
    """Tell whether the mode of an `open` is one that writes; flags are numbers."""
    texts = [mode.value for mode in modes if isinstance(mode, ast.Constant)]
    return any(
        isinstance(text, str) and set(text) <= set("rwaxbt+") and set(text) & set("wax+")
        for text in texts
    )


def _is_reading(flags: list[ast.expr]) -> bool:
    """Tell whether flags of `os.open` are all there to see, and none of them writes."""
    names = {ast.unparse(part) for flag in flags for part in ast.walk(flag)}
    is_plain = all(
        isinstance(part, ast.Attribute | ast.BinOp | ast.BitOr | ast.Load) or _is_os(part)
        for flag in flags
        for part in ast.walk(flag)
    )
    return is_plain and not names & {f"os.O_{n}" for n in ("CREAT", "TRUNC", "WRONLY", "RDWR")}


def _is_null(call: ast.Call) -> bool:
    """Tell whether it is the null device that is opened, which keeps nothing."""
    return ast.unparse(call.args[0]) == "os.devnull"


def _is_os(part: ast.AST) -> bool:
    return isinstance(part, ast.Name) and part.id == "os"


@pytest.mark.parametrize(
    "code",
    [
        "open(p, 'w')",
        "open(p, mode='w')",
        "p.open('ab')",
        "p.open(mode='w')",
        "io.open(p, 'w')",
        "os.fdopen(h, 'w')",
        "os.open(p, os.O_RDONLY | os.O_CREAT)",
        "os.open(p, os.O_WRONLY)",
        "os.open(p, flags)",
        "os.pwrite(h, b'', 0)",
        "os.writev(h, [b''])",
        "path.replace(target)",
        "import shutil as sh",
        "import os as o",
        "from os import rename",
        "from shutil import copy",
        "import subprocess",
        "from tempfile import mkdtemp",
        "path.write_text('')",
    ],
)
def test_a_write_beside_the_injected_calls_is_seen(code: str) -> None:
    """A check that overlooks one would prove nothing."""
    assert changes(ast.parse(code)) != []


@pytest.mark.parametrize(
    "code",
    [
        "open(p)",
        "open(p, 'rb')",
        "p.open(encoding='utf-8')",
        "os.open(p, os.O_RDONLY | os.O_NOFOLLOW)",
        "os.open(os.devnull, os.O_WRONLY)",
        "text.replace('w', 'a')",
        "replace(record, issue=1)",
        "moment.replace(tzinfo=None)",
        "self._disk.rename(a, b)",
    ],
)
def test_what_changes_nothing_is_none(code: str) -> None:
    """Or the list of exceptions would grow until it hides one."""
    assert changes(ast.parse(code)) == []


def test_all_writes_go_through_the_injected_calls() -> None:
    """Else no test here would see them fail, and no power cut would find them unsynced."""
    root = Path(checkpointer.__file__).parent
    found = {
        str(path.relative_to(root)): what
        for path in sorted(root.rglob("*.py"))
        if (what := changes(ast.parse(path.read_text())))
    }
    strays = {name: what for name, what in found.items() if not name.startswith(tuple(ALLOWED))}
    assert strays == {}
    assert all(any(name.startswith(one) for name in found) for one in ALLOWED), "no exception idle"
