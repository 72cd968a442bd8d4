"""`$(NAME)` references as the kubelet expands them.

Rules of third_party/forked/golang/expansion/expand.go: `$(NAME)` is replaced where NAME is
known and stays as it is where it is not; `$$` is an escaped `$`; any other `$` is itself. Only
`value` of an environment entry, `command`, `args` and `subPathExpr` are expanded, never a value
that comes from a reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# What the kubelet would change: an escaped dollar, a reference, and a dollar before a character
# outside ASCII, whose first byte alone Go's string(byte) turns into another character.
_EXPANDABLE = re.compile(r"\$[$(\u0080-\U0010ffff]")
_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def escape(value: str) -> str:
    """Return a text that the kubelet expands to exactly `value`.

    Every dollar is doubled, since `$$(A)` and `$(A)` both need it; but only where the kubelet
    would change something, so that ordinary values stay readable.
    """
    return value.replace("$", "$$") if _EXPANDABLE.search(value) else value


def referred_names(text: str) -> Iterator[str]:
    """Yield the names of the references in `text`, escaped ones left out."""
    for match in _REFERENCE.finditer(text):
        if match.group(1) is not None:
            yield match.group(1)


def unset_references(entries: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the names that values of an environment refer to before an entry sets them.

    The kubelet expands in the order of the entries, and from services where none has come yet
    (K/kubelet_pods.go:makeEnvironmentVariables).
    """
    found: set[str] = set()
    known: set[Any] = set()
    for entry in entries:
        value = entry.get("value") or ""
        if "$(" in value:
            found.update(name for name in referred_names(value) if name not in known)
        known.add(entry.get("name"))
    return found
