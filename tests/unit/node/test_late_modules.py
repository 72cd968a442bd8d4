"""Modules whose code runs when something of them is asked for, and not before."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpointer.node.late_modules import load_late

NAMES = ("late_example", "late_example.library", "late_example.inner", "late_example.inner.leaf")


@pytest.fixture
def inner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in a package, whose code says in a list that it has run."""
    folder = tmp_path / "late_example" / "inner"
    folder.mkdir(parents=True)
    for one in (folder.parent, folder):
        (one / "__init__.py").write_text("import sys\nsys.late_runs.append(__name__)\n")
    (folder / "leaf.py").write_text("value = 7\n")
    monkeypatch.setattr(sys, "late_runs", [], raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in NAMES:
        sys.modules.pop(name, None)


def runs() -> list[str]:
    """Return the names of the packages whose code has run, in order."""
    return list(sys.late_runs)  # type: ignore[attr-defined]


def add(inner: Path, code: str) -> None:
    """Let the inner package do more when it runs."""
    with open(inner / "__init__.py", "a", encoding="utf-8") as file:
        file.write(code)


def test_importing_it_does_not_run_it(inner: Path) -> None:
    """A library that imports it for others costs nothing, however it does; parents run as ever."""
    load_late("late_example.inner")
    assert runs() == []
    code = "import late_example.inner\nfrom late_example import inner as found\n"
    (inner.parent / "library.py").write_text(code)
    library = importlib.import_module("late_example.library")
    assert runs() == ["late_example"]
    assert library.found is sys.modules["late_example.inner"]


def test_asking_for_something_runs_it_once(inner: Path) -> None:
    """Whoever needs it has it whole."""
    add(inner, "value = 5\n")
    load_late("late_example.inner")
    module = importlib.import_module("late_example.inner")
    assert (module.value, module.value) == (5, 5)
    assert runs() == ["late_example.inner"]


def test_its_submodules_are_imported_without_it(inner: Path) -> None:
    """So one part of a package can be had alone."""
    load_late("late_example")
    load_late("late_example.inner")
    assert importlib.import_module("late_example.inner.leaf").value == 7
    assert runs() == []


def test_what_it_does_not_have_is_an_attribute_error(inner: Path) -> None:
    """Also when its own code looks for it while it runs."""
    add(inner, "import late_example.inner as me\nfound = hasattr(me, 'nothing')\n")
    load_late("late_example.inner")
    module = importlib.import_module("late_example.inner")
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing
    assert module.found is False


def test_a_failure_is_told_to_each_who_asks(inner: Path) -> None:
    """As that of an import: half a module is none."""
    add(inner, "raise ImportError('broken')\n")
    load_late("late_example.inner")
    module = importlib.import_module("late_example.inner")
    for _ in range(2):
        with pytest.raises(ImportError, match="broken"):
            _ = module.value


def test_a_second_thread_waits_until_there_is_all_of_it(inner: Path) -> None:
    """It would else miss what the module has not come to yet."""
    add(inner, "early = 1\nsys.late_begun.set()\nsys.late_go.wait(10)\nvalue = 5\n")
    load_late("late_example.inner")
    module = importlib.import_module("late_example.inner")
    sys.late_begun, sys.late_go = threading.Event(), threading.Event()  # type: ignore[attr-defined]
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(module.value)) for _ in range(2)]
    try:
        threads[0].start()
        assert sys.late_begun.wait(10)  # type: ignore[attr-defined]
        threads[1].start()
        threads[1].join(0.05)
        assert found == []
        sys.late_go.set()  # type: ignore[attr-defined]
        for thread in threads:
            thread.join(10)
    finally:
        del sys.late_begun, sys.late_go  # type: ignore[attr-defined]
    assert found == [5, 5]


@pytest.mark.parametrize("name", ["no_such_module", "no_such_module.inner", "late_example.none"])
def test_what_is_not_installed_stays_away(inner: Path, name: str) -> None:
    """Who imports it is told so, as ever."""
    load_late(name)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)


def test_what_is_loaded_stays_as_it_is(inner: Path) -> None:
    """A module is never replaced by a late one."""
    module = importlib.import_module("late_example.inner.leaf")
    load_late("late_example.inner.leaf")
    assert sys.modules["late_example.inner.leaf"] is module
