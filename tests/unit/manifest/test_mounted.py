"""What the kubelet renders of a pod's volumes, and what in them is issued anew."""

from __future__ import annotations

from checkpointer.manifest.mounted import MountedVolume, mounted_volumes

SOURCES = [
    {"serviceAccountToken": {"path": "token"}},
    {"podCertificate": {"keyPath": "tls.key", "certificateChainPath": "tls.crt"}},
    {"podCertificate": {"credentialBundlePath": "bundle.pem"}},
    {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
]
VOLUMES = [
    {"name": "access", "projected": {"sources": SOURCES}},
    {"name": "certs", "secret": {"secretName": "certs"}},
    {"name": "config", "configMap": {"name": "config"}},
    {"name": "labels", "downwardAPI": {}},
    {"name": "idle", "secret": {"secretName": "idle"}},
    {"name": "scratch", "emptyDir": {}},
]


def test_mounted_volumes_are_those_that_the_kubelet_renders() -> None:
    """Of the containers and init containers; a folder of the node and an idle one are none."""
    names = ["access", "config", "labels", "scratch"]
    spec = {
        "initContainers": [{"volumeMounts": [{"name": "certs"}]}, {}],
        "containers": [{"volumeMounts": [{"name": name} for name in names]}],
        "volumes": VOLUMES,
    }
    issued = frozenset({"token", "tls.key", "tls.crt", "bundle.pem"})
    assert list(mounted_volumes(spec)) == [
        MountedVolume("access", "kubernetes.io~projected", issued),
        MountedVolume("certs", "kubernetes.io~secret"),
        MountedVolume("config", "kubernetes.io~configmap"),
        MountedVolume("labels", "kubernetes.io~downward-api"),
    ]
    assert list(mounted_volumes({"volumes": VOLUMES})) == []
