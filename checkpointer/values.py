"""Values: dataclasses whose fields are set once, which the type checker holds the code to.

At run time they are not frozen, for that costs: each field of a new one is set by a call, and each
class has two more methods to compile when it is imported. A command that has 0.3 s defines a
hundred of them; a cycle makes thousands. They are compared and hashed by their fields all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses

    def dataclass(cls: type | None = None, /, *, frozen: bool = False, **options: Any) -> Any:
        """Do what `dataclasses.dataclass` does; `frozen` counts for the type checker only."""
        if frozen and options.get("eq", True):
            options["unsafe_hash"] = True
        return dataclasses.dataclass(cls, **options)


__all__ = ["dataclass"]
