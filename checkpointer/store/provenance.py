"""The JSON forms of what the store keeps: canonical to write, distrustful to read.

The same value always has the same bytes, so that a write of it can be skipped. Reading checks
every type by the annotation of the field it goes to: a damaged or tampered file is an error
that names the key, never a surprise later.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from checkpointer.core.checkpoint import HandOver, Record, Replaced, Revision
from checkpointer.core.hold import ACTIVE, RELEASED, Hold
from checkpointer.core.workload import Workload
from checkpointer.store.errors import StoreError

FORMAT = 1
JSON_LIMIT = 16 << 20
"""Bytes of a JSON file of ours; the kubelet takes manifests of less than 10 MiB."""

V = TypeVar("V", Revision, Record, HandOver, Replaced, Hold, Workload)


def canonical(value: Mapping[str, Any]) -> bytes:
    """Return the one way to write this value: sorted keys, no spaces, a newline."""
    return f"{_ENCODER.encode(value)}\n".encode()


def parse_object(content: bytes, shown: str) -> dict[str, Any]:
    """Return a JSON object; StoreError when it is none. No part of the content is shown."""
    try:
        text = content.decode(json.detect_encoding(content), "surrogatepass")  # as json.loads does
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise StoreError(f"{shown} is not JSON") from None
    if not isinstance(value, dict):
        raise StoreError(f"{shown} is not a JSON object")
    return value


def revision_json(workload: Workload, revision: Revision, warnings: tuple[str, ...]) -> bytes:
    """Return provenance.json: whose revision this is and all that is known of it."""
    return canonical(
        {
            "format": FORMAT,
            "workload": workload._asdict(),
            "revision": revision,
            "warnings": list(warnings),
        }
    )


def parse_revision(content: bytes, shown: str) -> tuple[Workload, Revision]:
    """Return what provenance.json says. Raises StoreError naming file and key."""
    value = _current(parse_object(content, shown), shown)
    workload = _typed(Workload, value.get("workload"), f"{shown}: workload")
    return workload, _typed(Revision, value.get("revision"), f"{shown}: revision")


def record_json(workload: Workload, record: Record) -> bytes:
    """Return record.json."""
    return canonical({"format": FORMAT, "workload": workload._asdict(), "record": record})


def parse_record(content: bytes, shown: str) -> tuple[Workload, Record]:
    """Return what record.json says. Raises StoreError naming file and key."""
    value = _current(parse_object(content, shown), shown)
    workload = _typed(Workload, value.get("workload"), f"{shown}: workload")
    return workload, _typed(Record, value.get("record"), f"{shown}: record")


def hold_json(workload: Workload, hold: Hold) -> bytes:
    """Return hold.json."""
    return canonical({"format": FORMAT, "workload": workload._asdict(), "hold": hold})


def parse_hold(content: bytes, shown: str) -> tuple[Workload, Hold]:
    """Return what hold.json says. Raises StoreError naming file and key."""
    value = _current(parse_object(content, shown), shown)
    workload = _typed(Workload, value.get("workload"), f"{shown}: workload")
    hold = _typed(Hold, value.get("hold"), f"{shown}: hold")
    if hold.wanted not in (ACTIVE, RELEASED):
        raise StoreError(f"{shown}: hold.wanted is neither {ACTIVE} nor {RELEASED}")
    return workload, hold


def parse_workload(value: object, shown: str) -> Workload:
    """Return the workload that a part of a file names. Raises StoreError naming file and key."""
    return _typed(Workload, value, shown)


def _current(value: dict[str, Any], shown: str) -> dict[str, Any]:
    if value.get("format") != FORMAT:
        raise StoreError(f"{shown}: format is not {FORMAT}")
    return value


def _typed(cls: type[V], value: object, shown: str) -> V:
    """Build the dataclass; keys it does not have are left out, for a later version's files."""
    if not isinstance(value, dict):
        raise StoreError(f"{shown} is missing")
    found: dict[str, Any] = {}
    for name, kind, is_needed in _FIELDS[cls]:
        if name in value:
            try:
                found[name] = _READERS[kind](value[name])
            except (TypeError, ValueError, OverflowError):
                raise StoreError(f"{shown}.{name} is not of type {kind}") from None
        elif is_needed:
            raise StoreError(f"{shown}.{name} is missing")
    return cls(**found)


def _refuse_constant(_: str) -> None:
    raise ValueError("not a number")


_FIELDS: dict[type, tuple[tuple[str, str, bool], ...]] = {
    cls: tuple((f.name, str(f.type), f.default is MISSING) for f in fields(cls))
    for cls in V.__constraints__
    if cls is not Workload
} | {Workload: tuple((name, "str", True) for name in Workload._fields)}
"""Each field's name, its annotation, and whether it has no default."""

_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _by_name(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields for the encoder, which asks for those of nested ones again."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False, default=_by_name
)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # a lone surrogate could not be printed or put into a name
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63:
        raise TypeError
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise TypeError
    return number


def _tuple_of(reader: Callable[[object], Any]) -> Callable[[object], tuple[Any, ...]]:
    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise TypeError
        return tuple(reader(item) for item in value)

    return read


def _pair(value: object) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise TypeError
    return _text(value[0]), _text(value[1])


def _hand_over(value: object) -> HandOver:
    try:
        return _typed(HandOver, value, "")
    except StoreError:
        raise TypeError from None


def _replaced(value: object) -> Replaced:
    try:
        return _typed(Replaced, value, "")
    except StoreError:
        raise TypeError from None


_READERS: dict[str, Callable[[object], Any]] = {
    "str": _text,
    "bool": _flag,
    "int": _whole,
    "float": _number,
    "tuple[str, ...]": _tuple_of(_text),
    "tuple[int, ...]": _tuple_of(_whole),
    "tuple[tuple[str, str], ...]": _tuple_of(_pair),
    "HandOver": _hand_over,
    "Replaced": _replaced,
}
"""By annotation; a test sees to it that every field's is here."""
