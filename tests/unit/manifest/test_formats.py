"""String formats and quantities of the API."""

from __future__ import annotations

import pytest

from checkpointer.manifest import formats
from checkpointer.manifest.expansion import referred_names
from checkpointer.manifest.quantity import NANO, parse


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (formats.is_label, ["a", "a-1", "0", "a" * 63], ["", "A", "-a", "a-", "a.b", "a" * 64]),
        (formats.is_label, [], ["a\n"]),
        (formats.is_subdomain, ["a", "a.b", "a" * 253], ["", "a..b", ".a", "a.", "A", "a" * 254]),
        (formats.is_search_domain, [".", "a.", "_tcp.a"], ["", "..", "a..b", "-a"]),
        (formats.is_qualified_name, ["a", "A_b.c", "x.y/Z"], ["", "/a", "a/", "X/a", "a/b/c"]),
        (formats.is_label_value, ["", "a", "A.b_c"], ["-a", "a b", "a" * 64]),
        (formats.is_env_name, ["A", "_", "a.b", ".a", "-"], ["", "0", ".", "..", "..a", "é"]),
        (formats.is_relaxed_env_name, ["A", "0", "a b", ".."], ["", "A=B", "é", "a\tb"]),
        (formats.is_port_name, ["http", "a1", "1a"], ["", "1", "a--b", "-a", "a-", "A", "a" * 16]),
        (formats.is_header_name, ["X-A", "a"], ["", "a b", "a:"]),
        (formats.is_sysctl, ["kernel.shm_rmid_forced", "net/ipv4/x"], ["", "A", ".a", "a."]),
        (formats.is_address, ["10.0.0.1", "::1"], ["", "a", "10.0.0.256", "fe80::1%eth0"]),
        (formats.climbs, ["..", "a/../b"], ["a", "..a", "a/b.."]),
    ],
)  # fmt: skip
def test_format(check: object, good: list[str], bad: list[str]) -> None:
    """Each format takes what apimachinery takes, and nothing else."""
    assert callable(check)
    assert [text for text in good if not check(text)] == []
    assert [text for text in bad if check(text)] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1", NANO),
        ("500m", NANO // 2),
        ("0.5", NANO // 2),
        (".5", NANO // 2),
        ("5.", 5 * NANO),
        ("1Ki", 1024 * NANO),
        ("1.5Gi", 3 * 2**29 * NANO),
        ("1k", 1000 * NANO),
        ("1e3", 1000 * NANO),
        ("1E", 10**18 * NANO),
        ("1E3", 1000 * NANO),
        ("1n", 1),
        ("0.1n", 1),
        ("-1", -NANO),
        ("+1", NANO),
        ("1u", 1000),
    ],
)
def test_quantity(text: str, value: int) -> None:
    """Quantities are exact; finer than a nano is rounded up."""
    assert parse(text) == value


@pytest.mark.parametrize("text", ["", "x", "1x", "1 Ki", "1ki", "K", ".", "1e", "--1", "1e9999"])
def test_no_quantity(text: str) -> None:
    """Anything else is no quantity."""
    assert parse(text) is None


def test_referred_names_leave_escaped_ones_out() -> None:
    """`$$(A)` refers to nothing; an open parenthesis neither."""
    assert list(referred_names("$(A) $$(B) $$$(C) $(D $x")) == ["A", "C"]
