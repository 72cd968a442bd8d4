"""docs/commands.md has every command with all its options and exit statuses, and no others."""

from __future__ import annotations

import argparse
import importlib
import keyword
import re
from pathlib import Path

import pytest

from checkpointer.__main__ import COMMANDS

DOCUMENT = Path(__file__).parents[3] / "docs" / "commands.md"
ELSEWHERE = {"explain", "demo", "doctor", "prepare-reboot"}
"""Commands that have a page of their own."""
PRINT_NO_LIST = {"run", "activate", "release", "restart", "logs", "demo", "completion"}
SECTIONS = dict(re.findall(r"^## ([a-z-]+)\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.M | re.S))
COMMON = {"--help", "--config", "--set", "--node-name", "--kubeconfig"}


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"checkpointer {command}")
    module = f"{command}_" if keyword.iskeyword(command) else command.replace("-", "_")
    importlib.import_module(f"checkpointer.cli.{module}").add_arguments(parser)
    return parser


def long_options(parser: argparse.ArgumentParser) -> set[str]:
    found = {o for a in parser._actions for o in a.option_strings if o.startswith("--")}
    return found - COMMON


def test_every_command_has_its_section() -> None:
    """And every section a command."""
    documented = {name for name in SECTIONS if name in COMMANDS}
    assert documented == set(COMMANDS) - ELSEWHERE


@pytest.mark.parametrize("command", sorted(ELSEWHERE))
def test_every_other_command_has_a_link(command: str) -> None:
    """To a page that is there and tells of it."""
    link = re.search(
        rf"^- \[`{command}`\]\(([./a-zA-Z-]+\.md)\)", DOCUMENT.read_text(), re.MULTILINE
    )
    assert link is not None
    page = (DOCUMENT.parent / link[1]).read_text()
    assert re.search(rf"\b(checkpointer|make) {command}\b", page)


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - PRINT_NO_LIST))
def test_what_is_listed_comes_in_every_form(command: str) -> None:
    """The same word works everywhere, so that nobody has to remember where it does not."""
    (output,) = (a for a in parser_of(command)._actions if "--output" in a.option_strings)
    assert "-o" in output.option_strings
    assert output.choices == ("table", "wide", "json", "yaml", "name")


def test_the_statuses_of_the_doctor_are_an_exception() -> None:
    """A script that takes 2 for wrong usage would miss a node that does not come back."""
    from checkpointer.cli.doctor import EXIT_FAIL, EXIT_WARN

    told = " ".join(DOCUMENT.read_text().split())
    assert (
        f"but with `doctor`: there 0 is pass, {EXIT_WARN} is warn, and {EXIT_FAIL} is fail" in told
    )


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - ELSEWHERE))
def test_the_options_in_the_documentation_are_the_commands(command: str) -> None:
    """In the table of options: none is missing, none is made up."""
    named = re.findall(r"^\| `(?:-\w, )?(--[a-z-]+)", SECTIONS[command], re.MULTILINE)
    assert set(named) == long_options(parser_of(command))


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - ELSEWHERE))
def test_the_exit_statuses_in_the_documentation_are_the_commands(command: str) -> None:
    """As the help has them; 1 and 2 mean the same everywhere."""
    epilog = parser_of(command).epilog or ""
    told = set(re.findall(r"^ +(\d)  ", epilog, re.MULTILINE)) - {"1", "2"}
    named = re.search(r"^Exit status: (.*)$", SECTIONS[command], re.MULTILINE)
    assert named is not None
    assert set(re.findall(r"\b([0-9])\b", named[1])) == (told or {"0"})
