"""What else lies in the manifest folder, and whether it gets into the way of a checkpoint."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from checkpointer.core.facts import Unknown
from checkpointer.core.workload import Workload
from checkpointer.doctor.facts import Examined, Facts
from checkpointer.doctor.result import Answer, failed, passed, skipped, warned
from checkpointer.node.static_pods import StaticPod

_OTHER_IMAGE = re.compile(
    r"(coreos|kinvolk|openshift)/(ose-)?pod-checkpointer(-operator)?(-rhel\d+)?[:@]"
)
_OTHER_NAMESPACE = "openshift-pod-checkpointer"


def readable(facts: Facts) -> Iterator[Answer]:
    """The kubelet takes every file of the manifest folder."""
    if isinstance(facts.static_pods, Unknown):
        yield skipped(facts.static_pods.reason)
        return
    folder = facts.config.manifest_directory
    bad = [pod for pod in facts.static_pods.value if pod.problem]
    for pod in bad:
        yield warned(
            f"{folder / pod.file_name}: the kubelet refuses it: {pod.problem}",
            "correct it, or move it out of the folder: the kubelet reads every file there, "
            "whatever its name ends in",
        )
    if not bad:
        yield passed(f"the kubelet takes all {len(facts.static_pods.value)} files in {folder}")


def duplicates(facts: Facts) -> Iterator[Answer]:
    """No two files are the same pod: the kubelet runs one of them, in turn."""
    if isinstance(facts.static_pods, Unknown):
        yield skipped(facts.static_pods.reason)
        return
    files: dict[tuple[str, str], list[str]] = defaultdict(list)
    for pod in facts.static_pods.value:
        if not pod.problem:
            files[pod.namespace, pod.name].append(pod.file_name)
    twice = {key: names for key, names in files.items() if len(names) > 1}
    for (namespace, name), names in sorted(twice.items()):
        yield failed(
            f"{' and '.join(names)} are all the pod {namespace}/{name}: the kubelet runs the last "
            "one and restarts it whenever one of them changes",
            f"leave one of them in {facts.config.manifest_directory}",
        )
    if not twice:
        yield passed("no pod is there twice")


def conflicts(facts: Facts) -> Iterator[Answer]:
    """Nobody else's static pod is, or takes the ports of, what is checkpointed."""
    if isinstance(facts.static_pods, Unknown) or isinstance(facts.examined, Unknown):
        yield skipped("the manifest folder or the store cannot be read")
        return
    found = [
        (one.workload, reason)
        for one in facts.examined.value
        if (reason := conflict_of(one, facts.static_pods.value))
    ]
    for workload, reason in found:
        yield failed(
            f"{workload}: {reason}",
            "let one of the two run it: remove the static pod, or the annotation that has the "
            "other one checkpointed",
        )
    if not found:
        yield passed("nobody else's static pod gets into the way of a checkpoint")


def conflict_of(one: Examined, static_pods: tuple[StaticPod, ...]) -> str:
    """Return what keeps a checkpoint from running beside these static pods, or nothing."""
    ports = set(one.serving.host_ports) if one.serving else set()
    for pod in static_pods:
        if pod.is_ours or pod.problem:
            continue
        if taken := sorted(ports & set(pod.host_ports)):
            shown = ", ".join(str(port) for port in taken)
            return f"{pod.file_name} is a static pod that takes its port {shown}"
        if _is_same(pod, one.workload):
            return f"{pod.file_name} is a static pod of the same name, {pod.namespace}/{pod.name}"
    return ""


def other_checkpointers(facts: Facts) -> Iterator[Answer]:
    """No other program checkpoints pods of this node."""
    found = [*_in_folders(facts), *_in_runtime(facts)]
    for what in found:
        yield failed(
            f"another checkpointer: {what}",
            "remove its DaemonSet and what it left: two of them start every pod twice",
        )
    if not found:
        yield passed("no sign of another one")


def _is_same(pod: StaticPod, workload: Workload) -> bool:
    return pod.namespace == workload.namespace and pod.name == workload.name


def _in_folders(facts: Facts) -> list[str]:
    found = [f"its folder {path}" for path in facts.leftovers]
    if not isinstance(facts.static_pods, Unknown):
        found += [
            f"its manifest {facts.config.manifest_directory / pod.file_name}"
            for pod in facts.static_pods.value
            if not pod.is_ours and (pod.is_marked or _is_other(pod.images))
        ]
    return found


def _in_runtime(facts: Facts) -> list[str]:
    if isinstance(facts.containers, Unknown):
        return []
    pods = {
        f"{container.namespace}/{container.pod_name}"
        for container in facts.containers.value.containers
        if container.namespace == _OTHER_NAMESPACE or _is_other((container.image,))
    }
    return [f"its pod {pod}" for pod in sorted(pods)]


def _is_other(images: tuple[str, ...]) -> bool:
    return any(_OTHER_IMAGE.search(f"{image}:") for image in images)
