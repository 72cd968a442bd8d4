"""Crash-loop back-off: client-go's flowcontrol.Backoff as the kubelet uses it (section 5.6)."""

from __future__ import annotations

from dataclasses import dataclass, field

Key = tuple[str, str]
"""Pod UID and container name."""


@dataclass(slots=True)
class Backoff:
    """Delays per container, in the kubelet's memory only. Times are seconds of one clock."""

    initial_seconds: float = 10.0
    limit_seconds: float = 300.0
    _entries: dict[Key, tuple[float, float]] = field(default_factory=dict)

    def remaining(self, key: Key, ended_at: float, now: float) -> float:
        """Return for how long a container that ended must still wait."""
        entry = self._entries.get(key)
        if entry is None or ended_at - entry[1] > 2 * self.limit_seconds:
            return 0.0
        return max(0.0, ended_at + entry[0] - now)

    def count(self, key: Key, ended_at: float, now: float) -> None:
        """Note that a container which ended before is about to be started again."""
        entry = self._entries.get(key)
        if entry is None or ended_at - entry[1] > 2 * self.limit_seconds:
            self._entries[key] = (self.initial_seconds, now)
        else:
            self._entries[key] = (min(2 * entry[0], self.limit_seconds), now)
