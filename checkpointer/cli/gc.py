"""`checkpointer gc`: remove what nothing needs any more, without the agent."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checkpointer.cli.command import EXIT_NO, RefusedError, carry_out, describe, whole_number
from checkpointer.cli.local_node import LocalNode, NodeError
from checkpointer.cli.output import add_output_argument, note, print_found, table
from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint, last_known_good
from checkpointer.errors import CheckpointerError
from checkpointer.node.patience import check_answers
from checkpointer.report.spans import size
from checkpointer.store import layout
from checkpointer.store.durable import is_temporary
from checkpointer.store.lock import InstanceLock
from checkpointer.values import dataclass

ABOUT = """Remove revisions beyond snapshot.keepRevisions, damaged ones among them, and what a
process that died has left. Kept are what is active, what would be activated, the last known good,
and the newest. The agent does this by itself after each snapshot and at its start; while it runs,
this only tells what it would find."""


@dataclass(frozen=True, slots=True)
class Waste:
    """Something that can go."""

    path: Path
    what: str
    checkpoint: Checkpoint | None
    """Whose revision it is; None for leftovers."""
    revision: int
    bytes: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gc`."""
    describe(
        parser,
        ABOUT,
        {0: "it is gone, or there was nothing (or told: --dry-run)", EXIT_NO: "the agent runs"},
    )
    parser.add_argument(
        "--keep",
        type=lambda text: whole_number(text, 1),
        metavar="N",
        help="revisions to keep (default: snapshot.keepRevisions)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be removed, and change nothing"
    )
    add_output_argument(parser, "the paths of what goes")


def run(arguments: argparse.Namespace) -> int:
    """Remove it; return the exit status."""
    return carry_out(_gc, arguments)


def _gc(arguments: argparse.Namespace, config: Config) -> int:
    node = LocalNode(config)
    keep = arguments.keep or config.snapshot.keep_revisions
    lock = InstanceLock(config.lock_file)
    if not arguments.dry_run and (node.is_agent_running() or not lock.try_acquire()):
        raise RefusedError(
            "the agent runs, and only one may write to the store; it removes all this by itself "
            "after its next snapshot. To see it: --dry-run. To do it now: stop the agent first"
        )
    try:
        found = list(_waste(node, keep))
        if not arguments.dry_run:
            _remove(node, found, keep)
    finally:
        lock.release()
    done = "would remove" if arguments.dry_run else "removed"
    print_found(
        arguments.output,
        [_document(one) for one in found],
        [str(one.path) for one in found],
        table("WHAT SIZE PATH", [(one.what, size(one.bytes), str(one.path)) for one in found]),
        empty="nothing to remove",
    )
    if found:
        note(f"{done} {size(sum(one.bytes for one in found))}")
    return 0


def _waste(node: LocalNode, keep: int) -> Iterator[Waste]:
    for checkpoint in node.checkpoints():
        if not checkpoint.revisions:
            continue  # what is damaged may pass, and nothing else is left
        kept = _kept(node, checkpoint, keep)
        folder = layout.workload_folder(node.store.root, checkpoint.workload) / layout.REVISIONS
        for name in sorted(os.listdir(folder)):
            number = layout.revision_number(name)
            if number is not None and number not in kept:
                what = f"{checkpoint.workload} revision {number}"
                yield Waste(folder / name, what, checkpoint, number, _bytes(folder / name))
    check_answers(node.config.manifest_directory)
    places = [node.config.manifest_directory]
    places += [Path(place) for place, _, _ in os.walk(node.store.root)]
    for place in places:
        try:
            names = sorted(filter(is_temporary, os.listdir(place)))
        except OSError:
            continue
        for name in names:
            yield Waste(place / name, "leftover", None, 0, _bytes(place / name))


def _kept(node: LocalNode, checkpoint: Checkpoint, keep: int) -> set[int]:
    numbers = [r.number for r in checkpoint.revisions]
    sound = [n for n in numbers if n not in checkpoint.record.failed]
    kept = {*numbers[:keep], *sound[:1]}
    if (good := last_known_good(checkpoint)) is not None:
        kept.add(good)
    if (manifest := node.active(checkpoint.workload)) is not None:
        kept.add(manifest.revision)
    if checkpoint.hold is not None and checkpoint.hold.revision:
        kept.add(checkpoint.hold.revision)
    return kept


def _remove(node: LocalNode, found: list[Waste], keep: int) -> None:
    problems: list[str] = []
    node.folder.settle()
    for checkpoint in {id(w.checkpoint): w.checkpoint for w in found}.values():
        if checkpoint is None:
            continue
        try:
            node.store.prune(checkpoint.workload, _kept(node, checkpoint, keep))
        except CheckpointerError as error:
            problems.append(str(error))
    problems += node.store.clean()
    try:
        node.folder.clean()
    except CheckpointerError as error:
        problems.append(str(error))
    if problems:
        raise NodeError("; ".join(problems))


def _bytes(path: Path) -> int:
    """Return what a file or folder takes; what cannot be read counts as nothing."""
    if not path.is_dir() or path.is_symlink():
        return _size(path)
    return sum(_size(Path(place) / name) for place, _, names in os.walk(path) for name in names)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _document(one: Waste) -> dict[str, Any]:
    return {"what": one.what, "path": str(one.path), "bytes": one.bytes}
