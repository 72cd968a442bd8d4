"""What `activate` and `release` share: writing the hold, and seeing to it that it is kept.

The running agent is woken by the file and does the rest. When none runs, this process takes the
instance lock for as long as it needs and does what the agent would do, by the same code.
"""

from __future__ import annotations

import argparse
import logging
import os
import pwd
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from checkpointer.cli.command import EXIT_UNDER_WAY, RefusedError, UsageError
from checkpointer.cli.local_node import LocalNode, NodeError
from checkpointer.cli.output import say
from checkpointer.config import parse_duration
from checkpointer.core.checkpoint import Checkpoint, Revision
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.hold import ACTIVE, Hold
from checkpointer.core.occupancy import occupancy_of
from checkpointer.core.workload import Workload
from checkpointer.report.status import timestamp
from checkpointer.store.lock import InstanceLock
from checkpointer.values import replace

if TYPE_CHECKING:
    from checkpointer.core.plan import Action
    from checkpointer.report.happenings import Kind

POLL_SECONDS = 0.2
DEFAULT_TIMEOUT_SECONDS = 60.0


def add_hold_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that both commands have."""
    parser.add_argument("workload", metavar="WORKLOAD", help="[NAMESPACE/[KIND/]]NAME")
    parser.add_argument(
        "--lift", action="store_true", help="end the hold, whichever it is: the agent decides again"
    )
    parser.add_argument("--reason", default="", help="why, for whoever reads the status")
    parser.add_argument(
        "--for",
        dest="duration",
        type=some_time,
        metavar="DURATION",
        help="the hold lifts itself after so long, such as 2h30m (default: never)",
    )
    parser.add_argument("--force", action="store_true", help="do it although it may hurt")
    parser.add_argument(
        "--timeout",
        type=duration,
        default=DEFAULT_TIMEOUT_SECONDS,
        metavar="DURATION",
        help="how long to wait for it (default: 60s; 0 does not wait)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and change nothing"
    )


def duration(text: str) -> float:
    """Return the seconds of `30s` or `2h`, for argparse."""
    try:
        return parse_duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: expected a duration such as 30s or 2h") from None


def some_time(text: str) -> float:
    """Return the seconds of a duration that is not zero, for argparse."""
    if not (seconds := duration(text)):
        raise argparse.ArgumentTypeError(f"{text}: expected more than nothing, such as 30s or 2h")
    return seconds


def new_hold(
    node: LocalNode, arguments: argparse.Namespace, wanted: str, revision: int = 0
) -> Hold:
    """Return the hold that the command line asks for."""
    if not arguments.reason.isprintable():
        raise UsageError("--reason: expected one line of text")
    now = node.now()
    return Hold(
        wanted,
        since=now.wall,
        by=_who(),
        reason=arguments.reason,
        until=now.wall + arguments.duration if arguments.duration else 0.0,
        revision=revision,
        force=arguments.force,
        boot_id=now.boot_id,
        began=now.monotonic,
    )


def lift(node: LocalNode, checkpoint: Checkpoint, is_dry_run: bool) -> int:
    """End a hold and say so; none is no error."""
    workload, hold = checkpoint.workload, checkpoint.hold
    if hold is None and not any("hold" in problem for problem in checkpoint.problems):
        say(f"{workload}: nothing to lift, it is not held")
        return 0
    if is_dry_run:
        say(f"{workload}: would lift its hold")
        return 0
    node.store.write_hold(workload, None)
    lock = InstanceLock(node.config.lock_file)
    if hold is not None and not node.is_agent_running() and lock.try_acquire():
        from checkpointer.report.happenings import Kind

        write_down(node, checkpoint, Kind.LIFTED, f"it was held {hold}")
        lock.release()
    decides = "the agent decides again" if node.is_agent_running() else "the agent will decide"
    say(f"{workload}: no longer held{f' {hold.wanted}' if hold else ''}; {decides}")
    return 0


def hold_by_hand(
    node: LocalNode,
    checkpoint: Checkpoint,
    hold: Hold,
    foretold: str,
    arguments: argparse.Namespace,
) -> int:
    """Write the hold and wait until it is so; return the exit status."""
    workload = checkpoint.workload
    until = f"until {timestamp(hold.until)}" if hold.until else "until it is lifted"
    if arguments.dry_run:
        say(f"{workload}: would {foretold} {until}")
        return 0
    lock = InstanceLock(node.config.lock_file)
    is_alone = not node.is_agent_running() and lock.try_acquire()
    try:
        node.store.write_hold(workload, hold)
        step = Alone(node, checkpoint, hold).step if is_alone else _nothing
        is_done = _wait(lambda: is_kept(node, workload), step, arguments.timeout)
    finally:
        lock.release()
    if is_done:
        now = "its copy runs" if hold.wanted == ACTIVE else "no copy of it runs"
        say(f"{workload}: held {hold.wanted} {until}; {now}")
        return 0
    expected = "its copy does not run yet" if hold.wanted == ACTIVE else "its copy still runs"
    if isinstance(running := node.running(), Unknown):
        expected = f"whether its copy runs cannot be told: {running.reason}"
    say(f"{workload}: held {hold.wanted} {until}; {expected}")
    say("see `checkpointer status` for what it waits for")
    return EXIT_UNDER_WAY


def is_kept(node: LocalNode, workload: Workload) -> bool:
    """Tell whether the workload is as its hold wants it; a runtime that cannot tell says no."""
    running = node.running()
    found = next((c for c in node.checkpoints() if c.workload == workload), None)
    if found is None or found.hold is None:
        raise RefusedError(f"{workload}: somebody has lifted the hold meanwhile")
    if not isinstance(running, Known):
        return False
    is_up = bool(occupancy_of(found, running.value).copy_running)
    is_active = node.active(workload) is not None
    return (is_active and is_up) if found.hold.wanted == ACTIVE else not (is_active or is_up)


def write_down(
    node: LocalNode,
    checkpoint: Checkpoint,
    kind: Kind,
    reason: str,
    revision: int | None = None,
    issue: int | None = None,
) -> None:
    """Write into the journal what is done here in the agent's place, under its lock."""
    from checkpointer.report.happenings import Happening
    from checkpointer.report.history import Historian

    newest = checkpoint.revisions[:1]
    happening = Happening(
        kind,
        time.time(),
        reason,
        checkpoint.workload,
        pod="".join(r.parent_name for r in newest),
        pod_uid="".join(r.parent_uid for r in newest),
        revision=revision,
        issue=issue,
    )
    Historian(node.store.root, node.store.prepare).write([happening], time.monotonic())


class Alone:
    """Does for one workload what the agent would do in each of its cycles, and writes it down."""

    def __init__(self, node: LocalNode, checkpoint: Checkpoint, hold: Hold) -> None:
        from checkpointer.apply import Applier
        from checkpointer.core.plan import Memory
        from checkpointer.node.kubelet import Kubelet
        from checkpointer.observe import Observer, PodReader
        from checkpointer.report.happenings import Kind
        from checkpointer.settings import selection

        self._node, self._checkpoint = node, checkpoint
        self._workload = checkpoint.workload
        kubelet = Kubelet(node.kubelet_directory)
        reader = PodReader(selection(node.config.selection), kubelet)
        self._observer = Observer(reader, kubelet, node.folder, node.store)
        self._applier = Applier(node.store, node.folder, node.name)
        self._observer.runtime = self._applier.runtime = node.needed_runtime()
        self._applier.on_done = self._done
        self._memory = Memory()
        write_down(node, checkpoint, Kind.HELD, str(hold))

    def _done(self, action: Action, _: Revision | None) -> None:
        from checkpointer.core.plan import Activate, Release
        from checkpointer.report.happenings import Kind

        match action:
            case Activate(_, number, issue, reason):
                write_down(self._node, self._checkpoint, Kind.ACTIVATED, reason, number, issue)
            case Release(_, _, reason):
                write_down(self._node, self._checkpoint, Kind.RELEASED, reason)

    def step(self) -> None:
        """Observe, decide, apply. Raises NodeError when it could not be carried out."""
        from checkpointer.core.contact import Contact, ContactState
        from checkpointer.core.decide import decide
        from checkpointer.core.facts import Unknown

        now = self._node.now()
        contact = Contact(ContactState.SUSPECT, now.monotonic, "the agent is not running")
        pods = Unknown("the agent is not running")
        seen = self._observer.observe(contact, pods, now, ask_runtime=True)
        plan = decide(seen, self._memory, self._node.config.timing, frozenset(), now)
        self._memory = plan.memory
        mine = replace(
            plan,
            actions=tuple(a for a in plan.actions if a.workload == self._workload),
            records={w: r for w, r in plan.records.items() if w == self._workload},
        )
        with _Errors() as errors:
            is_done = self._applier.apply(mine, seen, pods, now)
        if not is_done and errors.messages:
            raise NodeError(errors.messages[0])


class _Errors(logging.Handler):
    """Keeps what is logged as an error, and nothing from reaching standard error by itself."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self.messages.append(record.getMessage())

    def __enter__(self) -> _Errors:
        logging.getLogger("checkpointer").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("checkpointer").removeHandler(self)


def _wait(is_done: Callable[[], bool], step: Callable[[], None], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while True:
        step()
        if is_done():
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_SECONDS)


def _nothing() -> None:
    """Leave it to the agent."""


def _who() -> str:
    """Return who runs this, for people: whoever used sudo, else the user."""
    user = os.geteuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = f"uid {user}"
    sudo = os.environ.get("SUDO_USER", "")
    return f"{sudo} as {name}" if sudo and sudo.isprintable() and sudo != name else name
