"""`checkpointer history`: what happened on this node, from the journal on its disk."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from checkpointer.cli.command import carry_out, describe, whole_number
from checkpointer.cli.holding import duration
from checkpointer.cli.local_node import NodeError, names_of
from checkpointer.cli.output import add_output_argument, note, print_found, table
from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint
from checkpointer.node.patience import check_answers
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
        type=lambda text: whole_number(text, 0),
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"the newest N (default: {DEFAULT_LIMIT}; 0 for all)",
    )
    parser.add_argument(
        "--since", type=duration, metavar="DURATION", help="only what is younger, such as 24h"
    )
    add_output_argument(parser, "the workloads that something happened to")


def run(arguments: argparse.Namespace) -> int:
    """Tell it; return the exit status."""
    return carry_out(_history, arguments)


def _history(arguments: argparse.Namespace, config: Config) -> int:
    check_answers(config.store_directory)
    history = read_history(config.store_directory)
    if history.problems and not history.happenings:
        raise NodeError("; ".join(history.problems))
    found = [h for h in history.happenings if _is_meant(h, arguments)]
    if arguments.limit > 0:
        found = found[-arguments.limit :]
    print_found(
        arguments.output,
        [happening.as_entry() for happening in found],
        dict.fromkeys(str(h.workload) for h in found if h.workload),
        table("TIME WHAT WORKLOAD REVISION WHY", map(_row, found), wide="NUMBER POD"),
        empty=_why_nothing(history.happenings, arguments, config),
    )
    for problem in history.problems:
        note(problem)
    return 0


def _why_nothing(
    happenings: Iterable[Happening], arguments: argparse.Namespace, config: Config
) -> str:
    if not happenings:
        return f"nothing has been written to the journal in {config.store_directory} yet"
    there = dict.fromkeys(str(h.workload) for h in happenings if h.workload)
    named = [h for h in happenings if _is_named(h, arguments.workload)]
    if arguments.workload is None or named or not there:
        return "nothing of that has happened"
    return f"{arguments.workload}: the journal tells nothing of it; it tells of: {', '.join(there)}"


def _is_meant(happening: Happening, arguments: argparse.Namespace) -> bool:
    if arguments.since is not None and happening.at < time.time() - arguments.since:
        return False
    return arguments.workload is None or _is_named(happening, arguments.workload)


def _is_named(happening: Happening, wanted: str | None) -> bool:
    if happening.workload is None or wanted is None:
        return False
    names = names_of(Checkpoint(happening.workload, ())) | {happening.pod.lower()}
    return wanted.lower() in names


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
