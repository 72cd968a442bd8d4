"""Service-account tokens as files: their shape and when they expire. Nothing is verified here.

A token is the one part of a revision that is renewed in place, so its digest cannot be fixed
when the revision is taken; its shape can be.
"""

from __future__ import annotations

import base64
import json
import math
import re

_JWT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


def is_token(content: bytes) -> bool:
    """Tell whether this has the form of a signed JWT: three base64url parts, none empty."""
    return _JWT.fullmatch(content.strip()) is not None


def token_expiry(content: bytes) -> float | None:
    """Return the token's `exp` claim in seconds of the Unix epoch; None when it tells none."""
    if not is_token(content):
        return None
    payload = content.strip().split(b".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        expiry = claims.get("exp")
    except (ValueError, RecursionError, AttributeError):
        return None
    if isinstance(expiry, bool) or not isinstance(expiry, int | float):
        return None
    try:
        seconds = float(expiry)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None
