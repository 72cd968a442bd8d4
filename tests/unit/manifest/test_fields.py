"""The tables name every field that the newest `kubernetes` package knows."""

from __future__ import annotations

import re
from typing import Any

import kubernetes.client
import pytest

from checkpointer.manifest.fields import POD
from checkpointer.manifest.shapes import Each, Kind, Row, Shape, Table, Treatment

_KINDS = {
    "str": (Kind.TEXT, Kind.QUANTITY),
    "int": (Kind.INT32, Kind.INT64),
    "bool": (Kind.BOOL,),
    "object": (Kind.INT_OR_TEXT,),
    "List[str]": (Kind.TEXTS,),
    "List[int]": (Kind.INTS,),
    "Dict[str, str]": (Kind.MAP, Kind.QUANTITIES),
    "Dict(str, str)": (Kind.MAP, Kind.QUANTITIES),
}


def _walk(model: str, shape: Shape, path: str) -> list[tuple[str, str, Any]]:
    """Return (path, type in the model, row or None) for all fields below a model."""
    table = shape.table if isinstance(shape, Each) else shape
    if not isinstance(table, Table):
        return []
    found = []
    cls = getattr(kubernetes.client, model)
    for attribute, kind in cls.openapi_types.items():
        name = cls.attribute_map[attribute]
        row = table.rows.get(name)
        found.append((f"{path}.{name}", kind, row))
        inner = re.sub(r"^List\[(.*)\]$", r"\1", kind)
        if row is not None and hasattr(kubernetes.client, inner):
            found += _walk(inner, row.shape, f"{path}.{name}")
    return found


ROWS = _walk("V1Pod", POD, "pod")


def test_every_field_of_the_models_has_a_row() -> None:
    """A field that a new Kubernetes brings is noticed before a pod uses it."""
    assert [path for path, _, row in ROWS if row is None] == []


@pytest.mark.parametrize(("path", "kind", "row"), ROWS, ids=[path for path, _, _ in ROWS])
def test_row_has_the_form_of_the_model(path: str, kind: str, row: Row) -> None:
    """What the tables take for a string is one in the API reference, and so on."""
    if row.shape is Kind.ANY:
        assert row.treatment in (Treatment.DROPPED, Treatment.WARNED, Treatment.REFUSED) or (
            path.endswith("clusterTrustBundle.labelSelector")
        )
    elif isinstance(row.shape, Kind):
        assert row.shape in _KINDS[kind], kind
    elif isinstance(row.shape, Each):
        assert kind.startswith("List["), kind
    else:
        assert hasattr(kubernetes.client, kind), kind


def test_a_treatment_that_changes_something_has_a_reason() -> None:
    """`explain` can say of every change why it is made."""
    assert [
        path for path, _, row in ROWS if row.treatment is not Treatment.KEPT and not row.reason
    ] == []


def test_ephemeral_containers_have_the_fields_of_containers() -> None:
    """The table for ephemeral containers is made from that for containers."""
    types = kubernetes.client.V1EphemeralContainer
    table = POD.rows["spec"].shape.rows["ephemeralContainers"].shape.table  # type: ignore[union-attr]
    assert set(table.rows) == set(types.attribute_map.values())
