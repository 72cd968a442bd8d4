"""The checks: pure functions of the facts, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from checkpointer.doctor.checks import agent, checkpoints, disks, identity, kubelet, manifests, pods
from checkpointer.doctor.facts import Facts
from checkpointer.doctor.result import Answer, Result

Check = Callable[[Facts], Iterable[Answer]]

CHECKS: Final[Mapping[str, Check]] = {
    "user": agent.user,
    "static-pod-path": kubelet.static_pod_path,
    "manifest-folder": disks.manifest_folder,
    "kubelet": kubelet.running,
    "kubelet-version": kubelet.version,
    "node-name": kubelet.node_name,
    "runtime": kubelet.runtime,
    "runtime-endpoint": kubelet.runtime_endpoint,
    "identity": identity.identity,
    "identity-expiry": identity.expiry,
    "authority": identity.authority,
    "api": identity.api,
    "clock": identity.clock,
    "clock-sync": identity.clock_sync,
    "store-folder": disks.store_folder,
    "disk-space": disks.space,
    "agent": agent.running,
    "contact": agent.contact,
    "agent-at-boot": agent.at_boot,
    "checkpoints": checkpoints.stored,
    "acceptance": checkpoints.acceptance,
    "images": checkpoints.images,
    "pull-records": checkpoints.pull_records,
    "tokens": checkpoints.tokens,
    "crashes": checkpoints.crashes,
    "parents": checkpoints.parents,
    "holds": checkpoints.holds,
    "selected-pods": pods.selected,
    "namespaces": pods.allowed,
    "freshness": pods.freshness,
    "static-pods": manifests.readable,
    "duplicates": manifests.duplicates,
    "conflicts": manifests.conflicts,
    "other-checkpointers": manifests.other_checkpointers,
}


def check(facts: Facts) -> tuple[Result, ...]:
    """Return what every check says; each says at least one thing."""
    return tuple(
        Result(name, answer.outcome, answer.what, answer.cure)
        for name, one in CHECKS.items()
        for answer in one(facts)
    )
