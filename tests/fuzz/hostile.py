"""What nobody would write on purpose, made of what is right: texts, JSON documents, bytes.

A document is changed in a few places, so that what is wrong is met deep inside and not only at
the door.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""For each target; 0 is the short run of every `make test`, the same each time."""

FUZZED = settings(
    max_examples=EXAMPLES or 25,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    # Making a failing example smaller takes minutes: in the long run only.
    phases=[Phase.explicit, Phase.generate] + ([Phase.shrink] if EXAMPLES else []),
    suppress_health_check=list(HealthCheck),
)

NAMES = st.sampled_from(
    [
        *["", ".", "..", "/", "//", "../../escaped", "/tmp/escaped", "a/../../b", "a/b", "-", "--"],
        *["a\0b", "a\nb", "a\rb", "\x1b[2J\x1b[31m", "\u202etxt.exe", "\ud800", "\udcff", "é", "İ"],
        *["x" * 64, "x" * 254, "x" * 300, "ü" * 200, "%2e%2e%2f", "%s%n", "{0}", "$(id)", "`id`"],
        *["..data", "..2026_01_01", ".state", "agent.sock", "current", "revisions", "record.json"],
        *["CON", "null", "true", "1e999", "kubernetes.io~secret", "pod-checkpointer-x.json"],
        *["$(A)", "$$(A)", "$(A", "__proto__", "a" * 5000, "\\", "\t", " ", "a b", "*", "?#@:"],
    ]
)
TEXTS = NAMES | st.text(max_size=8)
NUMBERS = st.sampled_from(
    [0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, True, False]
)
JSON = st.recursive(
    st.none() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
_DEEP = "[" * 100_000
Step = tuple[Any, Any]


def pick(draw: Callable[[Any], Any], things: Sequence[Any]) -> Any:
    """Return one of these: drawn alike however many there are, for files differ from run to run."""
    return things[draw(st.integers(0, 1 << 20)) % len(things)]


@st.composite
def mutated(draw: st.DrawFn, document: Any, most: int = 3) -> Any:
    """Return the JSON value with up to so many places of it changed, each somehow."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(0 if most > 1 else 1, most))):
        places = list(_places(changed))
        if not places:
            return draw(JSON)
        holder, key = pick(draw, places)
        match draw(st.integers(0, 4)):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[draw(TEXTS)] = holder.pop(key)
            case 2 if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
            case 3:
                holder[key] = draw(TEXTS)
            case _:
                holder[key] = draw(JSON)
    return changed


def _places(value: Any) -> Any:
    """Yield every place in a JSON value as what holds it and its key or index."""
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield value, key
            yield from _places(value[key])


@st.composite
def spoiled(draw: st.DrawFn, content: bytes) -> bytes:
    """Return bytes that are cut, flipped, doubled, filled with others, or something else."""
    at = pick(draw, range(len(content) + 1))
    to = min(len(content), at + draw(st.integers(0, 64)))
    match draw(st.integers(0, 6)):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + draw(st.binary(max_size=16)) + content[to:]
        case 2:
            return content[:to] + content[at:to] + content[to:]
        case 3:
            return bytes(content[:at]) + b"\0" * (to - at) + content[to:]
        case 4:
            return content[:at] + draw(TEXTS).encode(errors="surrogatepass") + content[to:]
        case 5:
            return _DEEP.encode()
        case _:
            return draw(st.binary(max_size=64))


def document_or_bytes(content: bytes) -> st.SearchStrategy[bytes]:
    """Return a JSON file with its document changed, or its bytes spoiled."""
    changed = mutated(json.loads(content)).map(lambda d: json.dumps(d).encode())
    return changed | spoiled(content)
