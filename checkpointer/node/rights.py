"""Rights that this identity lacks: each is told once, with what does not work for want of it.

A refused request is an Unknown like any other, so what needed its answer degrades by itself.
docs/identity.md also has these, with how to grant them.
"""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

_GET, _LIST = "get", "list and watch"

NEEDED_FOR = {
    (
        "pods",
        _LIST,
    ): "the pods of this node are not known: none is snapshotted, no copy's pod is seen to "
    "return by the API",
    ("nodes", _GET): "the kubelet's version is not known: names of environment variables that only "
    "kubelets since 1.32 take are left out of copies",
    ("configmaps", _GET): "pods whose environment comes from a ConfigMap cannot be checkpointed",
    ("secrets", _GET): "pods that opted in to secrets in their environment cannot be checkpointed",
    ("persistentvolumeclaims", _GET): "pods with volume claims cannot be checkpointed",
    ("persistentvolumes", _GET): "pods with volume claims cannot be checkpointed",
    ("services", _GET): "the agent does not notice that it was uninstalled",
}
"""What is missing without a right. Others may be refused: a node has them or does without. A
kubelet may not list nodes, say; masters are told by the API's endpoints then."""


class Rights:
    """Told of each refusal (HTTP 403); warns of the first one of each kind of object."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def refused(self, path: str) -> None:
        """Take note that a request for the object or collection at a path was refused."""
        resource, verb = request_of(path)
        if resource in self._warned or (resource, verb) not in NEEDED_FOR:
            return
        self._warned.add(resource)
        log.warning(
            "this identity may not %s %s (GET %s: HTTP 403): %s; allow it to, see docs/identity.md",
            verb,
            resource,
            path,
            NEEDED_FOR[resource, verb],
        )


def request_of(path: str) -> tuple[str, str]:
    """Return the kind of object that a path of the API names, and what is asked of it.

    `/api/v1/namespaces/NS/secrets/NAME`, `/api/v1/nodes/NAME`, `/api/v1/pods`.
    """
    parts = path.partition("?")[0].strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[0] == "namespaces" and len(parts) > 2:
        parts = parts[2:]
    return parts[0], _GET if len(parts) > 1 else _LIST
