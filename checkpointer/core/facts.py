"""What a source of facts may answer: a value, or that it could not tell.

`Unknown` exists so that "could not tell" never turns into "there is none" on its way to a
decision. No adapter returns an empty collection for a failed look.
"""

from __future__ import annotations

from typing import Generic, TypeVar, Union

from checkpointer.values import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """The source answered, and this is what it said."""

    value: T


@dataclass(frozen=True, slots=True)
class Unknown:
    """The source could not tell; `reason` is one sentence for an operator, free of secrets."""

    reason: str


Fact = Union[Known[T], Unknown]
