"""Answering a shell that wants to complete a word; it runs the program to ask."""

from __future__ import annotations

import argparse
from typing import Any

COMPLETED = {"workload": "workload", "workloads": "workload", "name": "pod", "pod": "pod"}
"""By an option's destination: what its words are."""

PATIENCE_SECONDS = 1.0
"""How long a shell waits for a store that may be on a dead mount."""


def answer(parser: argparse.ArgumentParser) -> None:
    """Print what the word could be and end the process. Never a traceback into a prompt."""
    import argcomplete

    for command in _commands(parser):
        for action in command._actions:  # noqa: SLF001 - argparse has no other way
            if action.dest in COMPLETED and not action.option_strings:
                action.completer = _names  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def _commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found: list[argparse.ArgumentParser] = []
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            found += action.choices.values()
    return found


def _names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the workloads in the store by which the word may go on: names from the disk alone."""
    import os

    from checkpointer.cli.run import read_config
    from checkpointer.node.patience import check_answers
    from checkpointer.store.layout import workload_of_names

    given: dict[str, Any] = {"config": None, "set": [], "node_name": None, "kubeconfig": None}
    given |= {key: value for key, value in vars(parsed_args).items() if key in given and value}
    try:
        root = read_config(argparse.Namespace(**given)).store_directory
        check_answers(root, PATIENCE_SECONDS)
        folders = [
            (namespace, name)
            for namespace in os.listdir(root)
            if namespace[:1] != "." and (root / namespace).is_dir()
            for name in os.listdir(root / namespace)
        ]
    except Exception:
        return []
    found = [w for pair in folders if (w := workload_of_names(*pair)) is not None]
    return sorted(
        {w.name for w in found} | {str(w) for w in found if prefix.startswith(w.namespace)}
    )
