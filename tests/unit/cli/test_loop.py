"""The agent's loop in a thread of its own."""

from __future__ import annotations

import signal
import threading

import pytest

from checkpointer.cli.loop import Loop
from checkpointer.config import Config


class WaitingAgent:
    """Sends its own thread a signal, and waits to be stopped."""

    has_left = False

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def run(self, once: bool) -> bool:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
        return self._stopped.wait(20)

    def stop(self) -> None:
        self._stopped.set()


def test_a_signal_that_another_thread_gets_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel chooses; the main thread sleeps on, and only that one runs handlers."""
    one = Loop(Config(), once=False, dry_run=False)
    monkeypatch.setattr(one, "_start", WaitingAgent)
    before = signal.signal(signal.SIGUSR2, lambda *_: one.stop())
    try:
        assert one.run()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert one.is_well
