"""The Kubernetes client library's transport, without what the agent does not use of it.

Its packages import everything in them, seven hundred models of pydantic among it: 20 MB and a
sixth of a second on every node, for plain JSON over HTTPS. Here the packages are loaded as empty
ones with their modules in them, so that a module can be imported by itself; whatever asks for
more of a package (an exec plugin's credentials do) has it loaded whole, as ever.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """A package whose own code is run when something is asked of it that is not there."""

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        if name.startswith("__") or spec is None or spec.loader is None:
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec.loader.exec_module(self)
        return getattr(self, name)


def _load_bare(name: str) -> None:
    """Put the package into the loaded modules without running its code, unless it is there."""
    if name in sys.modules or (spec := find_spec(name)) is None:
        return
    package = _Package(name, None)
    package.__spec__, package.__loader__ = spec, spec.loader
    package.__file__, package.__package__ = spec.origin, name
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)


for _name in ("kubernetes", "kubernetes.client", "kubernetes.utils"):
    _load_bare(_name)

from kubernetes.client.configuration import Configuration  # noqa: E402
from kubernetes.client.exceptions import ApiException  # noqa: E402
from kubernetes.client.rest import RESTClientObject  # noqa: E402
from kubernetes.watch.watch import iter_resp_lines  # noqa: E402

__all__ = ["ApiException", "Configuration", "RESTClientObject", "iter_resp_lines"]
