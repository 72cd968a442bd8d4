"""The form in which the store keeps what is remembered of the agent itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from checkpointer.core.checkpoint import OwnRecord
from checkpointer.core.facts import Unknown
from checkpointer.core.workload import Workload
from checkpointer.store.errors import StoreError
from checkpointer.store.provenance import parse_workload
from checkpointer.store.revisions import Store

OWN_STATE = "itself"
"""Name of the state in the store that holds what is remembered of the agent itself."""


def own_state(record: OwnRecord) -> dict[str, Any]:
    """Return the record as a state of the node."""
    workload = record.workload
    return asdict(record) | {"workload": workload._asdict() if workload is not None else None}


def parse_own(state: Mapping[str, Any]) -> OwnRecord:
    """Return the record that a state holds; the default for an empty one. Raises StoreError."""
    found: dict[str, Any] = {}
    for field in fields(OwnRecord):
        value = state.get(field.name)
        if value is None:
            continue
        if field.name == "workload":
            found[field.name] = parse_workload(value, "workload")
        elif type(value) is type(field.default):
            found[field.name] = value
        else:
            raise StoreError(f"{field.name} is not of type {field.type}")
    return OwnRecord(**found)


def own_workload(store: Store) -> Workload | None:
    """Return whose pods the agent's were when it last ran; None when nobody can tell."""
    state = store.read_state(OWN_STATE)
    if isinstance(state, Unknown):
        return None
    try:
        return parse_own(state.value).workload
    except StoreError:
        return None
