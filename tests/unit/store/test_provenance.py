"""What is kept comes back as it was, and a damaged file is an error that names the key."""

from __future__ import annotations

import json
import typing
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.core.checkpoint import HandOver, Record, Replaced, Revision
from checkpointer.core.hold import ACTIVE, RELEASED, Hold
from checkpointer.core.workload import Workload
from checkpointer.store.errors import StoreError
from checkpointer.store.provenance import (
    _READERS,
    canonical,
    hold_json,
    parse_hold,
    parse_record,
    parse_revision,
    record_json,
    revision_json,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
WHOLE = st.integers(-(2**63) + 1, 2**63 - 1)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
OF_TYPE = {
    "str": TEXT,
    "int": WHOLE,
    "float": NUMBER,
    "bool": st.booleans(),
    "tuple[str, ...]": st.lists(TEXT).map(tuple),
    "tuple[int, ...]": st.lists(WHOLE).map(tuple),
    "tuple[tuple[str, str], ...]": st.lists(st.tuples(TEXT, TEXT)).map(tuple),
}
for part in (HandOver, Replaced):
    OF_TYPE[part.__name__] = st.builds(
        part, **{field.name: OF_TYPE[field.type] for field in fields(part)}
    )
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def values(cls):
    """Any value of the dataclass, by its fields' annotations."""
    if cls is Workload:
        return st.builds(Workload, TEXT, TEXT, TEXT)
    return st.builds(cls, **{field.name: OF_TYPE[field.type] for field in fields(cls)})


@pytest.mark.parametrize("cls", [Revision, Record, HandOver, Replaced, Hold])
def test_every_field_has_a_reader(cls):
    """A field that is added to what is stored can be read back."""
    assert {field.type for field in fields(cls)} <= set(_READERS)
    assert set(_READERS) == set(OF_TYPE)


@given(values(Workload), values(Revision))
def test_revision_comes_back(workload, revision):
    """Writing and reading are inverse, and the bytes are stable."""
    content = revision_json(workload, revision, ())
    assert parse_revision(content, "f") == (workload, revision)
    assert revision_json(*parse_revision(content, "f"), ()) == content


@given(values(Workload), values(Record))
def test_record_comes_back(workload, record):
    """Writing and reading are inverse."""
    assert parse_record(record_json(workload, record), "f") == (workload, record)


@given(values(Workload), values(Hold), st.sampled_from([ACTIVE, RELEASED]))
def test_hold_comes_back(workload, hold, wanted):
    """Writing and reading are inverse; what it may want is one of two things."""
    hold = replace(hold, wanted=wanted)
    assert parse_hold(hold_json(workload, hold), "f") == (workload, hold)
    with pytest.raises(StoreError, match=r"^f: hold\.wanted is neither active nor released$"):
        parse_hold(hold_json(workload, replace(hold, wanted="gone")), "f")


@given(values(Record), st.sampled_from([field.name for field in fields(Record)]), JSON)
def test_any_json_in_a_field_is_a_value_or_an_error(record, name, value):
    """Nothing of a wrong type gets through, and nothing else is raised."""
    content = json.loads(record_json(Workload("n", "k", "x"), record))
    content["record"][name] = value
    hint = typing.get_type_hints(Record)[name]
    said = None
    try:
        _, parsed = parse_record(json.dumps(content).encode(), "f")
        assert isinstance(getattr(parsed, name), typing.get_origin(hint) or hint)
    except StoreError as error:
        said = str(error)
    assert said in (None, "f is not JSON") or said.startswith(f"f: record.{name} is not of type ")


@given(st.binary())
def test_any_bytes_are_a_value_or_an_error(content):
    """A damaged file never raises anything but the store's own error."""
    for parse in (parse_record, parse_revision):
        with pytest.raises(StoreError):
            parse(content, "f")


def test_unknown_keys_are_left_out():
    """A file of a later version is read for what this one knows."""
    content = json.loads(record_json(Workload("n", "k", "x"), Record(issue=2)))
    content["record"]["later"] = 1
    assert parse_record(json.dumps(content).encode(), "f")[1] == Record(issue=2)


def test_missing_key_is_named():
    """The message leads to the place."""
    content = json.loads(record_json(Workload("n", "k", "x"), Record()))
    del content["workload"]["kind"]
    with pytest.raises(StoreError, match=r"^f: workload\.kind is missing$"):
        parse_record(json.dumps(content).encode(), "f")


def test_canonical_form_is_stable():
    """The order of keys does not change the bytes."""
    assert canonical({"b": [1], "a": "\u00e9"}) == b'{"a":"\\u00e9","b":[1]}\n'
