"""`checkpointer list`: what is stored, from the disk alone."""

from __future__ import annotations

import argparse
from typing import Any

from checkpointer.cli.command import carry_out, describe
from checkpointer.cli.local_node import LocalNode
from checkpointer.cli.output import add_output_argument, note, print_found, table
from checkpointer.config import Config
from checkpointer.core.checkpoint import ActiveManifest, Checkpoint, choose_revision
from checkpointer.core.hold import hold_of
from checkpointer.core.moment import Moment
from checkpointer.core.workload import Workload
from checkpointer.report.spans import age
from checkpointer.report.status import timestamp

ABOUT = """List what is stored on this node, from its disk alone: each workload, its revisions,
whether it is active, and whether it is held by hand. Every digest is verified on the way."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `list`."""
    describe(parser, ABOUT, {0: "it was listed"})
    add_output_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """List it; return the exit status."""
    return carry_out(_list, arguments)


def _list(arguments: argparse.Namespace, config: Config) -> int:
    node = LocalNode(config)
    checkpoints, now = node.checkpoints(), node.now()
    active = {m.workload: m for m in node.manifests().ours}
    print_found(
        arguments.output,
        [_document(c, active.get(c.workload), now) for c in checkpoints],
        [str(c.workload) for c in checkpoints],
        table(
            "WORKLOAD REVISIONS AGE STAGE ACTIVE HELD",
            [_row(c, active, now) for c in checkpoints],
            wide="PARENT DIGEST",
        ),
        empty=f"no checkpoints in {node.store.root}",
    )
    for checkpoint in checkpoints:
        for problem in checkpoint.problems:
            note(f"{checkpoint.workload}: {problem}")
    return 0


def _row(
    checkpoint: Checkpoint, active: dict[Workload, ActiveManifest], now: Moment
) -> tuple[str, ...]:
    revision, manifest = choose_revision(checkpoint), active.get(checkpoint.workload)
    hold = hold_of(checkpoint, now)
    return (
        str(checkpoint.workload),
        ",".join(str(r.number) for r in checkpoint.revisions) or "none",
        age(now.wall - revision.created_at) if revision else "-",
        str(revision.stage) if revision else "-",
        f"revision {manifest.revision}" if manifest else "-",
        hold.wanted if hold else "-",
        revision.parent_name if revision else "-",
        revision.digest[:12] if revision else "-",
    )


def _document(
    checkpoint: Checkpoint, manifest: ActiveManifest | None, now: Moment
) -> dict[str, Any]:
    revision, hold = choose_revision(checkpoint), hold_of(checkpoint, now)
    return {
        "workload": str(checkpoint.workload),
        "revisions": [r.number for r in checkpoint.revisions],
        "revision": revision.number if revision else None,
        "takenAt": timestamp(revision.created_at) if revision else None,
        "stage": revision.stage if revision else None,
        "parentPod": revision.parent_name if revision else None,
        "digest": revision.digest if revision else None,
        "activeRevision": manifest.revision if manifest else None,
        "held": hold.wanted if hold else None,
        "problems": list(checkpoint.problems),
    }
