"""The locked dependencies of the image are those of pyproject.toml: `make lock` after a change."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[3]
_ENTRY = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)


@pytest.fixture(scope="module")
def lock() -> dict[str, tuple[Version, str]]:
    """Return each locked package with its version and its whole entry."""
    text = (ROOT / "requirements.lock").read_text()
    found = list(_ENTRY.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    return {
        canonicalize_name(match["name"]): (Version(match["version"]), text[match.start() : end])
        for match, end in zip(found, ends, strict=True)
    }


def _declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"]]


def test_each_declared_dependency_is_locked(lock: dict[str, tuple[Version, str]]) -> None:
    """Else the image lacks it, or has one that the code does not work with."""
    wrong = [
        str(requirement)
        for requirement in _declared()
        if requirement.name not in lock
        or not requirement.specifier.contains(lock[requirement.name][0])
    ]
    assert wrong == []


def test_nothing_else_is_locked(lock: dict[str, tuple[Version, str]]) -> None:
    """What nothing asks for is not to be in the image, and what something asks for is."""
    wanted: set[str] = set()
    open_names = [requirement.name for requirement in _declared()]
    while open_names:
        name = canonicalize_name(open_names.pop())
        if name in wanted:
            continue
        wanted.add(name)
        needs = [Requirement(text) for text in metadata.requires(name) or ()]
        open_names += [n.name for n in needs if n.marker is None or n.marker.evaluate()]
    assert wanted <= set(lock)
    for_other_systems = {n for n, (_, entry) in lock.items() if ";" in entry.splitlines()[0]}
    assert set(lock) - wanted <= for_other_systems


def test_each_package_is_pinned_by_its_hashes(lock: dict[str, tuple[Version, str]]) -> None:
    """A registry that was broken into cannot put something else into the image."""
    without = [name for name, (_, entry) in lock.items() if "--hash=sha256:" not in entry]
    assert without == []
