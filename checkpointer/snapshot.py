"""Taking a snapshot: from a Ready parent to a verified revision in the store.

It reads what the manifest needs (environment from the API, rendered volumes from the kubelet's
folder), has it sanitized and gated, and stores a new revision if anything differs from the
newest one, or that one is damaged. A parent that cannot be checkpointed leaves the store as it is
and says why.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

from checkpointer.core.checkpoint import Checkpoint, Revision, last_known_good
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.workload import Workload, identifying_labels, template_of, workload_of
from checkpointer.errors import NotCheckpointableError
from checkpointer.manifest.render import content_digest
from checkpointer.manifest.sanitize import faults_of, sanitize
from checkpointer.manifest.select import (
    StageRule,
    host_ports,
    is_graceful,
    on_host_network,
    opts_in_to_inlining,
    shares_ports,
    stage_of,
)
from checkpointer.manifest.sources import BoundClaim, Options, Sources, references
from checkpointer.manifest.verdict import Finding, MaterialVolume, Outcome, Verdict
from checkpointer.node.images import PRELOADED, ImageService, PullPolicy, look_up
from checkpointer.node.kubelet import Kubelet
from checkpointer.node.kubelet_settings import KubeletSettings, read_settings
from checkpointer.settings import SnapshotSettings
from checkpointer.store.errors import DiskError, MaterialError
from checkpointer.store.material import RenderedVolume
from checkpointer.store.revisions import NewRevision, Store
from checkpointer.values import dataclass, replace

log = logging.getLogger(__name__)

_PROVIDED_NODE_IP = "alpha.kubernetes.io/provided-node-ip"
"""The annotation by which a kubelet with an external cloud provider tells its --node-ip."""

DIGEST_ROOT = "/material"
"""Stands for the revision's folder while its content's digest is computed."""


class Reader(Protocol):
    """What is asked of the API: one object by its path."""

    def find(self, path: str) -> Fact[Mapping[str, Any] | None]: ...


Report = Callable[[Mapping[str, Any], Verdict], None]
"""Takes a pod and the verdict on it; quick, and raises nothing."""


@dataclass(frozen=True, slots=True)
class _Node:
    """What the API has of this node."""

    kubelet_version: tuple[int, int] | None = None
    has_cloud_address: bool = False
    """Whether a cloud provider seems to know it, and its kubelet not to have been told its IP."""


class Snapshooter:
    """Takes snapshots, and reports the verdict on each pod that it was to take one of."""

    def __init__(
        self,
        store: Store,
        kubelet: Kubelet,
        api: Reader,
        settings: SnapshotSettings,
        report: Report | None = None,
    ) -> None:
        self._store, self._kubelet, self._api = store, kubelet, api
        self._settings, self._report = settings, report
        self._node = _Node()
        self._kubelet_settings: tuple[Fact[str] | None, Fact[KubeletSettings]]
        self._kubelet_settings = None, Unknown("they have not been read yet")
        """What the kubelet was told, and the run of it that this was read for."""
        self.runtime: ImageService | None = None
        """Set once the runtime's socket has been found."""

    def explain(self, pod: Mapping[str, Any]) -> tuple[Verdict, Sources, Options]:
        """Return the verdict on a pod and what it rests on; nothing is stored.

        Reads from the API what the pod's environment and claims refer to.
        """
        if faults_of(pod):
            options = self._settings.options
            return sanitize(pod, DIGEST_ROOT, Sources(), options), Sources(), options
        namespace = pod["metadata"]["namespace"]
        inline = opts_in_to_inlining(pod) or namespace in self._settings.secret_namespaces
        kubelet, node = self._settings_of_kubelet(), self._look_at_node()
        images = look_up(
            pod, self.runtime, self._kubelet.path, self._settings.pin_images, _policy(kubelet)
        )
        options = replace(
            self._settings.options,
            inline_secrets=inline,
            kubelet_version=node.kubelet_version,
            has_cloud_address=_has_cloud_address(kubelet, node),
            absent_images=images.absent,
            secret_images=images.restricted,
            pinned_images=images.pinned,
        )
        needed = references(pod)
        core = f"/api/v1/namespaces/{_path_part(namespace)}"
        sources = Sources(
            config_maps={
                name: self._api.find(f"{core}/configmaps/{_path_part(name)}")
                for name in sorted(needed.config_maps)
            },
            secrets={
                name: self._api.find(f"{core}/secrets/{_path_part(name)}")
                for name in sorted(needed.secrets)
                if inline
            },
            claims={name: self._find_claim(core, name) for name in sorted(needed.claims)},
        )
        return sanitize(pod, DIGEST_ROOT, sources, options), sources, options

    def judge_volumes(self, pod: Mapping[str, Any], verdict: Verdict) -> Verdict:
        """Return the verdict with what the pod's rendered volumes have to say about it."""
        try:
            self._read_volumes(pod["metadata"]["uid"], verdict.volumes)
        except (NotCheckpointableError, MaterialError) as error:
            return _refused(verdict, error)
        return verdict

    def digest(self, pod: Mapping[str, Any], verdict: Verdict) -> str:
        """Return the digest that a revision taken of the pod now would have.

        The verdict must have a manifest. Raises NotCheckpointableError, MaterialError.
        """
        volumes = self._read_volumes(pod["metadata"]["uid"], verdict.volumes)
        return content_digest(verdict.manifest or {}, material_digest(volumes))

    def take(
        self,
        pod: Mapping[str, Any],
        checkpoint: Checkpoint | None,
        active_revision: Fact[int | None],
        created_at: float,
    ) -> Revision | None:
        """Store a new revision, or renew the newest one's tokens; return what was stored.

        While it is Unknown which revision is active, no old one is removed: it may be that one.
        Raises NotCheckpointableError, MaterialError or StoreError; the store is then unchanged.
        """
        workload = workload_of(pod)
        verdict, sources, options = self.explain(pod)
        if verdict.manifest is None:
            self._judge(pod, verdict, sources)
            raise NotCheckpointableError(
                f"{workload} is not checkpointable: {_sentence(verdict.refusals)}"
            )
        try:
            volumes = self._read_volumes(pod["metadata"]["uid"], verdict.volumes)
        except (NotCheckpointableError, MaterialError) as error:
            self._judge(pod, _refused(verdict, error), sources)
            raise
        self._judge(pod, verdict, sources)
        digest = content_digest(verdict.manifest, material_digest(volumes))
        newest = next(iter(checkpoint.revisions), None) if checkpoint else None
        is_current = checkpoint is not None and checkpoint.is_current
        if newest is not None and is_current and newest.digest == digest:
            self._refresh(workload, newest.number, volumes, verdict.volumes)
            return None

        def manifest_for(root: str) -> Mapping[str, Any]:
            manifest = sanitize(pod, root, sources, options).manifest
            if manifest is None:
                raise NotCheckpointableError(f"{workload}: refused under its folder's name")
            return manifest

        stored = self._store.add(
            NewRevision(
                workload,
                revision_of(pod, digest, created_at, self._settings.stage_rules, sources.claims),
                manifest_for,
                volumes,
                tuple(f"{w.path}: {w.reason}" for w in verdict.warnings),
            )
        )
        if isinstance(active_revision, Known):
            self._prune(workload, checkpoint, {stored.number, active_revision.value or 0})
        return stored

    def _prune(self, workload: Workload, checkpoint: Checkpoint | None, kept: set[int]) -> None:
        """Remove all revisions but these, the last known good, and the newest few."""
        numbers = [r.number for r in checkpoint.revisions] if checkpoint else []
        good = last_known_good(checkpoint) if checkpoint else None
        try:
            keep = kept.union([good or 0], numbers[: self._settings.keep_revisions - 1])
            self._store.prune(workload, keep)
        except DiskError as error:  # the new revision is there all the same
            log.warning("%s: %s", workload, error)

    def _judge(self, pod: Mapping[str, Any], verdict: Verdict, sources: Sources) -> None:
        """Report a verdict that rests on facts: what the API did not tell now is no reason."""
        facts = (
            *sources.config_maps.values(),
            *sources.secrets.values(),
            *sources.claims.values(),
        )
        if self._report is not None and all(isinstance(fact, Known) for fact in facts):
            self._report(pod, verdict)

    def _settings_of_kubelet(self) -> Fact[KubeletSettings]:
        """Return what the kubelet was told: read anew for each of its runs."""
        run = self._kubelet.incarnation("")
        if run != self._kubelet_settings[0]:
            self._kubelet_settings = run, read_settings(self._kubelet.path)
        return self._kubelet_settings[1]

    def _look_at_node(self) -> _Node:
        """Return what the API has of this node; asked until the kubelet's version is known."""
        if self._node.kubelet_version is None:
            name = _path_part(self._settings.options.node_name)
            node = self._api.find(f"/api/v1/nodes/{name}")
            if isinstance(node, Known) and node.value is not None:
                self._node = _read_node(node.value)
        return self._node

    def _find_claim(self, core: str, name: str) -> Fact[BoundClaim | None]:
        claim = self._api.find(f"{core}/persistentvolumeclaims/{_path_part(name)}")
        if isinstance(claim, Unknown):
            return claim
        if claim.value is None:
            return Known(None)
        volume_name = (claim.value.get("spec") or {}).get("volumeName")
        if not volume_name:
            return Known(BoundClaim(claim.value, None))
        volume = self._api.find(f"/api/v1/persistentvolumes/{_path_part(volume_name)}")
        if isinstance(volume, Unknown):
            return volume
        return Known(BoundClaim(claim.value, volume.value))

    def _read_volumes(
        self, uid: str, volumes: tuple[MaterialVolume, ...]
    ) -> tuple[RenderedVolume, ...]:
        found = tuple(
            self._kubelet.read_volume(uid, volume.plugin, volume.name, volume.tokens)
            for volume in volumes
        )
        size = sum(len(entry.content) for volume in found for entry in volume.entries)
        if size > self._settings.max_material_bytes:
            raise NotCheckpointableError(
                f"its volumes hold {size} bytes, more than snapshot.maxMaterialBytes "
                f"({self._settings.max_material_bytes})"
            )
        return found

    def _refresh(
        self,
        workload: Workload,
        number: int,
        volumes: tuple[RenderedVolume, ...],
        wanted: tuple[MaterialVolume, ...],
    ) -> None:
        with_tokens = {volume.name for volume in wanted if volume.tokens}
        for volume in volumes:
            if volume.name in with_tokens and self._store.refresh_tokens(workload, number, volume):
                log.debug("%s: tokens of volume %s renewed", workload, volume.name)


def _read_node(node: Mapping[str, Any]) -> _Node:
    info = (node.get("status") or {}).get("nodeInfo") or {}
    found = re.match(r"v(\d+)\.(\d+)", str(info.get("kubeletVersion")))
    annotations = (node.get("metadata") or {}).get("annotations") or {}
    is_of_cloud = bool((node.get("spec") or {}).get("providerID"))
    return _Node(
        (int(found[1]), int(found[2])) if found else None,
        is_of_cloud and _PROVIDED_NODE_IP not in annotations,
    )


def _policy(kubelet: Fact[KubeletSettings]) -> PullPolicy:
    """Return the kubelet's policy for images; its default where the settings cannot be read."""
    return kubelet.value.pull_policy if isinstance(kubelet, Known) else PRELOADED


def _has_cloud_address(kubelet: Fact[KubeletSettings], node: _Node) -> bool:
    """Tell by the kubelet's flags where they can be seen, else by what the API has of the node."""
    if isinstance(kubelet, Known) and kubelet.value.has_cloud_address is not None:
        return kubelet.value.has_cloud_address
    return node.has_cloud_address


def revision_of(
    pod: Mapping[str, Any],
    digest: str,
    created_at: float,
    rules: tuple[StageRule, ...],
    claims: Mapping[str, Fact[BoundClaim | None]],
) -> Revision:
    """Return what is known of a revision of this pod; the store gives the number."""
    metadata, spec = pod["metadata"], pod["spec"]
    labels = identifying_labels(metadata.get("labels") or {})
    return Revision(
        number=0,
        digest=digest,
        parent_uid=metadata["uid"],
        parent_name=metadata["name"],
        labels=tuple(sorted(labels.items())),
        app_containers=tuple(container["name"] for container in spec["containers"]),
        stage=stage_of(pod, rules),
        shares_ports=shares_ports(pod, claims),
        created_at=created_at,
        host_ports=host_ports(pod),
        host_network=on_host_network(pod),
        template=template_of(metadata.get("labels") or {}),
        has_init=bool(spec.get("initContainers")),
        graceful=is_graceful(pod),
    )


def material_digest(volumes: tuple[RenderedVolume, ...]) -> str:
    """Return what the digest of a revision's content takes its volumes for, in any order."""
    digest = hashlib.sha256()
    for volume in sorted(volumes, key=lambda v: v.name):
        digest.update(f"{volume.name}\0{volume.digest}\n".encode())
    return digest.hexdigest()


def _path_part(name: str) -> str:
    """Return a name as a part of a path of the API, also one that no object can have."""
    return quote(name.encode(errors="surrogatepass"), safe="")


def _refused(verdict: Verdict, error: Exception) -> Verdict:
    """Return the verdict on a pod whose manifest is good and whose material is not."""
    finding = Finding("spec.volumes", str(error))
    return replace(verdict, outcome=Outcome.REFUSED, manifest=None, refusals=(finding,))


def _sentence(refusals: tuple[Finding, ...]) -> str:
    """Return the refusals in one line, each with its cure."""
    return "; ".join(
        f"{finding.path}: {finding.reason}" + (f" ({finding.cure})" if finding.cure else "")
        for finding in refusals
    )
