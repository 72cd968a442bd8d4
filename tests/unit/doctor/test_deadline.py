"""Asking with a deadline."""

from __future__ import annotations

import threading

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.doctor.deadline import Asked


def test_an_answer_in_time_is_the_answer() -> None:
    """Known or Unknown, as it was given."""
    assert Asked("x", lambda: Known(1), 10.0).answer() == Known(1)
    assert Asked("x", lambda: Unknown("why"), 10.0).answer() == Unknown("why")


def test_what_does_not_answer_is_unknown_and_not_waited_for() -> None:
    """However long it takes; its thread does not keep the process alive."""
    done = threading.Event()

    def look() -> Fact[int]:
        done.wait(30)
        return Known(1)

    asked = Asked("the store", look, 0.05)
    assert asked.answer() == Unknown("the store: no answer within 0.05 s")
    assert all(t.daemon for t in threading.enumerate() if t.name == "doctor")
    done.set()


def test_a_look_that_fails_is_unknown() -> None:
    """What went wrong inside is for the debug log; the others go on."""

    def look() -> Fact[int]:
        raise RuntimeError("token=hunter2")

    assert Asked("the API", look, 10.0).answer() == Unknown("the API: RuntimeError")
