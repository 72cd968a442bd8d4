"""A simulated node that stands, to try commands on by hand: python -m tests.stand FOLDER

It starts with a self-hosted control plane, the agent and a checkpoint of each pod, says how to
reach it, and then does what it reads, a word a line, until `quit` or the end of its input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.scene import Scene
from checkpointer.simulation.surroundings import Pace
from checkpointer.simulation.waiting import wait_until


def main() -> int:
    """Run the node until its input ends."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.stand")
    parser.add_argument("folder", type=Path, help="a short path: sockets lie below it")
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with SimulatedNode(folder, pace=Pace(backoff_seconds=2.0, recheck_seconds=2.0)) as node:
        scene = Scene(node)
        scene.place_foreign_files()
        config = node.write_agent_config()
        wait_until(lambda: node.is_pivoted, 30, "the control plane")
        node.agent.start()
        wait_until(scene.are_stored, 30, "the checkpoints")
        print(f"export CHECKPOINTER_CONFIG={config}", flush=True)
        _obey(node)
    return 0


def _obey(node: SimulatedNode) -> None:
    def hang(hangs: bool) -> None:
        node.cri.hangs = hangs

    words: dict[str, Callable[[], object]] = {
        "off": node.power_off,
        "on": lambda: (node.power_on(), node.agent.start()),
        "on-without-agent": node.power_on,
        "cut": node.cut_network,
        "restore": node.restore_network,
        "hang": lambda: hang(True),
        "unhang": lambda: hang(False),
        "kill-agent": node.agent.kill,
        "start-agent": node.agent.start,
        "restart-kubelet": node.restart_kubelet,
    }
    print("words: " + " ".join((*words, "quit")), flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "quit":
            return
        if word in words:
            words[word]()
            print(f"done: {word}", flush=True)
        elif word:
            print(f"no such word: {word}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
