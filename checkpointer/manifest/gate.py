"""What the rules of the acceptance gate share: where findings go, and what they depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from checkpointer.manifest.verdict import Finding
from checkpointer.values import dataclass


class Findings(list[Finding]):
    """Findings in the order in which the rules meet them."""

    __slots__ = ()

    def add(self, path: str, reason: str) -> None:
        """Record that a rule is broken at `path`."""
        self.append(Finding(path, reason))

    def forbid(self, broken: object, path: str, reason: str) -> None:
        """Record it if `broken` is true."""
        if broken:
            self.append(Finding(path, reason))


@dataclass(frozen=True, slots=True)
class Context:
    """What of the pod the rules for one container depend on."""

    volumes: Mapping[str, Mapping[str, Any]]
    grace_seconds: int
    host_users: bool
    host_network: bool
    has_os: bool

    @classmethod
    def of(cls, spec: Mapping[str, Any], volumes: Mapping[str, Mapping[str, Any]]) -> Context:
        """Take it from a PodSpec, with the defaults of v1."""
        grace = spec.get("terminationGracePeriodSeconds")
        return cls(
            volumes,
            30 if grace is None else grace,
            spec.get("hostUsers") is not False,
            bool(spec.get("hostNetwork")),
            bool((spec.get("os") or {}).get("name")),
        )
