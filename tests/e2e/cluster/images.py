"""Container images without a registry: one static program each, packed as docker-archive."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

PAUSE = "e2e.invalid/pause:1"

# The least Linux program that waits for ever: an ELF header, one segment, a loop around
# pause(2) (ppoll(2) without a timeout on aarch64). It saves the suite a compiler.
_CODE = {
    "x86_64": (62, bytes.fromhex("b822000000 0f05 ebf7")),
    "aarch64": (
        183,
        b"".join(
            word.to_bytes(4, "little")
            for word in (
                *(0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003),  # mov x0..x3, 0
                *(0xD2800928, 0xD4000001, 0x17FFFFFA),  # mov x8, ppoll; svc 0; b to the start
            )
        ),
    ),
}


def pause_program() -> bytes:
    """Return a static executable of this machine's architecture that does nothing."""
    machine, code = _CODE[platform.machine()]
    base, headers = 0x400000, 64 + 56
    size = headers + len(code)

    def field(value: int, width: int) -> bytes:
        return value.to_bytes(width, "little")

    elf = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    elf += field(2, 2) + field(machine, 2) + field(1, 4) + field(base + headers, 8)
    elf += field(64, 8) + field(0, 8) + field(0, 4)
    elf += field(64, 2) + field(56, 2) + field(1, 2) + field(64, 2) + bytes(4)
    segment = field(1, 4) + field(5, 4) + field(0, 8) + field(base, 8) * 2
    segment += field(size, 8) * 2 + field(0x1000, 8)
    return elf + segment + code


def write_archive(target: Path, reference: str, program: str, content: bytes) -> None:
    """Write the archive of an image that holds `/program` and runs it."""
    layer = _tar({program: content}, mode=0o755)
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
            "os": "linux",
            "config": {"Entrypoint": [f"/{program}"], "Env": ["PATH=/"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            "history": [{"created_by": "tests/e2e"}],
        }
    ).encode()
    index = [{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
    target.write_bytes(
        _tar(
            {
                "config.json": config,
                "layer.tar": layer,
                "manifest.json": json.dumps(index).encode(),
            },
            mode=0o644,
        )
    )


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
