"""What the simulated kubelet reports of a pod: phase, conditions, container statuses."""

from __future__ import annotations

from checkpointer.core.runtime import ContainerState
from checkpointer.simulation.cluster import Object, timestamp
from checkpointer.simulation.pod_worker import PodWorker
from checkpointer.simulation.runtime import image_id
from checkpointer.simulation.runtime_records import ContainerRecord


def status_of(worker: PodWorker, before: Object) -> Object:
    """Return the pod's status; transition times are kept from `before` where nothing changed."""
    spec = worker.pod["spec"]
    containers = [_container_status(worker, one) for one in spec["containers"]]
    initial = [_container_status(worker, one) for one in spec.get("initContainers") or ()]
    is_ready = all(one["ready"] for one in containers)
    has_started = all(_has_run(one) for one in initial)
    conditions = {
        "PodScheduled": True,
        "Initialized": has_started,
        "ContainersReady": is_ready,
        "Ready": is_ready and not spec.get("readinessGates"),
    }
    status: Object = {
        "phase": _phase(spec, containers),
        "conditions": _conditions(conditions, before.get("conditions") or []),
        "hostIP": worker.around.address,
        "hostIPs": [{"ip": worker.around.address}],
        "startTime": before.get("startTime") or timestamp(),
        "qosClass": "BestEffort",
        "containerStatuses": containers,
    }
    if initial:
        status["initContainerStatuses"] = initial
    sandbox = worker.sandbox()
    if sandbox is not None and sandbox.is_ready:
        status |= {"podIP": worker.ip, "podIPs": [{"ip": worker.ip}]}
    return status


def failed(reason: str, message: str) -> Object:
    """Return the status of a pod that the kubelet has rejected."""
    return {
        "phase": "Failed",
        "reason": reason,
        "message": f"Pod was rejected: {message}",
        "startTime": timestamp(),
    }


def is_ready(pod: Object) -> bool:
    """Tell whether the pod's Ready condition is true."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _container_status(worker: PodWorker, container: Object) -> Object:
    records = worker.containers(container["name"])
    newest = records[0] if records else None
    is_container_ready = newest is not None and worker.around.runtime.is_ready(newest)
    status: Object = {
        "name": container["name"],
        "image": container["image"],
        "imageID": image_id(container["image"]) if newest else "",
        "restartCount": newest.config.attempt if newest else 0,
        "ready": is_container_ready,
        "started": newest is not None and newest.is_running,
        "state": _state(newest, worker.waiting.get(container["name"])),
        "lastState": _last_state(records),
    }
    if newest is not None:
        status["containerID"] = f"containerd://{newest.id}"
    return status


def _state(newest: ContainerRecord | None, waiting: str | None) -> Object:
    if newest is not None and newest.is_running:
        return {"running": {"startedAt": timestamp(newest.started_at / 1e9)}}
    if newest is None or waiting is not None:
        reason, _, message = (waiting or "ContainerCreating").partition(": ")
        return {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    return {"terminated": _terminated(newest)}


def _last_state(records: list[ContainerRecord]) -> Object:
    ended = [one for one in records[1:] if one.state is ContainerState.EXITED]
    return {"terminated": _terminated(ended[0])} if ended else {}


def _terminated(record: ContainerRecord) -> Object:
    return {
        "exitCode": record.exit_code,
        "reason": record.reason,
        "startedAt": timestamp(record.started_at / 1e9),
        "finishedAt": timestamp(record.finished_at / 1e9),
        "containerID": f"containerd://{record.id}",
    }


def _has_run(status: Object) -> bool:
    ended = status["state"].get("terminated")
    return bool(status["started"] or (ended and ended["exitCode"] == 0))


def _phase(spec: Object, containers: list[Object]) -> str:
    states = [one["state"] for one in containers]
    if all("terminated" in state for state in states) and spec.get("restartPolicy") in (
        "Never",
        "OnFailure",
    ):
        codes = [state["terminated"]["exitCode"] for state in states]
        return "Failed" if any(codes) else "Succeeded"
    has_begun = all(one.get("containerID") for one in containers)
    return "Running" if has_begun else "Pending"


def _conditions(wanted: dict[str, bool], before: list[Object]) -> list[Object]:
    known = {one["type"]: one for one in before}
    found = []
    for kind, value in wanted.items():
        status = str(value)
        old = known.get(kind)
        since = old["lastTransitionTime"] if old and old["status"] == status else timestamp()
        found.append({"type": kind, "status": status, "lastTransitionTime": since})
    return found
