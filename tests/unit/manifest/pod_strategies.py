"""Wild pods, straight from the field tables, so that every field and every form is met.

And environments with what the API says of the objects they refer to; valid pods: `valid_pods`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from checkpointer.manifest.fields import POD
from checkpointer.manifest.shapes import Each, Kind, Shape
from tests.unit.manifest.valid_values import DATA_KEYS, ENV_FIELDS, ENV_NAME, ENV_VALUE, OBJECTS

TEXTS = st.sampled_from(
    [
        *["", "a", "web", "Always", "Never", "TCP", "..", "/", "a/../b", "$(A)", "$$", "Größe"],
        *["A B", "metadata.name", "metadata.labels['a']", "kubernetes.io/config.mirror"],
        *["\ud800", "x" * 300],
    ]
)
_INTEGERS = st.sampled_from([-1, 0, 1, 80, 443, 65536, (1 << 31) - 1])
_QUANTITIES = st.sampled_from(["1", "100m", "64Mi", "0", "-1", "x", 1, 0.5])
_KEYS = st.sampled_from(["a", "app", "pod-template-hash", "x.y/z", "prometheus.io/scrape", "A B"])
JSON = st.recursive(
    st.none() | st.booleans() | _INTEGERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(_KEYS | st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)

_LEAVES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TEXT: TEXTS,
    Kind.INT32: _INTEGERS,
    Kind.INT64: _INTEGERS,
    Kind.BOOL: st.booleans(),
    Kind.QUANTITY: _QUANTITIES,
    Kind.INT_OR_TEXT: _INTEGERS | TEXTS,
    Kind.TEXTS: st.lists(TEXTS, max_size=2),
    Kind.INTS: st.lists(_INTEGERS, max_size=2),
    Kind.MAP: st.dictionaries(_KEYS, TEXTS, max_size=2),
    Kind.QUANTITIES: st.dictionaries(
        st.sampled_from(["cpu", "memory", "example.com/gpu", "hugepages-2Mi", "x"]),
        _QUANTITIES,
        max_size=2,
    ),
    Kind.ANY: JSON,
}


@st.composite
def wild(draw: st.DrawFn, shape: Shape = POD) -> Any:
    """Return a value of a shape: any subset of its fields, values that are often wrong."""
    if isinstance(shape, Each):
        return [draw(wild(shape.table)) for _ in range(draw(st.integers(0, 2)))]
    if isinstance(shape, Kind):
        return draw(_LEAVES[shape])
    names = sorted(shape.rows)
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    for name in ("metadata", "spec", "containers", "name", "image"):
        if name in names and name not in chosen and draw(st.integers(0, 9)):
            chosen.append(name)
    value: dict[str, Any] = {
        name: draw(st.none() if draw(st.integers(0, 19)) == 0 else wild(shape.rows[name].shape))
        for name in chosen
    }
    if draw(st.integers(0, 19)) == 0:
        value["fieldOfTomorrow"] = draw(JSON)
    return value


def key_ref() -> st.SearchStrategy[dict[str, Any]]:
    """Return a reference to a key that may not exist, and then is optional."""
    return st.fixed_dictionaries(
        {"name": st.sampled_from(OBJECTS), "key": DATA_KEYS, "optional": st.just(True)}
    )


def env_entries() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return an `env`."""
    source = st.one_of(
        key_ref().map(lambda ref: {"configMapKeyRef": ref}),
        key_ref().map(lambda ref: {"secretKeyRef": ref}),
        ENV_FIELDS.map(lambda path: {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}),
        st.just({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}),
    )
    entry = st.one_of(
        st.fixed_dictionaries({"name": ENV_NAME, "value": ENV_VALUE}),
        st.fixed_dictionaries({"name": ENV_NAME}),
        st.fixed_dictionaries({"name": ENV_NAME, "valueFrom": source}),
    )
    return st.lists(entry, max_size=5)


def env_from() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return an `envFrom`."""
    reference = st.fixed_dictionaries({"name": st.sampled_from(OBJECTS), "optional": st.just(True)})
    source = st.sampled_from(["configMapRef", "secretRef"])
    prefix = st.sampled_from([{}, {"prefix": "P_"}, {"prefix": ""}])
    return st.lists(
        st.builds(lambda ref, field, extra: {field: ref, **extra}, reference, source, prefix),
        max_size=3,
    )


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Return what the API says of the objects that pods here refer to, by name."""
    data = st.dictionaries(DATA_KEYS, values, max_size=4)
    return st.fixed_dictionaries(
        {name: st.none() | data.map(lambda found: {"data": found}) for name in OBJECTS}
    )
