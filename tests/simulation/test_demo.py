"""`checkpointer demo` as users start it: a process, with the real agent as its child."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpointer.simulation.waiting import wait_until

STEPS = {
    "Power cut, and no API server to boot from": 12,
    "API out of reach, with everything still running": 4,
}


@pytest.fixture
def start(folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to end when the test is over."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def demo(folder: Path, started: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "checkpointer", "demo", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    started.append(process)
    return process


def children(pid: int) -> set[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for task in tasks for child in task.read_text().split()}


def test_every_step_is_observed(folder: Path, start: list[subprocess.Popen[str]]) -> None:
    """The real agent brings the control plane back, and leaves alone what it should."""
    process = demo(folder, start)
    out, told = process.communicate(timeout=100)
    assert process.returncode == 0, told
    result = json.loads(out)
    assert set(result) == {"ok", "acts", "foreign_files_untouched"}
    assert result["ok"]
    assert result["foreign_files_untouched"]
    assert {act["name"]: len(act["steps"]) for act in result["acts"]} == STEPS
    assert all(act["ok"] for act in result["acts"])
    assert all(set(step) == {"name", "seconds"} for act in result["acts"] for step in act["steps"])
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_signal_ends_agent_and_folder(
    folder: Path, start: list[subprocess.Popen[str]], number: signal.Signals
) -> None:
    """Whoever stops the demo finds no process and no file of it."""
    process = demo(folder, start)
    wait_until(lambda: children(process.pid), 30, "the agent's start")
    agents = children(process.pid)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert not [pid for pid in agents if Path(f"/proc/{pid}").exists()]
    assert list(folder.iterdir()) == []
