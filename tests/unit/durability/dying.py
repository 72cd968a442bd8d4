"""A process whose children begin a change and are killed in it, for real.

Reads lines `root at how name` and answers each with the status of the child.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.unit.durability.scene import CHANGES, Node, Process
from tests.unit.store.faulty import Fault, FaultyCalls


class KilledCalls(FaultyCalls):
    """System calls at one of which the process is killed, or ends at once by itself."""

    def _go_wrong(self, name: str, call: Any, args: Any, kwargs: Any) -> Any:
        if self.fault.crash == "after":
            self._do(name, call, args, kwargs)
        if self.fault.crash == "exit":
            os._exit(99)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("alive after SIGKILL")


def main() -> None:
    """Serve until the input ends."""
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        root, at, how, name = line.rstrip("\n").split(" ", 3)
        child = os.fork()
        if child == 0:
            calls = KilledCalls(Fault(int(at), crash=how))
            CHANGES[name].do(Process(Node(Path(root)), calls))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
