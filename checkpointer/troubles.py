"""What one look at the node's sources found wrong, a sentence each: for log and status alike."""

from __future__ import annotations

from checkpointer.core.facts import Fact, Unknown
from checkpointer.core.observation import NOT_ASKED
from checkpointer.core.runtime import Runtime
from checkpointer.node.manifests import Folder
from checkpointer.store.contents import Stored


def troubles(folder: Fact[Folder], runtime: Fact[Runtime], stored: Fact[Stored]) -> tuple[str, ...]:
    """Return skipped files and silent sources; a runtime that nobody asked is none of them."""
    found = [folder.reason] if isinstance(folder, Unknown) else list(folder.value.problems)
    if isinstance(runtime, Unknown) and runtime is not NOT_ASKED:
        found.append(runtime.reason)
    if isinstance(stored, Unknown):
        return (*found, stored.reason)
    found += stored.value.problems
    found += [f"{c.workload}: {told}" for c in stored.value.checkpoints for told in c.problems]
    return tuple(found)
