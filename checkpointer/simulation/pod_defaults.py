"""What the API server and its admission add to a pod: defaults, service account, priority.

The agent sees pods as the API returns them, so the simulated ones carry the same additions,
among them the token volume that every checkpoint has to deal with.
"""

from __future__ import annotations

import copy

from checkpointer.simulation.cluster import Cluster, Object, random_suffix

_PRIORITIES = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_TOKEN_SECONDS = 3607
ROOT_CA = "kube-root-ca.crt"


def created_pod(metadata: Object, spec: Object) -> Object:
    """Return the pod as the API stores it when it is created with these."""
    pod: Object = {"metadata": copy.deepcopy(metadata), "spec": copy.deepcopy(spec)}
    spec = pod["spec"]
    defaults: Object = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
        "priority": _PRIORITIES.get(spec.get("priorityClassName", ""), 0),
    }
    for key, value in defaults.items():
        spec.setdefault(key, value)
    account = spec.setdefault("serviceAccountName", "default")
    spec["serviceAccount"] = account
    spec.setdefault("tolerations", []).extend(
        {
            "key": f"node.kubernetes.io/{condition}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 300,
        }
        for condition in ("not-ready", "unreachable")
    )
    for container in (spec.get("initContainers") or []) + spec["containers"]:
        _complete(container, on_host_network=bool(spec.get("hostNetwork")))
    if spec.get("automountServiceAccountToken", True):
        _inject_token(spec)
    pod["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    return pod


def _complete(container: Object, *, on_host_network: bool) -> None:
    container.setdefault("imagePullPolicy", "IfNotPresent")
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if on_host_network:
            port.setdefault("hostPort", port["containerPort"])


def _inject_token(spec: Object) -> None:
    """Add the volume of the ServiceAccount admission (7.1) and mount it everywhere."""
    name = f"kube-api-access-{random_suffix()}"
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_SECONDS}},
        {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [
                    {
                        "path": "namespace",
                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    }
                ]
            }
        },
    ]
    projected = {"sources": sources, "defaultMode": 420}
    spec.setdefault("volumes", []).append({"name": name, "projected": projected})
    for container in (spec.get("initContainers") or []) + spec["containers"]:
        container.setdefault("volumeMounts", []).append(
            {"name": name, "readOnly": True, "mountPath": _TOKEN_PATH}
        )


def create_pod(cluster: Cluster, metadata: Object, spec: Object) -> Object:
    """Create the pod in the cluster and return it."""
    return cluster.create("pods", created_pod(metadata, spec))
