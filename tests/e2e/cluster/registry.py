"""A registry of one image that wants a password, for the loopback address: run as a program.

    python registry.py PORT REPOSITORY FILE

REPOSITORY is served with the tag 1; the image holds the static program FILE and runs it. User and
password are in this module. The runtime takes plain HTTP from a registry on a loopback address.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import platform
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

USER, PASSWORD = "e2e", "let-me-pull"
_DOCKER = "application/vnd.docker"


def authorization() -> str:
    return base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def pull_secret(registry: str) -> str:
    """Return what a Secret of type kubernetes.io/dockerconfigjson holds."""
    entry = {"username": USER, "password": PASSWORD, "auth": authorization()}
    return json.dumps({"auths": {registry: entry}})


def _blobs(program: Path) -> tuple[dict[str, tuple[str, bytes]], str]:
    """Return what there is to ask for, by digest with its type, and the manifest's digest."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        archive.addfile(entry, io.BytesIO(program.read_bytes()))
    layer = gzip.compress(buffer.getvalue(), mtime=0)
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "Env": ["PATH=/"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(buffer.getvalue())]},
        }
    ).encode()
    kinds = {
        _digest(config): (f"{_DOCKER}.container.image.v1+json", config),
        _digest(layer): (f"{_DOCKER}.image.rootfs.diff.tar.gzip", layer),
    }
    described = [
        {"mediaType": kind, "digest": digest, "size": len(content)}
        for digest, (kind, content) in kinds.items()
    ]
    kind = f"{_DOCKER}.distribution.manifest.v2+json"
    parts: dict[str, Any] = {"config": described[0], "layers": described[1:]}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, **parts}).encode()
    return {**kinds, _digest(manifest): (kind, manifest)}, _digest(manifest)


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def main(port: int, repository: str, program: Path) -> None:
    blobs, manifest = _blobs(program)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, with_body: bool) -> None:
            if self.headers.get("Authorization") != f"Basic {authorization()}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="e2e"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            asked = self.path.partition("?")[0].removeprefix(f"/v2/{repository}/")
            digest = manifest if asked == "manifests/1" else asked.rpartition("/")[2]
            kind, content = blobs.get(digest, ("text/plain", b""))
            self.send_response(200 if digest in blobs else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Docker-Content-Digest", digest)
            self.end_headers()
            if with_body:
                self.wfile.write(content)

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
