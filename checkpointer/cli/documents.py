"""Reading and writing YAML and JSON as Kubernetes does.

`kubectl` and the kubelet read YAML 1.1 by go-yaml's rules, which are not PyYAML's: `y` is a
boolean, `2026-01-01` and `12:30` are texts, `0o644` is a number. What is read here means what it
would mean to them, and what is written here is read by them as it was meant.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from checkpointer import shallow_yaml
from checkpointer.errors import CheckpointerError

LARGEST = 64 << 20
"""Bytes of one input; a node's 250 pods are a few MiB."""
_MOST_VALUES = 5_000_000
"""In one document with its aliases written out: a few lines of YAML can stand for billions."""

_TAG = "tag:yaml.org,2002:"
_SCALARS = (
    (
        "bool",
        r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
        "yYnNtTfFoO",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (
        "int",
        r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|0[0-7_]*|[1-9][0-9_]*)",
        "-+0123456789",
    ),
    (
        "float",
        r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)
"""Tag, form and first characters of what is not a text (go-yaml v2, resolve.go)."""


class DocumentError(CheckpointerError):
    """An input could not be read, or is neither YAML nor JSON; the message names it."""


_SafeLoader: Any = shallow_yaml.loader()
_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """PyYAML's parser with go-yaml's rules for scalars."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as in the base class


class _Dumper(_SafeDumper):  # type: ignore[misc]
    """Quotes whatever PyYAML or go-yaml would take for something else than a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: list(resolvers) for first, resolvers in _SafeDumper.yaml_implicit_resolvers.items()
    }


def read(name: str) -> Iterator[Any]:
    """Yield the documents of a file (`-`: standard input) as JSON's kinds of values.

    Raises DocumentError, which names the file and, where it can be told, the line.
    """
    shown = "standard input" if name == "-" else name
    text = _text(name, shown)
    if text.lstrip()[:1] in ("{", "["):
        documents = _json_documents(text)
        if documents is not None:
            yield from documents
            return
    try:
        for document in yaml.load_all(text, _Loader):
            _check_size(document)
            yield _jsonable(document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise DocumentError(f"{shown}{line}: neither YAML nor JSON: {error.problem}") from None
    except yaml.YAMLError as error:
        raise DocumentError(f"{shown}: neither YAML nor JSON") from error
    except (ValueError, OverflowError) as error:
        raise DocumentError(f"{shown}: {error}") from error
    except RecursionError:
        raise DocumentError(f"{shown}: nested too deeply") from None


def as_yaml(value: Any) -> str:
    """Return a value as one YAML document that kubectl and the kubelet read as it is."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 30)
    return text


def _text(name: str, shown: str) -> str:
    try:
        if name == "-":
            content = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DocumentError(f"cannot read {shown}: {reason}") from error
    if len(content) > LARGEST:
        raise DocumentError(f"{shown}: larger than {LARGEST >> 20} MiB, give it in parts")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{shown}: not text in UTF-8 (byte {error.start})") from None


def _json_documents(text: str) -> list[Any] | None:
    """Return JSON values that follow one another, or None when it is not JSON: YAML may be."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    documents, position = [], 0
    try:
        while (position := _skip_space(text, position)) < len(text):
            document, position = decoder.raw_decode(text, position)
            documents.append(_jsonable(document))
    except (ValueError, RecursionError):
        return None
    return documents


def _skip_space(text: str, position: int) -> int:
    found = re.compile(r"[ \t\r\n]*").match(text, position)
    return found.end() if found else position


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _check_size(document: Any) -> None:
    """Raise ValueError for a document of which aliases would make too much."""
    sizes: dict[int, int] = {}

    def size(value: Any) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) not in sizes:
            sizes[id(value)] = _MOST_VALUES  # of one that contains itself
            inside = value.values() if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(map(size, inside))
        return sizes[id(value)]

    if size(document) > _MOST_VALUES:
        raise ValueError("its aliases stand for too much")


def _jsonable(value: Any) -> Any:
    """Return a value as it is after its way through JSON. Raises ValueError when there is none."""
    match value:
        case dict():
            return {_key(key): _jsonable(inside) for key, inside in value.items()}
        case list():
            return [_jsonable(inside) for inside in value]
        case float() if not math.isfinite(value):
            raise ValueError(f"{value} is not a number that JSON has")
        case float() if value.is_integer() and abs(value) < 1e21:
            return int(value)
        case bytes():
            return value.decode(errors="replace")
        case str():
            return _whole(value)
        case bool() | int() | float() | None:
            return value
    raise ValueError(f"a {type(value).__name__} is not a value that JSON has")


def _whole(text: str) -> str:
    """Return the text with U+FFFD for half a surrogate pair, as Go's decoder has it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _key(key: Any) -> str:
    match key:
        case str():
            return _whole(key)
        case bool():
            return "true" if key else "false"
        case int():
            return str(key)
        case float():
            return f"{key:g}"
    raise ValueError("a key that is neither text nor number")


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    text = loader.construct_scalar(node).replace("_", "")
    digits = text.lstrip("+-")
    is_octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
    number = int(text, 8) if is_octal else int(text, 0)
    return number if -(1 << 63) <= number < 1 << 64 else float(number)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _prepare() -> None:
    for kind, form, first in _SCALARS:
        for target in (_Loader, _Dumper):
            target.add_implicit_resolver(f"{_TAG}{kind}", re.compile(f"(?:{form})$"), list(first))
    _Loader.bool_values = {"y": True, "n": False, **_SafeLoader.bool_values}
    _Loader.add_constructor(f"{_TAG}int", _construct_int)
    _Loader.add_constructor(f"{_TAG}float", _construct_float)
    for kind in ("timestamp", "merge"):
        _Loader.add_constructor(f"{_TAG}{kind}", _SafeLoader.construct_yaml_str)


_prepare()
