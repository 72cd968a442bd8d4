"""Does the kubelet run, does it read our folder, and do we ask the runtime that it uses?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from checkpointer.core.facts import Unknown
from checkpointer.doctor.facts import Facts
from checkpointer.doctor.result import Answer, failed, passed, skipped, warned

OLDEST_MINOR = 24
"""Of Kubernetes 1: the oldest kubelet that checkpoints are made for."""

_NODE_USER = re.compile(r"(?:^|,)CN=system:node:([^,+]+)")


def static_pod_path(facts: Facts) -> Iterator[Answer]:
    """The kubelet reads the folder that checkpoints are activated in."""
    ours = facts.manifest_folder
    if isinstance(facts.kubelet, Unknown):
        yield warned(
            f"it cannot be told which folder the kubelet reads: {facts.kubelet.reason}",
            f"see that staticPodPath in the kubelet's configuration is {ours}",
        )
        return
    kubelet = facts.kubelet.value
    if kubelet.static_pod_path is None:
        yield failed(
            f"the kubelet runs no static pods: staticPodPath is not set ({kubelet.source})",
            f"set staticPodPath: {ours} in the kubelet's configuration and restart it",
        )
    elif kubelet.static_pod_path != ours:
        yield failed(
            f"the kubelet reads {kubelet.static_pod_path} ({kubelet.source}), checkpoints are "
            f"activated in {ours}",
            f"set manifestDirectory: {kubelet.static_pod_path} in this node's configuration",
        )
    else:
        yield passed(f"the kubelet reads {ours} ({kubelet.source})")


def running(facts: Facts) -> Iterator[Answer]:
    """The kubelet of the configured folder is there."""
    cure = "see `systemctl status kubelet`, and that kubeletDirectory is its --root-dir"
    if isinstance(facts.kubelet_run, Unknown):
        yield failed(facts.kubelet_run.reason, cure)
    elif not facts.kubelet_run.value.listening:
        yield failed("the kubelet does not answer on its socket: it is not running", cure)
    else:
        yield passed(f"it runs, with the folder {facts.config.kubelet_directory}")


def version(facts: Facts) -> Iterator[Answer]:
    """Checkpoints are made for the kubelet's version."""
    if isinstance(facts.kubelet_version, Unknown):
        yield skipped(facts.kubelet_version.reason)
        return
    found = re.search(r"v(\d+)\.(\d+)", facts.kubelet_version.value)
    if found is None:
        yield skipped(f"not a version: {facts.kubelet_version.value}")
    elif (int(found[1]), int(found[2])) < (1, OLDEST_MINOR):
        yield warned(
            f"{facts.kubelet_version.value} is older than v1.{OLDEST_MINOR}: it was never tried",
            "upgrade the kubelet",
        )
    else:
        yield passed(facts.kubelet_version.value)


def node_name(facts: Facts) -> Iterator[Answer]:
    """The pods that we ask the API for are those that the kubelet runs."""
    theirs, source = "", ""
    if not isinstance(facts.identity, Unknown) and facts.identity.value.certificate:
        match = _NODE_USER.search(facts.identity.value.certificate.subject)
        theirs, source = (match[1], "its certificate") if match else ("", "")
    if not isinstance(facts.kubelet, Unknown) and facts.kubelet.value.node_name:
        theirs, source = facts.kubelet.value.node_name.lower(), "--hostname-override"
    if not theirs:
        yield skipped("nothing here tells the kubelet's node name")
    elif theirs != facts.node_name:
        yield failed(
            f"the kubelet's node is {theirs} ({source}), ours is {facts.node_name}",
            f"set nodeName: {theirs} in this node's configuration",
        )
    else:
        yield passed(f"{theirs} ({source})")


def runtime(facts: Facts) -> Iterator[Answer]:
    """The container runtime answers."""
    if isinstance(facts.runtime, Unknown):
        yield failed(
            facts.runtime.reason,
            "start the container runtime, or set runtimeEndpoint to its CRI socket",
        )
    else:
        found = facts.runtime.value
        yield passed(f"{found.name} {found.version} at {facts.runtime_endpoint}")


def runtime_endpoint(facts: Facts) -> Iterator[Answer]:
    """It is the runtime that the kubelet uses."""
    if isinstance(facts.kubelet, Unknown) or not facts.kubelet.value.runtime_endpoint:
        yield skipped("the kubelet's settings name no runtime endpoint")
        return
    theirs = facts.kubelet.value.runtime_endpoint
    if not facts.runtime_endpoint:
        yield skipped("no container runtime was found")
    elif _socket(theirs) != _socket(facts.runtime_endpoint):
        yield failed(
            f"the kubelet uses {theirs}, we ask {facts.runtime_endpoint}",
            f"set runtimeEndpoint: {theirs} in this node's configuration",
        )
    else:
        yield passed(f"the kubelet uses it, too ({theirs})")


def _socket(endpoint: str) -> str:
    path = endpoint.removeprefix("unix:").removeprefix("//")
    return f"/run/{path.removeprefix('/var/run/')}" if path.startswith("/var/run/") else path
