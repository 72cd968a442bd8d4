"""Every volume source of the v1 Pod up to Kubernetes 1.37, and what becomes of it.

The second half of `fields`. A static pod may reference no API object
(pkg/api/pod/util.go:HasAPIObjectReference); besides, a source whose driver has left the kubelet
or that has to be attached through the API would never be mounted in an outage.
"""

from __future__ import annotations

from typing import Final

from checkpointer.manifest.shapes import Each, Kind, Row, Table, Treatment

_TEXT: Final = Row(Kind.TEXT)
_INT32: Final = Row(Kind.INT32)
_INT64: Final = Row(Kind.INT64)
_BOOL: Final = Row(Kind.BOOL)

_MATERIAL: Final = "becomes a read-only host path to a copy of the files that the kubelet rendered"
_HOST_PATH_CURE: Final = "mount it on the host and use a hostPath volume"


def _refused(reason: str, cure: str = _HOST_PATH_CURE) -> Row:
    return Row(Kind.ANY, Treatment.REFUSED, reason, cure)


def _gone(release: str = "") -> Row:
    when = f" in {release}" if release else ""
    return _refused(f"its driver was removed from the kubelet{when}")


_ATTACHED: Final = _refused(
    "is provided by a CSI driver through the API: it cannot be attached in an outage"
)
_NEEDS_ATTACHING: Final = _refused(
    "the kubelet asks the API whether the disk is attached before it mounts it"
)

OBJECT_FIELD: Final = Table("ObjectFieldSelector", {"apiVersion": _TEXT, "fieldPath": _TEXT})
RESOURCE_FIELD: Final = Table(
    "ResourceFieldSelector",
    {"containerName": _TEXT, "divisor": Row(Kind.QUANTITY), "resource": _TEXT},
)
DOWNWARD_ITEM: Final = Table(
    "DownwardAPIVolumeFile",
    {
        "fieldRef": Row(OBJECT_FIELD),
        "mode": _INT32,
        "path": _TEXT,
        "resourceFieldRef": Row(RESOURCE_FIELD),
        "user": _INT64,
    },
)
_KEYS: Final = Row(
    Each(Table("KeyToPath", {"key": _TEXT, "mode": _INT32, "path": _TEXT, "user": _INT64}))
)
_NAMED: Final = {"items": _KEYS, "name": _TEXT, "optional": _BOOL}

PROJECTION: Final = Table(
    "VolumeProjection",
    {
        "clusterTrustBundle": Row(
            Table(
                "ClusterTrustBundleProjection",
                {
                    "labelSelector": Row(Kind.ANY),
                    "name": _TEXT,
                    "optional": _BOOL,
                    "path": _TEXT,
                    "signerName": _TEXT,
                    "user": _INT64,
                },
            ),
            Treatment.REWRITTEN,
            _MATERIAL,
        ),
        "configMap": Row(Table("ConfigMapProjection", _NAMED), Treatment.REWRITTEN, _MATERIAL),
        "downwardAPI": Row(
            Table("DownwardAPIProjection", {"items": Row(Each(DOWNWARD_ITEM))}),
            Treatment.SUBSTITUTED,
            "becomes material where the copy would see something else",
        ),
        "podCertificate": _refused(
            "a pod certificate lives for hours and its key and chain change together: a copy "
            "would be worthless in any longer outage",
            "use a secret with a certificate that outlives an outage",
        ),
        "secret": Row(Table("SecretProjection", _NAMED), Treatment.REWRITTEN, _MATERIAL),
        "serviceAccountToken": Row(
            Table(
                "ServiceAccountTokenProjection",
                {"audience": _TEXT, "expirationSeconds": _INT64, "path": _TEXT, "user": _INT64},
            ),
            Treatment.REWRITTEN,
            _MATERIAL,
        ),
    },
    unknown=Treatment.REFUSED,
)

_MODES: Final = {"defaultMode": _INT32, "defaultUser": _INT64}

VOLUME: Final = Table(
    "Volume",
    {
        "name": _TEXT,
        # Rendered by the kubelet from the API: copied as material.
        "configMap": Row(
            Table("ConfigMapVolumeSource", {**_MODES, **_NAMED}), Treatment.REWRITTEN, _MATERIAL
        ),
        "downwardAPI": Row(
            Table("DownwardAPIVolumeSource", {**_MODES, "items": Row(Each(DOWNWARD_ITEM))}),
            Treatment.SUBSTITUTED,
            "becomes material where the copy would see something else",
        ),
        "projected": Row(
            Table("ProjectedVolumeSource", {**_MODES, "sources": Row(Each(PROJECTION))}),
            Treatment.REWRITTEN,
            _MATERIAL,
        ),
        "secret": Row(
            Table(
                "SecretVolumeSource",
                {**_MODES, "items": _KEYS, "optional": _BOOL, "secretName": _TEXT},
            ),
            Treatment.REWRITTEN,
            _MATERIAL,
        ),
        # On the node, or reached without the API.
        "emptyDir": Row(
            Table(
                "EmptyDirVolumeSource",
                {"medium": _TEXT, "mode": _INT32, "sizeLimit": Row(Kind.QUANTITY)},
            )
        ),
        "hostPath": Row(Table("HostPathVolumeSource", {"path": _TEXT, "type": _TEXT})),
        "image": Row(
            Table(
                "ImageVolumeSource",
                {
                    "pullPolicy": Row(
                        Kind.TEXT, Treatment.REWRITTEN, "Always needs the registry at every start"
                    ),
                    "reference": _TEXT,
                },
            )
        ),
        "nfs": Row(Table("NFSVolumeSource", {"path": _TEXT, "readOnly": _BOOL, "server": _TEXT})),
        # Resolved where that is possible.
        "persistentVolumeClaim": Row(
            Table("PersistentVolumeClaimVolumeSource", {"claimName": _TEXT, "readOnly": _BOOL}),
            Treatment.REWRITTEN,
            "a claim bound to a local or hostPath volume becomes that host path",
        ),
        # Not to be had in an outage.
        "awsElasticBlockStore": _ATTACHED,
        "azureDisk": _ATTACHED,
        "azureFile": _refused("is mounted with a secret that is read from the API"),
        "cephfs": _gone("1.31"),
        "cinder": _ATTACHED,
        "csi": _refused("CSI volumes are set up through the API"),
        "ephemeral": _refused(
            "its claim is made and bound through the API", "use an emptyDir or a hostPath volume"
        ),
        "fc": _NEEDS_ATTACHING,
        "flexVolume": _NEEDS_ATTACHING,
        "flocker": _gone("1.25"),
        "gcePersistentDisk": _ATTACHED,
        "gitRepo": _refused(
            "its driver is disabled in the kubelet since 1.33",
            "clone the repository in an init container into an emptyDir",
        ),
        "glusterfs": _gone("1.26"),
        "iscsi": _NEEDS_ATTACHING,
        "photonPersistentDisk": _gone(),
        "portworxVolume": _ATTACHED,
        "quobyte": _gone("1.25"),
        "rbd": _gone("1.31"),
        "scaleIO": _gone("1.22"),
        "storageos": _gone("1.25"),
        "vsphereVolume": _ATTACHED,
    },
    unknown=Treatment.REFUSED,
)
