"""Quantities such as `500m` and `1Gi`, compared exactly.

A port of k8s.io/apimachinery/pkg/api/resource/quantity.go:ParseQuantity: values are integers in
units of 10^-9, the finest that Kubernetes keeps; what is finer is rounded up, as there.
"""

from __future__ import annotations

import re
from functools import lru_cache

_FORM = re.compile(
    r"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))"
    r"(?:([KMGTPE]i)|([numkMGTPE])|[eE]([+-]?[0-9]+))?"
)
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}

NANO = 10**9


@lru_cache(maxsize=2048)
def parse(text: str) -> int | None:
    """Return the quantity in units of 10^-9, or None for anything that is not a quantity."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, bare, binary, decimal, exponent = match.groups()
    fraction = fraction or bare or ""
    if exponent is not None and len(exponent) > 3:
        return None
    power = 9 - len(fraction) + (int(exponent) if exponent else _DECIMAL.get(decimal or "", 0))
    value = int((whole or "") + fraction or "0") * _BINARY.get(binary or "", 1)
    scale: int = 10 ** abs(power)
    value = value * scale if power >= 0 else -(-value // scale)
    return -value if sign == "-" else value


def is_whole(value: int) -> bool:
    """Tell whether a parsed quantity is an integer."""
    return value % NANO == 0
