"""What only the API knows: the pods that are meant to be checkpointed, its clock, the kubelet."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from checkpointer.config import Config
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.workload import workload_of
from checkpointer.doctor.facts import ApiView, SelectedPod
from checkpointer.errors import CheckpointerError
from checkpointer.manifest.select import Selection, exclusion, is_meant, is_own, is_ready, stage_of
from checkpointer.node.images import ImageService
from checkpointer.node.kubeconfig import read_kubeconfig
from checkpointer.node.kubelet import Kubelet
from checkpointer.node.pods import RawPod, list_pods
from checkpointer.settings import selection, snapshot_settings, stage_rules
from checkpointer.snapshot import Snapshooter
from checkpointer.store.own import own_workload
from checkpointer.store.revisions import Store

if TYPE_CHECKING:
    from checkpointer.node.api import ApiClient

ANYWHERE = Selection(namespaces=("*",))
"""Excludes only what can be checkpointed nowhere: static, finished, terminating, Job's pods."""


def view_api(
    config: Config, node_name: str, store: Store, runtime: ImageService | None
) -> Fact[ApiView]:
    """Ask the API what it knows of this node's pods. Reads nothing that a snapshot does not."""
    from checkpointer.node.api import ApiClient

    try:
        client = ApiClient(config.kubeconfig)
    except CheckpointerError as error:
        return Unknown(str(error))
    try:
        offset = _clock_offset(client)
        return Known(
            ApiView(
                pods=_pods(client, config, node_name, store, runtime),
                clock_offset_seconds=offset,
                kubelet_version=_kubelet_version(client, node_name),
            )
        )
    finally:
        client.close()


def _clock_offset(client: ApiClient) -> Fact[float]:
    """Return how far the API server's clock is ahead; its Date has whole seconds."""
    began = time.time()
    try:
        response = client.open("/readyz", {})
        ended, date = time.time(), response.headers.get("Date", "")
        response.close()
        theirs = parsedate_to_datetime(date).timestamp()
    except CheckpointerError as error:
        return Unknown(str(error))
    except (TypeError, ValueError):
        return Unknown("the API server does not tell its time")
    if began - 1.0 <= theirs <= ended:
        return Known(0.0)
    return Known(theirs + 0.5 - (began + ended) / 2)


def _kubelet_version(client: ApiClient, node_name: str) -> Fact[str]:
    node = client.find(f"/api/v1/nodes/{node_name}")
    if isinstance(node, Unknown):
        return node
    if node.value is None:
        return Unknown(f"the API knows no node {node_name}")
    info = (node.value.get("status") or {}).get("nodeInfo") or {}
    version = info.get("kubeletVersion")
    return Known(str(version)) if version else Unknown(f"node {node_name} tells no version")


def _pods(
    client: ApiClient, config: Config, node_name: str, store: Store, runtime: ImageService | None
) -> Fact[tuple[SelectedPod, ...]]:
    try:
        rules, own = selection(config.selection), own_workload(store)
        found = [
            pod
            for pod in list_pods(client, node_name)
            if (is_meant(pod, rules) or is_own(pod, workload_of(pod), own))
            and exclusion(pod, ANYWHERE) is None
        ]
        endpoint = config.endpoints[0] if config.endpoints else None
        server = endpoint or read_kubeconfig(config.kubeconfig).server
        kubelet = Kubelet(config.kubelet_directory, config.snapshot.max_material_bytes)
        settings = snapshot_settings(config, node_name, server)
        snapshooter = Snapshooter(store, kubelet, client, settings)
        snapshooter.runtime = runtime
        return Known(tuple(_judge(pod, config, rules, snapshooter) for pod in found))
    except CheckpointerError as error:
        return Unknown(str(error))


def _judge(pod: RawPod, config: Config, rules: Selection, snapshooter: Snapshooter) -> SelectedPod:
    stage = stage_of(pod, stage_rules(config.stage_zero))
    workload, name, is_up = workload_of(pod), pod["metadata"]["name"], is_ready(pod)
    if reason := exclusion(pod, rules):
        return SelectedPod(workload, name, stage, is_up, exclusion=reason)
    verdict, _, _ = snapshooter.explain(pod)
    if verdict.manifest is not None and is_up:
        verdict = snapshooter.judge_volumes(pod, verdict)
    if verdict.manifest is None:
        return SelectedPod(workload, name, stage, is_up, refusals=verdict.refusals)
    digest = snapshooter.digest(pod, verdict) if is_up else None
    return SelectedPod(workload, name, stage, is_up, digest=digest)
