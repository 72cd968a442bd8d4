"""Where things lie in the store, and names that cannot climb out of it.

    <root>/<namespace>/<workload>/current               number of the current revision
                                 /record.json           what is remembered of the workload
                                 /hold.json             what an operator wants of it by hand
                                 /revisions/<n>/manifest.json provenance.json digests.json
                                               /material/<volume>/...
    <root>/.state/<name>.json                           small state of the node
    <root>/agent.sock                                   the running agent's socket, for root

`encode` is total and injective: any text becomes one file name, two texts never the same one.
Names that begin with a dot are never a namespace, a workload or a revision.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from checkpointer.core.workload import Workload

CURRENT = "current"
RECORD = "record.json"
HOLD = "hold.json"
REVISIONS = "revisions"
MANIFEST = "manifest.json"
PROVENANCE = "provenance.json"
DIGESTS = "digests.json"
MATERIAL = "material"
STATE = ".state"
SOCKET = "agent.sock"
"""The running agent's socket in the root: no namespace, which is a DNS label without dots."""

_LIMIT = 200
"""Bytes of an encoded name; file systems take 255."""
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789.-")
_PLAIN_NAME = re.compile(r"[a-z0-9-][a-z0-9.-]*")
"""What is its own encoded name."""
_KINDS = {
    kind.lower(): kind
    for kind in (
        "DaemonSet",
        "Deployment",
        "Job",
        "Node",
        "Pod",
        "ReplicaSet",
        "ReplicationController",
        "StatefulSet",
    )
}
"""Kinds that are written in lower case, for people; any other one keeps its case, encoded."""
_OTHER_KIND = "x-"
_REVISION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
LAST_NUMBER = 10**18 - 1
"""The greatest number of a revision; a greater one in a name or a pointer is none of ours."""


def encode(text: str) -> str:
    """Return a file name for any text: `%XX` for all but a-z, 0-9, `-` and a dot inside.

    A long name is cut and ends in `%-` and the text's SHA-256, which no other one can.
    """
    if len(text) <= _LIMIT and _PLAIN_NAME.fullmatch(text):
        return text
    raw = text.encode("utf-8", "surrogatepass")
    name = "".join(
        chr(byte) if byte in _PLAIN and not (byte == 0x2E and index == 0) else f"%{byte:02X}"
        for index, byte in enumerate(raw)
    )
    name = name or "%"
    if len(name) <= _LIMIT:
        return name
    import hashlib  # rarely needed

    return f"{name[: _LIMIT - 66]}%-{hashlib.sha256(raw).hexdigest()}"


def decode(name: str) -> str | None:
    """Return the text of an encoded name; None for a shortened one and for any other name."""
    try:
        text = _unquote(name).decode("utf-8", "surrogatepass")
    except ValueError:
        return None
    return text if encode(text) == name else None


def _unquote(name: str) -> bytes:
    if name == "%":
        return b""
    first, *rest = name.split("%")
    return first.encode("ascii") + b"".join(
        bytes.fromhex(part[:2]) + part[2:].encode("ascii") for part in rest
    )


def workload_name(workload: Workload) -> str:
    """Return the name of the workload's folder within its namespace: kind, dot, name."""
    kind = workload.kind
    if _KINDS.get(kind.lower()) == kind:
        return encode(f"{kind.lower()}.{workload.name}")
    escaped = kind.replace("%", "%25").replace(".", "%2E")  # the first dot ends the kind
    return encode(f"{_OTHER_KIND}{escaped}.{workload.name}")


def workload_of_names(namespace_name: str, name: str) -> Workload | None:
    """Return whose folder this is; None when it is nobody's or the name was shortened."""
    namespace, text = decode(namespace_name), decode(name)
    if namespace is None or text is None:
        return None
    kind, dot, workload = text.partition(".")
    if not dot:
        return None
    known: str | None
    if kind.startswith(_OTHER_KIND):
        known = kind.removeprefix(_OTHER_KIND).replace("%2E", ".").replace("%25", "%")
    else:
        known = _KINDS.get(kind)
    if known is None:
        return None
    found = Workload(namespace, known, workload)
    return found if workload_name(found) == name else None


def revision_number(name: str) -> int | None:
    """Return the number that a revision's folder name stands for; None for any other name."""
    return int(name) if _REVISION.fullmatch(name) else None


@functools.lru_cache(maxsize=2048)
def workload_folder(root: Path, workload: Workload) -> Path:
    """Return the folder of everything that is stored of a workload."""
    return root / encode(workload.namespace) / workload_name(workload)


def revision_folder(root: Path, workload: Workload, number: int) -> Path:
    """Return the folder of one revision."""
    return workload_folder(root, workload) / REVISIONS / str(number)
