"""What `doctor` and `prepare-reboot` print: a table for people, JSON and YAML for programs.

On a terminal the outcome has a colour and lines are as long as the terminal is wide; in a pipe
they are plain, and always the same.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from dataclasses import asdict
from typing import Any

from checkpointer.cli.output import print_document, print_lines, write
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.doctor.readiness import Outlook, Readiness
from checkpointer.doctor.result import Outcome, Result, worst
from checkpointer.doctor.snapshots import Taken
from checkpointer.errors import printable
from checkpointer.values import dataclass

WIDTH = 100
"""Of lines that no terminal shows."""

_STYLES = {Outcome.PASS: "green", Outcome.WARN: "yellow", Outcome.FAIL: "bold red"}


def print_results(
    results: tuple[Result, ...], readiness: Readiness, form: str, is_quiet: bool = False
) -> None:
    """Print what was found in the form asked for; quiet tables leave out what is well."""
    if form == "name":
        troubled = (r.check for r in results if r.outcome in (Outcome.WARN, Outcome.FAIL))
        write("".join(f"{name}\n" for name in dict.fromkeys(troubled)))
    elif form in ("json", "yaml"):
        print_document(form, as_document(results, readiness))
    else:
        print_lines(_lines(results, readiness, is_quiet))


def _lines(
    results: tuple[Result, ...], readiness: Readiness, is_quiet: bool
) -> list[tuple[str, str]]:
    """Return lines, each with the style of its first word."""
    well = (Outcome.PASS, Outcome.SKIP) if is_quiet else ()
    shown = [result for result in results if result.outcome not in well]
    width = max((len(result.check) for result in shown), default=0)
    lines: list[tuple[str, str]] = []
    for result in shown:
        head = f"{result.outcome.value:<4}  {result.check:<{width}}  "
        style = _STYLES.get(result.outcome, "")
        lines += _wrapped(head, result.what, style)
        if result.cure:
            lines += _wrapped(" " * len(head), f"-> {result.cure}")
    if lines:
        lines.append(("", ""))
    return [*lines, *_wrapped("", f"reboot without the API: {readiness.line}")]


@dataclass(frozen=True, slots=True)
class Preparation:
    """What `prepare-reboot` did and found."""

    snapshots: Fact[tuple[Taken, ...]] | None
    """None: none were to be taken."""
    results: tuple[Result, ...]
    readiness: Readiness
    reasons: tuple[str, ...]
    """Why the node should not be rebooted; empty when it may."""
    warnings: tuple[str, ...] = ()
    """What somebody should know who reboots it all the same."""


def print_preparation(found: Preparation, form: str) -> None:
    """Print what was done and found in the form asked for."""
    if form == "name":
        back = [o for o in found.readiness.outlooks if o.comes_back and not found.readiness.blocker]
        write("".join(f"{outlook.workload}\n" for outlook in back))
        return
    if form in ("json", "yaml"):
        print_document(form, _preparation(found))
        return
    lines = [line for text in _snapshots(found.snapshots) for line in _wrapped("", text)]
    lines += [("", ""), *_lines(found.results, found.readiness, is_quiet=True)]
    for warning in found.warnings:
        lines += _wrapped("warning: ", warning, "yellow")
    for reason in found.reasons:
        lines += _wrapped("do not reboot: ", reason, "bold red")
    if not found.reasons:
        lines.append(("ready: this node may be rebooted", "bold green"))
    print_lines(lines)


def _snapshots(snapshots: Fact[tuple[Taken, ...]] | None) -> list[str]:
    if snapshots is None:
        return ["snapshots: none taken (dry run)"]
    if isinstance(snapshots, Unknown):
        return [f"snapshots: none taken: {snapshots.reason}"]
    if not snapshots.value:
        return ["snapshots: no pod of this node is selected"]
    return [
        f"snapshot of {one.workload} (pod {one.pod}): "
        + (one.reason or ("new" if one.is_new else "as it was"))
        + (f", revision {one.revision}" if one.revision else ", there is no revision")
        for one in snapshots.value
    ]


def _preparation(found: Preparation) -> dict[str, Any]:
    taken = found.snapshots.value if isinstance(found.snapshots, Known) else ()
    reason = found.snapshots.reason if isinstance(found.snapshots, Unknown) else ""
    return {
        "ready": not found.reasons,
        "reasons": list(found.reasons),
        "warnings": list(found.warnings),
        "snapshots": {
            "reason": "dry run" if found.snapshots is None else reason,
            "pods": [
                {
                    "workload": str(one.workload),
                    "pod": one.pod,
                    "revision": one.revision,
                    "new": one.is_new,
                    "reason": one.reason,
                }
                for one in taken
            ],
        },
        **as_document(found.results, found.readiness),
    }


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
        "hold": outlook.hold,
    }


def _wrapped(head: str, text: str, style: str = "") -> list[tuple[str, str]]:
    """Return the text in lines behind the head, the first of them with its style."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    lines = textwrap.wrap(
        printable(text),
        max(width - len(head), 40),
        break_long_words=False,
        break_on_hyphens=False,
    )
    first, *rest = lines or [""]
    return [(head + first, style), *((" " * len(head) + line, "") for line in rest)]
