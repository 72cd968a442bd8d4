"""The kubelet of a machine, with everything where a kubelet has it by default."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.cluster.binaries import Binaries
from tests.e2e.cluster.machine import ADDRESS, Machine
from tests.e2e.cluster.processes import Process
from tests.e2e.cluster.runtime import SOCKET

NODE = "node-1"
KUBECONFIG = "/etc/kubernetes/kubelet.conf"
MANIFESTS = "/etc/kubernetes/manifests"

# Settings that older kubelets do not know and would refuse: key -> first version that has it.
_SINCE: dict[str, tuple[int, int]] = {
    "localStorageCapacityIsolation": (1, 25),
    "containerRuntimeEndpoint": (1, 27),
    "failCgroupV1": (1, 31),
}


def start_kubelet(machine: Machine, binaries: Binaries, settings: dict[str, Any]) -> Process:
    """Start the kubelet and return at once; its process tells when it was started.

    `settings` go over those that every kubelet here gets.
    """
    folder = machine.disk / "etc/kubernetes"
    configuration = _settings(machine.cgroup, binaries.version) | settings
    (folder / "kubelet.yaml").write_text(json.dumps(configuration))
    flags = [
        "--config=/etc/kubernetes/kubelet.yaml",
        f"--kubeconfig={KUBECONFIG}",
        f"--hostname-override={NODE}",
        f"--node-ip={ADDRESS}",
        "--v=2",
    ]
    if binaries.version < _SINCE["containerRuntimeEndpoint"]:
        flags.append(f"--container-runtime-endpoint=unix://{SOCKET}")
    if binaries.version < (1, 24):
        flags.append("--container-runtime=remote")
    return machine.start("kubelet", binaries.kubelet, *flags)


def _settings(cgroup: str, version: tuple[int, int]) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "0%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": False,
        "staticPodPath": MANIFESTS,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }
    return {k: v for k, v in settings.items() if _SINCE.get(k, version) <= version}
