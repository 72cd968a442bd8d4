"""A pod's volumes on the simulated node's disk, where and how the kubelet renders them.

Section 6 of the kubelet's contract. What is on tmpfs in reality vanishes with `lose_tmpfs`.
"""

from __future__ import annotations

import base64
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from checkpointer.simulation import atomic_writer, tokens
from checkpointer.simulation.atomic_writer import File
from checkpointer.simulation.cluster import Object
from checkpointer.simulation.downward import Lookup, NotMountedError, field_value

_PLUGINS = {
    "secret": "kubernetes.io~secret",
    "configMap": "kubernetes.io~configmap",
    "projected": "kubernetes.io~projected",
    "downwardAPI": "kubernetes.io~downward-api",
}
_TMPFS = ("kubernetes.io~secret", "kubernetes.io~projected", "kubernetes.io~downward-api")
_EMPTY_DIR = "kubernetes.io~empty-dir"
_DEFAULT_MODE = 0o644


@dataclass(slots=True)
class Volumes:
    """The volumes of one pod under `<kubelet folder>/pods/<uid>`."""

    folder: Path
    """<kubelet folder>/pods/<uid>"""
    lookup: Lookup
    _tokens: dict[tuple[str, int], str] = field(default_factory=dict)

    def mount(self, pod: Object) -> dict[str, Path]:
        """Make or refresh all volumes; return each one's folder (or file) on the host by name.

        NotMountedError when one cannot be had.
        """
        for part in (self.folder, self.folder / "volumes", self.folder / "plugins"):
            part.mkdir(mode=0o750, parents=True, exist_ok=True)
        return {
            volume["name"]: self._mount_one(pod, volume)
            for volume in pod["spec"].get("volumes") or ()
        }

    def remove(self) -> None:
        """Take all of it away."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _mount_one(self, pod: Object, volume: Object) -> Path:
        if "hostPath" in volume:
            return _host_path(volume["name"], volume["hostPath"])
        kind = next((kind for kind in _PLUGINS if kind in volume), None)
        plugin = _PLUGINS.get(kind or "", _EMPTY_DIR)
        root = self.folder / "volumes" / plugin / str(volume["name"])
        payload = self._payload(pod, kind, volume[kind]) if kind else None
        if not root.exists():
            root.mkdir(parents=True)
            root.parent.chmod(0o750)
        # Also after a boot, when the folder is there but nothing was mounted on it yet.
        root.chmod(0o1777 if plugin in _TMPFS else 0o777)
        if payload is not None:
            atomic_writer.write(root, payload)
            ready = self.folder / "plugins" / _EMPTY_DIR / f"wrapped_{volume['name']}" / "ready"
            ready.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            ready.touch()
        return root

    def _payload(self, pod: Object, kind: str, source: Object) -> dict[str, File]:
        mode = source.get("defaultMode")
        mode = _DEFAULT_MODE if mode is None else mode
        if kind != "projected":
            return self._source(pod, kind, source, mode)
        payload: dict[str, File] = {}
        for projection in source.get("sources") or ():
            for part, inner in projection.items():
                payload |= self._source(pod, part, inner, mode)
        return payload

    def _source(self, pod: Object, kind: str, source: Object, mode: int) -> dict[str, File]:
        match kind:
            case "downwardAPI":
                return {
                    item["path"]: File(
                        field_value(pod, item["fieldRef"]["fieldPath"]).encode(),
                        item.get("mode") or mode,
                    )
                    for item in source.get("items") or ()
                }
            case "serviceAccountToken":
                return {source["path"]: File(self._token(pod, source).encode(), mode)}
            case "secret" | "configMap":
                return self._items(pod, kind, source, mode)
        raise NotMountedError(f"volumes of the kind {kind} are not simulated")

    def _items(self, pod: Object, kind: str, source: Object, mode: int) -> dict[str, File]:
        resource = "secrets" if kind == "secret" else "configmaps"
        name = source.get("secretName") or source.get("name", "")
        obj = self.lookup(resource, pod["metadata"].get("namespace", "default"), name)
        if obj is None and not source.get("optional"):
            raise NotMountedError(f'{resource.removesuffix("s")} "{name}" not found')
        content = contents(obj)
        if not source.get("items"):
            return {key: File(value, mode) for key, value in content.items()}
        payload = {}
        for item in source["items"]:
            if item["key"] in content:
                payload[item["path"]] = File(content[item["key"]], item.get("mode") or mode)
            elif not source.get("optional"):
                raise NotMountedError(f'{name}: references non-existent key "{item["key"]}"')
        return payload

    def _token(self, pod: Object, source: Object) -> str:
        """Return the pod's token, the same one until `renew_tokens`."""
        seconds = int(source.get("expirationSeconds") or 3600)
        audience = source.get("audience", "")
        key = (audience, seconds)
        if key not in self._tokens:
            metadata = pod["metadata"]
            account = pod["spec"].get("serviceAccountName") or "default"
            # Asking for it needs the API, as asking for a secret does.
            self.lookup("serviceaccounts", metadata["namespace"], account)
            self._tokens[key] = tokens.issue(
                metadata["namespace"],
                account,
                {"name": metadata["name"], "uid": metadata["uid"]},
                audiences=(audience,) if audience else (),
                seconds=seconds,
            )
        return self._tokens[key]

    def renew_tokens(self) -> None:
        """Have the next `mount` ask for new tokens, as the kubelet does at 80% of their life."""
        self._tokens.clear()


def contents(obj: Object | None) -> dict[str, bytes]:
    """Return the files that a Secret or ConfigMap stands for."""
    if obj is None:
        return {}
    data = obj.get("data") or {}
    if obj.get("kind") == "Secret":
        return {key: base64.b64decode(value) for key, value in data.items()}
    binary = obj.get("binaryData") or {}
    return {key: str(value).encode() for key, value in data.items()} | {
        key: base64.b64decode(value) for key, value in binary.items()
    }


def mounts(container: Object, volumes: dict[str, Path]) -> dict[str, str]:
    """Return the container's mounts: host path by path inside."""
    found = {}
    for mount in container.get("volumeMounts") or ():
        path = volumes[mount["name"]]
        if mount.get("subPath"):
            path = path / mount["subPath"]
        found[mount["mountPath"]] = str(path)
    return found


def lose_tmpfs(kubelet_folder: Path) -> None:
    """Empty every volume that is memory in reality."""
    for plugin in _TMPFS:
        for volume in kubelet_folder.glob(f"pods/*/volumes/{plugin}/*"):
            shutil.rmtree(volume)
            volume.mkdir()


def _host_path(name: str, source: Object) -> Path:
    path, kind = Path(source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch(mode=0o644)
    is_right = {
        "Directory": path.is_dir(),
        "File": path.is_file(),
        "Socket": path.is_socket(),
    }
    if not is_right.get(kind, True):
        raise NotMountedError(f"hostPath type check failed: {path} is not a {kind} ({name})")
    return path
