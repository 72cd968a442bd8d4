"""Everything that the product leaves on a disk goes through the injected system calls."""

from __future__ import annotations

import ast
from pathlib import Path

import checkpointer

CHANGING = frozenset(
    [
        "chmod",
        "chown",
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
        "removedirs",
        "remove",
        "rename",
        "renames",
        "replace",
        "rmdir",
        "setxattr",
        "symlink",
        "truncate",
        "ftruncate",
        "unlink",
        "utime",
        "write",
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
"""Of Path; `replace` is of strings and values too."""

ALLOWED = {
    "store/system_calls.py": "they themselves",
    "store/lock.py": "the lock in /run, which a power cut is to remove",
    "node/kubeconfig.py": "a client's key in a file in memory",
    "report/agent_socket.py": "the socket of a running agent, which is stale after any death",
    "cli/demo.py": "a folder of its own in /tmp",
    "__main__.py": "the null device, for an output that is closed",
    "simulation/": "the simulated node, which is not the product's to keep",
}
"""Where something else may be changed, and why that need not last."""


def changes(tree: ast.AST) -> list[str]:
    """Return what in a module may change a disk without the injected calls."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            module = node.module if isinstance(node, ast.ImportFrom) else ""
            if "tempfile" in (*names, module):
                found.append("tempfile")
            if module == "shutil" and set(names) - {"get_terminal_size", "which"}:
                found.append("shutil")
            if module == "os":
                found += [f"os.{name}" for name in names if name in CHANGING]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "open":
            found += ["open"] * _is_for_writing(node.args[1:2])
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        text = ast.unparse(node)
        if (
            (owner == "os" and name in CHANGING)
            or (owner == "os" and name == "open" and any(f in text for f in ("O_CREAT", "O_TRUNC")))
            or (owner == "shutil" and name not in ("get_terminal_size", "which"))
            or (name in METHODS and not owner.endswith(("calls", "disk", "self", "super()")))
            or (name == "open" and _is_for_writing(node.args[:1]))
        ):
            found.append(text)
    return found


def _is_for_writing(modes: list[ast.expr]) -> bool:
    """Tell whether the mode of an `open` is one that writes; flags are numbers."""
    texts = [mode.value for mode in modes if isinstance(mode, ast.Constant)]
    return any(
        isinstance(text, str) and set(text) <= set("rwaxbt+") and set(text) & set("wax+")
        for text in texts
    )


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
