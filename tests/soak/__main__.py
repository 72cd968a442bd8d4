"""Memory and descriptors of the real agent over a long time: `make soak SOAK_ARGS='--minutes 60'`.

The agent is a process of its own on a simulated node, over real sockets; `tests.soak.churn` is
what happens to it. A row is written whenever a share of the time is over, and in the end how much
memory the second half took more than the first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.churn import Churn
from tests.soak.process import Footprint, footprint

ROWS = 30


def main() -> int:
    """Churn; print the curve."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="how long (default: 15)")
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        churn = Churn(Path(folder))
        try:
            churn.start()
            measured = _measure(churn, minutes * 60.0)
        finally:
            churn.close()
    _tell("\n".join(_summary(measured)))
    return 0


def _measure(churn: Churn, seconds: float) -> list[Footprint]:
    """Let the rounds go on for so long; return the footprint after each."""
    began, measured, shown = time.monotonic(), [], 0.0
    _tell(f"{'minute':>7} {'round':>6} {'rss KiB':>9} {'anon KiB':>9} {'threads':>8} {'fds':>5}")
    while (passed := time.monotonic() - began) < seconds:
        churn.round()
        now = footprint(churn.pid)
        measured.append(now)
        if passed >= shown:
            shown += seconds / ROWS
            _tell(
                f"{passed / 60:>7.1f} {len(measured):>6} {now.rss:>9} {now.anonymous:>9}"
                f" {now.threads:>8} {now.descriptors:>5}"
            )
    return measured


def _summary(measured: list[Footprint]) -> list[str]:
    quarters = [measured[len(measured) * n // 4 : len(measured) * (n + 1) // 4] for n in range(4)]
    rows = [f"{len(measured)} rounds; medians of each quarter:"]
    for name in Footprint.__dataclass_fields__:
        values = [
            statistics.median(getattr(one, name) for one in part) for part in quarters if part
        ]
        rows.append(f"  {name:<12} " + " ".join(f"{value:>9.0f}" for value in values))
    return rows


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
