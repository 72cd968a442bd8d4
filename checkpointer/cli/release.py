"""`checkpointer release`: take a checkpoint out by hand, and hold it so until that is lifted."""

from __future__ import annotations

import argparse

from checkpointer.cli.command import EXIT_NO, EXIT_UNDER_WAY, RefusedError, carry_out, describe
from checkpointer.cli.holding import add_hold_arguments, hold_by_hand, lift, new_hold
from checkpointer.cli.local_node import LocalNode
from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint
from checkpointer.core.hold import RELEASED, Hold
from checkpointer.core.occupancy import occupancy_of

ABOUT = """Take a checkpoint out of the kubelet's manifest folder by hand, and hold it so: the
agent does not activate it, not in an outage either, and shows the hold in its status until it is
lifted. While the agent is down this command does it itself. It is refused while nothing but the
copy is there to do the work."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `release`."""
    describe(
        parser,
        ABOUT,
        {
            0: "no copy runs (or would: --dry-run; or the hold was lifted)",
            EXIT_NO: "refused; the message says why",
            EXIT_UNDER_WAY: "it is held, but its copy still runs",
        },
    )
    add_hold_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Release; return the exit status."""
    return carry_out(_release, arguments)


def _release(arguments: argparse.Namespace, config: Config) -> int:
    node = LocalNode(config)
    checkpoint = node.checkpoint(arguments.workload)
    if arguments.lift:
        return lift(node, checkpoint, arguments.dry_run)
    hold = new_hold(node, arguments, RELEASED)
    _check(node, checkpoint, hold)
    is_active = node.active(checkpoint.workload) is not None
    foretold = "take it out and hold it released" if is_active else "hold it released"
    return hold_by_hand(node, checkpoint, hold, foretold, arguments)


def _check(node: LocalNode, checkpoint: Checkpoint, hold: Hold) -> None:
    """Refuse what would hurt. Raises RefusedError, NodeError."""
    workload = checkpoint.workload
    if hold.force:
        return
    occupancy = occupancy_of(checkpoint, node.needed_running())
    if node.active(workload) is not None and not occupancy.parent_sandboxes:
        raise RefusedError(
            f"{workload}: its copy is all that is left of it: the kubelet has not brought its "
            "parent back, and without the API it cannot; wait until `checkpointer status` shows "
            "its parent, or insist with --force"
        )
