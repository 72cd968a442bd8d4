"""Values: dataclasses whose fields are set once, which the type checker holds the code to.

At run time they are not frozen, for that costs: each field of a new one is set by a call, and each
class has two more methods to compile when it is imported. A command that has 0.3 s defines a
hundred of them; a cycle makes thousands. They are compared and hashed by their fields all the same.
`replace` asks for the fields of a class once, and not for every copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass, replace
else:
    import dataclasses
    from operator import attrgetter

    _FIELDS: dict[type, tuple[dict[str, int], Callable[[Any], tuple[Any, ...]]]] = {}
    """Of each class that was copied, its fields' places, and what reads them all."""

    def dataclass(cls: type | None = None, /, *, frozen: bool = False, **options: Any) -> Any:
        """Do what `dataclasses.dataclass` does; `frozen` counts for the type checker only."""
        if frozen and options.get("eq", True):
            options["unsafe_hash"] = True
        return dataclasses.dataclass(cls, **options)

    def replace(value: Any, /, **changes: Any) -> Any:
        """Do what `dataclasses.replace` does for a class whose fields are all arguments."""
        cls = type(value)
        if cls not in _FIELDS:
            names = [field.name for field in dataclasses.fields(cls)]
            _FIELDS[cls] = {name: i for i, name in enumerate(names)}, _reader(names)
        places, read = _FIELDS[cls]
        fields = list(read(value))
        for name, changed in changes.items():
            fields[places[name]] = changed
        return cls(*fields)

    def _reader(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
        if len(names) > 1:
            return attrgetter(*names)
        return lambda value: tuple(getattr(value, name) for name in names)


__all__ = ["dataclass", "replace"]
