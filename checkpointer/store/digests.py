"""digests.json: what a revision must look like on disk, and whether it does.

Every file, folder and link of the revision is listed with its mode and owners; tokens are
listed as such and judged by their form, because they are renewed in place. This finds what
disks and people do by accident; who can write here as root can also write new digests.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from checkpointer.errors import printable
from checkpointer.store.copies import is_leftover
from checkpointer.store.errors import MaterialError, StoreError
from checkpointer.store.files import ReadFile, list_names, may_pass, raise_if_exhausted, read_file
from checkpointer.store.layout import DIGESTS, MANIFEST, MATERIAL, PROVENANCE, decode
from checkpointer.store.material import RenderedVolume
from checkpointer.store.provenance import FORMAT, JSON_LIMIT, canonical, parse_object
from checkpointer.store.rendered import DATA, data_folder, read_rendered
from checkpointer.store.system_calls import SystemCalls

STORED_LIMIT = 1 << 30
"""Bytes of a stored volume: only against nonsense, the real limit is set when it is read."""

Description = dict[str, dict[str, list[str]]]


def digests_json(files: Mapping[str, bytes], volumes: tuple[RenderedVolume, ...]) -> bytes:
    """Return digests.json for a revision of these files and volumes."""
    return canonical(
        {
            "format": FORMAT,
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            "volumes": {volume.name: volume.description() for volume in volumes},
            "plugins": {volume.name: volume.plugin for volume in volumes},
        }
    )


class StoredRevision:
    """One revision's folder, read with distrust."""

    def __init__(self, folder: Path, calls: SystemCalls) -> None:
        self.folder, self._path = folder, str(folder)
        self._calls = calls
        self._files: dict[str, ReadFile] = {}
        self._listing: dict[str, Any] | None = None
        self._described: Description | None = None
        self.may_pass = False
        """Whether the problems last found may be gone at the next look: an I/O error."""

    def file(self, name: str) -> bytes:
        """Return the content of one of the revision's own files. Raises StoreError."""
        return self._file(name).content

    def intact_file(self, name: str) -> bytes:
        """Return the content of a file that matches its digest. Raises StoreError."""
        if problems := [problem for problem in self._file_problems() if f"/{name} " in problem]:
            raise StoreError(problems[0])
        return self.file(name)

    def problems(self) -> tuple[str, ...]:
        """Return what differs from digests.json, a sentence each. Raises CannotTellError."""
        found: list[str] = []
        try:
            found += self._file_problems()
            found += self._name_problems()
            for name in self._volumes():
                found += self._volume_problems(name)
        except (StoreError, MaterialError) as error:
            self.may_pass = may_pass(error)
            found.append(str(error))
        except OSError as error:
            raise_if_exhausted(error, str(self.folder))
            self.may_pass = may_pass(error)
            found.append(f"cannot read {self.folder}: {error.strerror}")
        return tuple(map(printable, found))

    def volume(self, name: str) -> RenderedVolume:
        """Read a stored volume back. Raises MaterialError, StoreError."""
        expected = self._volumes().get(name)
        if expected is None:
            raise StoreError(f"{self.folder} has no volume {name}")
        tokens = [
            path.removeprefix(f"{DATA}/")
            for path, described in expected.items()
            if described[-1] == "token"
        ]
        plugins = self._digests().get("plugins")
        plugin = str(plugins.get(name, "")) if isinstance(plugins, dict) else ""
        path = self.folder / MATERIAL / name
        return read_rendered(path, plugin, name, tokens, size_limit=STORED_LIMIT, calls=self._calls)

    def volumes(self) -> tuple[RenderedVolume, ...]:
        """Read all stored volumes back, by name. Raises MaterialError, StoreError."""
        return tuple(self.volume(name) for name in sorted(self._volumes()))

    def token_volumes(self) -> tuple[str, ...]:
        """Return the names of the volumes that hold a token. Raises StoreError."""
        return tuple(
            name
            for name, expected in self._volumes().items()
            if any(described[-1] == "token" for described in expected.values())
        )

    def _file(self, name: str) -> ReadFile:
        if name not in self._files:
            path = f"{self._path}/{name}"
            try:
                self._files[name] = read_file(self._calls, path, JSON_LIMIT)
            except OSError as error:
                raise StoreError(f"cannot read {path}: {error.strerror}") from error
        return self._files[name]

    def _digests(self) -> dict[str, Any]:
        if self._listing is None:
            self._listing = parse_object(self.file(DIGESTS), f"{self._path}/{DIGESTS}")
        return self._listing

    def _volumes(self) -> Description:
        if self._described is None:
            self._described = self._read_volumes()
        return self._described

    def _read_volumes(self) -> Description:
        volumes = self._digests().get("volumes")
        if not isinstance(volumes, dict) or not all(map(_is_description, volumes.values())):
            raise StoreError(f"{self.folder / DIGESTS}: volumes is not a listing")
        for name in volumes:
            if "/" in name or name.startswith(".") or decode(name) != name:
                raise StoreError(f"{self.folder / DIGESTS}: a volume has an impossible name")
        return volumes

    def _file_problems(self) -> list[str]:
        digests = self._digests()
        if digests.get("format") != FORMAT or not isinstance(digests.get("files"), dict):
            raise StoreError(f"{self.folder / DIGESTS}: format is not {FORMAT}")
        found = [
            f"{self.folder / name} does not match its digest"
            for name in (MANIFEST, PROVENANCE)
            if hashlib.sha256(self.file(name)).hexdigest() != digests["files"].get(name)
        ]
        for name in (MANIFEST, PROVENANCE, DIGESTS):
            mode = stat.S_IMODE(self._file(name).status.st_mode)
            if mode != 0o600:
                found.append(f"{self.folder / name} has mode {mode:04o}, expected 0600")
        return found

    def _name_problems(self) -> list[str]:
        """Find what is missing or does not belong there, down to the volumes."""
        volumes = set(self._volumes())
        top = {MANIFEST, PROVENANCE, DIGESTS, MATERIAL}
        material = f"{self._path}/{MATERIAL}"
        return [
            *_difference(self._path, self._names(self._path), top),
            *_difference(material, self._names(material), volumes),
        ]

    def _volume_problems(self, name: str) -> list[str]:
        path = self.folder / MATERIAL / name
        expected = self._volumes()[name]
        found = self.volume(name).description()
        current = data_folder(path)
        names = {entry for entry in self._names(str(path)) if not is_leftover(entry, current)}
        top = {key for key in expected if key and "/" not in key} | {current}
        problems = _difference(str(path), names, top)
        for key in sorted(expected.keys() | found.keys()):
            if expected.get(key) != found.get(key):
                problems.append(f"{path / key}: {_what_differs(expected.get(key), found.get(key))}")
        return problems

    def _names(self, folder: str) -> set[str]:
        names = list_names(self._calls, folder)
        if names is None:
            raise StoreError(f"{folder} is missing or not a folder")
        return set(names)


def _is_description(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(described, list)
        and len(described) >= 2
        and all(isinstance(item, str) for item in described)
        for described in value.values()
    )


def _difference(folder: str, found: set[str], expected: set[str]) -> list[str]:
    return [
        *(f"{folder}/{name} is missing" for name in sorted(expected - found)),
        *(f"{folder}/{name} does not belong there" for name in sorted(found - expected)),
    ]


def _what_differs(expected: list[str] | None, found: list[str] | None) -> str:
    if expected is None:
        return "does not belong there"
    if found is None:
        return "is missing"
    for what, wanted, is_now in zip(
        ("kind", "mode", "owner", "content"), expected, found, strict=False
    ):
        if wanted == is_now:
            continue
        if what in ("mode", "owner") and expected[0] != "link":
            return f"{what} is {is_now}, expected {wanted}"
        return f"{'target' if expected[0] == 'link' else what} differs"
    return "differs"
