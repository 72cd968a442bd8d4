"""Contact: when the API counts as reachable, suspect, lost or denied."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpointer.core.contact import (
    Contact,
    ContactRules,
    ContactState,
    ProbeOutcome,
    ProbeResult,
    after_probe,
    initial_contact,
    next_probe_in,
)

REACHABLE, SUSPECT, LOST, DENIED = (
    ContactState.REACHABLE,
    ContactState.SUSPECT,
    ContactState.LOST,
    ContactState.DENIED,
)
RULES = ContactRules()
OUTCOMES = {
    "a": ProbeOutcome.ANSWERED,
    "d": ProbeOutcome.DENIED,
    "5": ProbeOutcome.SERVER_ERROR,
    "f": ProbeOutcome.FAILED,
}
LETTERS = {
    REACHABLE: "R",
    SUSPECT: "S",
    LOST: "L",
    DENIED: "D",
}


def probe(contact: Contact, outcome: str, now: float, rules: ContactRules = RULES) -> Contact:
    return after_probe(contact, [ProbeResult(OUTCOMES[o], o) for o in outcome], rules, now)


def states(outcomes: str, rules: ContactRules = RULES, step: float = 1.0) -> str:
    """Return the letters of the states after each round; one round every `step` seconds."""
    contact, found = initial_contact(0.0), ""
    for number, outcome in enumerate(outcomes, 1):
        contact = probe(contact, outcome, number * step, rules)
        found += LETTERS[contact.state]
    return found


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ("a", "R"),
        ("aaaa", "RRRR"),
        ("f", "S"),
        ("ff", "SS"),
        ("fff", "SSL"),
        ("ffff", "SSLL"),
        ("ffa", "SSR"),
        ("ffaff", "SSRSS"),
        ("affa", "RSSR"),
        ("afff", "RSSL"),
        ("afffa", "RSSLL"),
        ("afffaaaaa", "RSSLLLLLL"),
        ("afffaaaaaa", "RSSLLLLLLR"),
        ("d", "S"),
        ("ad", "RS"),
        ("fd", "SS"),
        ("fffd", "SSLL"),
        ("d" * 16, "S" * 15 + "D"),
        ("a" + "d" * 16, "R" + "S" * 15 + "D"),
        ("fff" + "d" * 16, "SSL" + "L" * 15 + "D"),
        ("d" * 16 + "aaaaaa", "S" * 15 + "D" + "DDDDDR"),
        ("d" * 16 + "ff", "S" * 15 + "D" + "DD"),
        ("d" * 16 + "fff", "S" * 15 + "D" + "DDL"),
        ("d" * 16 + "fd", "S" * 15 + "D" + "DD"),
        ("dddaddd", "SSSRSSS"),
        ("adaaaaaa", "RSRRRRRR"),
        ("adff", "RSSS"),
        ("adfff", "RSSSL"),
        ("adfdff", "RSSSSS"),
        ("5", "S"),
        ("5" * 15, "S" * 15),
        ("5" * 16, "S" * 15 + "L"),
        ("a" + "5" * 16, "R" + "S" * 15 + "L"),
        ("55a55", "SSRSS"),
        ("d" + "5" * 16, "S" * 16 + "L"),
        ("f5f5f", "SSSSL"),
        ("fff5", "SSLL"),
    ],
)
def test_each_sequence_of_rounds_leads_to_its_states(outcomes: str, expected: str) -> None:
    """One round a second from the start, and the state after each."""
    assert states(outcomes) == expected


TRANSITIONS = {
    # state: after an answer, denied, 5xx, failure; each as the first round in that state
    REACHABLE: "RSSS",
    SUSPECT: "RSSS",
    LOST: "LLLL",
    DENIED: "DDDD",
}


@pytest.mark.parametrize(
    ("state", "outcome", "expected"),
    [
        (state, outcome, expected)
        for state, row in TRANSITIONS.items()
        for outcome, expected in zip("ad5f", row, strict=True)
    ],
)
def test_each_state_leaves_for_its_successor(
    state: ContactState, outcome: str, expected: str
) -> None:
    """The whole grid of states and answers."""
    assert LETTERS[probe(Contact(state, 0.0, ""), outcome, 1.0).state] == expected


@pytest.mark.parametrize("failures", [1, 2, 3, 5])
def test_as_many_failures_as_configured_lose_contact(failures: int) -> None:
    """N failures in a row, not one less."""
    rules = ContactRules(failures=failures)
    assert states("f" * failures, rules) == "S" * (failures - 1) + "L"


def test_the_first_failures_after_the_start_suffice_at_once() -> None:
    """At boot there is no history to wait for: three quick rounds are enough."""
    contact, now = initial_contact(0.0), 0.0
    while contact.state is not LOST:
        contact = probe(contact, "f", now)
        now += next_probe_in(contact, RULES)
    assert contact.since == pytest.approx(0.2)


def test_the_start_is_not_yet_lost() -> None:
    """Nothing was asked, so nothing is known."""
    start = initial_contact(5.0)
    assert (start.state, start.since, start.is_gone, start.is_answering) == (
        SUSPECT,
        5.0,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (pair, best)
        for pair in map("".join, itertools.product("ad5f", repeat=2))
        for best in ["RDSS"[min("ad5f".index(letter) for letter in pair)]]
    ],
)
def test_of_several_endpoints_the_best_answer_counts(outcomes: str, expected: str) -> None:
    """Every pair of answers, in either order."""
    denied_for_long = Contact(REACHABLE, 0.0, "", denied_since=-RULES.denied_seconds)
    assert LETTERS[probe(denied_for_long, outcomes, 1.0).state] == expected


def test_a_captive_portal_is_not_the_api() -> None:
    """A wrong certificate is a failure like any other, whatever the page behind it says."""
    contact = Contact(SUSPECT, 0.0, "", failures=2)
    wrong = [ProbeResult(ProbeOutcome.FAILED, "certificate verify failed")]
    assert after_probe(contact, wrong, RULES, 1.0) == Contact(
        LOST, 1.0, "certificate verify failed", failures=3
    )


@pytest.mark.parametrize(
    ("successes", "recovery", "jitter", "step", "answers"),
    [
        (3, 5.0, 0.0, 1.0, 6),
        (3, 5.0, 2.0, 1.0, 8),
        (3, 5.0, 1.5, 1.0, 8),
        (3, 0.0, 0.0, 1.0, 3),
        (1, 0.0, 0.0, 1.0, 1),
        (10, 5.0, 0.0, 1.0, 10),
        (3, 5.0, 0.0, 10.0, 3),
        (3, 25.0, 0.0, 10.0, 4),
    ],
)
@pytest.mark.parametrize("state", [LOST, DENIED])
def test_recovery_needs_enough_answers_over_enough_time(
    state: ContactState, successes: int, recovery: float, jitter: float, step: float, answers: int
) -> None:
    """M answers and the minimum time plus this node's jitter, from the first answer on."""
    rules = ContactRules(successes=successes, recovery_seconds=recovery, jitter_seconds=jitter)
    contact, count = Contact(state, 0.0, ""), 0
    while contact.state is state:
        count += 1
        contact = probe(contact, "a", count * step, rules)
    assert (contact.state, count) == (REACHABLE, answers)


def test_a_failure_amid_a_recovery_starts_it_anew() -> None:
    """Five answers, a failure, and then the whole time again."""
    assert states("fff" + "aaaaa" + "f" + "aaaaa" + "a") == "SS" + "L" * 12 + "R"


def test_one_failure_amid_a_recovery_does_not_make_the_api_gone() -> None:
    """What the API was about to bring back is not activated for one lost packet."""
    contact = probe(Contact(LOST, 0.0, "", failures=3), "a", 1.0)
    shown = []
    for second in range(2, 6):
        contact = probe(contact, "f", float(second))
        shown.append((contact.state, contact.failures, contact.is_gone))
    assert shown == [
        (LOST, 1, False),
        (LOST, 2, False),
        (LOST, 3, True),
        (LOST, 4, True),
    ]


def test_denied_amid_a_recovery_does_not_cut_it_short() -> None:
    """An API server that starts denies for a moment; ten thousand nodes would return at once."""
    assert states("fff" + "d" + "aaaaa") == "SSL" + "LLLLLL"


def test_an_api_that_denies_is_there() -> None:
    """Nothing more is activated from its first answer on, though it was lost before."""
    contact = Contact(LOST, 0.0, "", failures=3)
    assert contact.is_gone is True
    assert probe(contact, "d", 1.0).is_gone is False


def test_denied_answers_before_it_is_trusted() -> None:
    """A copy may give way as soon as our credentials are accepted again."""
    contact = Contact(DENIED, 0.0, "HTTP 403")
    assert contact.is_answering is False
    assert probe(contact, "a", 1.0).is_answering is True


@pytest.mark.parametrize(
    ("contact", "seconds"),
    [
        (initial_contact(0.0), 0.1),
        (Contact(REACHABLE, 0.0, ""), 13.0),
        (Contact(SUSPECT, 0.0, "", failures=1), 0.1),
        (Contact(SUSPECT, 0.0, "", server_error_since=0.0), 1.0),
        (Contact(LOST, 0.0, "", failures=3), 1.0),
        (Contact(LOST, 0.0, "", successes=1, is_answering=True), 1.0),
        (Contact(LOST, 0.0, "", failures=1, is_answering=True), 0.1),
        (Contact(DENIED, 0.0, ""), 1.0),
        (Contact(DENIED, 0.0, "", failures=2), 0.1),
    ],
)
def test_each_state_is_probed_at_its_pace(contact: Contact, seconds: float) -> None:
    """Failures are confirmed quickly; a busy API server (5xx) is not hammered."""
    assert next_probe_in(contact, RULES) == seconds


def test_the_reason_is_that_of_the_newest_bad_round() -> None:
    """An operator reads why contact is lost now."""
    contact = probe(initial_contact(0.0), "f", 1.0)
    seen = after_probe(contact, [ProbeResult(ProbeOutcome.SERVER_ERROR, "HTTP 500")], RULES, 2.0)
    assert (contact.reason, seen.reason) == ("f", "HTTP 500")


def test_the_cause_is_that_of_the_round_that_led_to_the_state() -> None:
    """It stays as long as the state, whatever is seen meanwhile."""
    contact = initial_contact(0.0)
    for second in range(1, 4):
        contact = probe(contact, "f", float(second))
    assert (contact.state, contact.cause) == (LOST, "f")
    for outcome in "5da":
        contact = probe(contact, outcome, 4.0)
        assert (contact.state, contact.cause) == (LOST, "f")
    assert contact.reason == "answers again, a"
    for second in range(5, 60):
        contact = probe(contact, "a", float(second))
    assert (contact.state, contact.cause) == (REACHABLE, "a")


def test_since_is_when_the_state_was_entered() -> None:
    """It does not move with rounds that change nothing."""
    contact = initial_contact(0.0)
    for second in range(1, 8):
        contact = probe(contact, "f", float(second))
    assert (contact.state, contact.since) == (LOST, 3.0)


ROUNDS = st.lists(
    st.tuples(st.lists(st.sampled_from("ad5f"), min_size=1, max_size=3), st.floats(0.01, 20.0)),
    max_size=60,
)


def history(rounds: Sequence[tuple[list[str], float]]) -> list[tuple[float, str, Contact]]:
    """Return time, best answer and state of every round."""
    contact, now, found = initial_contact(0.0), 0.0, []
    for outcomes, pause in rounds:
        now += pause
        contact = probe(contact, "".join(outcomes), now)
        found.append((now, min(outcomes, key="ad5f".index), contact))
    return found


@settings(max_examples=400)
@given(ROUNDS)
def test_never_reachable_from_lost_before_enough_answers(
    rounds: list[tuple[list[str], float]],
) -> None:
    """However contact flaps, through whichever states: M answers in a row over the minimum time."""
    trusted, answers = True, []
    for now, best, contact in history(rounds):
        answers = [*answers, now] if best == "a" else []
        trusted = trusted and contact.state not in (LOST, DENIED)
        if contact.state is REACHABLE and not trusted:
            assert len(answers) >= RULES.successes
            assert now - answers[0] >= RULES.recovery_seconds
            trusted = True


@settings(max_examples=400)
@given(ROUNDS)
def test_never_newly_lost_while_the_api_answers_or_denies(
    rounds: list[tuple[list[str], float]],
) -> None:
    """Contact is lost in a round that failed, and an answer never leaves it gone."""
    before = SUSPECT
    for _, best, contact in history(rounds):
        if contact.state is LOST and before is not LOST:
            assert best in "5f"
        if best in "ad":
            assert not contact.is_gone
        before = contact.state


@settings(max_examples=400)
@given(ROUNDS)
def test_lost_needs_failures_or_a_long_time_of_server_errors(
    rounds: list[tuple[list[str], float]],
) -> None:
    """Since the last answer of any kind: N failures, or 5xx for the longer time."""
    bad: list[tuple[float, str]] = []
    was_gone = False
    for now, best, contact in history(rounds):
        bad = [] if best in "ad" else [*bad, (now, best)]
        if contact.is_gone and not was_gone:
            errors = [when for when, kind in bad if kind == "5"]
            failures = [when for when, kind in bad if kind == "f"]
            by_time = bool(errors) and now - errors[0] >= RULES.server_error_seconds
            assert len(failures) >= RULES.failures or by_time
        was_gone = contact.is_gone


@settings(max_examples=200)
@given(ROUNDS)
def test_enough_failures_lose_contact_from_anywhere(
    rounds: list[tuple[list[str], float]],
) -> None:
    """No state holds for ever against an API that has gone, nor against one that is back."""
    past = history(rounds)
    now, contact = (past[-1][0], past[-1][2]) if past else (0.0, initial_contact(0.0))
    gone = back = contact
    for second in range(1, RULES.failures + 1):
        gone = probe(gone, "f", now + second)
    assert gone.is_gone
    for second in range(1, 8):
        back = probe(back, "a", now + second)
    assert back.state is REACHABLE


def test_a_state_is_a_value() -> None:
    """Judging a round leaves the state before it as it was."""
    contact = Contact(LOST, 0.0, "", failures=3)
    same = replace(contact)
    probe(contact, "a", 1.0)
    assert contact == same
