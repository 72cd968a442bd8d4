"""Which cluster this node belongs to: another one's word removes nothing, and stores nothing.

An API server that answers with our names need not be ours: a cluster built anew at the same
address, a test cluster behind the same name, a kubeconfig of another one. What it does not list
is not gone, and its pods of the same names are no reason to give up what is stored of ours. Where
nobody can tell which cluster it is, snapshots go on, so that the node stays protected.
"""

from __future__ import annotations

from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class ClusterIdentity:
    """What a cluster is known by."""

    authorities: frozenset[str]
    """SHA-256 (hex) of each certificate that the kubeconfig trusts."""
    uid: str = ""
    """UID of the namespace kube-system; empty where our identity may not read it."""

    def is_same(self, other: ClusterIdentity) -> bool:
        """Tell whether both are one cluster.

        The UID decides where both have it. Else one common authority does: while an authority
        is replaced, the old and the new one are trusted together.
        """
        if self.uid and other.uid:
            return self.uid == other.uid
        return bool(self.authorities & other.authorities)

    def updated(self, seen: ClusterIdentity) -> ClusterIdentity:
        """Return what to go by from now on, given that `seen` is the same cluster."""
        return ClusterIdentity(seen.authorities, seen.uid or self.uid)
