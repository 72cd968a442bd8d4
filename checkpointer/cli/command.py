"""What every command on the node has in common: its configuration, its errors, its exit status."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable

from checkpointer.cli.complaint import complain
from checkpointer.cli.formatting import ListFormatter
from checkpointer.cli.run import add_config_arguments, read_config
from checkpointer.config import Config, ConfigError
from checkpointer.errors import CheckpointerError

EXIT_FAILED, EXIT_USAGE, EXIT_NO, EXIT_UNDER_WAY = 1, 2, 3, 4
EXIT_INTERRUPTED = 130

Body = Callable[[argparse.Namespace, Config], int]


class UsageError(CheckpointerError):
    """The command line is wrong; the message says what was expected."""


class RefusedError(CheckpointerError):
    """It would hurt, so it was not done; the message says why, and what to do instead."""


def describe(parser: argparse.ArgumentParser, about: str, statuses: dict[int, str]) -> None:
    """Give a command its text and its exit statuses, and the options of the configuration."""
    parser.formatter_class = ListFormatter
    parser.description = about
    told = {**statuses, EXIT_USAGE: "wrong usage or configuration"}
    told.setdefault(EXIT_FAILED, "it failed; the message says why, and what to do")
    lines = "\n".join(f"  {status:<3} {told[status]}" for status in sorted(told))
    parser.epilog = f"exit status:\n{lines}"
    add_config_arguments(parser.add_argument_group("configuration"))


def whole_number(text: str, least: int) -> int:
    """Return a number of at least so much, for argparse."""
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text}: expected a number, {least} or more")
    return int(text)


def carry_out(body: Body, arguments: argparse.Namespace, failed: int = EXIT_FAILED) -> int:
    """Run a command with the configuration that its options lead to; return its exit status.

    `failed` is that of a command that could not be carried out.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        config = read_config(arguments)
    except (OSError, ConfigError, UnicodeDecodeError) as error:
        return _tell(error, EXIT_USAGE)
    try:
        return body(arguments, config)
    except (UsageError, ConfigError) as error:
        return _tell(error, EXIT_USAGE)
    except RefusedError as error:
        return _tell(error, EXIT_NO)
    except (CheckpointerError, OSError) as error:
        return _tell(error, failed)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _tell(error: Exception, status: int) -> int:
    complain(error)
    if os.geteuid() != 0 and "ermission denied" in str(error):
        complain("this does not run as root: try sudo")
    return status
