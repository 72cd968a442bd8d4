"""Whatever lies in the store or the manifest folder, the rest is served and nothing escapes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.__main__ import main
from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Known
from checkpointer.core.workload import Workload
from checkpointer.node.manifests import PREFIX
from checkpointer.store.contents import Stored
from checkpointer.store.revisions import Store
from tests.fuzz.hostile import FUZZED, JSON, NAMES, mutated, pick, spoiled
from tests.fuzz.node import OBJECTS, Answers, Api, FuzzedAgent, FuzzedNode, check, pod, pod_list
from tests.secrecy import Secrecy

MakeNode = Callable[[], FuzzedNode]

WRITTEN_BESIDE = ("announced.json", "events.json", "journal.jsonl")
"""By threads of their own, so that what is in them, and whether they are there yet, differs from
run to run: what is drawn must not depend on it."""
STATES = ("cluster.json", "masters.json", *WRITTEN_BESIDE)

LARGE = 1 << 40
"""Size of a file that fits into no memory and on no disk: it is sparse."""
COMMANDS = ("list", "status", "history", "verify", "gc --dry-run", "show WHO", "diff WHO")


def ready_node(make: MakeNode) -> FuzzedNode:
    """Return a node that has stored and activated `web` and `dns`, and remembers all it can."""
    node = make()
    node.render("uid-dns")
    agent = FuzzedAgent(node, Api(pod_list(pod(), pod("dns", "uid-dns")), [], OBJECTS), Answers())

    def cycles() -> None:
        agent.reporter.start()
        agent.turn(ContactState.REACHABLE, 2)
        agent.turn(ContactState.LOST, 2)

    try:
        agent.follow(cycles)
    finally:
        agent.end()
    return node


def files_of(folder: Path) -> list[Path]:
    """Return the files below a folder that can be read whole."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if path.stat().st_size < LARGE)


def damage(draw: Callable[[Any], Any], path: Path, outside: Path) -> None:
    """Do something to a file that a disk, an editor or an attacker on it might."""
    content = path.read_bytes()
    kinds = ["bytes", "link", "folder", "pipe", "gone", "mode", "large", "rename", "beside"]
    match draw(st.sampled_from([*kinds, *["json", "resealed"] * 3])):
        case "bytes":
            path.write_bytes(draw(spoiled(content)))
        case "json" | "resealed" as kind if path.suffix == ".json":
            changed = draw(mutated(document_in(content), 2) | JSON)
            path.write_bytes(json.dumps(changed).encode(errors="replace"))
            if kind == "resealed":
                reseal(path)
        case "link":
            path.unlink()
            path.symlink_to(draw(st.sampled_from([outside / "secret", path, Path("/dev/zero")])))
        case "folder":
            path.unlink()
            path.mkdir()
        case "pipe":
            path.unlink()
            os.mkfifo(path)
        case "gone":
            path.unlink()
        case "mode":
            path.chmod(draw(st.sampled_from([0o000, 0o644, 0o777, 0o4600])))
        case "large":
            os.truncate(path, LARGE)
        case "rename":
            with contextlib.suppress(OSError, ValueError):  # no name of a file at all
                path.rename(path.parent / draw(NAMES).replace("/", "-"))
        case _:
            with contextlib.suppress(OSError, ValueError):
                beside = path.parent.parent / draw(NAMES).replace("/", "-")
                shutil.copytree(path.parent, beside, symlinks=True, copy_function=copy_sparse)


def document_in(content: bytes) -> Any:
    """Return what a file says; an empty document where it was damaged before."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return {}


def copy_sparse(source: str, target: str) -> None:
    """Copy a file, of one that is made large only its size: the disk has no room for the rest."""
    if (size := os.stat(source).st_size) < LARGE:
        shutil.copy2(source, target)
        return
    Path(target).touch()
    os.truncate(target, size)


def reseal(path: Path) -> None:
    """Write the digest of a revision's changed file, as only root could."""
    digests = path.parent / "digests.json"
    if digests == path or not digests.is_file() or digests.stat().st_size >= LARGE:
        return
    match listed := document_in(digests.read_bytes()):
        case {"files": dict() as files}:
            files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
            digests.write_text(json.dumps(listed))


def live_through(node: FuzzedNode, foreseen: Callable[[], None]) -> Stored | None:
    """Run an agent that loses contact and regains it; return what its store then holds."""
    before = node.tree()
    api = Api(pod_list(pod("dns", "uid-dns")), [], OBJECTS)
    agent = FuzzedAgent(node, api, Answers())

    def cycles() -> None:
        agent.reporter.start()
        agent._prepare()
        agent.turn(ContactState.LOST, 2)
        agent.turn(ContactState.REACHABLE, 2)

    try:
        agent.follow(cycles)
        agent._clean()
        check(node, before, agent.told())
        stored = agent._store.read()
    finally:
        agent.end()
    foreseen()
    return stored.value if isinstance(stored, Known) else None


def run_commands(node: FuzzedNode) -> None:
    """Run what an operator may; each ends with a status of its own, and without a secret."""
    secrecy, config = Secrecy(), node.folder / "checkpointer.yaml"
    settings = {
        "apiVersion": "checkpointer.alpha.coreos.com/v1alpha1",
        "kind": "CheckpointerConfiguration",
        "nodeName": node.config.node_name,
        "kubeconfig": str(node.kubeconfig),
        "manifestDirectory": str(node.manifests),
        "storeDirectory": str(node.store),
        "kubeletDirectory": str(node.kubelet),
        "runtimeEndpoint": f"unix://{node.folder}/none.sock",
        "lockFile": str(node.folder / "lock"),
        "bootIDFile": str(node.folder / "boot_id"),
    }
    config.write_text(yaml.safe_dump(settings))
    for command in COMMANDS:
        words = command.replace("WHO", "kube-system/daemonset/web").split()
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main([*words, "--config", str(config)])
            except SystemExit as error:
                status = int(error.code or 0)
        assert status in (0, 1, 3, 4), f"{command}: {err.getvalue()}"
        secrecy.see(command, out.getvalue() + err.getvalue())
    config.unlink()
    (node.folder / "lock").unlink(missing_ok=True)
    assert secrecy.take() == ()


def test_what_is_right_is_served(fuzzed_node: MakeNode, foreseen: Callable[[], None]) -> None:
    """The ground that the targets stand on."""
    node = ready_node(fuzzed_node)
    assert [path.name[: len(PREFIX)] for path in node.manifests.glob("*kube-system*")] == [
        PREFIX
    ] * 2
    stored = live_through(node, foreseen)
    assert stored is not None
    assert {c.workload.name for c in stored.checkpoints if c.revisions} == {"dns", "web"}
    run_commands(node)


@given(data=st.data())
@FUZZED
def test_stored_files(
    fuzzed_node: MakeNode, foreseen: Callable[[], None], data: st.DataObject
) -> None:
    """What is damaged of one workload leaves the other one's revision to be served."""
    node = ready_node(fuzzed_node)
    workload = Workload("kube-system", "DaemonSet", "web")
    victim = next(path for path in node.store.rglob("*.web") if path.is_dir())
    for _ in range(data.draw(st.integers(1, 2))):
        if left := files_of(victim):
            damage(data.draw, pick(data.draw, left), node.folder / "outside")
    stored = live_through(node, foreseen)
    assert stored is not None
    assert "dns" in {c.workload.name for c in stored.checkpoints if c.revisions}
    for problem in (*stored.problems, *(p for c in stored.checkpoints for p in c.problems)):
        assert problem.isprintable()
        assert str(node.store) in problem
    store = Store(node.store)
    with contextlib.suppress(Exception):
        store.verify(workload, 1)
    run_commands(node)


@given(data=st.data())
@FUZZED
def test_what_the_node_remembers(
    fuzzed_node: MakeNode, foreseen: Callable[[], None], data: st.DataObject
) -> None:
    """States and journal: what cannot be read is forgotten, and the checkpoints are served."""
    node = ready_node(fuzzed_node)
    path = node.store / ".state" / data.draw(st.sampled_from(STATES))
    if path.name in WRITTEN_BESIDE:
        content = path.read_bytes() if path.exists() else b"{}"
        path.write_bytes(data.draw(spoiled(content)))
    else:
        damage(data.draw, path, node.folder / "outside")
    stored = live_through(node, foreseen)
    assert stored is not None
    assert {"dns", "web"} <= {c.workload.name for c in stored.checkpoints if c.revisions}
    run_commands(node)


@given(data=st.data(), name=NAMES)
@FUZZED
def test_manifests_in_the_folder(
    fuzzed_node: MakeNode, foreseen: Callable[[], None], data: st.DataObject, name: str
) -> None:
    """Only what carries our mark is ever changed or removed; the rest is told and left alone."""
    node = ready_node(fuzzed_node)
    path = pick(data.draw, sorted(node.manifests.glob(f"{PREFIX}*kube-system*")))
    content = path.read_bytes()
    with contextlib.suppress(OSError, ValueError):
        beside = node.manifests / f"{data.draw(st.sampled_from(['', PREFIX]))}{name}"
        if beside.parent == node.manifests and not beside.exists():
            beside.write_bytes(data.draw(spoiled(content)))
    if data.draw(st.booleans()):
        damage(data.draw, path, node.folder / "outside")
    live_through(node, foreseen)
    run_commands(node)
