"""Container images without a registry: docker-archive tars made of files of this machine."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_image(
    archive: Path,
    name: str,
    files: Mapping[str, Path],
    command: Sequence[str],
    links: Mapping[str, str] | None = None,
) -> Path:
    """Write an image of one layer for `ctr images import`.

    `name` is the full one, with registry and tag; `files` maps absolute paths in the image to
    executables of this machine, `links` further paths to what they point at. Binaries that are
    not static need their loader and libraries among the files.
    """
    layer = _layer(files, links or {})
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Cmd": list(command), "Env": ["PATH=/bin:/usr/bin:/usr/local/bin"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        _add(tar, "layer.tar", layer)
        _add(tar, config_name, config)
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    return archive


def busybox() -> Path | None:
    """Return this machine's busybox if there is one (static in Debian's busybox-static)."""
    found = shutil.which("busybox")
    return Path(found) if found else None


def _layer(files: Mapping[str, Path], links: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folders = {str(parent) for path in (*files, *links) for parent in Path(path).parents}
        for folder in sorted(folders | {"/etc", "/tmp"} - {"/"}):
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            if entry.name:
                tar.addfile(entry)
        for path, source in files.items():
            _add(tar, path.lstrip("/"), source.read_bytes())
        for path, target in links.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    tar.addfile(entry, io.BytesIO(content))
