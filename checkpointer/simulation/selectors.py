"""Field and label selectors of list and watch requests: equality, as far as clients use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from checkpointer.simulation.cluster import Object
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Selector:
    """What an object must (`wanted`) and must not (`unwanted`) have, by dotted path."""

    wanted: Mapping[str, str] = field(default_factory=dict)
    unwanted: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str | None] = field(default_factory=dict)
    """The labels' values, or None where the label must only be there."""
    namespace: str | None = None

    def matches(self, obj: Object | None) -> bool:
        """Tell whether the object is there and is selected."""
        if obj is None:
            return False
        labels = obj["metadata"].get("labels") or {}
        return (
            self.namespace in (None, obj["metadata"].get("namespace"))
            and all(_value(obj, path) == value for path, value in self.wanted.items())
            and all(_value(obj, path) != value for path, value in self.unwanted.items())
            and all(
                name in labels and value in (None, labels[name])
                for name, value in self.labels.items()
            )
        )


def selector(field_selector: str, label_selector: str, namespace: str | None) -> Selector:
    """Parse both selectors of a request."""
    wanted, unwanted = _parse(field_selector)
    terms = [term for term in label_selector.split(",") if term]
    labels: dict[str, str | None] = dict(_parse(",".join(t for t in terms if "=" in t))[0])
    labels |= {term: None for term in terms if "=" not in term}
    return Selector(wanted, unwanted, labels, namespace)


def _parse(text: str) -> tuple[dict[str, str], dict[str, str]]:
    wanted: dict[str, str] = {}
    unwanted: dict[str, str] = {}
    for term in filter(None, text.split(",")):
        if "!=" in term:
            path, value = term.split("!=", 1)
            unwanted[path] = value
        else:
            path, value = term.replace("==", "=", 1).split("=", 1)
            wanted[path] = value
    return wanted, unwanted


def _value(obj: Object, path: str) -> str:
    found: object = obj
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return "" if found is None else str(found)
