"""A self-hosted control plane in objects: what bootkube and its heirs put into kube-system."""

from __future__ import annotations

import base64

from checkpointer.simulation import pod_defaults
from checkpointer.simulation.certificates import Authority, KeyPair
from checkpointer.simulation.cluster import Cluster, Object
from checkpointer.simulation.programs import Program
from checkpointer.simulation.self_hosting import IMAGE, SECRETS

NAMESPACE = "kube-system"
CHECKPOINT = {"checkpointer.alpha.coreos.com/checkpoint": "true"}
WORKLOADS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")

_REGISTRY = "registry.k8s.io"
_VERSION = "v1.36.2"
_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/"  # noqa: S105 - a path
_PORTS = {"kube-controller-manager": 10257, "kube-scheduler": 10259}


def programs() -> dict[str, Program]:
    """Return what the images of the controllers do: they need their tokens and their ports."""
    needs = (f"{_TOKEN}token", f"{_TOKEN}ca.crt")
    return {
        name: Program(ports=(port,), needs=needs, start_seconds=0.2)
        for name, port in _PORTS.items()
    }


def install(cluster: Cluster, authority: Authority, port: int) -> None:
    """Create the secrets, accounts and controllers; the node's controllers make the pods."""
    serving = authority.serving("127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc")
    cluster.apply("secrets", tls_secret(NAMESPACE, "kube-apiserver", authority, serving))
    for namespace in (NAMESPACE, "default"):
        cluster.apply("configmaps", root_ca(namespace, authority))
        cluster.apply("serviceaccounts", named(namespace, "default"))
    for name in _PORTS:
        cluster.apply("serviceaccounts", named(NAMESPACE, name))
        cluster.apply("deployments", _deployment(name, port))
    cluster.apply("daemonsets", _api_server(port))


def tls_secret(namespace: str, name: str, authority: Authority, serving: KeyPair) -> Object:
    """Return a secret with a serving certificate, its key and its authority."""
    files = {
        "ca.crt": authority.certificate,
        "tls.crt": serving.certificate,
        "tls.key": serving.key,
    }
    return {
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "data": {key: base64.b64encode(value).decode() for key, value in files.items()},
    }


def root_ca(namespace: str, authority: Authority) -> Object:
    """Return the configMap with the cluster's authority that every token volume refers to."""
    return named(namespace, pod_defaults.ROOT_CA) | {
        "data": {"ca.crt": authority.certificate.decode()}
    }


def named(namespace: str, name: str) -> Object:
    """Return an object with nothing but its name."""
    return {"metadata": {"name": name, "namespace": namespace}}


def endpoints(address: str) -> Object:
    """Return the endpoints of the `kubernetes` service: where the API servers are.

    They have not changed since long, as those of an API with one server do not.
    """
    subsets = [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": 443}]}]
    changed = [{"manager": "kube-apiserver", "time": "2026-01-01T00:00:00Z"}]
    metadata = {"name": "kubernetes", "namespace": "default", "managedFields": changed}
    return {"metadata": metadata, "subsets": subsets}


def controller(name: str, spec: Object, namespace: str = NAMESPACE, **more: object) -> Object:
    """Return a DaemonSet or Deployment of pods with this spec, marked to be checkpointed."""
    labels = {"k8s-app": name}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": dict(CHECKPOINT)},
                "spec": spec,
            },
            **more,
        },
    }


def _api_server(port: int) -> Object:
    command = [IMAGE, f"--secure-port={port}", "--bind-address=127.0.0.1"]
    container = {
        "name": IMAGE,
        "image": f"{_REGISTRY}/{IMAGE}:{_VERSION}",
        "command": command,
        "ports": [{"name": "https", "containerPort": port}],
        "volumeMounts": [{"name": "secrets", "mountPath": SECRETS, "readOnly": True}],
    }
    spec = {
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        "volumes": [{"name": "secrets", "secret": {"secretName": IMAGE, "defaultMode": 384}}],
    }
    return controller(IMAGE, spec)


def _deployment(name: str, port: int) -> Object:
    environment = [
        {"name": "KUBERNETES_SERVICE_HOST", "value": "127.0.0.1"},
        {"name": "KUBERNETES_SERVICE_PORT", "value": str(port)},
    ]
    container = {
        "name": name,
        "image": f"{_REGISTRY}/{name}:{_VERSION}",
        "command": [name, "--leader-elect=true"],
        "env": environment,
    }
    spec = {
        "hostNetwork": True,
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": name,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    return controller(name, spec, replicas=1)
