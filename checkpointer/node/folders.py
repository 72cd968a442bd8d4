"""Waking on what happens in folders, so that nobody has to poll them.

A watch is a hint, never a source of facts: whoever is woken looks for himself, and the slow tick
looks without being woken. So a folder that cannot be watched, or does not answer, is no error.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from checkpointer.node.patience import SECONDS, Patience
from checkpointer.store.errors import DiskError

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers.api import BaseObserver, ObservedWatch


@dataclass(slots=True)
class _Watched:
    path: Path
    on_change: Callable[[Path], None]
    recursive: bool
    inode: int | None = None
    watch: ObservedWatch | None = None


class FolderWatch:
    """Calls back, with its path, when an entry of a folder is made, changed, moved or removed."""

    def __init__(self, seconds: float = SECONDS) -> None:
        """`seconds` is how long the folders together may take to answer."""
        self._patience = Patience("a watched folder", seconds)
        self._watched: list[_Watched] = []
        self._observer: BaseObserver | None = None

    def add(self, path: Path, on_change: Callable[[Path], None], recursive: bool = False) -> None:
        """Watch this folder from the next `ensure` on; it need not exist yet."""
        self._watched.append(_Watched(path, on_change, recursive))

    def ensure(self) -> None:
        """Watch every folder that exists, also one that was made anew since the last call.

        What happened before a watch began was not seen: its beginning counts as a change, told in
        another thread.
        """
        with contextlib.suppress(DiskError):
            self._patience.ask(self._ensure)

    def is_blind_to(self, path: Path) -> bool:
        """Tell whether a folder exists that should be watched and is not."""
        return any(w.path == path and w.inode is None and path.exists() for w in self._watched)

    def close(self) -> None:
        """Watch nothing any more; while a folder hangs, its threads stay and are not waited for."""
        with contextlib.suppress(DiskError):
            self._patience.ask(self._close)

    def _ensure(self) -> None:
        for watched in self._watched:
            inode = _inode(watched.path)
            if inode != watched.inode:
                self._watch_anew(watched, inode)

    def _close(self) -> None:
        if self._observer is not None and self._observer.is_alive():
            self._observer.stop()
            self._observer.join(5)
        self._observer = None

    def _watch_anew(self, watched: _Watched, inode: int | None) -> None:
        from watchdog.observers import Observer

        if self._observer is None:
            # It warns that it has met a new folder twice, which is no matter.
            warnings.filterwarnings("ignore", category=RuntimeWarning, module="watchdog")
            observer = Observer()
            observer.daemon = True
            observer.start()
            self._observer = observer
        if watched.watch is not None:
            with contextlib.suppress(KeyError, OSError):
                self._observer.unschedule(watched.watch)
            watched.watch = None
        watched.inode = None
        if inode is None:
            return
        # No inotify instance or watch left, or the folder went: the next call tries again.
        with contextlib.suppress(OSError):
            watched.watch = self._observer.schedule(
                _handler(watched),
                str(watched.path),
                recursive=watched.recursive,
                event_filter=_changes(),
            )
            watched.inode = inode
            watched.on_change(watched.path)


def _changes() -> list[type[FileSystemEvent]]:
    """Return the events that the kernel is to tell of: all but that a file is opened or read.

    Our own looking does that: reading a store of a thousand checkpoints would overrun the queue.
    """
    from watchdog import events

    reads = (events.FileOpenedEvent, events.FileClosedNoWriteEvent)
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type)]
    abstract = (events.FileSystemEvent, events.FileSystemMovedEvent)
    return [
        kind
        for kind in kinds
        if issubclass(kind, events.FileSystemEvent) and kind not in (*reads, *abstract)
    ]


def _handler(watched: _Watched) -> FileSystemEventHandler:
    from watchdog.events import EVENT_TYPE_DELETED, FileSystemEventHandler

    class _Handler(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            if event.event_type == EVENT_TYPE_DELETED and event.src_path == str(watched.path):
                watched.inode = None  # a new folder may be given the same inode
            watched.on_change(Path(os.fsdecode(event.dest_path or event.src_path)))

    return _Handler()


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
