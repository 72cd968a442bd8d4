"""From a sanitized manifest to the bytes that the kubelet reads, with our mark on them.

Equal content gives equal bytes. The mark tells a file of ours from anybody else's: a label and
annotations that agree with one another; what has not all of them is never ours to touch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from checkpointer.core.occupancy import WORKLOAD_LABEL
from checkpointer.core.workload import Workload
from checkpointer.errors import CheckpointerError
from checkpointer.manifest import PREFIX
from checkpointer.values import dataclass

CHECKPOINT_OF: Final = f"{PREFIX}checkpoint-of"
"""`namespace/Kind/name` of the workload."""
REVISION: Final = f"{PREFIX}revision"
ISSUE: Final = f"{PREFIX}issue"
NODE: Final = f"{PREFIX}node"
DIGEST: Final = f"{PREFIX}digest"
"""SHA-256 of the sanitized spec and the material."""

FILE_PREFIX: Final = "pod-checkpointer-"

_UID_NAMESPACE: Final = "6f1a7a36-6b0f-5c2e-9f0e-2f3a5c9b7d41"
_NAME_TAIL: Final = "-checkpoint-"
_LONGEST_NAME: Final = 253
_LONGEST_FILE: Final = 255
_LONGEST_MANIFEST: Final = 200
_LARGEST: Final = 10 << 20
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class RenderedManifest:
    """A file for the kubelet's manifest folder."""

    file_name: str
    pod_name: str
    """`metadata.name`; the kubelet appends a dash and the node's name."""
    uid: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """What a manifest says of itself when it is ours."""

    workload: Workload
    revision: int
    issue: int
    uid: str
    node: str
    digest: str


def canonical(value: Any) -> bytes:
    """Return the one JSON form of a value: sorted keys, no spaces, UTF-8, a newline at the end.

    Half a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD as in Go's decoder.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        repaired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return repaired.encode() + b"\n"


def content_digest(manifest: Mapping[str, Any], material_digest: str) -> str:
    """Return the SHA-256 (hex) of what a copy consists of.

    Give a manifest that was sanitized with a fixed material root, so that equal content has an
    equal digest whatever the number of its revision.
    """
    digest = hashlib.sha256(canonical(manifest))
    digest.update(material_digest.encode())
    return digest.hexdigest()


def render(
    manifest: Mapping[str, Any],
    workload: Workload,
    node_name: str,
    digest: str,
    revision: int,
    issue: int,
) -> RenderedManifest:
    """Return the file that makes the kubelet run this issue of a revision.

    Name and UID are new with every content and issue, and only then: the kubelet runs one pod
    per static pod name at a time and in an outage never frees it (K/pod_workers.go), and it
    takes an equal UID for the same pod. Raises CheckpointerError where the stored manifest's
    metadata is none.
    """
    uid = uid_of(workload, node_name, digest, issue)
    name = pod_name(workload, node_name, uid[:8])
    source = _object(manifest, "metadata", "")
    labels = _object(source, "labels", "metadata.")
    annotations = _object(source, "annotations", "metadata.")
    metadata = {
        **source,
        "name": name,
        "namespace": workload.namespace,
        "uid": uid,
        "labels": {**labels, WORKLOAD_LABEL: workload.digest},
        "annotations": {
            **annotations,
            CHECKPOINT_OF: f"{workload.namespace}/{workload.kind}/{workload.name}",
            REVISION: str(revision),
            ISSUE: str(issue),
            NODE: node_name,
            DIGEST: digest,
        },
    }
    content = canonical({**manifest, "metadata": metadata})
    return RenderedManifest(file_name(workload), name, uid, content)


def _object(above: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    found = above.get(key)
    if found is not None and not isinstance(found, Mapping):
        raise CheckpointerError(f"{path}{key}: expected an object")
    return found or {}


def uid_of(workload: Workload, node_name: str, digest: str, issue: int) -> str:
    """Return the UID of one issue: stable over restarts and upgrades of the kubelet."""
    import uuid  # only to write; whoever reads a mark need not wait for it

    parts = (workload.namespace, workload.kind, workload.name, node_name, digest, str(issue))
    return str(uuid.uuid5(uuid.UUID(_UID_NAMESPACE), "\0".join(parts)))


def pod_name(workload: Workload, node_name: str, suffix: str) -> str:
    """Return `metadata.name`: the controller's name, cut to fit, `-checkpoint-`, the suffix.

    With `-<node>`, which the kubelet appends, it must be a name of at most 253 characters, and
    with namespace and UID a folder name of at most 255 (/var/log/pods/<ns>_<name>_<uid>).
    """
    tail = f"{_NAME_TAIL}{suffix}"
    longest = min(_LONGEST_NAME, _LONGEST_FILE - len(workload.namespace) - 1 - 1 - 36)
    room = max(longest - len(tail) - 1 - len(node_name), 1)
    stem = re.sub(r"[^-a-z0-9.]", "-", workload.name.lower())[:room].strip("-.")
    stem = re.sub(r"-*\.[-.]*", ".", stem)
    return f"{stem or 'p'}{tail}"


def file_name(workload: Workload) -> str:
    """Return the manifest's file name: for people to read, yet different for every workload.

    The same for all revisions and issues, so that renaming a file into place replaces the one
    before. It ends in the workload's digest, since `a-b/c` and `a/b-c` read alike.
    """
    tail = f"-{workload.digest}.json"
    text = f"{FILE_PREFIX}{workload.namespace}-{workload.kind.lower()}-{workload.name}"
    readable = re.sub(r"[^-a-z0-9.]", "-", text.lower())
    return readable[: _LONGEST_MANIFEST - len(tail)] + tail


def mark_of(content: bytes) -> Mark | None:
    """Return what a manifest file says of itself, or None when it is not, or not wholly, ours.

    Never raises, whatever the bytes are.
    """
    if len(content) > _LARGEST:
        return None
    try:
        manifest = json.loads(content.decode())
    except (ValueError, RecursionError):
        return None
    metadata = _mapping(_mapping(manifest).get("metadata"))
    labels = _mapping(metadata.get("labels"))
    annotations = _mapping(metadata.get("annotations"))
    parts = _text(annotations.get(CHECKPOINT_OF)).split("/")
    uid, node = _text(metadata.get("uid")), _text(annotations.get(NODE))
    digest = _text(annotations.get(DIGEST))
    revision = _number(annotations.get(REVISION))
    issue = _number(annotations.get(ISSUE))
    if len(parts) != 3 or revision is None or issue is None or not (uid and node and digest):
        return None
    try:
        workload = Workload(*parts)
        is_ours = labels.get(WORKLOAD_LABEL) == workload.digest and uid == uid_of(
            workload, node, digest, issue
        )
    except UnicodeEncodeError:
        return None
    return Mark(workload, revision, issue, uid, node, digest) if is_ours else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else None
