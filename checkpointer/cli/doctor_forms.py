"""What `doctor` and `prepare-reboot` print: a table for people, JSON and YAML for programs."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from typing import Any

from checkpointer.doctor.readiness import Outlook, Readiness
from checkpointer.doctor.result import Outcome, Result, worst
from checkpointer.store.errors import printable

WIDTH = 100


def print_results(
    results: tuple[Result, ...], readiness: Readiness, form: str, is_quiet: bool = False
) -> None:
    """Print what was found, as `table`, `json` or `yaml`; quiet tables leave out what is well."""
    if form != "table":
        print_document(as_document(results, readiness), form)
        return
    shown = [r for r in results if not (is_quiet and r.outcome in (Outcome.PASS, Outcome.SKIP))]
    print_table(shown)
    if shown:
        print()
    print(_sentence(readiness))


def print_table(results: list[Result]) -> None:
    """Print one row for each result; its cure, where there is one, in a line of its own."""
    width = max((len(result.check) for result in results), default=0)
    for result in results:
        head = f"{result.outcome.value:<4}  {result.check:<{width}}  "
        _print_wrapped(head, result.what)
        if result.cure:
            _print_wrapped(" " * len(head), f"-> {result.cure}")


def print_document(document: Any, form: str) -> None:
    """Print a value as JSON or YAML."""
    if form == "yaml":
        from checkpointer.cli.documents import as_yaml

        print(as_yaml(document), end="")
    else:
        print(json.dumps(document, indent=2, ensure_ascii=False))


def as_document(results: tuple[Result, ...], readiness: Readiness) -> dict[str, Any]:
    """Return it all as plain values."""
    return {
        "outcome": worst(results).value,
        "checks": [{**asdict(result), "outcome": result.outcome.value} for result in results],
        "readiness": {
            "summary": readiness.line,
            "blocker": readiness.blocker,
            "workloads": [_workload(outlook, readiness) for outlook in readiness.outlooks],
        },
    }


def _workload(outlook: Outlook, readiness: Readiness) -> dict[str, Any]:
    returns = "no"
    if not readiness.blocker:
        returns = "unknown" if outlook.is_unknown else ("yes" if outlook.comes_back else "no")
    return {
        "workload": str(outlook.workload),
        "stage": outlook.stage,
        "returns": returns,
        "reason": outlook.reason or readiness.blocker,
    }


def _sentence(readiness: Readiness) -> str:
    return printable(f"reboot without the API: {readiness.line}")


def _print_wrapped(head: str, text: str) -> None:
    lines = textwrap.wrap(
        printable(text),
        max(WIDTH - len(head), 40),
        break_long_words=False,
        break_on_hyphens=False,
    )
    for index, line in enumerate(lines or [""]):
        print((head if index == 0 else " " * len(head)) + line)
