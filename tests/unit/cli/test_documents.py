"""YAML and JSON mean here what they mean to kubectl and the kubelet."""

from __future__ import annotations

import io
import json
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.cli import documents
from checkpointer.cli.documents import DocumentError, as_yaml, read


@pytest.fixture
def read_text(tmp_path: Path) -> Any:
    def read_it(text: str | bytes) -> list[Any]:
        path = tmp_path / "input"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return list(read(str(path)))

    return read_it


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, True) for word in ("y", "Y", "yes", "Yes", "YES", "true", "on", "ON")),
        *((word, False) for word in ("n", "N", "no", "No", "NO", "False", "off", "Off")),
        *((f'"{word}"', word) for word in ("y", "no", "on", "true", "null", "0644", "1e3")),
        ("~", None),
        ("", None),
        ("Null", None),
        ("yEs", "yEs"),
        ("nO", "nO"),
        ("0644", 420),
        ("0o644", 420),
        ("0x1F", 31),
        ("-0b11", -3),
        ("1_000", 1000),
        ("08", 8),
        ("+5", 5),
        ("1.50", 1.5),
        (".5", 0.5),
        ("1e3", 1000),
        ("100m", "100m"),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("=", "="),
        ("0x", "0x"),
        ("1.2.3", "1.2.3"),
        ("18446744073709551615", 18446744073709551615),
        ("18446744073709551616", 18446744073709551616),
        ("!!str 5", "5"),
        ("!!binary aGk=", "hi"),
        ("!!timestamp 2026-01-01", "2026-01-01"),
    ],
)
def test_scalars_are_what_go_yaml_makes_of_them(read_text: Any, text: str, value: Any) -> None:
    """Where YAML's readers differ, the one that counts is that of kubectl and the kubelet."""
    (document,) = read_text(f"value: {text}\n")
    assert document == {"value": value}
    assert type(document["value"]) is type(value)


@pytest.mark.parametrize(
    "text", [".inf", "-.Inf", ".nan", "1e999", "!!set {a}", "!x y", "{[a]: b}"]
)
def test_what_json_cannot_hold_is_refused(read_text: Any, text: str) -> None:
    """kubectl turns YAML into JSON first; where that fails, so does this."""
    with pytest.raises(DocumentError, match="/input"):
        read_text(f"value: {text}\n")


def test_keys_become_texts(read_text: Any) -> None:
    """A label `1: x` has the name "1"."""
    assert read_text("{2: a, y: b, 1.5: c, d: e}") == [
        {"2": "a", "true": "b", "1.5": "c", "d": "e"}
    ]


def test_anchors_and_merges_work(read_text: Any) -> None:
    """As in hand-written files."""
    assert read_text("p: &x {a: 1}\nq: {<<: *x, b: 2}\nr: *x\n") == [
        {"p": {"a": 1}, "q": {"a": 1, "b": 2}, "r": {"a": 1}}
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("---\n---\n", [None, None]),
        ("a: 1\n---\nb: 2\n", [{"a": 1}, {"b": 2}]),
        ('{"a": 1}', [{"a": 1}]),
        ('{"a": 1}\n{"b": "y"}\n', [{"a": 1}, {"b": "y"}]),
        ('{a: y}\n---\n{"b": "y"}\n', [{"a": True}, {"b": "y"}]),
        ('\ufeff{"a": 1}', [{"a": 1}]),
        ('[{"a": 1}]', [[{"a": 1}]]),
    ],
)
def test_documents_may_follow_one_another(read_text: Any, text: str, found: list[Any]) -> None:
    """YAML's `---`, JSON after JSON as `jq` prints it, a byte order mark."""
    assert read_text(text) == found


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe", "not text in UTF-8 (byte 0)"),
        (b"a: b: c", "line 1: neither YAML nor JSON: mapping values are not allowed in this"),
        (b"a: 1\n\tb: 2\n", "line 2: neither YAML nor JSON"),
        (b"\0", "neither YAML nor JSON"),
        (b"[" * 100_000, "nested more than 500 levels deep"),
        (b'{"a":' * 100_000, "nested more than 500 levels deep"),
        (b"- " * 100_000, "nested more than 500 levels deep"),
        (BOMB.encode(), "its aliases stand for too much"),
        (b"&a [*a]", "its aliases stand for too much"),
        (b'{"a": NaN}{', "neither YAML nor JSON"),
        (b"!!python/object/apply:os.system [id]", "neither YAML nor JSON"),
    ],
    ids=lambda value: value[:12].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_rubbish_is_refused_by_name(read_text: Any, content: bytes, reason: str) -> None:
    """Quickly, with the reason, and with the line where there is one."""
    with pytest.raises(DocumentError) as caught:
        read_text(content)
    assert "/input" in str(caught.value)
    assert reason in str(caught.value)


def test_an_input_has_a_limit(read_text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's node has that many pods."""
    monkeypatch.setattr(documents, "LARGEST", 1 << 20)
    assert read_text(b"#" * (1 << 20)) == []
    with pytest.raises(DocumentError, match="larger than 1 MiB, give it in parts"):
        read_text(b"#" * ((1 << 20) + 1))


@pytest.mark.parametrize("name", ["missing", "", "a\0b"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    """Missing, a folder, no name at all."""
    path = f"{tmp_path}/{name}"
    with pytest.raises(DocumentError, match="cannot read ") as caught:
        list(read(path))
    assert path in str(caught.value)


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is called by its name."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a: y\n")))
    assert list(read("-")) == [{"a": True}]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    with pytest.raises(DocumentError, match="standard input: not text"):
        list(read("-"))


TRAPS = st.one_of(
    st.text(max_size=12),
    st.text("yYnNoOeEsSfFtTrRuU~", max_size=5),
    st.text(string.digits + "._:+-xobeETZinfa=<>", max_size=10),
)


@given(TRAPS)
def test_texts_stay_texts(text: str) -> None:
    """Whatever reads it, go-yaml's rules or PyYAML's: a text comes back as that text."""
    written = as_yaml({"value": text, text: ["x", text]})
    expected = {"value": text, text: ["x", text]}
    assert list(yaml.load_all(written, documents._Loader)) == [expected]
    assert yaml.safe_load(written) == expected


def test_order_is_kept_and_lines_are_not_folded() -> None:
    """What is printed is to be read by people, and compared by them."""
    long = "word " * 60
    assert as_yaml({"b": 1, "a": long.strip()}).splitlines() == ["b: 1", f"a: {long.strip()}"]
    assert json.loads(json.dumps(yaml.safe_load(as_yaml({"é": "ü"})))) == {"é": "ü"}
