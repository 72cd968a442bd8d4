"""An agent that runs and does not answer is told apart from one that does not run."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from checkpointer.store.lock import InstanceLock

NAME = "kube-system/daemonset/gateway"


@pytest.fixture
def held(stand: Any) -> Iterator[Any]:
    """A node with a checkpoint, on which somebody holds the agent's lock."""
    stand.add_revision()
    lock = InstanceLock(stand.node.folder / "run/checkpointer.lock")
    assert lock.try_acquire()
    yield stand
    lock.release()


@pytest.fixture
def silent(held: Any) -> Iterator[Any]:
    """The same, and somebody takes connections at the agent's socket and says nothing."""
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(held.store.root / "agent.sock"))
        agent.listen()
        yield held


def contact_check(stand: Any) -> tuple[str, str]:
    checks = stand.run("doctor", "--timeout", "500ms", "-o", "json").json["checks"]
    return next((one["outcome"], one["what"]) for one in checks if one["check"] == "contact")


def test_the_doctor_fails_a_node_whose_agent_hangs(silent: Any) -> None:
    """It took the question: it does nothing for this node any more."""
    outcome, what = contact_check(silent)
    assert outcome == "fail"
    assert what.startswith("an agent runs, but does not answer: the agent at ")


def test_the_doctor_warns_of_an_agent_that_cannot_be_asked(held: Any) -> None:
    """It may have only just started."""
    outcome, what = contact_check(held)
    assert outcome == "warn"
    assert what.endswith(", but cannot be asked")


def test_status_says_that_the_agent_hangs(silent: Any) -> None:
    """Nobody is to look for a pod that does not start."""
    answer = silent.run("status")
    assert answer.status == 3
    assert "agent     unknown: it runs but does not answer: the agent at " in answer.out
    assert answer.out.splitlines()[-1].endswith("   the agent: the agent runs but does not answer")
    assert "not running" not in answer.out
    agent = silent.run("status", "-o", "json").json["agent"]
    assert (agent["running"], agent["answering"]) == (True, False)


def test_status_of_an_agent_that_has_only_just_started(held: Any) -> None:
    """It holds the lock and does not listen yet."""
    answer = held.run("status")
    assert answer.status == 3
    socket_path = held.store.root / "agent.sock"
    assert f"unknown: it runs but does not answer: nobody at {socket_path}\n" in answer.out
