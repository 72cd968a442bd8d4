"""The command line: picks the command, and imports only what that command needs."""

from __future__ import annotations

import argparse
import gc
import importlib
import keyword
import os
import sys
from typing import NoReturn

from checkpointer import __version__
from checkpointer.cli.formatting import Formatter

COMMANDS = {
    "run": "keep this node's checkpoints (the agent)",
    "status": "tell how this node stands",
    "list": "list what is stored on this node",
    "show": "show what is stored of one workload",
    "diff": "tell what differs between what is stored and what runs",
    "verify": "tell whether what is stored would bring this node back",
    "activate": "run a checkpoint by hand, and hold it active",
    "release": "take a checkpoint out by hand, and hold it so",
    "restart": "restart a static pod, or another pod of this node",
    "logs": "print the log of a container of this node",
    "history": "tell what happened on this node",
    "gc": "remove what nothing needs any more",
    "import": "take over what the bootkube checkpointer keeps on this node",
    "explain": "say what would become of a pod, and why",
    "doctor": "say whether this node would come back, and what to do if not",
    "prepare-reboot": "take fresh snapshots, and say whether this node may be rebooted",
    "demo": "show the whole story on a simulated node; needs no cluster",
    "completion": "print what has a shell complete commands, options and names",
}


def start() -> NoReturn:
    """Be the process: run the command that it was started with."""
    gc.disable()  # what is imported stays
    if sys.stdout is None:  # closed by whoever started it
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it stays
    try:
        sys.exit(main())
    finally:
        gc.freeze()  # else the interpreter looks through all of it once more before it ends


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status (2: wrong usage or configuration)."""
    arguments = sys.argv[1:] if argv is None else argv
    is_completing = "_ARGCOMPLETE" in os.environ
    if is_completing:
        arguments = os.environ.get("COMP_LINE", "").split()[1:]
    parser = argparse.ArgumentParser(
        prog="checkpointer",
        description="Brings a Kubernetes node's pods back when it restarts without an API server.",
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action="version", version=f"checkpointer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in arguments if word in COMMANDS), None)
    # The other commands are for help, errors and completion, and cost 5 ms.
    is_plain = arguments[:1] == [chosen] and not is_completing
    for name, summary in COMMANDS.items():
        if is_plain and name != chosen:
            continue
        command = commands.add_parser(
            name,
            help=summary,
            description=summary.capitalize() + ".",
            formatter_class=Formatter,
        )
        if name == chosen:
            suffix = "_" if keyword.iskeyword(name) else ""
            module = importlib.import_module(f"checkpointer.cli.{name.replace('-', '_')}{suffix}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    if is_completing:
        from checkpointer.cli.completing import answer

        answer(parser)
    parsed = parser.parse_args(arguments)
    gc.enable()  # disabled by `start`
    return int(parsed.run(parsed))


if __name__ == "__main__":
    start()
