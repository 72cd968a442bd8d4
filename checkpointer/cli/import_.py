"""`checkpointer import`: take over what the bootkube checkpointer keeps on this node.

Without `--yes` it only says what it would do. It needs no API: all is read from its folders.
"""

from __future__ import annotations

import argparse
import socket
from pathlib import Path
from typing import Any

from checkpointer.bootkube.files import Places, read_old, shown
from checkpointer.bootkube.takeover import Candidate, Cleaned, Settings, Takeover
from checkpointer.cli.command import EXIT_NO, RefusedError, UsageError, carry_out, describe
from checkpointer.cli.output import add_output_argument, note, print_found, table
from checkpointer.config import Config
from checkpointer.errors import CheckpointerError, printable
from checkpointer.node.kubeconfig import KubeconfigError, read_kubeconfig
from checkpointer.node.kubelet import Kubelet
from checkpointer.node.patience import check_answers
from checkpointer.settings import check, selection, snapshot_settings
from checkpointer.store.durable import Disk
from checkpointer.store.lock import InstanceLock
from checkpointer.store.revisions import Store

ABOUT = """Take over what the bootkube checkpointer keeps on this node. Without --yes it is only
shown what would be done. Nothing of the old one's is removed without --clean-up, and nothing of a
workload before a revision of ours verifies that takes its place."""

NOTHING = "nothing of the bootkube checkpointer was found on this node"

Line = dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `import`."""
    usual = Places()
    describe(
        parser,
        ABOUT,
        {
            0: "all is, or with --yes would be, taken over",
            EXIT_NO: "something stays with the old checkpointer, or the agent runs; it says why",
        },
    )
    parser.add_argument("--yes", action="store_true", help="do it; without, it is only shown")
    parser.add_argument(
        "--dry-run", action="store_true", help="only show what would be done (the default)"
    )
    parser.add_argument(
        "--clean-up",
        action="store_true",
        help="remove the old checkpointer's files of what has been taken over",
    )
    for option, place, what in (
        ("--inactive-manifests", usual.inactive, "inactive manifests"),
        ("--secrets", usual.secrets, "copies of secrets"),
        ("--config-maps", usual.config_maps, "copies of configMaps"),
        ("--old-lock", usual.lock, "lock"),
    ):
        parser.add_argument(
            option,
            metavar="PATH",
            type=Path,
            default=place,
            help=f"the old checkpointer's {what} (default: {place})",
        )
    add_output_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show or do the takeover; return the exit status."""
    return carry_out(_run, arguments)


def _run(arguments: argparse.Namespace, config: Config) -> int:
    if arguments.yes and arguments.dry_run:
        raise UsageError("--yes and --dry-run: expected one of them")
    check(config)
    lines = _take_over(arguments, config)
    _print(lines, arguments.output)
    if lines and not arguments.yes:
        note("nothing was changed; add --yes to do it")
    return EXIT_NO if any(line["stays"] for line in lines) else 0


def _take_over(arguments: argparse.Namespace, config: Config) -> list[Line]:
    places = Places(
        config.manifest_directory,
        arguments.inactive_manifests,
        arguments.secrets,
        arguments.config_maps,
        arguments.old_lock,
    )
    for folder in (config.store_directory, config.kubelet_directory, *places.folders):
        check_answers(folder)
    settings = _settings(places, config)
    store = Store(config.store_directory)
    takeover = Takeover(
        settings,
        store,
        Kubelet(config.kubelet_directory, config.snapshot.max_material_bytes),
    )
    candidates = takeover.candidates()
    if not arguments.yes:
        return [_foretold(candidate, arguments.clean_up) for candidate in candidates]
    lines = _import(takeover, candidates, config)
    if not arguments.clean_up:
        return lines
    cleaned = _clean_up(takeover, config)
    return [_cleaned(line, cleaned) for line in lines]


def _settings(places: Places, config: Config) -> Settings:
    node_name = config.node_name or socket.gethostname().lower()
    server = _server(places, config)
    return Settings(
        places, selection(config.selection), snapshot_settings(config, node_name, server)
    )


def _server(places: Places, config: Config) -> str | None:
    """Return the API's address for copies; None where none is needed."""
    if config.endpoints or config.service.host:
        return config.endpoints[0] if config.endpoints else None
    try:
        return read_kubeconfig(config.kubeconfig).server
    except KubeconfigError as error:
        if not read_old(places, Disk().calls):
            return None
        raise CheckpointerError(
            f"{error}; copies need the API's address: name another file with --kubeconfig FILE, "
            "or the address with --set endpoints=https://HOST:PORT"
        ) from error


def _import(takeover: Takeover, candidates: tuple[Candidate, ...], config: Config) -> list[Line]:
    """Import under the agent's lock: one process writes the store."""
    wanted = {candidate.state for candidate in candidates}
    lock = InstanceLock(config.lock_file)
    is_alone = bool(wanted & {"to import", "imported"}) and lock.try_acquire()
    if "to import" in wanted and not is_alone:
        raise RefusedError(
            "the agent runs on this node and takes its own checkpoints of all that is Ready: "
            "nothing is imported beside it. Where the API is away, stop it first"
        )
    try:
        return [_imported(takeover, candidate, is_alone) for candidate in candidates]
    finally:
        lock.release()


def _imported(takeover: Takeover, candidate: Candidate, is_alone: bool) -> Line:
    line = _line(candidate)
    if candidate.state == "imported" and is_alone:
        takeover.finish_import(candidate)
    if candidate.state == "to import":
        try:
            number = takeover.import_one(candidate)
        except CheckpointerError as error:
            return {**line, "state": "refused", "reason": printable(str(error)), "stays": "yes"}
        return {**line, "state": "imported", "reason": f"revision {number}"}
    return line


def _clean_up(takeover: Takeover, config: Config) -> tuple[Cleaned, ...]:
    candidates = takeover.candidates()
    if not any(candidate.old.active for candidate in candidates):
        return takeover.clean_up(candidates, None)
    from checkpointer.node.cri import ContainerRuntime, find_runtime

    endpoint = config.runtime_endpoint
    runtime = ContainerRuntime(endpoint) if endpoint else find_runtime()
    try:
        return takeover.clean_up(candidates, runtime)
    finally:
        if runtime is not None:
            runtime.close()


def _line(candidate: Candidate) -> Line:
    old = candidate.old
    return {
        "checkpoint": shown(old),
        "active": "yes" if old.active is not None else "no",
        "workload": printable(str(candidate.workload)),
        "state": candidate.state,
        "reason": printable("; ".join(candidate.reasons)),
        "stays": "yes" if candidate.state == "refused" else "",
    }


def _foretold(candidate: Candidate, clean_up: bool) -> Line:
    line = _line(candidate)
    if clean_up and candidate.state != "refused":
        line["clean-up"] = "when its parent is back" if candidate.old.active else "yes"
    return line


def _cleaned(line: Line, cleaned: tuple[Cleaned, ...]) -> Line:
    for one in cleaned:
        if shown(one.old) == line["checkpoint"]:
            stays = "" if one.is_gone else "yes"
            return {**line, "clean-up": printable(one.reason) or "done", "stays": stays}
    return line


def _print(lines: list[Line], form: str) -> None:
    titles = "CHECKPOINT ACTIVE WORKLOAD STATE REASON"
    if any("clean-up" in line for line in lines):
        titles += " CLEAN-UP"
    rows = [[line.get(title.lower(), "") for title in titles.split()] for line in lines]
    names = (line["workload"] for line in lines)
    print_found(form, _documents(lines), names, table(titles, rows), empty=NOTHING)


def _documents(lines: list[Line]) -> list[dict[str, Any]]:
    return [
        {**line, "active": line["active"] == "yes", "stays": bool(line["stays"])} for line in lines
    ]
