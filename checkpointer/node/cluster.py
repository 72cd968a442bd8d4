"""The cluster's identity as this node sees it, pinned to the store at the first contact."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from checkpointer.core.cluster import ClusterIdentity
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.errors import CheckpointerError
from checkpointer.node.kubeconfig import read_kubeconfig
from checkpointer.store import layout
from checkpointer.store.revisions import Store

STATE = "cluster"
"""Name of the state in the store."""

ASK_SECONDS = 30.0
"""How old an answer may be that something is removed on."""

_NAMESPACE = "/api/v1/namespaces/kube-system"
_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----"
)


class Reader(Protocol):
    """What is asked of the API: one object by its path."""

    def find(self, path: str) -> Fact[Mapping[str, Any] | None]: ...


class ClusterPin:
    """Tells whether the API that answers is that of the cluster that the store belongs to."""

    def __init__(
        self, kubeconfig: Path, api: Reader, store: Store, read_only: bool = False
    ) -> None:
        self._kubeconfig, self._api, self._store = kubeconfig, api, store
        self._read_only = read_only
        self._path = store.root / layout.STATE / f"{STATE}.json"
        self._asked: tuple[float, int] | None = None
        self._parents: frozenset[str] = frozenset()
        self._asked_at = 0.0
        self.answer: Fact[bool] = Unknown("the cluster has not been identified yet")
        """What the last look told; of the pods that are known still, too."""
        self._unsaved: ClusterIdentity | None = None
        self.problems: tuple[str, ...] = ()
        """What is wrong, a sentence each: another cluster, or nobody can tell which."""

    def look(
        self, since: float, now: float, is_missing: bool, parents: frozenset[str] = frozenset()
    ) -> Fact[bool]:
        """Return whether it is. Only while the API answers; a first contact pins its cluster.

        The API is asked once per contact, which began at `since`; while pods are missing from
        its list (`is_missing`) again and again, for another cluster may have come unnoticed. So
        may it have when there are new UIDs among `parents`, those that a snapshot may be taken of.
        """
        try:
            asked = since, os.stat(self._kubeconfig).st_mtime_ns
        except OSError as error:
            return self._told(Unknown(f"{self._kubeconfig}: {error.strerror}"))
        is_old = now - self._asked_at >= ASK_SECONDS
        is_unsure = is_missing or self.answer != Known(True)
        if asked != self._asked or not parents <= self._parents or (is_unsure and is_old):
            self._asked, self._asked_at, self._parents = asked, now, parents
            self._told(self._look())
        if self._unsaved is not None and self.answer == Known(True):
            self._save(self._unsaved)
        return self.answer

    def _look(self) -> Fact[bool]:
        try:
            authorities = _authorities(Path(read_kubeconfig(self._kubeconfig).ca_file))
            seen = ClusterIdentity(authorities, self._uid())
            stored = self._store.read_state(STATE)
            if isinstance(stored, Unknown):
                return stored
            pinned = _parsed(stored.value, self._path) if stored.value else seen
            if not pinned.is_same(seen):
                return Known(False)
            self._unsaved = pinned.updated(seen)
        except (CheckpointerError, OSError) as error:
            return Unknown(str(error))
        return Known(True)

    def _uid(self) -> str:
        found = self._api.find(_NAMESPACE)
        if isinstance(found, Unknown) or found.value is None:
            return ""
        return str((found.value.get("metadata") or {}).get("uid") or "")

    def _save(self, identity: ClusterIdentity) -> None:
        value = {"authorities": sorted(identity.authorities), "uid": identity.uid}
        try:
            if not self._read_only:
                self._store.write_state(STATE, value)
        except CheckpointerError as error:
            self.problems = (str(error),)
        else:
            self._unsaved, self.problems = None, ()

    def _told(self, answer: Fact[bool]) -> Fact[bool]:
        self.answer = answer
        self.problems = ()
        if isinstance(answer, Unknown):
            cure = "; move that file away, and the cluster that answers is pinned anew"
            problem = f"nothing is removed, the cluster is not known: {answer.reason}"
            self.problems = (problem + (cure if str(self._path) in answer.reason else ""),)
        elif not answer.value:
            self.problems = (
                "nothing is removed and no snapshot is taken: the API that answers is not that of "
                "the cluster whose pods are stored; if this node has moved to that cluster, move "
                f"{self._path} away",
            )
        return answer


def _authorities(path: Path) -> frozenset[str]:
    found = _CERTIFICATE.findall(path.read_bytes())
    try:
        return frozenset(hashlib.sha256(base64.b64decode(one)).hexdigest() for one in found)
    except ValueError:
        raise CheckpointerError(f"{path}: a certificate in it is not base64") from None


def _parsed(value: Mapping[str, Any], path: Path) -> ClusterIdentity:
    """Return what was pinned. Raises CheckpointerError when it is not what was written."""
    authorities, uid = value.get("authorities"), value.get("uid")
    if not isinstance(authorities, list) or not isinstance(uid, str):
        raise CheckpointerError(f"{path}: expected authorities, a list, and uid, a text")
    return ClusterIdentity(frozenset(map(str, authorities)), uid)
