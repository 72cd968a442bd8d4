"""Volumes that need nothing from the API: material, resolved claims, and what the node has.

Material is a copy of what the kubelet rendered for the parent. It becomes a hostPath of type
Directory, so that a copy without its files does not start, and every mount of it is read-only,
as the kubelet's own are. Mounts with subPath keep working: the kubelet resolves them inside the
folder, through the `..data` link that is copied with the rest.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from checkpointer.core.facts import Unknown
from checkpointer.manifest.containers import containers_of
from checkpointer.manifest.downward import is_same_for_copy
from checkpointer.manifest.identity import Identity
from checkpointer.manifest.mounted import PLUGINS
from checkpointer.manifest.resource_fields import tell_of_requests
from checkpointer.manifest.sources import PLACEHOLDER, ApiObject, BoundClaim, Options, Sources
from checkpointer.manifest.verdict import Ledger, MaterialVolume

_DEFAULT_TOKEN_SECONDS: Final = 3607
"""What admission asks for; the API server extends exactly this one to a year."""

_CLAIM_CURE: Final = "use a claim bound to a local or hostPath volume, or a hostPath volume"


@dataclass(slots=True)
class VolumeMaker:
    """Makes the volumes of one copy, and collects which material they need."""

    material_root: str
    identity: Identity
    sources: Sources
    options: Options
    ledger: Ledger
    material: list[MaterialVolume] = field(default_factory=list)
    _read_only: set[str] = field(default_factory=set)

    def settle(self, spec: dict[str, Any]) -> None:
        """Rewrite all volumes of a copy, mounted or not, and the mounts of those that changed."""
        for index, volume in enumerate(spec.get("volumes") or ()):
            self._settle_volume(volume, f"spec.volumes[{index}]")
        for path, container, _ in containers_of(spec):
            for index, mount in enumerate(container.get("volumeMounts") or ()):
                if mount.get("name") in self._read_only and not mount.get("readOnly"):
                    mount["readOnly"] = True
                    self.ledger.change(
                        f"{path}.volumeMounts[{index}].readOnly",
                        "rewritten",
                        "the parent's mount is read-only, too",
                    )

    def _settle_volume(self, volume: dict[str, Any], path: str) -> None:
        for source, plugin in PLUGINS.items():
            if source in volume and not self._can_stay(source, volume[source]):
                self._materialize(volume, source, plugin, path)
                return
        if "persistentVolumeClaim" in volume:
            self._resolve_claim(volume, path)
        elif "image" in volume:
            self._keep_image(volume["image"], path)

    def _keep_image(self, image: dict[str, Any], path: str) -> None:
        if image.get("pullPolicy") in ("IfNotPresent", "Never"):
            return
        image["pullPolicy"] = "IfNotPresent"
        self.ledger.change(
            f"{path}.image.pullPolicy", "rewritten", "Always needs the registry at every start"
        )

    def _can_stay(self, source: str, value: Mapping[str, Any]) -> bool:
        """Tell whether the kubelet renders the same for the copy, with no API."""
        if source == "downwardAPI":
            return self._is_told_alike(value.get("items") or ())
        if source == "projected":
            return all(
                set(projection) == {"downwardAPI"}
                and self._is_told_alike(projection["downwardAPI"].get("items") or ())
                for projection in value.get("sources") or ()
            )
        return False

    def _is_told_alike(self, items: Sequence[Mapping[str, Any]]) -> bool:
        if self.options.request_policy == "none" and tell_of_requests(items):
            return False
        return is_same_for_copy(items, self.identity)

    def _materialize(self, volume: dict[str, Any], source: str, plugin: str, path: str) -> None:
        name = volume.get("name", "")
        value = volume.pop(source)
        tokens, optional = self._look_into(source, value, path)
        self.material.append(MaterialVolume(name, plugin, optional, tokens))
        self._read_only.add(name)
        volume["hostPath"] = {
            "path": posixpath.join(self.material_root, name),
            "type": "Directory",
        }
        rendered = f"{self.options.kubelet_dir}/pods/{self.identity.uid}/volumes/{plugin}/{name}"
        self.ledger.change(f"{path}.{source}", "rewritten", f"a copy of {rendered}")

    def _look_into(
        self, source: str, value: Mapping[str, Any], path: str
    ) -> tuple[tuple[str, ...], bool]:
        """Return the paths of tokens, and whether the volume may be empty."""
        if source != "projected":
            return (), bool(value.get("optional"))
        tokens: list[str] = []
        optional = True
        for index, projection in enumerate(value.get("sources") or ()):
            token = projection.get("serviceAccountToken")
            if token is not None:
                tokens.append(token.get("path", ""))
                self._warn_of_expiry(token, f"{path}.projected.sources[{index}]")
            optional &= all(item.get("optional", False) for item in projection.values())
        return tuple(tokens), optional

    def _warn_of_expiry(self, token: Mapping[str, Any], path: str) -> None:
        seconds = token.get("expirationSeconds", 3600)
        if seconds == _DEFAULT_TOKEN_SECONDS and not token.get("audience"):
            return
        self.ledger.warn(
            f"{path}.serviceAccountToken",
            f"the copied token is valid for {seconds} s: in a longer outage it expires",
            "ask for a longer expirationSeconds",
        )

    def _resolve_claim(self, volume: dict[str, Any], path: str) -> None:
        source = volume.pop("persistentVolumeClaim")
        path = f"{path}.persistentVolumeClaim"
        name = source.get("claimName", "")
        fact = self.sources.claim(name)
        if isinstance(fact, Unknown):
            if not self.options.placeholders:
                self.ledger.refuse(path, f"claim {name}: {fact.reason}", _CLAIM_CURE)
                return
            host_path = {"path": "/" + PLACEHOLDER.format(f"path of claim {name}")}
            self.ledger.warn(path, f"whether claim {name} is on this node is known only there")
        else:
            found = _host_path_of(fact.value)
            if isinstance(found, str):
                self.ledger.refuse(path, f"claim {name} {found}", _CLAIM_CURE)
                return
            host_path = found
        volume["hostPath"] = host_path
        if source.get("readOnly"):
            self._read_only.add(volume.get("name", ""))
        self.ledger.change(path, "rewritten", f"claim {name} is bound to a folder of this node")


def _host_path_of(bound: BoundClaim | None) -> dict[str, Any] | str:
    """Return the host path behind a claim, or what stands against it, as the rest of a sentence."""
    if bound is None:
        return "does not exist"
    if bound.volume is None:
        return "is not bound to a volume"
    spec: ApiObject = bound.volume.get("spec") or {}
    if spec.get("volumeMode", "Filesystem") != "Filesystem":
        return "is a raw block volume"
    if spec.get("hostPath"):
        source = spec["hostPath"]
        found = {"path": source.get("path", "")}
        return {**found, "type": source["type"]} if source.get("type") else found
    local = spec.get("local")
    if not local:
        return "is bound to a volume that is attached or mounted through the API"
    if local.get("fsType"):
        return "is bound to a disk that the kubelet formats and mounts, not to a folder"
    return {"path": local.get("path", ""), "type": "Directory"}
