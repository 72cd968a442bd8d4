"""Runs the benchmarks: `make bench`, `make bench BENCH_ARGS='--json --only sanitize'`."""

from __future__ import annotations

import argparse
import json
import sys

from tests.bench import cold_start, sanitize

BENCHMARKS = {"cold_start": cold_start, "sanitize": sanitize}


def main() -> int:
    """Measure; print a table each, or with --json one object for all."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=BENCHMARKS, help="run this one")
    parser.add_argument("--runs", type=int, default=5, help="how often to measure (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for benchmark in BENCHMARKS.values():
        benchmark.add_arguments(parser)
    arguments = parser.parse_args()
    chosen = [arguments.only] if arguments.only else list(BENCHMARKS)
    results = {}
    for name in chosen:
        results[name] = BENCHMARKS[name].rows(arguments)
        if not arguments.json:
            sys.stdout.write("\n".join(BENCHMARKS[name].table(results[name])) + "\n\n")
            sys.stdout.flush()
    if arguments.json:
        sys.stdout.write(json.dumps(results) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
