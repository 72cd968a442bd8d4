"""What a check says: an outcome, one sentence, and the cure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from checkpointer.values import dataclass


class Outcome(Enum):
    """The four things a check can say, from good to bad; the value is the word for people."""

    PASS = "pass"  # noqa: S105 - no password
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Answer:
    """One thing that one check found."""

    outcome: Outcome
    what: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """An answer under the name of its check."""

    check: str
    outcome: Outcome
    what: str
    cure: str = ""


def passed(what: str) -> Answer:
    """Say that all is well, with what was seen."""
    return Answer(Outcome.PASS, what)


def skipped(reason: str) -> Answer:
    """Say that it cannot be told, and why; nothing is known to be wrong."""
    return Answer(Outcome.SKIP, reason)


def warned(what: str, cure: str) -> Answer:
    """Say what may become or hide a problem."""
    return Answer(Outcome.WARN, what, cure)


def failed(what: str, cure: str) -> Answer:
    """Say what keeps pods of this node from coming back."""
    return Answer(Outcome.FAIL, what, cure)


def worst(results: Iterable[Result]) -> Outcome:
    """Return the worst of the outcomes; a skipped check is no worse than a passed one."""
    outcomes = {result.outcome for result in results}
    return next((o for o in (Outcome.FAIL, Outcome.WARN) if o in outcomes), Outcome.PASS)
