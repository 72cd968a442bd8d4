"""Tokens are judged by their form, and their expiry is read without trusting them."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.store.token import is_token, token_expiry


def token_of(payload: bytes) -> bytes:
    """A token with this payload."""
    return b"aGVhZA." + base64.urlsafe_b64encode(payload).rstrip(b"=") + b".c2ln"


@pytest.mark.parametrize("content", [b"a.b.c", b"eyJ-_.eyJ9.s1g\n", b"  a.b.c  "])
def test_three_base64url_parts_are_a_token(content):
    """White space around it, as some issuers leave, does not matter."""
    assert is_token(content)


@pytest.mark.parametrize(
    "content", [b"", b"a.b", b"a.b.", b"..", b"a.b.c.d", b"a.b.c=", b"a.b c.d", b"\xff.a.b"]
)
def test_anything_else_is_none(content):
    """An empty or cut file does not pass for a token."""
    assert not is_token(content)
    assert token_expiry(content) is None


@pytest.mark.parametrize(("claim", "expiry"), [(5, 5.0), (1.5, 1.5), (-1, -1.0), (2**40, 2.0**40)])
def test_expiry_is_the_exp_claim(claim, expiry):
    """Seconds of the Unix epoch."""
    assert token_expiry(token_of(json.dumps({"exp": claim}).encode())) == expiry


@pytest.mark.parametrize(
    "payload",
    [
        *(b"{}", b"[]", b"1", b'{"exp":"5"}', b'{"exp":true}', b'{"exp":null}', b'{"exp":NaN}'),
        *(b'{"exp":1e999}', b'{"exp":1' + b"0" * 400 + b"}", b"[" * 100_000, b"\xff", b"{"),
    ],
)
def test_claim_that_tells_nothing_is_none(payload):
    """A strange token is no reason to stop."""
    assert token_expiry(token_of(payload)) is None


@given(st.binary(max_size=64))
def test_any_bytes_have_an_answer(content):
    """No content makes it raise."""
    assert token_expiry(content) is None or is_token(content)
    token_expiry(token_of(content))
