"""`checkpointer show`: all that is stored of one workload, without a secret's content."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from checkpointer.cli.command import carry_out, describe
from checkpointer.cli.local_node import LocalNode, revision_of
from checkpointer.cli.masking import masked
from checkpointer.cli.output import (
    add_output_argument,
    print_document,
    print_facts,
    print_table,
    say,
    table,
    write,
)
from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint, Revision
from checkpointer.core.hold import Hold
from checkpointer.core.moment import Moment
from checkpointer.report.spans import size
from checkpointer.report.status import timestamp
from checkpointer.store.material import Entry, Kind, RenderedVolume
from checkpointer.store.token import token_expiry

ABOUT = """Show one checkpoint: its revisions, where its newest revision comes from, what it was
warned of, and its material by name, mode, owner and digest. No content is shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `show`."""
    describe(parser, ABOUT, {0: "it was shown"})
    parser.add_argument("workload", metavar="WORKLOAD", help="[NAMESPACE/[KIND/]]NAME")
    parser.add_argument("--revision", type=int, metavar="N", help="this one, not the newest")
    parser.add_argument(
        "--manifest", action="store_true", help="print the stored pod; environment values hidden"
    )
    parser.add_argument(
        "--reveal", action="store_true", help="with --manifest: show the values too"
    )
    add_output_argument(parser, "the name of the workload")


def run(arguments: argparse.Namespace) -> int:
    """Show it; return the exit status."""
    return carry_out(_show, arguments)


def _show(arguments: argparse.Namespace, config: Config) -> int:
    node = LocalNode(config)
    checkpoint = node.checkpoint(arguments.workload)
    revision = revision_of(checkpoint, arguments.revision)
    if arguments.manifest:
        manifest = node.store.manifest(checkpoint.workload, revision.number)
        shown = manifest if arguments.reveal else masked(manifest)
        print_document("json" if arguments.output == "json" else "yaml", shown)
        return 0
    document = _document(node, checkpoint, revision)
    if arguments.output == "name":
        say(document["workload"])
    elif arguments.output in ("table", "wide"):
        _print(document, checkpoint.hold)
    else:
        print_document(arguments.output, document)
    return 0


def _document(node: LocalNode, checkpoint: Checkpoint, revision: Revision) -> dict[str, Any]:
    workload = checkpoint.workload
    manifest = node.active(workload)
    volumes = node.store.volumes(workload, revision.number)
    return {
        "workload": str(workload),
        "active": manifest
        and {"file": manifest.file_name, "revision": manifest.revision, "issue": manifest.issue},
        "hold": checkpoint.hold and _hold(checkpoint.hold, node.now()),
        "folder": str(node.store.material_root(workload, revision.number).parent),
        "revision": {
            "number": revision.number,
            "digest": revision.digest,
            "takenAt": timestamp(revision.created_at),
            "parentPod": revision.parent_name,
            "parentUID": revision.parent_uid,
            "stage": revision.stage,
            "containers": list(revision.app_containers),
            "hostPorts": list(revision.host_ports),
            "sharesPorts": revision.shares_ports,
            "labels": dict(revision.labels),
            "warnings": list(node.store.warnings(workload, revision.number)),
            "material": [_volume(volume) for volume in volumes],
        },
        "revisions": [
            {
                "number": r.number,
                "takenAt": timestamp(r.created_at),
                "parentPod": r.parent_name,
                "digest": r.digest,
                "failed": r.number in checkpoint.record.failed,
            }
            for r in checkpoint.revisions
        ],
        "problems": list(checkpoint.problems),
    }


def _hold(hold: Hold, now: Moment) -> dict[str, Any]:
    return {
        "wanted": hold.wanted,
        "since": timestamp(hold.since),
        "until": timestamp(now.wall + hold.seconds_left(now)) if hold.until else None,
        "by": hold.by,
        "reason": hold.reason,
        "inForce": hold.is_in_force(now),
    }


def _volume(volume: RenderedVolume) -> dict[str, Any]:
    described = volume.description()
    return {
        "volume": volume.name,
        "plugin": volume.plugin,
        "files": [
            _entry(entry, described[f"..data/{entry.path}"][-1], entry.path in volume.token_paths)
            for entry in volume.entries
        ],
    }


def _entry(entry: Entry, digest: str, is_token: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"path": entry.path, "kind": entry.kind.value}
    if entry.kind is Kind.LINK:
        return {**found, "target": entry.target}
    found |= {"mode": f"{entry.mode:04o}", "owner": f"{entry.uid}:{entry.gid}"}
    if entry.kind is Kind.FOLDER:
        return found
    found["bytes"] = len(entry.content)
    if is_token:
        expiry = token_expiry(entry.content)
        return {**found, "token": True, "expires": timestamp(expiry)}
    return {**found, "sha256": digest}


def _print(document: dict[str, Any], hold: Hold | None) -> None:
    revision, active = document["revision"], document["active"]
    taken = [r for r in document["revisions"] if r["number"] == revision["number"]]
    print_facts(
        (
            ("workload", document["workload"]),
            ("state", f"active: {active['file']}" if active else "standby: no manifest of it"),
            ("held", f"{hold.wanted} by {hold.by}" if hold else ""),
            ("folder", document["folder"]),
            ("revision", f"{revision['number']}, taken {revision['takenAt']}" if taken else ""),
            ("digest", revision["digest"]),
            ("parent", f"{revision['parentPod']} (uid {revision['parentUID']})"),
            ("stage", str(revision["stage"])),
            ("containers", ", ".join(revision["containers"])),
            ("host ports", ", ".join(map(str, revision["hostPorts"]))),
            *(("warning", warning) for warning in revision["warnings"]),
            *(("problem", problem) for problem in document["problems"]),
        )
    )
    write("\n")
    print_table(table("REVISION TAKEN PARENT DIGEST", _revision_rows(document)))
    files = tuple(_file_rows(revision["material"]))
    if files:
        write("\n")
        print_table(table("VOLUME FILE MODE OWNER SIZE SHA-256", files))


def _revision_rows(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in document["revisions"]:
        number = f"{one['number']}{' (failed)' if one['failed'] else ''}"
        yield number, str(one["takenAt"]), one["parentPod"], one["digest"][:12]


def _file_rows(material: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for volume in material:
        for entry in volume["files"]:
            if entry["kind"] == "link":
                what = f"link to {entry['target']}"
            elif entry.get("token"):
                what = f"token, expires {entry['expires'] or 'never, as far as it tells'}"
            else:
                what = entry.get("sha256", "folder")[:12]
            yield (
                volume["volume"],
                entry["path"],
                entry.get("mode", "-"),
                entry.get("owner", "-"),
                size(entry.get("bytes")),
                what,
            )
