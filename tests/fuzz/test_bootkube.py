"""Whatever lies in the bootkube checkpointer's folders, `import` escapes none of them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from checkpointer.__main__ import main
from checkpointer.bootkube.files import pod_in
from checkpointer.core.facts import Known
from checkpointer.simulation.planted import planted
from tests.fuzz.hostile import FUZZED, NAMES, document_or_bytes, pick, spoiled
from tests.fuzz.test_files import damage, files_of
from tests.secrecy import Secrecy
from tests.unit.bootkube.old_node import API_SERVER, NODE, FakeRuntime, OldNode, scheduler

MakeFolder = Callable[[], Path]
Tree = dict[str, tuple[int, bytes]]

SECRET = planted("old secret")
STATUSES = (0, 1, 3)


def old_node(root: Path) -> OldNode:
    """Return a node of it, with something of everybody's beside what is its own."""
    node = OldNode(root / "node")
    node.keep_api_server(active=True)
    node.keep(scheduler())
    node.keep_itself()
    for path in files_of(node.places.secrets):
        path.write_text(SECRET)
    (node.places.active / "etcd.yaml").write_text("somebody's\n")
    outside = root / "outside"
    outside.mkdir()
    (outside / "secret").write_text(SECRET)
    return node


def tree(folder: Path) -> Tree:
    """Return modes and contents of all that is below a folder."""
    found: Tree = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        content = (
            path.read_bytes() if stat.S_ISREG(mode) and path.lstat().st_size < 1 << 20 else b""
        )
        found[str(path)] = mode, content
    return found


def spoil(draw: Callable[[Any], Any], node: OldNode, outside: Path) -> None:
    """Change a manifest or a file of it, or put something beside them."""
    places = node.places
    roots = [places.active, places.inactive, places.secrets, places.config_maps]
    roots = [root for root in roots if root.is_dir() and not root.is_symlink()]
    files = [path for root in roots for path in files_of(root) if path.name != "etcd.yaml"]
    match draw(st.sampled_from(["document", "document", "document", "file", "beside", "folder"])):
        case "document":
            manifests = [path for path in files if path.suffix == ".json"]
            if manifests:
                path = pick(draw, manifests)
                with contextlib.suppress(ValueError, RecursionError):  # spoiled before
                    path.write_bytes(draw(document_or_bytes(path.read_bytes())))
        case "file" if files:
            with contextlib.suppress(ValueError, RecursionError):
                damage(draw, pick(draw, files), outside)
        case "beside":
            folder = pick(draw, [path for root in roots for path in (root, *folders_of(root))])
            with contextlib.suppress(OSError, ValueError):
                path = folder / draw(NAMES)
                if node.root in path.resolve().parents and not os.path.lexists(path):
                    put(draw, path, outside)
        case _:
            folder = pick(draw, [p for root in roots for p in (root, *folders_of(root))])
            with contextlib.suppress(OSError):
                folder.rename(folder.with_name("moved"))
                folder.symlink_to(draw(st.sampled_from([outside, Path("moved"), Path("..")])))


def folders_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())


def put(draw: Callable[[Any], Any], path: Path, outside: Path) -> None:
    match draw(st.sampled_from(["file", "link", "pipe", "folder"])):
        case "file":
            path.write_bytes(draw(spoiled(b"somebody's")))
        case "link":
            path.symlink_to(draw(st.sampled_from([outside, outside / "secret", Path("/dev/zero")])))
        case "pipe":
            os.mkfifo(path)
        case _:
            path.mkdir()


def run_import(node: OldNode, *arguments: str) -> int:
    """Run the command; return its exit status. What it says has no secret in it."""
    config = node.root / "config.yaml"
    settings = {
        "apiVersion": "checkpointer.alpha.coreos.com/v1alpha1",
        "kind": "CheckpointerConfiguration",
        "nodeName": NODE,
        "manifestDirectory": str(node.places.active),
        "storeDirectory": str(node.store_folder),
        "kubeletDirectory": str(node.kubelet_folder),
        "lockFile": str(node.root / "run/ours/lock"),
        "runtimeEndpoint": f"unix://{node.root}/none.sock",
        "service": {"host": "10.0.0.1"},
    }
    config.write_text(json.dumps(settings))
    places = (
        f"--inactive-manifests={node.places.inactive}",
        f"--secrets={node.places.secrets}",
        f"--config-maps={node.places.config_maps}",
        f"--old-lock={node.places.lock}",
    )
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["import", f"--config={config}", *places, *arguments])
    config.unlink()
    told, secrecy = out.getvalue() + err.getvalue(), Secrecy()
    secrecy.see("import", told)
    assert secrecy.take() == ()
    assert status in STATUSES, told
    assert status != 1 or str(node.root) in told, told
    assert told.replace("\n", "").isprintable()
    return status


def check(node: OldNode, before: Tree) -> None:
    """What is everybody's is as before, and what was stored verifies."""
    after = tree(node.root.parent)
    manifests = (node.places.active, node.places.inactive)
    for path, was in before.items():
        is_foreign = Path(path).parent in manifests and pod_in(was[1]) is None
        if is_foreign or "/outside/" in path:
            assert after.get(path) == was, path
    stored = node.store.read()
    assert isinstance(stored, Known)
    assert stored.value.problems == ()
    for checkpoint in stored.value.checkpoints:
        assert checkpoint.problems == ()
        for revision in checkpoint.revisions:
            assert node.store.verify(checkpoint.workload, revision.number) == ()


def test_what_is_right_is_taken_over(fresh: MakeFolder) -> None:
    """The ground that the target stands on."""
    node = old_node(fresh())
    assert run_import(node) == 3
    assert run_import(node, "--yes", "--clean-up") == 3
    assert node.revisions() == {API_SERVER: [1]}


@given(data=st.data())
@FUZZED
def test_folders_of_the_bootkube_checkpointer(fresh: MakeFolder, data: st.DataObject) -> None:
    """A damaged checkpoint is refused or left alone, by its path; nothing outside is touched."""
    root = fresh()
    node = old_node(root)
    for _ in range(data.draw(st.integers(1, 3))):
        spoil(data.draw, node, root / "outside")
    before = tree(root)
    run_import(node)
    assert {path: was for path, was in tree(root).items() if path in before} == before
    run_import(node, "--yes", "--clean-up")
    check(node, before)
    with contextlib.suppress(OSError):
        takeover, runtime = node.takeover(), FakeRuntime()
        with contextlib.suppress(Exception):
            takeover.clean_up(takeover.candidates(), runtime)
    check(node, before)
