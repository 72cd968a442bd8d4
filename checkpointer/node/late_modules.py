"""Modules that a library imports and of which nothing is used here: run only when asked for.

A command has 0.3 s for everything, a booting node waits for each import, and the agent keeps what
it has loaded.
"""

from __future__ import annotations

import sys
import threading
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader  # it brings tempfile and what that brings


class _LateModule(ModuleType):
    """A module whose own code is run when something is asked of it that is not there.

    Not importlib's LazyLoader: there, that somebody imports the module is asking already.
    """

    def __init__(self, spec: ModuleSpec, loader: Loader) -> None:
        super().__init__(spec.name)
        self.__spec__, self.__loader__, self.__file__ = spec, loader, spec.origin
        self.__package__ = spec.parent
        if spec.submodule_search_locations is not None:
            self.__path__ = list(spec.submodule_search_locations)
        self.__run, self.__lock, self.__is_running = loader.exec_module, threading.RLock(), False

    def __getattr__(self, name: str) -> Any:
        with self.__lock:  # another thread waits until there is all of it
            if name.startswith("__") or self.__is_running:
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
            if type(self) is _LateModule:
                self.__is_running = True
                try:
                    self.__run(self)
                finally:
                    self.__is_running = False
                self.__class__ = ModuleType  # type: ignore[assignment]
        return getattr(self, name)


def load_late(name: str) -> None:
    """Put a module into the loaded ones without running its code, nor that of its parents.

    Nothing happens when it is loaded already, or not installed.
    """
    if name in sys.modules or (spec := _spec_of(name)) is None or spec.loader is None:
        return
    sys.modules[name] = module = _LateModule(spec, spec.loader)
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)


def _spec_of(name: str) -> ModuleSpec | None:
    """Return it without importing the parents, which importlib's `find_spec` does."""
    parent = name.rpartition(".")[0]
    if not parent:
        return PathFinder.find_spec(name)
    found = _spec_of(parent)
    return found and PathFinder.find_spec(name, found.submodule_search_locations)
