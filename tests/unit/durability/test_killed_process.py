"""The same with real processes and real kills, at a few calls: the simulated deaths are honest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.unit.durability.promises import Sweep
from tests.unit.store.faulty import READING

NAMES = ("snapshot", "token", "fall back", "release", "remove", "journal", "leave")
ROOT = Path(__file__).parents[3]


def test_killed_process_leaves_the_disk_as_before_or_after(
    place: Path, count: Callable[[str, int], None]
) -> None:
    """SIGKILL before or after a call, or an end without goodbye: as when a death is simulated."""
    killed = 0
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.unit.durability.dying"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        cwd=ROOT,
        env=environment,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        for index, name in enumerate(NAMES):
            sweep = Sweep(place / str(index), name)
            changing = [at for at, call in enumerate(sweep.calls) if call not in READING]
            for turn, at in enumerate(changing[:: max(len(changing) // 4, 1)]):
                how = ("before", "after", "exit")[(index + turn) % 3]
                sweep.start()
                server.stdin.write(f"{place / str(index)} {at} {how} {name}\n")
                assert int(server.stdout.readline()) == (99 if how == "exit" else -9), (name, at)
                tree = sweep.node.tree()
                sweep.judge(tree, f"killed {how} call {at}")
                killed += 1
        server.stdin.close()
    count("processes killed", killed)
