"""`checkpointer completion`: what a shell needs to complete commands, options and workloads."""

from __future__ import annotations

import argparse

from checkpointer.cli.output import write

SHELLS = ("bash", "zsh", "fish")

ABOUT = """Print what has the shell complete commands, options and names of workloads. For this
shell: source <(checkpointer completion bash); for all: write it to
/etc/bash_completion.d/checkpointer. In zsh after compinit; in fish: checkpointer completion fish |
source."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `completion`."""
    parser.description = ABOUT
    parser.epilog = "exit status: 0 it was printed; 2 wrong usage"
    parser.add_argument("shell", choices=SHELLS)


def run(arguments: argparse.Namespace) -> int:
    """Print it; return the exit status."""
    from argcomplete.shell_integration import shellcode

    # zsh takes the code for bash: argcomplete's tells the two apart.
    shell = "fish" if arguments.shell == "fish" else "bash"
    write(shellcode(["checkpointer"], shell=shell) + "\n")
    return 0
