"""What `checkpointer explain` prints: a table for people, JSON and YAML for programs.

A verdict holds no secret's value; only the manifests may.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from checkpointer.cli.complaint import complain
from checkpointer.cli.output import as_json
from checkpointer.errors import printable
from checkpointer.manifest.verdict import Outcome, Verdict
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Explained:
    """A pod's verdict, and what there is to say besides."""

    name: str
    verdict: Verdict
    manifest: bytes | None
    """The static pod; None exactly when it is refused."""
    notes: tuple[str, ...]


def print_manifests(explained: list[Explained], form: str) -> None:
    """Print the static pods, in JSON unless the form is `yaml`; refusals go to standard error."""
    for one in explained:
        if one.manifest is None:
            reasons = "; ".join(f"{f.path}: {f.reason}" for f in one.verdict.refusals)
            complain(f"{one.name}: {one.verdict.outcome.value}: {reasons}")
        elif form == "yaml":
            from checkpointer.cli.documents import as_yaml

            print(f"---\n{as_yaml(json.loads(one.manifest))}", end="")
        else:
            print(as_json(json.loads(one.manifest)))


def print_verdicts(explained: list[Explained], form: str) -> None:
    """Print what was found in the form asked for."""
    if form in ("table", "wide"):
        _print_table(explained)
        return
    if form == "name":
        print("".join(f"{printable(one.name)}\n" for one in explained), end="")
        return
    documents = [
        {
            "pod": one.name,
            "workload": str(one.verdict.workload),
            "verdict": one.verdict.outcome.value,
            "notes": list(one.notes),
            "refusals": [asdict(finding) for finding in one.verdict.refusals],
            "warnings": [asdict(finding) for finding in one.verdict.warnings],
            "changes": [asdict(change) for change in one.verdict.changes],
            "volumes": [
                {**asdict(volume), "tokens": list(volume.tokens)} for volume in one.verdict.volumes
            ],
        }
        for one in explained
    ]
    if form == "json":
        print(as_json(documents))
        return
    from checkpointer.cli.documents import as_yaml

    print(as_yaml(documents), end="")


def _print_table(explained: list[Explained]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    colours = {Outcome.CHECKPOINTABLE: "green", Outcome.WITH_WARNINGS: "yellow"}
    with console.capture() as table:  # printed by itself it would end the process at a broken pipe
        for one in explained:
            verdict = one.verdict
            outcome = (verdict.outcome.value, colours.get(verdict.outcome, "red"))
            console.print(Text.assemble((printable(one.name), "bold"), ": ", outcome))
            for word, text, style in _lines(one):
                console.print(Text.assemble("  ", (f"{word:<13}", style), printable(text)))
    print(table.get(), end="")


def _lines(one: Explained) -> Iterator[tuple[str, str, str]]:
    """Yield first word, text and style of each line of a table, the gravest first."""
    verdict = one.verdict
    yield "workload", str(verdict.workload), ""
    for note in one.notes:
        yield "note", note, "yellow"
    for word, findings, style in (
        ("refused", verdict.refusals, "red"),
        ("warning", verdict.warnings, "yellow"),
    ):
        for finding in findings:
            cure = f" Cure: {finding.cure}." if finding.cure else ""
            yield word, f"{finding.path}: {finding.reason}.{cure}", style
    for change in verdict.changes:
        yield change.action, f"{change.path}: {change.reason}", "dim"
    for volume in verdict.volumes:
        tokens = f" (tokens: {', '.join(volume.tokens)})" if volume.tokens else ""
        yield "material", f"{volume.plugin}/{volume.name}{tokens}", "dim"
