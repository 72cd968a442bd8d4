"""Measures the agent: `make bench`, `make bench BENCH_ARGS='--quick --json'`."""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import sys
from typing import Any

import checkpointer
from tests.bench import at_rest, cold_start, detection, growth, sanitize
from tests.bench.case import Row, measured, progress, table
from tests.bench.contender import other, this

BENCHMARKS = {
    "cold_start": cold_start,
    "detection": detection,
    "growth": growth,
    "at_rest": at_rest,
    "sanitize": sanitize,
}


def main() -> int:
    """Measure; print one table, or with --json one object."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--only", choices=BENCHMARKS, nargs="+", default=list(BENCHMARKS), help="run these"
    )
    parser.add_argument("--runs", type=int, default=None, help="default: 5, 3 with --quick")
    parser.add_argument("--quick", action="store_true", help="some four minutes in all")
    parser.add_argument(
        "--versus",
        metavar="CMD",
        help="measure this command too, turn by turn; {config}, {kubeconfig}, {manifests}, ... "
        "stand for what it needs of the node (tests/bench/contender.py)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for benchmark in BENCHMARKS.values():
        benchmark.add_arguments(parser)
    arguments = parser.parse_args()
    arguments.runs = arguments.runs or (3 if arguments.quick else 5)
    contenders = [this(), *([other(arguments.versus)] if arguments.versus else [])]
    compileall.compile_dir(checkpointer.__path__[0], quiet=1)  # as it is in the image
    machine = _machine()
    rows: list[Row] = []
    for name in arguments.only:
        for case in BENCHMARKS[name].cases(arguments):
            progress(f"measuring: {case.name}")
            rows += measured(case, contenders)
    machine["load_after"] = os.getloadavg()[0]
    if arguments.json:
        sys.stdout.write(json.dumps({"machine": machine, "rows": rows}) + "\n")
    else:
        described = ", ".join(f"{key} {value}" for key, value in machine.items())
        sys.stdout.write("\n".join([described, *table(rows)]) + "\n")
    return 0


def _machine() -> dict[str, Any]:
    """Return what the numbers depend on; a load beside the agent's own falsifies them."""
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


if __name__ == "__main__":
    sys.exit(main())
