"""What the node knows of a pod's images: whether they are there, and whose credentials got them.

Since 1.35 the kubelet keeps a record of each image that it pulled, and pulls one that is present
again for a pod that could not have got it by itself (pkg/kubelet/images/pullmanager). A static
copy has no pull secret, so such an image does not start offline although it is there. By the
default policy, NeverVerifyPreloadedImages, it does not doubt what it did not pull; its
configuration may name another one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.node.cri import ImageInfo
from checkpointer.values import dataclass

PULLED = "image_manager/pulled"
PULLING = "image_manager/pulling"
_API = re.compile(r"kubelet\.config\.k8s\.io/v1(alpha1|beta1)")
_LARGEST_RECORD = 1 << 20


NEVER_VERIFY = "NeverVerify"
_PRELOADED = "NeverVerifyPreloadedImages"
_ALLOWLISTED = "NeverVerifyAllowlistedImages"


@dataclass(frozen=True, slots=True)
class PullPolicy:
    """The kubelet's `imagePullCredentialsVerificationPolicy`: which images it has to verify.

    A name that this version does not know counts as the strictest one, AlwaysVerify.
    """

    name: str = _PRELOADED
    allowlist: tuple[str, ...] = ()
    """`preloadedImagesVerificationAllowlist`: names without tag, or prefixes that end in `/*`."""

    def verifies(self, image: str, was_pulled: bool) -> bool:
        """Tell whether credentials are verified for an image that is there.

        `was_pulled`: by the kubelet, as its records say (image_pull_policies.go).
        """
        if self.name == NEVER_VERIFY:
            return False
        if self.name == _PRELOADED:
            return was_pulled
        return self.name != _ALLOWLISTED or not self._is_allowed(image)

    def _is_allowed(self, image: str) -> bool:
        name = _full_name(repository_of(image))
        return any(
            name.startswith(pattern[:-1]) if pattern.endswith("/*") else name == pattern
            for pattern in self.allowlist
        )


PRELOADED = PullPolicy()
"""The kubelet's default."""


class ImageService(Protocol):
    """What is asked of the runtime."""

    def has_image(self, image: str) -> Fact[ImageInfo | None]: ...


@dataclass(frozen=True, slots=True)
class Images:
    """What a node knows of the images that a copy would run."""

    pinned: Mapping[str, str]
    """Container name to the reference, with digest, that the copy is to use."""
    absent: frozenset[str]
    """Those that the runtime positively does not have."""
    restricted: Fact[frozenset[str]]
    """Those of which the kubelet's records do not say that every pod may use them."""
    unknown: str = ""
    """Why it cannot be told of some whether they are there; empty when it can."""


def look_up(
    pod: Mapping[str, Any],
    runtime: ImageService | None,
    kubelet_dir: Path,
    pin: bool,
    policy: PullPolicy = PRELOADED,
) -> Images:
    """Ask the runtime for the images of a pod's copy, and look up the kubelet's records of them.

    Pinning never makes things worse: a digest that the runtime does not have is not taken.
    """
    found: dict[str, Fact[ImageInfo | None]] = {}

    def ask(image: str) -> Fact[ImageInfo | None]:
        if image not in found:
            unasked = Unknown("no container runtime was found")
            found[image] = unasked if runtime is None else runtime.has_image(image)
        return found[image]

    pinned = {
        name: reference
        for name, reference in (pinned_images(pod).items() if pin else ())
        if ask(reference) != Known(None)
    }
    facts = {image: ask(image) for image in sorted(images_of(pod, pinned))}
    absent = frozenset(image for image, fact in facts.items() if fact == Known(None))
    unknown = next((fact.reason for fact in facts.values() if isinstance(fact, Unknown)), "")
    return Images(pinned, absent, _restricted(facts, kubelet_dir, policy), unknown)


def images_of(pod: Mapping[str, Any], pinned: Mapping[str, str]) -> frozenset[str]:
    """Return the images of a copy: of containers, init containers and image volumes."""
    spec = pod.get("spec") or {}
    named = {
        pinned.get(container.get("name", ""), container.get("image"))
        for kind in ("containers", "initContainers")
        for container in spec.get(kind) or ()
    }
    named |= {(volume.get("image") or {}).get("reference") for volume in spec.get("volumes") or ()}
    return frozenset(image for image in named if image)


def pinned_images(pod: Mapping[str, Any]) -> dict[str, str]:
    """Return, by container, the image reference with digest that the status says is running.

    The repository stays as the pod has it: the kubelet's records go by it.
    """
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    found = {}
    for kind in ("containers", "initContainers"):
        images = {c.get("name"): c.get("image") or "" for c in spec.get(kind) or ()}
        for container in status.get(f"{kind[:-1]}Statuses") or ():
            ran = re.sub(r"^[a-z-]+://", "", str(container.get("imageID") or ""))
            repository, at, digest = ran.partition("@")
            image = images.get(container.get("name"))
            if not (image and at and digest.startswith("sha256:")):
                continue
            own = repository_of(image)
            if _full_name(own) == _full_name(repository):
                ran = f"{own}@{digest}"
            found[str(container["name"])] = ran
    return found


def repository_of(image: str) -> str:
    """Return an image's name as the pod has it, without tag and digest (trimImageTagDigest)."""
    return re.sub(r":[^:/]*$", "", image.partition("@")[0])


def _full_name(repository: str) -> str:
    """Return what a short name stands for: `nginx` is `docker.io/library/nginx`."""
    host, slash, _ = repository.partition("/")
    if not slash:
        return f"docker.io/library/{repository}"
    is_host = "." in host or ":" in host or host == "localhost"
    return repository if is_host else f"docker.io/{repository}"


def _restricted(
    facts: Mapping[str, Fact[ImageInfo | None]], kubelet_dir: Path, policy: PullPolicy
) -> Fact[frozenset[str]]:
    """Return the images that the kubelet would pull again for a pod without credentials.

    image_pull_manager.go:MustAttemptImagePull, for a pod that has none. The record is found by
    the id that the runtime gives the image, the credentials in it by the image's name.
    """
    restricted = set()
    try:
        if not (kubelet_dir / PULLED).is_dir():
            return Known(frozenset())
        for image, fact in facts.items():
            if isinstance(fact, Unknown):
                return fact
            if fact.value is None:
                continue
            if _is_restricted(image, fact.value.id, kubelet_dir, policy):
                restricted.add(image)
    except OSError as error:
        return Unknown(f"cannot read {error.filename}: {error.strerror}")
    return Known(frozenset(restricted))


def _is_restricted(image: str, identity: str, kubelet_dir: Path, policy: PullPolicy) -> bool:
    record = None
    try:
        record = _Record.parse(_read(kubelet_dir / PULLED / _file_name(identity)))
    except FileNotFoundError:
        pass
    except ValueError:
        return True  # the kubelet pulls when it cannot read its record
    if record is not None and record.image_ref != identity:
        record = None
    was_pulled = record is not None or (kubelet_dir / PULLING / _file_name(image)).exists()
    if not policy.verifies(image, was_pulled):
        return False
    return record is None or repository_of(image) not in record.open_to_all


@dataclass(frozen=True, slots=True)
class _Record:
    """An ImagePulledRecord of kubelet.config.k8s.io."""

    image_ref: str
    open_to_all: frozenset[str]
    """Repositories that every pod of the node may use the image under."""

    @classmethod
    def parse(cls, content: bytes) -> _Record:
        """Read a record's JSON. Raises ValueError when it is none."""
        record = json.loads(content)
        try:
            if record["kind"] != "ImagePulledRecord" or not _API.fullmatch(record["apiVersion"]):
                raise ValueError("not an ImagePulledRecord")
            return cls(record["imageRef"], frozenset(_open_names(record)))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not an ImagePulledRecord") from error


def _open_names(record: Mapping[str, Any]) -> Iterator[str]:
    credentials: Iterable[tuple[str, Mapping[str, Any]]]
    credentials = (record.get("credentialMapping") or {}).items()
    return (name for name, users in credentials if users.get("nodePodsAccessible") is True)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST_RECORD)


def _file_name(key: str) -> str:
    return f"sha256-{hashlib.sha256(key.encode()).hexdigest()}"
