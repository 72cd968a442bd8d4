"""`checkpointer doctor`: would this node come back, and if not, what is to be done.

It needs nothing but the node's disk and runtime, and changes nothing. The API is asked what only
it knows, when it answers. No source can make it hang.
"""

from __future__ import annotations

import argparse

from checkpointer.cli.command import carry_out
from checkpointer.cli.output import add_output_argument
from checkpointer.cli.run import add_config_arguments
from checkpointer.config import Config, parse_duration

EXIT_WARN, EXIT_FAIL = 1, 2

EPILOG = """exit status: 0 all is well, or cannot be told; 1 something should be looked at (warn);
2 something keeps pods from coming back (fail), or wrong usage or configuration"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `doctor`."""
    parser.epilog = EPILOG
    add_output_arguments(parser, "the checks that warn or fail")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="leave out of the table what is well"
    )
    add_config_arguments(parser)


def add_output_arguments(parser: argparse.ArgumentParser, names: str) -> None:
    """Declare the options that `doctor` and `prepare-reboot` have in common."""
    add_output_argument(parser, names)
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=duration,
        default=5.0,
        help="how long each source may take to answer, such as 2s (default: 5s)",
    )


def duration(text: str) -> float:
    """Return the seconds of a time such as `2s`, as argparse wants it."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if seconds < 0.1:
        raise argparse.ArgumentTypeError(f"{text}: expected a duration such as 5s or 500ms")
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Print what every check says; return the exit status."""
    return carry_out(_examine, arguments, EXIT_FAIL)


def _examine(arguments: argparse.Namespace, config: Config) -> int:
    from checkpointer.cli.doctor_forms import print_results
    from checkpointer.doctor.checks import check
    from checkpointer.doctor.gather import gather
    from checkpointer.doctor.readiness import readiness
    from checkpointer.doctor.result import Outcome, worst
    from checkpointer.settings import check as check_config

    check_config(config)
    facts = gather(config, arguments.timeout)
    results = check(facts)
    print_results(results, readiness(facts, results), arguments.output, arguments.quiet)
    return {Outcome.FAIL: EXIT_FAIL, Outcome.WARN: EXIT_WARN}.get(worst(results), 0)
