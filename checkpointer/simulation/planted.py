"""A word within everything that is secret in a simulation: keys, tokens, secrets' values.

Nothing needs it. It is there to be searched for: where it appears, the secret does.
"""

from __future__ import annotations

from typing import Final

PLANTED: Final = "planted-secret-Vq7Zx2Kd"


def planted(secret: str) -> str:
    """Return the value of a secret with the word in it."""
    return f"{PLANTED}-{secret}"
