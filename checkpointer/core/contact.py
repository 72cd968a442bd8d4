"""Whether this node can use the API: a small machine over probe results.

    Suspect    to Reachable: an answer            to Lost: N failures in a row, or 5xx for too long
    Reachable  to Suspect: one failure
    Lost       to Reachable: M answers in a row over a minimum time, plus this node's jitter
    Denied     to Reachable: the same             to Lost: N failures in a row, or 5xx for too long
    every one  to Denied: our credentials refused for too long

A start is Suspect, so that at boot the first N quick failures suffice. Denied is not Lost: the
API is there, so nothing is activated, and what we may not read is not gone, so nothing is
removed. An API server that starts refuses everybody for a moment, until it has read its rules
(seen on 1.36: 403, then 500, then 200), so it takes a while to be Denied; but an API server that
refuses is there, and nothing more is activated from its first answer on. A wrong certificate is
a failure: a captive portal is not the API.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from checkpointer.core.rules import ContactRules
from checkpointer.values import dataclass


class ContactState(Enum):
    """Whether this node can use the API."""

    REACHABLE = "reachable"
    SUSPECT = "suspect"
    LOST = "lost"
    DENIED = "denied"


class ProbeOutcome(Enum):
    """What one endpoint answered; 429 counts as an answer, for a busy API is alive."""

    ANSWERED = "answered"
    DENIED = "denied"
    SERVER_ERROR = "server error"
    FAILED = "failed"


_BEST_FIRST = tuple(ProbeOutcome)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One endpoint's answer; `reason` says what was seen, in a few words, free of secrets."""

    outcome: ProbeOutcome
    reason: str


@dataclass(frozen=True, slots=True)
class Contact:
    """The machine's state; times are on the monotonic clock, in seconds.

    `reason` is what the newest round saw.
    """

    state: ContactState
    since: float
    reason: str
    failures: int = 0
    server_error_since: float | None = None
    denied_since: float | None = None
    successes: int = 0
    success_since: float | None = None
    last_answer: float | None = None
    is_answering: bool = False
    """Whether the API answers, though it may be too early to trust. Amid a recovery it takes as
    much to unset this as to lose contact: one failure is no outage."""
    entry_reason: str = ""
    """What the round saw that led to this state, at `since`; empty if that was the newest one."""

    @property
    def cause(self) -> str:
        """Return why contact is in this state, whatever has been seen since."""
        return self.entry_reason or self.reason

    @property
    def is_gone(self) -> bool:
        """Tell whether the API cannot be reached and shows no sign of coming back."""
        return self.state is ContactState.LOST and not self.is_answering


def initial_contact(now: float) -> Contact:
    """Return the state of an agent that has just started and knows nothing."""
    return Contact(ContactState.SUSPECT, now, "not probed yet")


def after_probe(
    contact: Contact, results: Sequence[ProbeResult], rules: ContactRules, now: float
) -> Contact:
    """Return the state after one round of probes of at least one endpoint.

    The best answer of all endpoints counts.
    """
    best = min(results, key=lambda result: _BEST_FIRST.index(result.outcome))
    match best.outcome:
        case ProbeOutcome.ANSWERED:
            return _after_answer(contact, best.reason, rules, now)
        case ProbeOutcome.DENIED:
            return _after_denial(contact, best.reason, rules, now)
        case ProbeOutcome.SERVER_ERROR:
            return _after_server_error(contact, best.reason, rules, now)
        case ProbeOutcome.FAILED:
            return _after_failure(contact, best.reason, rules, now)


def next_probe_in(contact: Contact, rules: ContactRules) -> float:
    """Return how many seconds to wait before the next round, unless something wakes the probe.

    Failures are confirmed quickly; an API server that answers 5xx is spared that, for it is busy.
    """
    if contact.state is ContactState.REACHABLE:
        return rules.healthy_interval_seconds
    confirming = contact.state is ContactState.SUSPECT or 0 < contact.failures < rules.failures
    is_there = contact.server_error_since is not None or contact.denied_since is not None
    if confirming and not is_there:
        return rules.suspect_interval_seconds
    return rules.lost_interval_seconds


# Below each round makes the next state as a whole: a count that is not named begins anew.


def _after_answer(contact: Contact, reason: str, rules: ContactRules, now: float) -> Contact:
    since = now if contact.success_since is None else contact.success_since
    successes = contact.successes + 1
    is_steady = (
        successes >= rules.successes
        and now - since >= rules.recovery_seconds + rules.jitter_seconds
    )
    state = ContactState.REACHABLE
    if contact.state in (ContactState.LOST, ContactState.DENIED) and not is_steady:
        state, reason = contact.state, f"answers again, {reason}"
    return Contact(
        state,
        _since(contact, state, now),
        reason,
        successes=successes,
        success_since=since,
        last_answer=now,
        is_answering=True,
        entry_reason=_entry_reason(contact, state),
    )


def _after_denial(contact: Contact, reason: str, rules: ContactRules, now: float) -> Contact:
    since = now if contact.denied_since is None else contact.denied_since
    state = contact.state
    if now - since >= rules.denied_seconds:
        state = ContactState.DENIED
    elif state is ContactState.REACHABLE:
        state = ContactState.SUSPECT
    return Contact(
        state,
        _since(contact, state, now),
        reason,
        denied_since=since,
        last_answer=contact.last_answer,
        is_answering=state is not ContactState.DENIED,
        entry_reason=_entry_reason(contact, state),
    )


def _after_server_error(contact: Contact, reason: str, rules: ContactRules, now: float) -> Contact:
    since = now if contact.server_error_since is None else contact.server_error_since
    state, is_answering = _after_bad_round(contact, now - since >= rules.server_error_seconds)
    return Contact(
        state,
        _since(contact, state, now),
        reason,
        failures=contact.failures,
        server_error_since=since,
        last_answer=contact.last_answer,
        is_answering=is_answering,
        entry_reason=_entry_reason(contact, state),
    )


def _after_failure(contact: Contact, reason: str, rules: ContactRules, now: float) -> Contact:
    failures = contact.failures + 1
    state, is_answering = _after_bad_round(contact, failures >= rules.failures)
    return Contact(
        state,
        _since(contact, state, now),
        reason,
        failures=failures,
        server_error_since=contact.server_error_since,
        last_answer=contact.last_answer,
        is_answering=is_answering,
        entry_reason=_entry_reason(contact, state),
    )


def _after_bad_round(contact: Contact, is_enough: bool) -> tuple[ContactState, bool]:
    """Return the state after a round without an answer, and whether the API still counts as
    answering."""
    if is_enough:
        return ContactState.LOST, False
    if contact.state is ContactState.REACHABLE:
        return ContactState.SUSPECT, False
    return contact.state, contact.is_answering


def _since(contact: Contact, state: ContactState, now: float) -> float:
    return contact.since if state is contact.state else now


def _entry_reason(contact: Contact, state: ContactState) -> str:
    return contact.cause if state is contact.state else ""
