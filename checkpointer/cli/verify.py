"""`checkpointer verify`: would what is stored bring this node back?"""

from __future__ import annotations

import argparse
import time
from typing import Any

from checkpointer.cli.command import EXIT_NO, carry_out, describe
from checkpointer.cli.local_node import LocalNode
from checkpointer.cli.output import add_output_argument, note, print_found, table
from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint, Revision
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.doctor.examine import examine
from checkpointer.node.cri import ImageInfo
from checkpointer.report.spans import age
from checkpointer.report.status import timestamp
from checkpointer.store.errors import DiskError
from checkpointer.values import dataclass

ABOUT = """Verify what is stored, without changing anything: each file against its digest, the
manifest against the kubelet's own rules, each image in the runtime, each token's expiry. Without
a workload: the revision of every checkpoint that would be activated."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of one revision; empty problems are good."""

    workload: Workload
    number: int
    digests: tuple[str, ...] = ()
    manifest: tuple[str, ...] = ()
    absent_images: tuple[str, ...] = ()
    unknown: str = ""
    """Why the images could not be looked for."""
    token_expiry: float | None = None
    is_examined: bool = False
    """Whether more than the digests was looked at: what is damaged is not."""

    @property
    def is_good(self) -> bool:
        """Tell whether nothing was found wrong; what could not be told is not wrong."""
        expired = self.token_expiry is not None and self.token_expiry <= time.time()
        return not (self.digests or self.manifest or self.absent_images or expired)


_Found = list[Verified]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `verify`."""
    describe(
        parser,
        ABOUT,
        {
            0: "all of it is good",
            EXIT_NO: "something is not, the table says what; or nothing is stored",
        },
    )
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help="[NAMESPACE/[KIND/]]NAME (default: all)"
    )
    parser.add_argument("--all-revisions", action="store_true", help="older ones too")
    add_output_argument(parser, "each revision as WORKLOAD@NUMBER")


def run(arguments: argparse.Namespace) -> int:
    """Verify; return the exit status."""
    return carry_out(_verify, arguments)


def _verify(arguments: argparse.Namespace, config: Config) -> int:
    node = LocalNode(config)
    wanted = [node.checkpoint(name) for name in arguments.workloads] or node.checkpoints()
    images = _Images(node)
    is_all = arguments.all_revisions
    found = [one for c in wanted for one in _checkpoint(node, images, c, is_all)]
    problems = [f"{c.workload}: {problem}" for c in wanted for problem in c.problems]
    print_found(
        arguments.output,
        [_document(one) for one in found],
        [f"{one.workload}@{one.number}" for one in found],
        table("WORKLOAD REVISION DIGESTS MANIFEST IMAGES TOKEN", map(_row, found)),
        empty=f"no checkpoints in {node.store.root}",
    )
    for line in dict.fromkeys((*_reasons(found), *problems)):
        note(line)
    is_good = bool(found) and not problems and all(one.is_good for one in found)
    return 0 if is_good else EXIT_NO


def _checkpoint(node: LocalNode, images: _Images, checkpoint: Checkpoint, is_all: bool) -> _Found:
    if not checkpoint.revisions:
        return [Verified(checkpoint.workload, 0, checkpoint.problems or ("nothing is stored",))]
    revisions = checkpoint.revisions if is_all else checkpoint.revisions[:1]
    return [_revision(node, images, checkpoint, revision) for revision in revisions]


def _revision(
    node: LocalNode, images: _Images, checkpoint: Checkpoint, revision: Revision
) -> Verified:
    workload, number = checkpoint.workload, revision.number
    try:
        digests = node.store.verify(workload, number)
    except DiskError as error:
        return Verified(workload, number, (str(error),))
    folder = node.kubelet_directory
    found = examine(node.store, checkpoint, node.name, images, folder, revision=revision)
    if isinstance(found.refusals, Unknown):
        return Verified(workload, number, (*digests, found.refusals.reason))
    if isinstance(found.token_expires, Unknown):
        return Verified(workload, number, (*digests, found.token_expires.reason))
    return Verified(
        workload,
        number,
        digests,
        found.refusals.value,
        tuple(sorted(found.absent.value)) if isinstance(found.absent, Known) else (),
        images.unknown,
        found.token_expires.value,
        is_examined=True,
    )


class _Images:
    """Looks for images in the runtime; one that does not answer is asked once."""

    def __init__(self, node: LocalNode) -> None:
        self._runtime = node.runtime
        self.unknown = "" if node.runtime else "no container runtime socket was found"
        """Why it cannot be told any more."""

    def has_image(self, image: str) -> Fact[ImageInfo | None]:
        """Return what the runtime has under the image's name."""
        if self.unknown or self._runtime is None:
            return Unknown(self.unknown)
        fact = self._runtime.has_image(image)
        if isinstance(fact, Unknown):
            self.unknown = fact.reason
        return fact


def _row(one: Verified) -> tuple[str, ...]:
    head = (str(one.workload), str(one.number or "-"), "failed" if one.digests else "ok")
    if not one.is_examined:
        return (*head, "-", "-", "-")
    images = "missing" if one.absent_images else "unknown" if one.unknown else "present"
    return (*head, "refused" if one.manifest else "ok", images, _token(one.token_expiry))


def _token(expiry: float | None) -> str:
    if expiry is None:
        return "-"
    left = expiry - time.time()
    return f"ok: {age(left)} left" if left > 0 else f"expired: {age(-left)} ago"


def _reasons(found: list[Verified]) -> list[str]:
    lines = []
    for one in found:
        shown = f"{one.workload} revision {one.number}" if one.number else str(one.workload)
        lines += [f"{shown}: {problem}" for problem in one.digests]
        lines += [f"{shown}: the kubelet would refuse it: {why}" for why in one.manifest]
        lines += [
            f"{shown}: the runtime does not have image {image}; load it (ctr -n k8s.io images "
            "import, crictl pull) while a registry can be reached"
            for image in one.absent_images
        ]
    if unknown := next((one.unknown for one in found if one.unknown), ""):
        lines.append(f"images were not looked for: {unknown}")
    return lines


def _document(one: Verified) -> dict[str, Any]:
    return {
        "workload": str(one.workload),
        "revision": one.number or None,
        "good": one.is_good,
        "digestProblems": list(one.digests),
        "manifestRefusals": list(one.manifest),
        "absentImages": list(one.absent_images),
        "imagesUnknown": one.unknown or None,
        "tokenExpiry": timestamp(one.token_expiry),
    }
