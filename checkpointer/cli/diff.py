"""`checkpointer diff`: what differs between what is stored and what runs, or two revisions."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from checkpointer.cli.command import EXIT_NO, UsageError, carry_out, describe
from checkpointer.cli.local_node import LocalNode, NodeError, revision_of
from checkpointer.cli.masking import environment, masked
from checkpointer.cli.output import add_output_argument, note, print_document, write
from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint, Revision
from checkpointer.core.workload import Workload, workload_of
from checkpointer.errors import CheckpointerError, NotCheckpointableError, printable
from checkpointer.settings import snapshot_settings
from checkpointer.store.errors import MaterialError
from checkpointer.store.material import RenderedVolume
from checkpointer.values import dataclass

ABOUT = """Tell what differs between a stored revision and its running parent, or, with
--revisions, between two revisions. Of files only names, modes, owners and that the content
differs are shown; of environment variables that their values differ. With the API away the
parent's spec is not known: then only its files are compared, as the kubelet has them here."""

PLACE = "/material"
"""Stands for a revision's folder, which differs between two of them."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison."""

    name: str
    manifest: Mapping[str, Any] | None
    """None when it is not known: then only files are compared."""
    files: Mapping[str, list[str]]
    """What describes each file, by volume and path; see RenderedVolume.description."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `diff`."""
    describe(parser, ABOUT, {0: "nothing differs", EXIT_NO: "something does"})
    parser.add_argument("workload", metavar="WORKLOAD", help="[NAMESPACE/[KIND/]]NAME")
    parser.add_argument(
        "--revisions",
        metavar="OLD[..NEW]",
        help="compare these; without NEW with the newest. Needs nothing but the disk",
    )
    add_output_argument(parser, "the name of the workload if something differs")


def run(arguments: argparse.Namespace) -> int:
    """Compare; return the exit status."""
    return carry_out(_diff, arguments)


def _diff(arguments: argparse.Namespace, config: Config) -> int:
    node = LocalNode(config)
    checkpoint = node.checkpoint(arguments.workload)
    if arguments.revisions:
        old, _, new = arguments.revisions.partition("..")
        left = _stored(node, checkpoint, revision_of(checkpoint, _number(old)))
        right = _stored(node, checkpoint, revision_of(checkpoint, _number(new) if new else None))
    else:
        left = _stored(node, checkpoint, revision_of(checkpoint, None))
        right = _running(node, checkpoint)
    lines = [*_spec_lines(left, right), *_file_lines(left, right)]
    if arguments.output == "name":
        write(f"{checkpoint.workload}\n" * bool(lines))
    elif arguments.output in ("table", "wide"):
        if not lines:
            note(f"nothing differs: {left.name}, {right.name}")
        for line in lines:
            write(_coloured(printable(line)) + "\n")
    else:
        document = {"old": left.name, "new": right.name, "differences": lines}
        print_document(arguments.output, document)
    return EXIT_NO if lines else 0


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"--revisions: {text!r} is no revision's number; expected OLD or OLD..NEW")
    return int(text)


def _stored(node: LocalNode, checkpoint: Checkpoint, revision: Revision) -> Side:
    workload, number = checkpoint.workload, revision.number
    place = str(node.store.material_root(workload, number))
    manifest = _with_place(node.store.manifest(workload, number), place)
    return Side(f"revision {number}", manifest, _files(node.store.volumes(workload, number)))


def _with_place(value: Any, place: str) -> Any:
    """Return the manifest with its revision's own folder replaced by one name for all."""
    match value:
        case dict():
            return {key: _with_place(inside, place) for key, inside in value.items()}
        case list():
            return [_with_place(inside, place) for inside in value]
        case str() if value == place or value.startswith(f"{place}/"):
            return PLACE + value[len(place) :]
    return value


def _running(node: LocalNode, checkpoint: Checkpoint) -> Side:
    """Return the parent as a snapshot of now would have it, as far as it can be told."""
    try:
        return _by_api(node, checkpoint.workload)
    except NotCheckpointableError:
        raise
    except CheckpointerError as error:
        note(f"the parent's spec is not known ({error}): only its files are compared")
    newest = revision_of(checkpoint, None)
    stored = node.store.volumes(checkpoint.workload, newest.number)
    return Side(
        f"pod {newest.parent_name}", None, _files(_rendered(node, _uid(node, checkpoint), stored))
    )


def _uid(node: LocalNode, checkpoint: Checkpoint) -> str:
    """Return the UID of the parent that the kubelet has a folder of, as last seen."""
    uids = (*checkpoint.record.parents, revision_of(checkpoint, None).parent_uid)
    there = (uid for uid in uids if (node.kubelet_directory / "pods" / uid).is_dir())
    return next(there, uids[-1])


def _rendered(
    node: LocalNode, uid: str, stored: tuple[RenderedVolume, ...]
) -> tuple[RenderedVolume, ...]:
    """Return the stored volumes as the kubelet has them now for this pod."""
    from checkpointer.node.kubelet import Kubelet

    kubelet = Kubelet(node.kubelet_directory, node.config.snapshot.max_material_bytes)
    try:
        return tuple(
            kubelet.read_volume(uid, volume.plugin, volume.name, volume.token_paths)
            for volume in stored
        )
    except MaterialError as error:
        raise NodeError(f"the parent's files cannot be read: {error}") from error


def _by_api(node: LocalNode, workload: Workload) -> Side:
    from checkpointer.node.api import ApiClient
    from checkpointer.node.kubeconfig import read_kubeconfig
    from checkpointer.node.kubelet import Kubelet
    from checkpointer.snapshot import Snapshooter

    config = node.config
    client = ApiClient(config.kubeconfig)
    try:
        pods = client.get(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node.name}")
        pod = _parent(pods.get("items") or (), workload)
        kubelet = Kubelet(node.kubelet_directory, config.snapshot.max_material_bytes)
        server = config.endpoints[0] if config.endpoints else None
        server = server or read_kubeconfig(config.kubeconfig).server
        settings = snapshot_settings(config, node.name, server)
        snapshooter = Snapshooter(node.store, kubelet, client, settings)
        snapshooter.runtime = node.runtime
        verdict, _, _ = snapshooter.explain(pod)
        if verdict.manifest is None:
            reasons = "; ".join(f"{f.path}: {f.reason}" for f in verdict.refusals)
            raise NotCheckpointableError(
                f"{workload}: its parent cannot be checkpointed: {reasons}"
            )
        uid = pod["metadata"]["uid"]
        volumes = tuple(
            kubelet.read_volume(uid, v.plugin, v.name, v.tokens) for v in verdict.volumes
        )
        return Side(f"pod {pod['metadata']['name']}", verdict.manifest, _files(volumes))
    finally:
        client.close()


def _parent(pods: Any, workload: Workload) -> dict[str, Any]:
    for pod in pods:
        if workload_of(pod) == workload and "deletionTimestamp" not in pod["metadata"]:
            return dict(pod)
    raise NodeError(f"the API lists no pod of {workload} on this node")


def _files(volumes: tuple[RenderedVolume, ...]) -> dict[str, list[str]]:
    return {
        f"{volume.name}/{path.removeprefix('..data/')}": described
        for volume in volumes
        for path, described in volume.description().items()
        if path.startswith("..data/")
    }


def _spec_lines(left: Side, right: Side) -> Iterator[str]:
    if left.manifest is None or right.manifest is None:
        return
    from checkpointer.cli.documents import as_yaml

    old, new = (
        as_yaml(_sorted(masked(side.manifest or {}))).splitlines() for side in (left, right)
    )
    yield from difflib.unified_diff(old, new, left.name, right.name, lineterm="")
    before, after = environment(left.manifest), environment(right.manifest)
    for container, name in sorted(before.keys() & after.keys()):
        if before[container, name] != after[container, name]:
            yield f"! environment variable {name} of container {container}: its value differs"


def _sorted(value: Any) -> Any:
    """Return the value with all keys in order: the store's are, a fresh manifest's are not."""
    return json.loads(json.dumps(value, sort_keys=True))


def _file_lines(left: Side, right: Side) -> Iterator[str]:
    for path in sorted(left.files.keys() | right.files.keys()):
        old, new = left.files.get(path), right.files.get(path)
        if old == new:
            continue
        if old is None or new is None:
            yield f"{'-' if new is None else '+'} file {path}"
            continue
        words = ("kind", "mode", "owner", "content") if old[0] != "link" else ("kind", "target")
        changed = [w for w, a, b in zip(words, old, new, strict=False) if a != b]
        shown = [
            f"{w} {a} -> {b}" if w in ("mode", "owner") else f"{w} differs"
            for w, a, b in zip(words, old, new, strict=False)
            if w in changed
        ]
        yield f"! file {path}: {', '.join(shown) or 'differs'}"


def _coloured(line: str) -> str:
    colours = {"+": "32", "-": "31", "!": "33", "@": "36"}
    if not sys.stdout.isatty() or line[:1] not in colours:
        return line
    return f"\x1b[{colours[line[0]]}m{line}\x1b[0m"
