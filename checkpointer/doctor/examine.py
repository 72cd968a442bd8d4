"""Looking into one stored checkpoint: would its revision run here, as things are now?

What `doctor`, `prepare-reboot` and `verify` have in common. Reading the store has verified the
digests already; this adds what the node has to do with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from checkpointer.core.checkpoint import Checkpoint, Revision
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.doctor.facts import Examined
from checkpointer.errors import CheckpointerError
from checkpointer.manifest.acceptance import refusals
from checkpointer.manifest.render import render
from checkpointer.node.images import PRELOADED, ImageService, PullPolicy, look_up
from checkpointer.store.revisions import Store

_NO_RUNTIME = Unknown("the container runtime does not answer: images cannot be told")


def examine(
    store: Store,
    checkpoint: Checkpoint,
    node_name: str,
    runtime: ImageService | None,
    kubelet_dir: Path,
    policy: PullPolicy = PRELOADED,
    revision: Revision | None = None,
) -> Examined:
    """Return what would become of the checkpoint if it were activated now.

    That is with the revision that serves, unless another one is named.
    """
    blank = Examined(checkpoint, Known(()), Known(frozenset()), Known(frozenset()), Known(None))
    revision = revision or blank.serving
    if revision is None:
        return blank
    workload = checkpoint.workload
    expires = _token_expiry(store, workload, revision.number)
    try:
        manifest = store.manifest(workload, revision.number)
    except CheckpointerError as error:
        reason = Unknown(str(error))
        return Examined(checkpoint, reason, reason, reason, expires)
    absent, restricted = _images(manifest, runtime, kubelet_dir, policy)
    found = _refusals(manifest, workload, revision, node_name)
    return Examined(checkpoint, Known(found), absent, restricted, expires)


def _token_expiry(store: Store, workload: Workload, number: int) -> Fact[float | None]:
    try:
        return Known(store.token_expiry(workload, number))
    except CheckpointerError as error:
        return Unknown(str(error))


def _images(
    manifest: Mapping[str, Any], runtime: ImageService | None, kubelet_dir: Path, policy: PullPolicy
) -> tuple[Fact[frozenset[str]], Fact[frozenset[str]]]:
    """Return the images that are absent, and those that would be pulled again."""
    if runtime is None:
        return _NO_RUNTIME, _NO_RUNTIME
    images = look_up(manifest, runtime, kubelet_dir, pin=False, policy=policy)
    absent: Fact[frozenset[str]] = Known(images.absent)
    if images.unknown:
        absent = Unknown(images.unknown)
    return absent, images.restricted


def _refusals(
    manifest: Mapping[str, Any], workload: Workload, revision: Revision, node_name: str
) -> tuple[str, ...]:
    """Return why the kubelet would refuse the file that activating it would write."""
    if not isinstance(manifest.get("metadata"), Mapping):
        return ("metadata: expected an object",)
    try:
        rendered = render(manifest, workload, node_name, revision.digest, revision.number, 1)
    except CheckpointerError as error:
        return (str(error),)
    metadata = {
        **manifest["metadata"],
        "name": rendered.pod_name,
        "namespace": workload.namespace,
        "uid": rendered.uid,
    }
    found = refusals({**manifest, "metadata": metadata}, node_name, len(rendered.content))
    return tuple(f"{finding.path}: {finding.reason}".removeprefix(": ") for finding in found)
