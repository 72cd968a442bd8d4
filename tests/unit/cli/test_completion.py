"""Completion: the shells' code, and the program's answers to them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from checkpointer.__main__ import main


def completions(stand: Any, line: str) -> list[str]:
    """Return what the program answers to a shell that completes this line."""
    read, write = os.pipe()
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": f"/proc/self/fd/{write}",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "CHECKPOINTER_CONFIG": str(stand.node.agent_config_file),
    }
    with os.fdopen(read) as answers:
        done = subprocess.run(
            [sys.executable, "-m", "checkpointer"],
            env=environment,
            pass_fds=(write,),
            capture_output=True,
            text=True,
        )
        os.close(write)
        assert "Traceback" not in done.stderr
        return [word.strip() for word in answers.read().split("\n") if word.strip()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_code(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Naming the program, and no other."""
    assert main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "checkpointer" in code
    assert ("complete --command checkpointer" in code) is (shell == "fish")


def test_commands_options_and_workloads_are_completed(stand: Any) -> None:
    """Names come from the disk; other files in the store are none."""
    stand.add_revision()
    (stand.store.root / "agent.sock").touch()
    assert completions(stand, "checkpointer rest") == ["restart"]
    assert completions(stand, "checkpointer release --li") == ["--lift"]
    assert completions(stand, "checkpointer show ga") == ["gateway"]
    assert completions(stand, "checkpointer show kube-system/") == ["kube-system/daemonset/gateway"]
    assert "json" in completions(stand, "checkpointer list -o ")


def test_a_prompt_without_a_store_gets_nothing(stand: Any) -> None:
    """And no message in the middle of the line."""
    assert completions(stand, "checkpointer show ga") == []
