"""`checkpointer import`: take over what the bootkube checkpointer keeps on this node.

Without `--yes` it only says what it would do. It needs no API: all is read from its folders.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from checkpointer.bootkube.files import Places, shown
from checkpointer.bootkube.takeover import Candidate, Cleaned, Settings, Takeover
from checkpointer.cli.run import add_config_arguments, read_config
from checkpointer.config import Config, ConfigError
from checkpointer.errors import CheckpointerError
from checkpointer.node.kubeconfig import read_kubeconfig
from checkpointer.node.kubelet import Kubelet
from checkpointer.settings import check, selection, snapshot_settings
from checkpointer.store.errors import printable
from checkpointer.store.lock import InstanceLock
from checkpointer.store.revisions import Store

EXIT_FAILED, EXIT_USAGE, EXIT_LEFT = 1, 2, 3

EPILOG = """exit status: 0 all is, or with --yes would be, taken over; 3 something stays with the
old checkpointer; 2 wrong usage or configuration; 1 its folders or the store could not be read or
written"""

Line = dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `import`."""
    usual = Places()
    parser.epilog = EPILOG
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
    parser.add_argument(
        "-o", "--output", choices=("table", "json", "yaml"), default="table", help="default: table"
    )
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show or do the takeover; return the exit status."""
    try:
        if arguments.yes and arguments.dry_run:
            raise ConfigError(["--yes and --dry-run: expected one of them"])
        config = read_config(arguments)
        check(config)
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        print(f"checkpointer: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        lines = _take_over(arguments, config)
    except CheckpointerError as error:
        print(f"checkpointer: {error}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        print(f"checkpointer: {error.filename}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    _print(lines, arguments.output)
    if arguments.output == "table" and not arguments.yes and lines:
        print("\nNothing was changed; add --yes to do it.")
    return EXIT_LEFT if any(line["stays"] for line in lines) else 0


def _take_over(arguments: argparse.Namespace, config: Config) -> list[Line]:
    store = Store(config.store_directory)
    takeover = Takeover(
        _settings(arguments, config),
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


def _settings(arguments: argparse.Namespace, config: Config) -> Settings:
    places = Places(
        config.manifest_directory,
        arguments.inactive_manifests,
        arguments.secrets,
        arguments.config_maps,
        arguments.old_lock,
    )
    node_name = config.node_name or socket.gethostname().lower()
    server = config.endpoints[0] if config.endpoints else None
    if server is None and not config.service.host:
        server = read_kubeconfig(config.kubeconfig).server
    return Settings(
        places, selection(config.selection), snapshot_settings(config, node_name, server)
    )


def _import(takeover: Takeover, candidates: tuple[Candidate, ...], config: Config) -> list[Line]:
    """Import under the agent's lock: one process writes the store."""
    wanted = {candidate.state for candidate in candidates}
    lock = InstanceLock(config.lock_file)
    is_alone = bool(wanted & {"to import", "imported"}) and lock.try_acquire()
    if "to import" in wanted and not is_alone:
        raise CheckpointerError(
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
    if form == "json":
        print(json.dumps(_documents(lines), indent=2, ensure_ascii=False))
    elif form == "yaml":
        from checkpointer.cli.documents import as_yaml

        print(as_yaml(_documents(lines)), end="")
    elif not lines:
        print("Nothing of the bootkube checkpointer was found on this node.")
    else:
        _print_table(lines)


def _documents(lines: list[Line]) -> list[dict[str, Any]]:
    return [
        {**line, "active": line["active"] == "yes", "stays": bool(line["stays"])} for line in lines
    ]


def _print_table(lines: list[Line]) -> None:
    keys = [key for key in lines[0] if key != "stays"]
    rows: Iterable[tuple[str, ...]] = [
        tuple(key.upper() for key in keys),
        *(tuple(line.get(key, "") for key in keys) for line in lines),
    ]
    rows = list(rows)
    widths = [max(len(row[index]) for row in rows) for index in range(len(keys))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
