"""What the agent must remember across its own restarts, in the store's state files.

The kubelet's run that was last seen with contact, and what is known of the agent's own checkpoint.
A decision is made on it only once it is on disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from checkpointer.core.checkpoint import OwnRecord
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.itself import to_record
from checkpointer.core.observation import KubeletRun
from checkpointer.core.plan import Memory
from checkpointer.errors import CheckpointerError
from checkpointer.store.own import OWN_STATE, own_state, parse_own
from checkpointer.store.revisions import Store
from checkpointer.values import replace

log = logging.getLogger(__name__)

CONTACT_STATE = "contact"
"""Name of the state in the store that holds the kubelet's run last seen with contact."""


class KeptMemory:
    """Reads it at the start, and writes what has changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._own_saved = OwnRecord()
        self._unsaved: dict[str, str] = {}

    @property
    def problems(self) -> Iterable[str]:
        """Return why something could not be saved, a sentence for each state."""
        return self._unsaved.values()

    def recalled(self, boot_id: Fact[str], run: Callable[[], Fact[KubeletRun]]) -> Memory:
        """Return what the agent's last run has left; `run` asks for the kubelet's run of now."""
        memory = Memory(own=self._own())
        state = self._store.read_state(CONTACT_STATE)
        if isinstance(state, Unknown) or isinstance(boot_id, Unknown):
            # It cannot be told whether this kubelet has had contact: it may know the parents.
            if isinstance(state, Unknown):
                log.warning("%s", state.reason)
            now = run()
            return (
                replace(memory, contact_kubelet=now.value.identity)
                if isinstance(now, Known)
                else memory
            )
        kubelet = state.value.get("kubelet")
        return replace(memory, contact_kubelet=kubelet) if isinstance(kubelet, str) else memory

    def kept(self, before: Memory, memory: Memory) -> Memory:
        """Return the memory as far as a crash would leave it: what cannot be saved is as before."""
        kubelet = memory.contact_kubelet
        if kubelet != before.contact_kubelet and not self._save(
            CONTACT_STATE, {"kubelet": kubelet}
        ):
            memory = replace(memory, contact_kubelet=before.contact_kubelet)
        if to_record(self._own_saved, memory.own):
            if self._save(OWN_STATE, own_state(memory.own)):
                self._own_saved = memory.own
            else:  # nobody leaves a node on what would not survive a crash
                memory = replace(memory, own=replace(memory.own, leaving=self._own_saved.leaving))
        return memory

    def _own(self) -> OwnRecord:
        state = self._store.read_state(OWN_STATE)
        if isinstance(state, Unknown):
            log.warning("%s", state.reason)
            return OwnRecord()
        try:
            self._own_saved = parse_own(state.value)
        except CheckpointerError as error:
            log.warning("%s: %s", OWN_STATE, error)
        return self._own_saved

    def _save(self, name: str, state: dict[str, Any]) -> bool:
        try:
            self._store.write_state(name, state)
        except CheckpointerError as error:
            self._unsaved[name] = str(error)
            return False
        self._unsaved.pop(name, None)
        return True
