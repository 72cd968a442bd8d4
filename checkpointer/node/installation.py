"""Which pod this process runs in, and whether what that belongs to is still installed.

The pod's UID comes from the mount table: the kubelet mounts a file from `pods/<uid>/` into every
container, whatever the cgroup version and the network. Nothing has to be set in the pod, which
matters: a UID in the pod's environment would make each of its copies differ.

The kubelet's identity may not read controllers (plugin/pkg/auth/authorizer/node), but every node
may read Services: one that bears the controller's name marks the installation.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.errors import CheckpointerError
from checkpointer.node.kubeconfig import read_kubeconfig

MOUNT_TABLE = Path("/proc/self/mountinfo")

ASK_SECONDS = 5.0
"""How long an answer about the installation stands while none of its pods is here."""

MARKER_SECONDS = 600.0
"""How long one stands while its pod is here."""

_POINTS = frozenset({"/dev/termination-log", "/etc/hosts"})
_ROOT = re.compile(
    r"/pods/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})/(?:etc-hosts|containers/)"
)
_KINDS = {"DaemonSet": "daemonsets", "Deployment": "deployments", "StatefulSet": "statefulsets"}

Find = Callable[[str], Fact[Mapping[str, Any] | None]]


def read_pod_uid(mount_table: Path = MOUNT_TABLE) -> str:
    """Return the UID of the pod that this process runs in; empty when it runs in none.

    The table is that of proc(5): the fourth field is the path within the mounted file system,
    the fifth where it is mounted.
    """
    try:
        lines = mount_table.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        if len(fields) > 4 and fields[4] in _POINTS and (found := _ROOT.search(fields[3])):
            return found[1]
    return ""


class Installation:
    """The agent's pod and its controller, as the API has them; `find` asks it for one object."""

    def __init__(
        self,
        pod_uid: str,
        kubeconfig: Path,
        find: Find,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pod_uid = pod_uid
        self._kubeconfig, self._find, self._clock = kubeconfig, find, clock
        self._asked: tuple[Workload, bool] | None = None
        self._answer: tuple[Fact[bool], Fact[bool]] | None = None
        self._asked_at = 0.0
        self._ca: tuple[tuple[int, int], str] | None = None

    def cluster(self) -> str:
        """Return a digest of the CA that the kubeconfig has; empty when it cannot be read."""
        try:
            status = self._kubeconfig.stat()
            key = (status.st_mtime_ns, status.st_ino)
            if self._ca is None or self._ca[0] != key:
                self._ca = (key, read_kubeconfig(self._kubeconfig).ca_file)
            return hashlib.sha256(Path(self._ca[1]).read_bytes()).hexdigest()
        except (OSError, CheckpointerError):
            return ""

    def look(self, workload: Workload, is_here: bool) -> tuple[Fact[bool], Fact[bool]]:
        """Return whether the controller and the marker are there; asks now and then.

        `is_here`: whether a pod of it is on this node; then only the marker is asked for.
        """
        now, lasts = self._clock(), MARKER_SECONDS if is_here else ASK_SECONDS
        if self._asked == (workload, is_here) and now - self._asked_at < lasts and self._answer:
            return self._answer
        owner: Fact[bool] = Unknown("its pod is here")
        if not is_here:
            owner = self._owner(workload)
        space, name = quote(workload.namespace, safe=""), quote(workload.name, safe="")
        marker = _is_there(self._find(f"/api/v1/namespaces/{space}/services/{name}"))
        self._asked, self._asked_at, self._answer = (workload, is_here), now, (owner, marker)
        return self._answer

    def _owner(self, workload: Workload) -> Fact[bool]:
        if (resource := _KINDS.get(workload.kind)) is None:
            return Unknown(f"nothing is known of controllers of kind {workload.kind}")
        space, name = quote(workload.namespace, safe=""), quote(workload.name, safe="")
        return _is_there(self._find(f"/apis/apps/v1/namespaces/{space}/{resource}/{name}"))


def _is_there(found: Fact[Mapping[str, Any] | None]) -> Fact[bool]:
    return found if isinstance(found, Unknown) else Known(found.value is not None)
