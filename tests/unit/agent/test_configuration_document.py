"""docs/configuration.md says of every key what is true of it."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from checkpointer import config as config_module
from checkpointer.config import API_VERSION, KIND, Config, ConfigError, load, setting_keys

DOCUMENT = Path(__file__).parents[3] / "docs/configuration.md"
ROW = re.compile(r"\| `([\w.]+)` \| (\w+) \| `([^`]*)` \| (\S[^|]*\S) \|")
HEADER = f"apiVersion: {API_VERSION}\nkind: {KIND}\n"


def rows() -> dict[str, tuple[str, str]]:
    """Return type and default of each documented key."""
    found = [ROW.fullmatch(line) for line in DOCUMENT.read_text().splitlines()]
    return {match[1]: (match[2], match[3]) for match in found if match}


def default_of(key: str) -> tuple[str, Any]:
    """Return the field's name and the default of a key."""
    holder: Any = Config()
    for part in key.split("."):
        names = {config_module._key(item.name): item.name for item in fields(holder)}
        name = names[part]
        holder = getattr(holder, name)
    assert not is_dataclass(holder)
    return name, holder


def as_yaml(key: str, value: str) -> str:
    for part in reversed(key.split(".")):
        value = f"{{{part}: {value}}}"
    return value[1:-1]


def test_every_key_is_documented_once() -> None:
    """No setting without a row, no row without a setting."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if ROW.fullmatch(line)]
    assert len(lines) == len(rows())
    assert set(rows()) == set(setting_keys())


def test_every_row_can_be_read() -> None:
    """A row that this test could not read would be one that it does not check."""
    settings = [
        line
        for line in DOCUMENT.read_text().splitlines()
        if re.match(r"\| `[a-z]\w*(\.\w+)?` \| (?!-)", line) and line.count("|") > 4
    ]
    assert [line for line in settings if not ROW.fullmatch(line)] == []


@pytest.mark.parametrize("key", setting_keys())
def test_documented_default_is_the_default(key: str) -> None:
    """Writing a documented default into the file changes nothing."""
    documented = rows()[key][1]
    _, default = default_of(key)
    assert (documented == "null") == (default is None)
    assert load(f"{HEADER}{as_yaml(key, documented)}\n") == Config()


@pytest.mark.parametrize("key", setting_keys())
def test_documented_type_is_the_type(key: str) -> None:
    """The type in the table is the one that the schema takes."""
    name, default = default_of(key)
    expected = {bool: "boolean", int: "number", float: "number", str: "text"}.get(type(default))
    if isinstance(default, Path):
        expected = "path"
    if name.endswith("_seconds"):
        expected = "duration"
    if expected is None:
        expected = "mappings" if _takes_mappings(key) else "list"
    assert rows()[key][0] == expected


def _takes_mappings(key: str) -> bool:
    try:
        load(f"{HEADER}{as_yaml(key, '[{}]')}\n")
    except ConfigError:
        return False
    return True


def test_example_is_valid() -> None:
    """The example can be copied as it is."""
    text = DOCUMENT.read_text()
    example = re.search(r"(?m)^    apiVersion:.*\n(?:    .*\n)+", text)
    assert example
    config = load(re.sub(r"(?m)^    ", "", example[0]))
    assert config.timing.grace_seconds == 10.0
    assert config.selection.namespaces == ("kube-system", "edge")


def test_documented_messages_are_those_of_the_agent() -> None:
    """What the document shows of an error is what an operator will see."""
    with pytest.raises(ConfigError) as caught:
        load(None, overrides={"timing.grace": "soon", "log.levle": "debug"})
    text = DOCUMENT.read_text()
    assert all(problem in text for problem in caught.value.problems)
