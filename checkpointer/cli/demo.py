"""`checkpointer demo`: the whole story on one machine, with no cluster.

The real agent, as a process of its own, against a simulated node. Exit status 0 only if every
step was observed; 1 if one was not; 2 if the simulation's packages are missing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from checkpointer.simulation.scenario import Story

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_PREFIX = "checkpointer-demo-"
_MAX_PLACE = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="end with one JSON object on standard output; the story goes to standard error",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the temporary folder and say where it is"
    )


def run(arguments: argparse.Namespace) -> int:
    """Play the story and return the exit status."""
    # The simulation needs packages that a node never needs, so only this command imports it.
    try:
        from rich.console import Console

        import checkpointer.simulation.scenario  # noqa: F401 - all of it, before anything starts
        from checkpointer.simulation.timeline import Timeline
    except ImportError as error:
        print(f"checkpointer demo: {error}; pip install 'pod-checkpointer[demo]'", file=sys.stderr)
        return 2
    timeline = Timeline(Console(stderr=arguments.json))
    folder = _temporary_folder()
    before = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGINT)}
    for number in _SIGNALS:
        signal.signal(number, _stop)
    try:
        return _play(folder, timeline, arguments)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arguments.keep:
            timeline.note(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder() -> Path:
    """Return a new folder; a unix socket's address has room for 107 bytes, so a short one."""
    place = tempfile.gettempdir()
    return Path(tempfile.mkdtemp("", _PREFIX, place if len(place) < _MAX_PLACE else "/tmp"))  # noqa: S108


def _play(folder: Path, timeline: Any, arguments: argparse.Namespace) -> int:
    from checkpointer.simulation.node import SimulatedNode
    from checkpointer.simulation.scenario import StepFailedError, Story
    from checkpointer.simulation.surroundings import Pace

    # A fifth of the real back-off: the story must fit into a minute.
    node = SimulatedNode(folder, pace=Pace(backoff_seconds=2.0, recheck_seconds=2.0))
    story = Story(node, timeline)
    failure = ""
    try:
        node.start()
        node.write_agent_config()
        story.play()
    except StepFailedError as error:
        failure = str(error)
        timeline.failed(failure)
        timeline.note("the agent's last lines:")
        for line in node.agent.last_lines():
            timeline.note(f"  {line}")
    finally:
        _ignore_signals()  # a second Ctrl-C must not leave the agent behind
        node.close()
    untouched = story.scene.has_foreign_files()
    if not untouched:
        timeline.failed("a foreign file in the manifest folder was touched")
    ok = not failure and untouched
    timeline.title("Every step was observed." if ok else "Not every step was observed.")
    if arguments.json:
        print(json.dumps(_result(story, ok, untouched, failure)))
    return 0 if ok else 1


def _result(story: Story, ok: bool, untouched: bool, failure: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ok": ok,
        "acts": [
            {
                "name": act.name,
                "ok": act.ok,
                "steps": [{"name": name, "seconds": seconds} for name, seconds in act.steps],
            }
            for act in story.acts
        ],
        "foreign_files_untouched": untouched,
    }
    return result | {"failure": failure} if failure else result


def _stop(number: int, _frame: object) -> NoReturn:
    """End as the signal asks, through every `finally` on the way."""
    raise SystemExit(128 + number)


def _ignore_signals() -> None:
    for number in (*_SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
