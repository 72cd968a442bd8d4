"""`checkpointer activate`: run a checkpoint by hand, and hold it active until that is lifted."""

from __future__ import annotations

import argparse

from checkpointer.cli.command import (
    EXIT_NO,
    EXIT_UNDER_WAY,
    RefusedError,
    carry_out,
    describe,
)
from checkpointer.cli.holding import add_hold_arguments, hold_by_hand, lift, new_hold
from checkpointer.cli.local_node import LocalNode, revision_of
from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint
from checkpointer.core.hold import ACTIVE, Hold
from checkpointer.core.occupancy import occupancy_of

ABOUT = """Put a checkpoint into the kubelet's manifest folder by hand, whatever contact is, and
hold it there: the agent keeps it up, does not release it, and shows the hold in its status until
it is lifted. While the agent is down this command does it itself. It is refused while anything of
the workload runs: the two would fight for their ports."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `activate`."""
    describe(
        parser,
        ABOUT,
        {
            0: "its copy runs (or would: --dry-run; or the hold was lifted)",
            EXIT_NO: "refused; the message says why",
            EXIT_UNDER_WAY: "it is held, but its copy does not run yet",
        },
    )
    add_hold_arguments(parser)
    parser.add_argument("--revision", type=int, metavar="N", help="this one, not the newest")


def run(arguments: argparse.Namespace) -> int:
    """Activate; return the exit status."""
    return carry_out(_activate, arguments)


def _activate(arguments: argparse.Namespace, config: Config) -> int:
    node = LocalNode(config)
    checkpoint = node.checkpoint(arguments.workload)
    if arguments.lift:
        return lift(node, checkpoint, arguments.dry_run)
    revision = revision_of(checkpoint, arguments.revision)
    hold = new_hold(node, arguments, ACTIVE, revision=arguments.revision or 0)
    _check(node, checkpoint, hold)
    foretold = f"activate revision {revision.number} and hold it active"
    return hold_by_hand(node, checkpoint, hold, foretold, arguments)


def _check(node: LocalNode, checkpoint: Checkpoint, hold: Hold) -> None:
    """Refuse what would hurt. Raises RefusedError, NodeError."""
    workload = checkpoint.workload
    manifest = node.active(workload)
    if manifest is not None and hold.revision not in (0, manifest.revision):
        raise RefusedError(
            f"{workload}: revision {manifest.revision} is active, and the kubelet may not follow "
            f"a change of its manifest; first: checkpointer release {workload}"
        )
    occupancy = occupancy_of(checkpoint, node.needed_running())
    if manifest is not None or hold.force or not occupancy.is_running:
        return
    ports = sorted({port for r in checkpoint.revisions[:1] for port in r.host_ports})
    over = f" over port {', '.join(map(str, ports))}" if ports else ""
    if occupancy.parent_running:
        pod = occupancy.parent_running[0].pod_name
        raise RefusedError(
            f"{workload}: its parent, pod {pod}, runs: a copy beside it would fight it{over}; "
            "stop the parent first (delete it, or drain the node), or insist with --force"
        )
    raise RefusedError(
        f"{workload}: an earlier copy of it still runs and is about to end; try again in a "
        "moment, or insist with --force"
    )
