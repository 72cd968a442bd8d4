"""The form of an API object, and the two walks over it that everything else here relies on.

A `Table` has one `Row` per field of an API type: its JSON form and what becomes of it in a
copy. `misfits` tells where a value would not decode as the kubelet decodes it, `take` makes the
copy. After `misfits` found nothing, code may trust the types it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from math import isfinite
from typing import Any, Final, Union

from checkpointer.manifest.verdict import Finding, Ledger
from checkpointer.values import dataclass


class Kind(Enum):
    """JSON forms of the v1 API. Integers are Go's int32 and int64: 1.5 and "1" do not decode."""

    TEXT = "string"
    INT32 = "int32"
    INT64 = "int64"
    BOOL = "bool"
    QUANTITY = "quantity"
    INT_OR_TEXT = "int or string"
    TEXTS = "list of strings"
    INTS = "list of integers"
    MAP = "map of strings"
    QUANTITIES = "map of quantities"
    ANY = "any value"
    """Never looked at: the field is dropped or refused as a whole."""


class Treatment(Enum):
    """What becomes of a field in the copy."""

    KEPT = "kept"
    DROPPED = "dropped"
    WARNED = "dropped with a warning"
    REWRITTEN = "rewritten"
    SUBSTITUTED = "substituted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Each:
    """A list of objects of one table."""

    table: Table


Shape = Union[Kind, Each, "Table"]


@dataclass(frozen=True, slots=True)
class Row:
    """One field: its form, its treatment, and the reason where it is not simply kept."""

    shape: Shape
    treatment: Treatment = Treatment.KEPT
    reason: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One API type. `unknown` tells what becomes of fields that have no row."""

    name: str
    rows: Mapping[str, Row]
    unknown: Treatment = Treatment.WARNED


UNKNOWN_REASON: Final = "unknown to this version of the checkpointer"
_UNKNOWN_CURE: Final = "update the checkpointer, or leave the field out of the pod"


def misfits(value: Any, shape: Shape, path: str) -> list[Finding]:
    """Return what in `value` would not decode as `shape`; unknown fields are fine.

    The kubelet's decoder is not strict (K/config/common.go:tryDecodeSinglePod). A null stands
    for an absent field; in a list it would be an empty object, which no rule lets pass.
    """
    found: list[Finding] = []
    _check(value, shape, path, found)
    return found


def take(value: Mapping[str, Any], table: Table, path: str, ledger: Ledger) -> dict[str, Any]:
    """Return a deep copy of `value` without nulls and without what the table drops.

    Dropped, refused and unknown fields are recorded; fields to rewrite are copied as they are.
    """
    copy: dict[str, Any] = {}
    for name, item in value.items():
        if item is None:
            continue
        row = table.rows.get(name)
        if row is None:
            _meet_unknown(f"{path}.{name}", table, ledger)
            continue
        treatment = row.treatment
        if treatment in _LEFT_OUT:
            if not _is_unset(item, row.shape):
                _leave_out(f"{path}.{name}", row, ledger)
            continue
        copy[name] = _copy(item, row.shape, f"{path}.{name}", ledger)
    return copy


_LEFT_OUT = frozenset({Treatment.DROPPED, Treatment.WARNED, Treatment.REFUSED})


def _meet_unknown(path: str, table: Table, ledger: Ledger) -> None:
    if table.unknown is Treatment.REFUSED:
        ledger.refuse(path, UNKNOWN_REASON, _UNKNOWN_CURE)
        return
    ledger.change(path, "dropped", UNKNOWN_REASON)
    ledger.warn(path, f"{UNKNOWN_REASON}: dropped", _UNKNOWN_CURE)


def _leave_out(path: str, row: Row, ledger: Ledger) -> None:
    if row.treatment is Treatment.REFUSED:
        ledger.refuse(path, row.reason, row.cure)
        return
    ledger.change(path, "dropped", row.reason)
    if row.treatment is Treatment.WARNED:
        ledger.warn(path, row.reason, row.cure)


def _is_unset(item: Any, shape: Shape) -> bool:
    """Tell whether Go would see the zero value, so that there is nothing to speak of."""
    if item == {}:
        return shape in (Kind.MAP, Kind.QUANTITIES)
    return item in ("", []) or item is False


def _copy(item: Any, shape: Shape, path: str, ledger: Ledger) -> Any:
    if isinstance(shape, Kind):
        if isinstance(item, (str, int)):
            return item
        return clone(item)
    if isinstance(shape, Table):
        return take(item, shape, path, ledger)
    return [
        take(element, shape.table, f"{path}[{index}]", ledger) for index, element in enumerate(item)
    ]


def clone(value: Any) -> Any:
    """Return a deep copy of a JSON value, without nulls in its objects."""
    if isinstance(value, Mapping):
        return {key: clone(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [clone(item) for item in value]
    return value


def _check(value: Any, shape: Shape, path: str, found: list[Finding]) -> None:
    if value is None:
        return
    if isinstance(shape, Kind):
        if not _FITS[shape](value):
            found.append(Finding(path, f"expected {shape.value}, found {_describe(value)}"))
    elif isinstance(shape, Table):
        if not isinstance(value, Mapping):
            found.append(Finding(path, f"expected an object, found {_describe(value)}"))
            return
        rows = shape.rows
        for name, item in value.items():
            row = rows.get(name)
            if row is not None:
                _check(item, row.shape, f"{path}.{name}" if path else name, found)
    elif isinstance(value, list):
        for index, element in enumerate(value):
            if element is None:
                found.append(Finding(f"{path}[{index}]", "expected an object, found null"))
            _check(element, shape.table, f"{path}[{index}]", found)
    else:
        found.append(Finding(path, f"expected a list, found {_describe(value)}"))


def _describe(value: Any) -> str:
    """Name the JSON form of a value; never the value, which may be a secret."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, (int, float)):
        return "a number"
    return "an object" if isinstance(value, Mapping) else "a list"


def _is_int(value: Any, bits: int) -> bool:
    limit = 1 << (bits - 1)
    return isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit


def _is_quantity(value: Any) -> bool:
    """Tell whether a value can be a quantity; JSON has no infinity and no NaN."""
    if isinstance(value, float):
        return isfinite(value)
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(item, str) or item is None for item in value.values()
    )


_FITS: Final[dict[Kind, Callable[[Any], bool]]] = {
    Kind.TEXT: lambda value: isinstance(value, str),
    Kind.INT32: lambda value: _is_int(value, 32),
    Kind.INT64: lambda value: _is_int(value, 64),
    Kind.BOOL: lambda value: isinstance(value, bool),
    Kind.QUANTITY: _is_quantity,
    Kind.INT_OR_TEXT: lambda value: isinstance(value, str) or _is_int(value, 32),
    Kind.TEXTS: lambda value: (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    ),
    Kind.INTS: lambda value: isinstance(value, list) and all(_is_int(item, 64) for item in value),
    Kind.MAP: _is_map,
    Kind.QUANTITIES: lambda value: (
        isinstance(value, Mapping) and all(_is_quantity(item) for item in value.values())
    ),
    Kind.ANY: lambda _: True,
}
