"""The form of the API's answers, as far as anything here relies on it.

An API server of Kubernetes sends nothing else. What is something else was sent by whoever answers
in its place, and is then no answer: told at the door, with its path, it is no surprise later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from checkpointer.manifest.fields import METADATA
from checkpointer.manifest.shapes import Each, Kind, Row, Table, misfits

_TEXT: Final = Row(Kind.TEXT)
_CONDITION: Final = Table(
    "Condition", dict.fromkeys(("type", "status", "reason", "message"), _TEXT)
)
_ADDRESS: Final = Table("NodeAddress", {"type": _TEXT, "address": _TEXT})
_ENDPOINT: Final = Each(Table("EndpointAddress", {"ip": _TEXT}))
_SUBSET: Final = Table(
    "EndpointSubset",
    {
        "addresses": Row(_ENDPOINT),
        "notReadyAddresses": Row(_ENDPOINT),
        "ports": Row(Each(Table("EndpointPort", {"port": Row(Kind.INT32)}))),
    },
)
_NODE: Final = {
    "status": Row(
        Table(
            "NodeStatus",
            {
                "addresses": Row(Each(_ADDRESS)),
                "conditions": Row(Each(_CONDITION)),
                "nodeInfo": Row(Table("NodeSystemInfo", {"kubeletVersion": _TEXT})),
            },
        )
    ),
    "spec": Row(Table("NodeSpec", {"providerID": _TEXT})),
}
_FOLDER: Final = Row(Table("VolumeSource", {"path": _TEXT, "type": _TEXT, "fsType": _TEXT}))
_FORMS: Final[Mapping[str, Mapping[str, Row]]] = {
    "secrets": {"data": Row(Kind.MAP)},
    "configmaps": {"data": Row(Kind.MAP), "binaryData": Row(Kind.MAP)},
    "persistentvolumeclaims": {
        "spec": Row(
            Table(
                "ClaimSpec",
                {"volumeName": _TEXT, "volumeMode": _TEXT, "accessModes": Row(Kind.TEXTS)},
            )
        )
    },
    "persistentvolumes": {
        "spec": Row(
            Table("VolumeSpec", {"volumeMode": _TEXT, "hostPath": _FOLDER, "local": _FOLDER})
        )
    },
    "nodes": {**_NODE, "items": Row(Each(Table("Node", {"metadata": Row(METADATA), **_NODE})))},
    "endpoints": {"subsets": Row(Each(_SUBSET))},
    "leases": {
        "spec": Row(
            Table(
                "LeaseSpec",
                {
                    "holderIdentity": _TEXT,
                    "leaseDurationSeconds": Row(Kind.INT32),
                    "leaseTransitions": Row(Kind.INT32),
                },
            )
        )
    },
}


def object_misfit(resource: str, answer: Mapping[str, Any]) -> str:
    """Return what in an object of the API, or a list, is not as it has to be, with its path.

    `resource` is its resource's name. Empty if all is well. Pods are judged one by one: `legible`.
    """
    rows = {"metadata": Row(METADATA), **_FORMS.get(resource, {})}
    found = misfits(answer, Table(resource, rows), "")
    return f"{found[0].path}: {found[0].reason}" if found else ""
