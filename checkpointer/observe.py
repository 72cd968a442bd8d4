"""The observers side by side: from what adapters answer to one cycle's observation.

Nothing is decided here. What is costly to tell (which files a pod mounts) is told again only
when its cheap signs have changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from checkpointer.core.checkpoint import Checkpoint
from checkpointer.core.contact import Contact
from checkpointer.core.decide import needs_runtime
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.itself import recognise
from checkpointer.core.moment import Moment
from checkpointer.core.observation import NOT_ASKED, Itself, Observation, Pod
from checkpointer.core.runtime import Runtime
from checkpointer.core.workload import Workload, template_of, workload_of
from checkpointer.manifest.legible import fault_of, shown, uid_of, workload_anyway
from checkpointer.manifest.mounted import metadata_in_environment, mounted_volumes
from checkpointer.manifest.select import Selection, exclusion, is_meant, is_own, is_ready
from checkpointer.node.installation import Installation
from checkpointer.node.kubelet import Kubelet
from checkpointer.node.manifests import ManifestFolder
from checkpointer.store.revisions import Store
from checkpointer.troubles import troubles
from checkpointer.values import dataclass, replace

if TYPE_CHECKING:
    from checkpointer.node.cri import ContainerRuntime

SIGNATURE_SECONDS = 5.0
"""How old the signs of a pod's rendered files may be; they are read once for so long."""

_UNREAD = "?"
"""Stands for the version of a pod that cannot be read: it is looked at in each cycle."""

RawPod = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PodsHere:
    """What could be read of the API's pods."""

    pods: tuple[Pod, ...]
    """Those that are neither static, mirror nor ours."""
    problems: tuple[str, ...] = ()
    """One sentence for each pod that cannot be read."""
    has_untold: bool = False
    """Whether there are pods of which not even the workload can be told."""


@dataclass(slots=True)
class _KnownPod:
    """What has been worked out of one version of a pod."""

    resource_version: str
    pod: Pod | None
    """None for a static pod, and for one that cannot be told whose it is."""
    ready_at: float | None = None
    content: str = ""
    signature: str = ""
    signed_at: float = float("-inf")
    content_signature: str = ""
    content_marks: str = ""
    """The marks of the volumes that `content_signature` was made of."""
    problem: str = ""


class PodReader:
    """Turns the API's pods into what the decision wants to know of them."""

    def __init__(self, selection: Selection, kubelet: Kubelet) -> None:
        self._selection, self._kubelet = selection, kubelet
        self._told: tuple[RawPod, ...] = ()
        """What was read last. The API's pods are another tuple as soon as anything of them is."""
        self._known: dict[str, _KnownPod] = {}
        self._own: Workload | None = None

    def recognise(self, own: Workload) -> None:
        """Take the agent's own pods for parents: they need not ask to be checkpointed."""
        if own != self._own:
            self._own = own
            self._told, self._known = (), {}

    def read(
        self, pods: tuple[RawPod, ...], now: Moment, refused: Container[str] = frozenset()
    ) -> PodsHere:
        """Return the pods that are neither static, mirror nor ours.

        One that cannot be read is there all the same: as a pod of its workload that is not
        Ready, if so much can be told. `refused` are the UIDs of parents that have to change
        before they are given way to again: of them alone it is read what they mount.
        """
        if pods is not self._told:
            found = {}
            for index, raw in enumerate(pods):
                uid = uid_of(raw)
                found[uid or f"#{index}"] = self._read_one(raw, uid)
            self._told, self._known = pods, found
        all_known = self._known.values()
        for known in all_known:
            self._bring_up_to_date(known, now, refused)
        return PodsHere(
            tuple(known.pod for known in all_known if known.pod is not None),
            tuple(known.problem for known in all_known if known.problem),
            any(known.problem and known.pod is None for known in all_known),
        )

    def _read_one(self, raw: RawPod, uid: str) -> _KnownPod:
        known = self._known.get(uid)
        if known is None or known.resource_version != raw["metadata"].get("resourceVersion", ""):
            known = self._convert(raw, known)
        return known

    def _bring_up_to_date(self, known: _KnownPod, now: Moment, refused: Container[str]) -> None:
        if known.pod is None or known.problem:
            return
        if known.pod.is_parent and now.monotonic - known.signed_at >= SIGNATURE_SECONDS:
            marks = self._kubelet.volume_marks(known.pod.uid)
            known.signature = f"{known.content} {marks}"
            known.signed_at = now.monotonic
            if known.pod.uid not in refused:
                known.content_signature = ""
            elif not known.content_signature or marks != known.content_marks:
                known.content_signature = self._content_signature(known.pod.uid)
                known.content_marks = marks
        ready_seconds = 0.0
        if known.ready_at is not None:
            ready_seconds = max(0.0, now.wall - known.ready_at)
        known.pod = known.pod.told_again(known.signature, known.content_signature, ready_seconds)

    def _content_signature(self, uid: str) -> str:
        """Return it for a pod; empty while what it mounts cannot be told."""
        raw = next(raw for raw in self._told if uid_of(raw) == uid)
        try:
            volumes = tuple(mounted_volumes(raw["spec"]))
            content = _digest(raw["spec"], metadata_in_environment(raw))
        except (AttributeError, LookupError, TypeError, ValueError):
            return ""
        mark = self._kubelet.content_mark(uid, volumes)
        return f"{content} {mark.value}" if isinstance(mark, Known) else ""

    def _convert(self, raw: RawPod, before: _KnownPod | None) -> _KnownPod:
        if fault := fault_of(raw):
            return self._convert_unreadable(raw, fault, before)
        metadata, status = raw["metadata"], raw.get("status") or {}
        version = metadata.get("resourceVersion", "")
        if _is_static(raw):
            return _KnownPod(version, None)
        workload = workload_of(raw)
        is_wanted = self._is_wanted(raw, workload)
        excluded = self._exclusion(raw) if is_wanted else None
        pod = Pod(
            workload=workload,
            uid=metadata["uid"],
            name=metadata["name"],
            is_parent=is_wanted and excluded is None,
            ready=is_ready(raw),
            terminating="deletionTimestamp" in metadata,
            finished=status.get("phase") in ("Succeeded", "Failed"),
            container_ids=_container_ids(status),
            template=template_of(metadata.get("labels") or {}),
            excluded=excluded or "",
            started_at=_started_at(metadata, status),
        )
        return _KnownPod(version, pod, _ready_at(status), _content(raw))

    def _convert_unreadable(self, raw: RawPod, fault: str, before: _KnownPod | None) -> _KnownPod:
        """Return what counts for a pod that is there and cannot be read: nothing good is known."""
        workload = workload_anyway(raw)
        if workload is None and before is not None and before.pod is not None:
            workload = before.pod.workload
        told = f"pod {shown(raw)} cannot be read ({fault}): "
        if workload is None:
            told += "while it is there no workload of this node counts as absent"
            return _KnownPod(_UNREAD, None, problem=told)
        told += "it counts as there, no snapshot is taken of it"
        try:
            is_wanted = self._is_wanted(raw, workload)
        except (AttributeError, LookupError, TypeError, ValueError):
            is_wanted = True
        pod = Pod(
            workload=workload,
            uid=uid_of(raw),
            name=shown(raw).rpartition("/")[2],
            is_parent=is_wanted,
            ready=False,
            terminating=False,
            finished=False,
            fault=f"it cannot be read: {fault}",
        )
        return _KnownPod(_UNREAD, pod, problem=told)

    def _is_wanted(self, raw: RawPod, workload: Workload) -> bool:
        return is_own(raw, workload, self._own) or is_meant(raw, self._selection)

    def _exclusion(self, raw: RawPod) -> str | None:
        """Return why it may not be a parent, now or before it began to terminate."""
        metadata = {k: v for k, v in raw["metadata"].items() if k != "deletionTimestamp"}
        return exclusion({**raw, "metadata": metadata}, self._selection)


class Observer:
    """Asks every source once per cycle."""

    def __init__(
        self,
        pods: PodReader,
        kubelet: Kubelet,
        folder: ManifestFolder,
        store: Store,
        installation: Installation | None = None,
    ) -> None:
        self._pods, self._kubelet = pods, kubelet
        self._installation = installation
        self.itself: Workload | None = None
        """The controller of the agent's own pod, once it has been recognised."""
        self.runtime: ContainerRuntime | None = None
        """Set once the runtime's socket has been found."""
        self.problems: tuple[str, ...] = ()
        """What the last look found wrong, a sentence each: skipped files, silent sources."""
        self._folder, self._store = folder, store

    def observe(
        self, contact: Contact, pods: Fact[tuple[RawPod, ...]], now: Moment, ask_runtime: bool
    ) -> Observation:
        """Return what is seen now; the runtime is asked only if the decision can need it."""
        stored = self._store.read()
        checkpoints = Known(stored.value.checkpoints) if isinstance(stored, Known) else stored
        folder = self._folder.observe()
        manifests = Known(folder.value.ours) if isinstance(folder, Known) else folder
        runtime: Fact[Runtime]
        if self.runtime is None:
            runtime = Unknown("no container runtime socket was found")
        elif ask_runtime or needs_runtime(contact, manifests, checkpoints, self.itself):
            runtime = self.runtime.observe()
        else:
            runtime = NOT_ASKED
        here = PodsHere(())
        if isinstance(pods, Known):
            here = self._pods.read(pods.value, now, _refused(checkpoints))
        self.problems = (*troubles(folder, runtime, stored), *here.problems)
        found = Observation(
            contact=contact,
            pods=Known(here.pods) if isinstance(pods, Known) else pods,
            has_untold_pods=here.has_untold,
            runtime=runtime,
            kubelet=self._kubelet.run(now.boot_id),
            manifests=manifests,
            checkpoints=checkpoints,
        )
        itself = self._itself(found)
        return found if itself is None else replace(found, itself=itself)

    def _itself(self, seen: Observation) -> Itself | None:
        """Return what can be told of the agent itself; the API is asked only when that may count.

        That is while it answers and no other copy is active: then a parent may come back at any
        moment, and the loop must not wait for an answer.
        """
        if (place := self._installation) is None:
            return None
        found = recognise(place.pod_uid, seen.pods, seen.manifests, seen.checkpoints)
        self.itself = found or self.itself
        if self.itself is None:
            return None
        self._pods.recognise(self.itself)
        itself = Itself(self.itself, place.pod_uid, place.cluster())
        is_busy = needs_runtime(seen.contact, seen.manifests, seen.checkpoints, self.itself)
        if is_busy or not isinstance(seen.pods, Known):
            return itself
        is_here = any(pod.workload == self.itself for pod in seen.pods.value)
        owner, marker = place.look(self.itself, is_here)
        return replace(itself, owner=owner, marker=marker)


def _refused(checkpoints: Fact[tuple[Checkpoint, ...]]) -> frozenset[str]:
    """Return the UIDs of the parents that are not given way to before they have changed."""
    if isinstance(checkpoints, Unknown):
        return frozenset()
    ways = (checkpoint.record.hand_over for checkpoint in checkpoints.value)
    return frozenset(way.refused for way in ways if way.refused)


def _is_static(raw: RawPod) -> bool:
    annotations = raw["metadata"].get("annotations") or {}
    return "kubernetes.io/config.mirror" in annotations or any(
        owner.get("kind") == "Node" for owner in raw["metadata"].get("ownerReferences") or ()
    )


def _content(raw: RawPod) -> str:
    metadata = raw["metadata"]
    return _digest(raw.get("spec"), metadata.get("labels"), metadata.get("annotations"))


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _container_ids(status: Mapping[str, Any]) -> frozenset[str]:
    found = set()
    for container in status.get("containerStatuses") or ():
        _, _, container_id = str(container.get("containerID") or "").partition("://")
        found.add(container_id)
    return frozenset() if "" in found else frozenset(found)


def _ready_at(status: Mapping[str, Any]) -> float | None:
    """Return since when the status says Ready, in seconds of the Unix epoch."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("status") == "True":
            return _seconds(condition.get("lastTransitionTime"))
    return None


def _started_at(metadata: Mapping[str, Any], status: Mapping[str, Any]) -> float | None:
    """Return since when the kubelet has the pod, by its own clock; else since when the API has."""
    return _seconds(status.get("startTime") or metadata.get("creationTimestamp"))


def _seconds(time: Any) -> float | None:
    """Return a time of the API in seconds of the Unix epoch; None for what is no time."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
