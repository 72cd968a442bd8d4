"""`checkpointer logs`: what a container wrote, found through the runtime, without the API."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from checkpointer.cli.command import UsageError, carry_out, describe
from checkpointer.cli.holding import duration
from checkpointer.cli.local_node import LocalNode, NodeError
from checkpointer.cli.output import note
from checkpointer.cli.pods_here import PodHere, find_pod, pods_here
from checkpointer.config import Config
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.runtime import Container, ContainerState
from checkpointer.node.container_logs import LogLine, read_lines

ABOUT = """Print the log of a container of this node, found through its runtime: of a static pod,
of a checkpoint's copy or its parent, of any pod. It needs neither the API nor the agent nor the
kubelet. Of a workload, the log is that of whoever runs of it, else of who ran last."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `logs`."""
    describe(parser, ABOUT, {0: "it was printed"})
    parser.add_argument(
        "pod", metavar="NAME", help="[NAMESPACE/]POD, or [NAMESPACE/[KIND/]]WORKLOAD"
    )
    parser.add_argument("-c", "--container", metavar="NAME", help="needed when it has several")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it ends")
    parser.add_argument(
        "-p",
        "--previous",
        action="store_true",
        help="that of the container before the last restart",
    )
    parser.add_argument("--tail", type=_count, metavar="N", help="only the last N lines")
    parser.add_argument(
        "--since", type=duration, metavar="DURATION", help="only what is younger, such as 5m"
    )
    parser.add_argument("--timestamps", action="store_true", help="each line's time before it")


def run(arguments: argparse.Namespace) -> int:
    """Print the log; return the exit status."""
    return carry_out(_logs, arguments)


def _logs(arguments: argparse.Namespace, config: Config) -> int:
    node = LocalNode(config)
    runtime = node.needed_running()
    found = node.store.read()  # for the names of workloads; logs are there without a store
    checkpoints = found.value.checkpoints if isinstance(found, Known) else ()
    pods = pods_here(runtime, checkpoints)
    pod = find_pod(pods, arguments.pod, node.name)
    container = _container(pod, arguments.container, arguments.previous)
    path = _log_path(node, container)
    note(f"{pod.kind} {pod}, container {container.name}, restarts: {container.attempt}")
    goes_on = _is_running(node, container) if arguments.follow else None
    since = time.time() - arguments.since if arguments.since is not None else None
    _copy(read_lines(path, arguments.tail, since, goes_on), arguments.timestamps)
    return 0


def _container(pod: PodHere, name: str | None, is_previous: bool) -> Container:
    """Return the container meant. Raises UsageError or NodeError that says what there is."""
    names = list(dict.fromkeys(c.name for c in pod.containers))
    if not names:
        raise UsageError(f"{pod}: the runtime shows no container of it yet; try again in a moment")
    if name is None and len(names) > 1:
        own = pod.checkpoint.revisions[:1] if pod.checkpoint else ()
        apps = [n for n in names if any(n in revision.app_containers for revision in own)]
        if len(apps) != 1:
            raise UsageError(f"{pod}: say which container, -c {'|'.join(names)}")
        name = apps[0]
    name = name or names[0]
    found = [c for c in pod.containers if c.name == name]
    if not found:
        raise UsageError(f"{pod}: no container {name}; there are: {', '.join(names)}")
    if not is_previous:
        return found[0]
    if len(found) < 2:
        raise NodeError(f"{pod}: the runtime has kept no container {name} from before a restart")
    return found[1]


def _log_path(node: LocalNode, container: Container) -> Path:
    detail = node.needed_runtime().container_status(container.id)
    if isinstance(detail, Unknown):
        raise NodeError(detail.reason)
    if not detail.value.log_path:
        raise NodeError(
            f"the runtime keeps no log file of container {container.name} ({container.id[:12]})"
        )
    return Path(detail.value.log_path)


def _is_running(node: LocalNode, container: Container) -> Callable[[], bool]:
    """Return what tells whether more may be written; a runtime that is away says nothing new."""
    asked_at = time.monotonic()
    runs = True

    def goes_on() -> bool:
        nonlocal asked_at, runs
        if runs and time.monotonic() - asked_at >= 1.0:
            asked_at = time.monotonic()
            detail = node.needed_runtime().container_status(container.id)
            if isinstance(detail, Known):
                runs = detail.value.state in (ContainerState.RUNNING, ContainerState.CREATED)
            else:
                runs = "not found" not in detail.reason.lower()
        return runs

    return goes_on


def _copy(lines: Iterable[LogLine], has_times: bool) -> None:
    """Write lines to standard output as they come; a reader that leaves ends it."""
    out, is_start = sys.stdout.buffer, True
    try:
        for line in lines:
            if has_times and is_start and line.time:
                out.write(line.time.encode() + b" ")
            out.write(line.text if line.is_partial else line.text + b"\n")
            is_start = not line.is_partial
            out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text}: expected a number of lines")
    return int(text)
