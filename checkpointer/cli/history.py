"""`checkpointer history`: what happened on this node, from the journal on its disk."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime

from checkpointer.cli.command import carry_out, describe
from checkpointer.cli.holding import duration
from checkpointer.cli.local_node import names_of
from checkpointer.cli.output import add_output_argument, note, print_found, table
from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint
from checkpointer.report.happenings import Happening
from checkpointer.report.history import read_history

ABOUT = """Tell what happened on this node, oldest first: contact lost and regained, snapshots,
activations, releases, hand-overs, faults. It is read from the journal beside the checkpoints,
which is bounded, and needs neither agent nor runtime."""

DEFAULT_LIMIT = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `history`."""
    describe(parser, ABOUT, {0: "it was told"})
    parser.add_argument(
        "workload", nargs="?", metavar="WORKLOAD", help="only what concerns this workload"
    )
    parser.add_argument(
        "-n",
        "--limit",
        type=int,
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"the newest N (default: {DEFAULT_LIMIT}; 0 for all)",
    )
    parser.add_argument(
        "--since", type=duration, metavar="DURATION", help="only what is younger, such as 24h"
    )
    add_output_argument(parser, ("table", "wide", "json", "yaml"))


def run(arguments: argparse.Namespace) -> int:
    """Tell it; return the exit status."""
    return carry_out(_history, arguments)


def _history(arguments: argparse.Namespace, config: Config) -> int:
    history = read_history(config.store_directory)
    found = [h for h in history.happenings if _is_meant(h, arguments)]
    if arguments.limit > 0:
        found = found[-arguments.limit :]
    print_found(
        arguments.output,
        [happening.as_entry() for happening in found],
        (),
        table("TIME WHAT WORKLOAD REVISION WHY", map(_row, found), wide="NUMBER POD"),
        empty=f"nothing has been written to the journal in {config.store_directory} yet"
        if not history.happenings
        else "nothing of that has happened",
    )
    for problem in history.problems:
        note(problem)
    return 0


def _is_meant(happening: Happening, arguments: argparse.Namespace) -> bool:
    if arguments.since is not None and happening.at < time.time() - arguments.since:
        return False
    if arguments.workload is None:
        return True
    if happening.workload is None:
        return False
    names = names_of(Checkpoint(happening.workload, ())) | {happening.pod.lower()}
    return arguments.workload.lower() in names


def _row(happening: Happening) -> tuple[str, ...]:
    what = happening.kind.value
    if happening.state:
        what = f"{what} {happening.state}"
    return (
        datetime.fromtimestamp(happening.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        what,
        str(happening.workload) if happening.workload else "-",
        str(happening.revision or "-"),
        happening.reason or "-",
        str(happening.number),
        happening.pod or "-",
    )
