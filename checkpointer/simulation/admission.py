"""The kubelet's admission, as far as copies and parents can fall foul of it (section 2.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from checkpointer.simulation.cluster import Object
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a pod was rejected; final for its UID."""

    reason: str
    message: str


def rejection(pod: Object, active: Iterable[Object], labels: Mapping[str, str]) -> Rejection | None:
    """Return why the kubelet rejects the pod beside the active ones, or None."""
    taken = {port for other in active for port in host_ports(other)}
    if conflicts := sorted(host_ports(pod) & taken):
        return Rejection("NodePorts", f"Node didn't have free ports: {conflicts}")
    wanted = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(name) != value for name, value in wanted.items()):
        return Rejection("NodeAffinity", "Predicate NodeAffinity failed: node selector")
    return None


def host_ports(pod: Object) -> set[tuple[str, int]]:
    """Return the host ports the pod declares; on the host's network every port is one."""
    spec = pod["spec"]
    found = set()
    for container in (spec.get("initContainers") or []) + spec["containers"]:
        for port in container.get("ports") or ():
            number = port.get("hostPort") or (
                port["containerPort"] if spec.get("hostNetwork") else 0
            )
            if number:
                found.add((port.get("protocol", "TCP"), int(number)))
    return found
