"""`checkpointer prepare-reboot`: fresh snapshots, everything verified, and one line to go by.

The step before `reboot` in a runbook: exit status 0 means go.
"""

from __future__ import annotations

import argparse
import socket
from typing import TYPE_CHECKING

from checkpointer.cli.command import carry_out
from checkpointer.cli.doctor import add_output_arguments, duration
from checkpointer.cli.run import add_config_arguments

if TYPE_CHECKING:
    from checkpointer.config import Config
    from checkpointer.core.facts import Fact
    from checkpointer.doctor.readiness import Readiness
    from checkpointer.doctor.snapshots import Taken

EXIT_NOT_READY = 3

EPILOG = """exit status: 0 the node may be rebooted: everything of stage 0 (with --strict: every
selected workload) would come back, as a fresh snapshot has it; 3 it should not be; 2 wrong usage
or configuration"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `prepare-reboot`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--strict",
        action="store_true",
        help="every selected workload must come back with a fresh snapshot, not only stage 0",
    )
    parser.add_argument(
        "--allow-stale",
        action="store_true",
        help="go by what is stored where fresh snapshots cannot be taken",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="take no snapshots; go by what is stored"
    )
    parser.add_argument(
        "--snapshot-timeout",
        metavar="TIME",
        type=duration,
        default=60.0,
        help="how long taking all snapshots may take (default: 60s)",
    )
    add_output_arguments(parser, "the workloads that would come back")
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Take snapshots, check the node, say whether it may be rebooted."""
    return carry_out(_prepare, arguments)


def _prepare(arguments: argparse.Namespace, config: Config) -> int:
    from checkpointer.cli.doctor_forms import Preparation, print_preparation
    from checkpointer.doctor.checks import check
    from checkpointer.doctor.gather import gather
    from checkpointer.doctor.readiness import readiness
    from checkpointer.settings import check as check_config

    check_config(config)
    snapshots = None if arguments.dry_run else _take(config, arguments.snapshot_timeout)
    facts = gather(config, arguments.timeout)
    results = check(facts)
    ready = readiness(facts, results)
    reasons = _reasons(ready, snapshots, arguments)
    warnings = _warnings(ready, snapshots, arguments)
    print_preparation(Preparation(snapshots, results, ready, reasons, warnings), arguments.output)
    return EXIT_NOT_READY if reasons else 0


def _take(config: Config, seconds: float) -> Fact[tuple[Taken, ...]]:
    """Take snapshots, for as long as they may take: no source of them can make it hang."""
    from checkpointer.doctor.deadline import Asked
    from checkpointer.doctor.gather import answering_runtime
    from checkpointer.doctor.snapshots import take_snapshots

    node_name = config.node_name or socket.gethostname().lower()
    runtime = answering_runtime(config)
    asked = Asked(
        "snapshots", lambda: take_snapshots(config, node_name, runtime, seconds), seconds + 10.0
    )
    return asked.answer()


def _reasons(
    ready: Readiness, snapshots: Fact[tuple[Taken, ...]] | None, arguments: argparse.Namespace
) -> tuple[str, ...]:
    """Return why the node should not be rebooted now; empty when it may."""
    from checkpointer.core.facts import Unknown

    found = []
    if ready.blocker:
        found.append(f"nothing would come back: {ready.blocker}")
    elif not ready.outlooks:
        found.append("nothing is checkpointed on this node")
    elif not any(one.comes_back for one in ready.outlooks):
        found += [f"{one.workload} would not come back: {one.reason}" for one in ready.outlooks]
    else:
        lost = ready.lost(only_stage_zero=not arguments.strict)
        found += [f"{one.workload} would not come back: {one.reason}" for one in lost]
    if isinstance(snapshots, Unknown) and not arguments.allow_stale:
        found.append(
            f"no fresh snapshots: {snapshots.reason}. Bring the API and the agent back, or go by "
            "what is stored with --allow-stale"
        )
    if not arguments.allow_stale:
        found += [
            line for stage, line in _stale(ready, snapshots) if stage == 0 or arguments.strict
        ]
    return tuple(found)


def _warnings(
    ready: Readiness, snapshots: Fact[tuple[Taken, ...]] | None, arguments: argparse.Namespace
) -> tuple[str, ...]:
    """Return what is stale and no reason against it; with --allow-stale of every stage."""
    stale = _stale(ready, snapshots)
    return tuple(
        line
        for stage, line in stale
        if arguments.allow_stale or (stage != 0 and not arguments.strict)
    )


def _stale(
    ready: Readiness, snapshots: Fact[tuple[Taken, ...]] | None
) -> tuple[tuple[int, str], ...]:
    """Return stage and sentence of every workload that is selected and has no fresh snapshot.

    One pod of it with a fresh one will do: beside it an older one may be terminating. A pod that
    may not be checkpointed has no outlook.
    """
    from checkpointer.core.facts import Known

    taken = snapshots.value if isinstance(snapshots, Known) else ()
    fresh = {one.workload for one in taken if not one.reason}
    stages = {outlook.workload: outlook.stage for outlook in ready.outlooks}
    return tuple(
        (stages[one.workload], f"{one.workload} has no fresh snapshot: {one.reason}")
        for one in taken
        if one.workload in stages and one.workload not in fresh
    )
