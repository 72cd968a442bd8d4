"""Fresh snapshots before a reboot: by the running agent, or by ourselves when there is none.

Who takes them holds the instance lock: the agent, asked through its socket, or this process for
as long as it takes, and then an agent that starts waits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.observation import Pod
from checkpointer.core.snapshots import due_snapshots
from checkpointer.core.workload import Workload, workload_of
from checkpointer.errors import CheckpointerError
from checkpointer.manifest.render import mark_of
from checkpointer.node.cluster import ClusterPin
from checkpointer.node.images import ImageService
from checkpointer.node.kubeconfig import read_kubeconfig
from checkpointer.node.kubelet import Kubelet, read_moment
from checkpointer.node.patient_manifests import PatientManifestFolder
from checkpointer.node.pods import RawPod, list_pods
from checkpointer.observe import PodReader
from checkpointer.report.agent_socket import AgentUnreachableError, ask_agent
from checkpointer.settings import selection, snapshot_settings
from checkpointer.snapshot import Snapshooter
from checkpointer.store.lock import InstanceLock
from checkpointer.store.revisions import Store
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one selected pod."""

    workload: Workload
    pod: str
    revision: int | None
    """The newest one afterwards; None when there is none."""
    is_new: bool
    reason: str = ""
    """Why no fresh one could be taken; empty when the revision is as the pod is now."""


def take_snapshots(
    config: Config, node_name: str, runtime: ImageService | None, seconds: float
) -> Fact[tuple[Taken, ...]]:
    """Have fresh snapshots taken of every selected pod; Unknown when nobody could."""
    lock = InstanceLock(config.lock_file)
    try:
        if not lock.try_acquire():
            return _ask_agent(config, seconds)
    except CheckpointerError as error:
        return Unknown(str(error))
    try:
        return Known(_take(config, node_name, runtime))
    except CheckpointerError as error:
        return Unknown(f"no agent runs, and without it: {error}")
    finally:
        lock.release()


def _ask_agent(config: Config, seconds: float) -> Fact[tuple[Taken, ...]]:
    path = f"/v1/snapshot?timeout={seconds:.0f}s"
    try:
        _, content = ask_agent(config.store_directory, path, seconds + 5.0, method="POST")
        return read_report(json.loads(content))
    except AgentUnreachableError as error:
        return Unknown(f"an agent holds the lock, but takes no orders: {error}")
    except ValueError:
        return Unknown("the agent's answer is not JSON")


def read_report(document: Any) -> Fact[tuple[Taken, ...]]:
    """Return what the agent's report says; Unknown when it took none at all, or is no report."""
    try:
        if document["reason"] is not None:
            return Unknown(str(document["reason"]))
        return Known(
            tuple(
                Taken(
                    Workload(str(row["namespace"]), str(row["kind"]), str(row["name"])),
                    str(row["pod"]),
                    row["revision"],
                    bool(row["new"]),
                    str(row["reason"] or ""),
                )
                for row in document["pods"]
            )
        )
    except (KeyError, TypeError):
        return Unknown("the agent's answer is not a report on snapshots")


def _take(config: Config, node_name: str, runtime: ImageService | None) -> tuple[Taken, ...]:
    """Take them by ourselves, by the agent's rules. Raises CheckpointerError."""
    from checkpointer.node.api import ApiClient

    client, store = ApiClient(config.kubeconfig), Store(config.store_directory)
    try:
        pin = ClusterPin(config.kubeconfig, client, store, read_only=True)
        if pin.look(0.0, 0.0, is_missing=False) == Known(False):
            raise CheckpointerError(pin.problems[0])
        raw = {pod["metadata"]["uid"]: pod for pod in list_pods(client, node_name)}
        kubelet = Kubelet(config.kubelet_directory, config.snapshot.max_material_bytes)
        reader = PodReader(selection(config.selection), kubelet)
        now = read_moment(config.boot_id_file)
        pods = reader.read(tuple(raw.values()), now).pods
        due = due_snapshots(pods, {}, {}, frozenset(), (), config.timing, now.monotonic)
        server = (config.endpoints or (read_kubeconfig(config.kubeconfig).server,))[0]
        settings = snapshot_settings(config, node_name, server)
        snapshooter = Snapshooter(store, kubelet, client, settings)
        snapshooter.runtime = runtime
        active = _active(config)
        chosen = {action.uid for action in due.actions}
        return tuple(
            _take_one(raw[pod.uid], store, snapshooter, active)
            if pod.uid in chosen
            else _passed_over(pod, store)
            for pod in _parents(pods)
        )
    finally:
        client.close()


def _take_one(
    pod: RawPod, store: Store, snapshooter: Snapshooter, active: Mapping[Workload, int]
) -> Taken:
    workload, name = workload_of(pod), pod["metadata"]["name"]
    reason = ""
    try:
        checkpoint = _checkpoint(store, workload)
        taken = snapshooter.take(pod, checkpoint, Known(active.get(workload)), time.time())
    except CheckpointerError as error:
        taken, reason = None, str(error)
    return Taken(workload, name, _newest(store, workload), taken is not None, reason)


def _passed_over(pod: Pod, store: Store) -> Taken:
    reason = "it is not Ready" if not pod.ready else "it has not been Ready for long enough"
    return Taken(pod.workload, pod.name, _newest(store, pod.workload), is_new=False, reason=reason)


def _parents(pods: Iterable[Pod]) -> list[Pod]:
    """Return one parent of each workload; the one that a snapshot would be taken of."""
    found: dict[Workload, Pod] = {}
    for pod in pods:
        if pod.is_parent and pod.stays:
            other = found.get(pod.workload)
            if other is None or (not pod.ready, pod.uid) < (not other.ready, other.uid):
                found[pod.workload] = pod
    return [found[workload] for workload in sorted(found)]


def _active(config: Config) -> dict[Workload, int]:
    """Return the revisions that active manifests mount: they must not be pruned."""
    folder = PatientManifestFolder(config.manifest_directory, mark_of).observe()
    if isinstance(folder, Unknown):
        raise CheckpointerError(folder.reason)
    return {manifest.workload: manifest.revision for manifest in folder.value.ours}


def _newest(store: Store, workload: Workload) -> int | None:
    checkpoint = _checkpoint(store, workload)
    return checkpoint.revisions[0].number if checkpoint and checkpoint.revisions else None


def _checkpoint(store: Store, workload: Workload) -> Checkpoint | None:
    """Return what is stored of a workload. Raises CheckpointerError when that cannot be told."""
    stored = store.read()
    if isinstance(stored, Unknown):
        raise CheckpointerError(stored.reason)
    return next((one for one in stored.value.checkpoints if one.workload == workload), None)
