"""PyYAML's safe loader, with a limit to nesting: libyaml's binding ends the process at too much.

Some 30 KB of opening brackets in a kubeconfig, a static pod or the settings would do, and no
handler is asked. Imports PyYAML when it is first used.
"""

from __future__ import annotations

import functools
from typing import Any

DEEPEST = 500
"""Levels; no kubeconfig, pod or configuration comes near."""


@functools.cache
def loader() -> Any:
    """Return the class to give to `yaml.load`; it raises ValueError at too many levels."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        _depth = 0

        def descend_resolver(self, *_: Any) -> None:
            """Count the levels on the way down."""
            self._depth += 1
            if self._depth > DEEPEST:
                raise ValueError(f"nested more than {DEEPEST} levels deep")

        def ascend_resolver(self) -> None:
            """Count them on the way up."""
            self._depth -= 1

    return Loader
