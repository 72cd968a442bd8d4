"""The manifest folder, wherever it lies: on a dead mount it is Unknown, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from checkpointer.core.facts import Fact, Unknown
from checkpointer.node.manifests import Folder, ManifestFolder, Mark
from checkpointer.node.patience import CHANGE_SECONDS, SECONDS, Patience, RevocableCalls
from checkpointer.store.errors import DiskError


class PatientManifestFolder(ManifestFolder):
    """A ManifestFolder whose methods come back; those that change it may raise SilentError."""

    def __init__(
        self,
        path: Path,
        mark_of: Callable[[bytes], Mark | None],
        seconds: float = SECONDS,
        change_seconds: float = CHANGE_SECONDS,
        on_late: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_late` is called, from any thread, when a silent folder answers again."""
        self._patience = Patience(path, seconds, on_late)
        self._change_seconds = change_seconds
        super().__init__(path, mark_of, RevocableCalls(self._patience))

    def observe(self) -> Fact[Folder]:
        try:
            return self._patience.ask(super().observe)
        except DiskError as error:
            return Unknown(str(error))

    def write(self, file_name: str, content: bytes) -> bool:
        return self._patience.ask(partial(super().write, file_name, content), self._change_seconds)

    def remove(self, file_name: str) -> bool:
        return self._patience.ask(partial(super().remove, file_name), self._change_seconds)

    def settle(self) -> None:
        self._patience.ask(super().settle, self._change_seconds)

    def finish(self) -> None:
        if self._disk.is_unfinished:
            self._patience.ask(super().finish, self._change_seconds)

    def clean(self) -> tuple[str, ...]:
        return self._patience.ask(super().clean, self._change_seconds)
