"""What the sanitizer must know besides the pod: objects of the API, and the node's wishes.

Reading is the adapter's part. `references` names what has to be read, `Sources` holds what was
read, and a source that nobody read is Unknown, never absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Final

from checkpointer.core.facts import Fact, Unknown
from checkpointer.values import dataclass

ApiObject = Mapping[str, Any]

PLACEHOLDER: Final = "<placeholder: {}>"
"""Stands in an explained manifest for a value that only the API or the node knows."""


@dataclass(frozen=True, slots=True)
class BoundClaim:
    """A PersistentVolumeClaim and the PersistentVolume it is bound to, as the API returns them.

    `volume` is None when the claim is not bound or its volume positively does not exist.
    """

    claim: ApiObject
    volume: ApiObject | None


@dataclass(frozen=True, slots=True)
class Sources:
    """What the API said, by name in the pod's namespace.

    `Known(None)`: positively does not exist. A missing name: was not read.
    """

    config_maps: Mapping[str, Fact[ApiObject | None]] = field(default_factory=dict)
    secrets: Mapping[str, Fact[ApiObject | None]] = field(default_factory=dict)
    claims: Mapping[str, Fact[BoundClaim | None]] = field(default_factory=dict)

    def config_map(self, name: str) -> Fact[ApiObject | None]:
        """Return what is known of a config map."""
        return self.config_maps.get(name, _NOT_READ)

    def secret(self, name: str) -> Fact[ApiObject | None]:
        """Return what is known of a secret."""
        return self.secrets.get(name, _NOT_READ)

    def claim(self, name: str) -> Fact[BoundClaim | None]:
        """Return what is known of a claim."""
        return self.claims.get(name, _NOT_READ)


@dataclass(frozen=True, slots=True)
class Options:
    """How this node wants its copies made."""

    node_name: str
    kubelet_dir: str = "/var/lib/kubelet"
    service_host: str | None = None
    """KUBERNETES_SERVICE_HOST of a copy: an API endpoint that works without kube-proxy."""
    service_port: str | None = None
    """KUBERNETES_SERVICE_PORT of a copy; 443 when a host is given without one."""
    inline_secrets: bool = False
    """Whether this pod opted in to secret values in its environment being published."""
    request_policy: str = "keep"
    """`keep`, or `none`: the copy reserves nothing, so that it always fits on the node."""
    placeholders: bool = False
    """Whether an unread source becomes a marked placeholder instead of a refusal."""
    annotations: tuple[str, ...] = ()
    """Further annotations to keep: keys, or prefixes that end in `*`."""
    kubelet_version: tuple[int, int] | None = None
    """Minor version of this node's kubelet, or None where it is not known."""
    has_cloud_address: bool = False
    """Whether this node's kubelet seems to have its address from a cloud provider."""
    pinned_images: Mapping[str, str] = field(default_factory=dict)
    """Container name to the image reference (with digest) that actually ran."""
    absent_images: frozenset[str] = frozenset()
    """Images that the runtime positively does not have."""
    secret_images: Fact[frozenset[str]] = Unknown("the kubelet's pull records were not read")
    """Images of which the kubelet's records say that only a pod's own credentials get them.

    This and `absent_images` name images as the copy has them, pinned ones with their digest.
    """


@dataclass(frozen=True, slots=True)
class References:
    """Names, in the pod's namespace, of what must be read from the API to make a copy."""

    config_maps: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    claims: frozenset[str] = frozenset()


_NOT_READ: Unknown = Unknown("it was not read from the API")


def references(pod: Mapping[str, Any]) -> References:
    """Return what the environment and the claims of a pod refer to; never raises on bad pods.

    Volumes are not in it: their material is copied as the kubelet rendered it.
    """
    spec = _mapping(_mapping(pod).get("spec"))
    config_maps: set[str] = set()
    secrets: set[str] = set()
    for container in (*_mappings(spec.get("containers")), *_mappings(spec.get("initContainers"))):
        for source in _mappings(container.get("envFrom")):
            _add_name(config_maps, source.get("configMapRef"), "name")
            _add_name(secrets, source.get("secretRef"), "name")
        for entry in _mappings(container.get("env")):
            value_from = _mapping(entry.get("valueFrom"))
            _add_name(config_maps, value_from.get("configMapKeyRef"), "name")
            _add_name(secrets, value_from.get("secretKeyRef"), "name")
    claims: set[str] = set()
    for volume in _mappings(spec.get("volumes")):
        _add_name(claims, volume.get("persistentVolumeClaim"), "claimName")
    return References(frozenset(config_maps), frozenset(secrets), frozenset(claims))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, Mapping))


def _add_name(names: set[str], reference: Any, key: str) -> None:
    name = _mapping(reference).get(key)
    if isinstance(name, str) and name:
        names.add(name)
