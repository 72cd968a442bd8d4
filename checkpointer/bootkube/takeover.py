"""Taking over: what would become of each old checkpoint, importing it, and cleaning up after.

Importing only adds to our store. Cleaning up removes nothing of a workload before its successor
in our store verifies, and a copy that is active stays until its parent's container is made: until
then it does its parent's work. Every step can be repeated, and the old manifest, which tells
what belongs to it, goes last; the old checkpointer itself goes first, for it would write all of
it anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from checkpointer.bootkube.files import (
    OldCheckpoint,
    Places,
    folder_of,
    is_running,
    pod_in,
    read_material,
    read_old,
    shown,
)
from checkpointer.bootkube.parents import OldVolume, parent_of
from checkpointer.core.checkpoint import Checkpoint, Record
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.occupancy import FORMER_COPY, occupancy_of
from checkpointer.core.runtime import Container, ContainerState, Runtime
from checkpointer.core.workload import Workload, workload_of
from checkpointer.manifest.render import content_digest
from checkpointer.manifest.sanitize import sanitize
from checkpointer.manifest.select import Selection, exclusion
from checkpointer.manifest.sources import Sources
from checkpointer.node.kubelet import Kubelet
from checkpointer.settings import SnapshotSettings
from checkpointer.snapshot import DIGEST_ROOT, material_digest, revision_of
from checkpointer.store.durable import Disk
from checkpointer.store.errors import MaterialError, StoreError
from checkpointer.store.files import list_names, read_file
from checkpointer.store.material import RenderedVolume
from checkpointer.store.revisions import NewRevision, Store
from checkpointer.values import dataclass, replace

_LIMIT = 10 * 2**20


class Stopper(Protocol):
    """What is asked of the runtime: who runs, and to end a container."""

    def observe(self) -> Fact[Runtime]: ...

    def stop_container(self, container_id: str, grace_seconds: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """An old checkpoint and what is to be said of it before anything is changed."""

    old: OldCheckpoint
    workload: Workload
    state: str
    """`to import`, `imported`, `ours is newer`, `refused`, `superseded`, `itself`."""
    reasons: tuple[str, ...] = ()
    new: NewRevision | None = None

    @property
    def has_successor(self) -> bool:
        """Tell whether our store has something that takes its place."""
        return self.state in ("imported", "ours is newer")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of the files of one old checkpoint, in a word, and why if anything stays."""

    old: OldCheckpoint
    is_gone: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a takeover goes by besides the files."""

    places: Places
    selection: Selection
    snapshot: SnapshotSettings


class Takeover:
    """One node's takeover; `disk` makes the changes in the old checkpointer's folders."""

    def __init__(
        self, settings: Settings, store: Store, kubelet: Kubelet, disk: Disk | None = None
    ) -> None:
        self._settings, self._store, self._kubelet = settings, store, kubelet
        self._disk = disk or Disk()
        self._places = settings.places

    def candidates(self) -> tuple[Candidate, ...]:
        """Return all old checkpoints, judged. Raises StoreError, OSError."""
        stored = self._store.read()
        if isinstance(stored, Unknown):
            raise StoreError(stored.reason)
        ours = {c.workload: c for c in stored.value.checkpoints}
        old = read_old(self._places, self._disk.calls)
        newest: dict[Workload, OldCheckpoint] = {}
        for one in sorted(old, key=lambda o: (o.active is not None, o.written_at)):
            newest[self._workload(one)] = one
        return tuple(self._judge(one, ours, newest[self._workload(one)]) for one in old)

    def import_one(self, candidate: Candidate) -> int:
        """Store a checkpoint as a revision of ours; return its number. Raises CheckpointerError."""
        assert candidate.new is not None  # noqa: S101 - only what is `to import` is imported
        number = self._store.add(candidate.new).number
        self._remember_parent(candidate)
        return number

    def finish_import(self, candidate: Candidate) -> None:
        """Do what a takeover that died after storing left: remember whose copy it is."""
        self._remember_parent(candidate)

    def clean_up(
        self, candidates: tuple[Candidate, ...], runtime: Stopper | None
    ) -> tuple[Cleaned, ...]:
        """Remove what has been taken over, the old checkpointer's own first.

        Raises StoreError, OSError; what is left then is cleaned up by the next call.
        """
        done = []
        for candidate in sorted(candidates, key=lambda c: c.state != "itself"):
            if candidate.state != "itself" and is_running(self._places.lock):
                reason = (
                    "the old checkpointer still runs and would write it anew: delete its "
                    "DaemonSet first"
                )
                done.append(Cleaned(candidate.old, False, reason))
                continue
            reason = self._clean(candidate, candidates, runtime)
            done.append(Cleaned(candidate.old, not reason, reason))
        for folder in (self._places.secrets, self._places.config_maps):
            self._remove_empty(folder, depth=2)
        self._remove_empty(self._places.inactive, depth=0)
        return tuple(done)

    def _workload(self, old: OldCheckpoint) -> Workload:
        return workload_of(parent_of(old.pod, self._places.roots)[0])

    def _judge(
        self, old: OldCheckpoint, ours: Mapping[Workload, Checkpoint], newest: OldCheckpoint
    ) -> Candidate:
        workload = self._workload(old)
        if old.is_itself:
            return Candidate(old, workload, "itself", ("the old checkpointer's own",))
        if newest is not old:
            reason = f"{shown(newest)} is a newer checkpoint of the same workload"
            return Candidate(old, workload, "superseded", (reason,))
        pod, volumes = parent_of(old.pod, self._places.roots)
        new, reasons = self._convert(old, pod, volumes)
        mine = ours.get(workload)
        if mine is not None and mine.revisions:
            number = mine.revisions[0].number
            is_same = new is not None and new.revision.digest == mine.revisions[0].digest
            state = "imported" if is_same else "ours is newer"
            return Candidate(old, workload, state, (f"revision {number}",))
        if new is None:
            return Candidate(old, workload, "refused", reasons)
        return Candidate(old, workload, "to import", reasons, new)

    def _convert(
        self, old: OldCheckpoint, pod: dict[str, Any], volumes: tuple[OldVolume, ...]
    ) -> tuple[NewRevision | None, tuple[str, ...]]:
        """Return the revision that the same gate makes of it as of any pod, or why it makes none.

        What comes with a revision are warnings.
        """
        if excluded := exclusion(pod, self._settings.selection):
            return None, (excluded,)
        options = self._settings.snapshot.options
        verdict = sanitize(pod, DIGEST_ROOT, Sources(), options)
        if verdict.manifest is None:
            return None, tuple(f"{one.path}: {one.reason}" for one in verdict.refusals)
        kept = {volume.name: volume for volume in volumes}
        try:
            material = tuple(
                read_material(old, kept[wanted.name], self._places, self._disk.calls)
                if wanted.name in kept
                else self._rendered(pod, wanted.plugin, wanted.name, wanted.tokens)
                for wanted in verdict.volumes
            )
        except MaterialError as error:
            return None, (str(error),)

        def manifest_for(root: str) -> Mapping[str, Any]:
            manifest = sanitize(pod, root, Sources(), options).manifest
            if manifest is None:
                raise StoreError(f"{verdict.workload}: refused under its folder's name")
            return manifest

        digest = content_digest(verdict.manifest, material_digest(material))
        rules = self._settings.snapshot.stage_rules
        revision = revision_of(pod, digest, old.written_at, rules, claims={})
        warnings = tuple(f"{one.path}: {one.reason}" for one in verdict.warnings)
        return NewRevision(verdict.workload, revision, manifest_for, material, warnings), warnings

    def _rendered(
        self, pod: Mapping[str, Any], plugin: str, name: str, tokens: tuple[str, ...]
    ) -> RenderedVolume:
        """Return what the old checkpointer never kept, where the kubelet still has it."""
        uid = pod["metadata"]["uid"]
        try:
            return self._kubelet.read_volume(uid, plugin, name, tokens)
        except MaterialError as error:
            raise MaterialError(
                f"volume {name}: the old checkpointer has kept nothing of it, and its parent's is "
                f"not on this node any more ({error})"
            ) from error

    def _remember_parent(self, candidate: Candidate) -> None:
        uid = parent_of(candidate.old.pod, self._places.roots)[0]["metadata"]["uid"]
        stored = self._store.read()
        if not uid or isinstance(stored, Unknown):
            return
        for checkpoint in stored.value.checkpoints:
            if checkpoint.workload == candidate.workload and not checkpoint.record.parents:
                record = replace(checkpoint.record, parents=(uid,))
                self._store.write_record(candidate.workload, record)

    def _clean(
        self, candidate: Candidate, all_of_them: tuple[Candidate, ...], runtime: Stopper | None
    ) -> str:
        """Remove the files of one; return why something stays, or nothing."""
        old = candidate.old
        if candidate.state != "itself" and (
            reason := self._lacks_successor(candidate, all_of_them)
        ):
            return reason
        if old.active is not None:
            if runtime is None:
                return "its copy is active and the container runtime was not found"
            if reason := self._retire(candidate, old.active, runtime):
                return reason
        for volume in parent_of(old.pod, self._places.roots)[1]:
            folder = folder_of(old, volume, self._places)
            if not folder.is_symlink():
                root = Path(self._places.roots[volume.kind])
                self._disk.remove_tree(folder, inside=root, hide=False)
        if old.inactive is not None:
            self._remove_manifest(old.inactive)
        return ""

    def _lacks_successor(self, candidate: Candidate, all_of_them: tuple[Candidate, ...]) -> str:
        """Return why nothing of ours can take its place yet, or nothing."""
        successors = [
            c for c in all_of_them if c.workload == candidate.workload and c.has_successor
        ]
        if not successors:
            return "it has not been imported"
        self._store.settle(candidate.workload)
        stored = self._store.read()
        checkpoints = stored.value.checkpoints if isinstance(stored, Known) else ()
        for checkpoint in checkpoints:
            if checkpoint.workload == candidate.workload and checkpoint.revisions:
                number = checkpoint.revisions[0].number
                problems = self._store.verify(checkpoint.workload, number)
                return f"revision {number} of ours fails: {problems[0]}" if problems else ""
        return "no revision of ours verifies"

    def _retire(self, candidate: Candidate, manifest: Path, runtime: Stopper) -> str:
        """Take an active copy out, once its parent has a sandbox; return why not, or nothing.

        It is ended at once, as in a release of ours: the parent's start needs its ports.
        """
        seen = runtime.observe()
        if isinstance(seen, Unknown):
            return f"its copy is active and the runtime does not answer: {seen.reason}"
        if candidate.state != "itself" and not self._has_parent(candidate, seen.value):
            return "its copy is active and its parent is not back: it does its parent's work"
        self._remove_manifest(manifest)
        for container in _copies(candidate.old, seen.value):
            runtime.stop_container(container.id, 0)
        seen = runtime.observe()
        if isinstance(seen, Unknown) or _copies(candidate.old, seen.value):
            return "its copy has been told to end and still does: run this again"
        return ""

    def _has_parent(self, candidate: Candidate, runtime: Runtime) -> bool:
        """Tell whether a container of the parent is made, of the API's pod and not the old copy.

        Its sandbox alone is no sign: see `core.giving_way`.
        """
        stored = self._store.read()
        found = stored.value.checkpoints if isinstance(stored, Known) else ()
        mine = next((c for c in found if c.workload == candidate.workload), None)
        if mine is None:
            return False
        uid = parent_of(candidate.old.pod, self._places.roots)[0]["metadata"]["uid"]
        parents = tuple({*mine.record.parents, uid} - {""})
        occupancy = occupancy_of(replace(mine, record=Record(parents=parents)), runtime)
        made = {container.sandbox_id for container in runtime.containers}
        parents_up = (s for s in occupancy.parent_sandboxes if FORMER_COPY not in s.annotations)
        return any(sandbox.id in made for sandbox in parents_up)

    def _remove_manifest(self, path: Path) -> None:
        """Remove a manifest, if it is its own at this moment."""
        try:
            content = read_file(self._disk.calls, str(path), _LIMIT).content
        except FileNotFoundError:
            return
        if pod_in(content) is None:
            raise StoreError(f"{path} does not carry the old checkpointer's mark any more")
        self._disk.remove_file(path)

    def _remove_empty(self, folder: Path, depth: int) -> None:
        """Remove the folders that nothing is left in."""
        if folder.is_symlink() or not folder.is_dir():
            return
        if depth:
            for name in list_names(self._disk.calls, folder) or ():
                self._remove_empty(folder / name, depth - 1)
        self._disk.remove_empty_directory(folder)


def _copies(old: OldCheckpoint, runtime: Runtime) -> list[Container]:
    """Return the running containers of an old checkpoint's active copy."""
    sandboxes = {
        sandbox.id
        for sandbox in runtime.sandboxes
        if sandbox.namespace == old.namespace and sandbox.annotations.get(FORMER_COPY) == old.name
    }
    return [
        container
        for container in runtime.containers
        if container.sandbox_id in sandboxes and container.state is ContainerState.RUNNING
    ]
