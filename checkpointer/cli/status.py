"""`checkpointer status`: how this node stands, told by the agent or, without it, by the disk."""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from checkpointer.cli.command import EXIT_NO, carry_out, describe
from checkpointer.cli.output import (
    add_output_argument,
    print_facts,
    print_found,
    print_table,
    seconds_since,
    table,
    wait_while_read,
    write,
)
from checkpointer.config import Config, parse_duration
from checkpointer.report.spans import age, size

ABOUT = """Tell how this node stands: contact with the API, each checkpoint with its state, what
runs of it, its revision and what it waits for, and every source that could not tell. The running
agent is asked; when none answers at once, disk and runtime are."""

AGENT_SECONDS = 0.15
PATIENCE_SECONDS = 0.08
"""After which an agent that has not answered is not counted on alone."""
ANSWER_SECONDS = 0.22
"""From the start of this process until the runtime has had its time."""
LONGEST_SECONDS = 20.0
"""After which a folder hangs, and it is not the node that is busy."""
LEAST_RUNTIME_SECONDS = 0.06
LONGEST_RUNTIME_SECONDS = 0.2
DENIED_CURE = "mend the agent's kubeconfig and what it names; `checkpointer doctor` says what"
CLEAR = "\x1b[H\x1b[2J"

Document = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `status`."""
    describe(
        parser,
        ABOUT,
        {0: "told by the agent", EXIT_NO: "no agent answered; told from disk and runtime"},
    )
    parser.add_argument(
        "-w",
        "--watch",
        nargs="?",
        const=2.0,
        type=_interval,
        metavar="SECONDS",
        help="again and again, every 2 seconds by default, until interrupted",
    )
    add_output_argument(parser)


def _interval(text: str) -> float:
    try:
        return max(0.2, parse_duration(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text}: expected seconds, or a duration such as 500ms"
        ) from None


def run(arguments: argparse.Namespace) -> int:
    """Tell it; return the exit status."""
    return carry_out(_status, arguments)


def _status(arguments: argparse.Namespace, config: Config) -> int:
    from checkpointer.node.patience import Patience

    folders = f"{config.store_directory} or {config.kubelet_directory}"
    patience = Patience(folders, LONGEST_SECONDS)

    def read() -> Document:
        return patience.ask(lambda: read_status(config))

    document = read()
    if arguments.watch is None:
        return _print(document, arguments.output)
    before, status = "", 0
    while True:
        if sys.stdout.isatty():
            write(CLEAR)
        now = _told(document)
        if sys.stdout.isatty() or now != before:
            status = _print(document, arguments.output)
        before = now
        if not wait_while_read(arguments.watch):
            return status
        document = read()


def read_status(config: Config) -> Document:
    """Return the status document, of the agent if it answers at once, else made from disk."""
    gc.disable()  # it would take a tenth of the time that there is
    # An agent that hangs costs its time: let what is imported then not cost its own on top.
    early = threading.Timer(PATIENCE_SECONDS, _import_ahead)
    early.daemon = True
    early.start()
    try:
        found = _by_agent(config)
        early.cancel()
        return found if isinstance(found, dict) else _by_disk(config, found)
    finally:
        gc.enable()


def _by_agent(config: Config) -> Document | str:
    """Return what the agent says, or why it says nothing."""
    from checkpointer.report.agent_socket import AgentUnreachableError, ask_agent

    try:
        code, content = ask_agent(config.store_directory, "/statusz", AGENT_SECONDS)
        document = json.loads(content)
    except AgentUnreachableError as error:
        return str(error)
    except ValueError:
        return "the agent's answer is not a status"
    if code == 200 and isinstance(document, dict):
        return document
    return f"the agent answered with status {code}"


def _import_ahead() -> None:
    for name in ("checkpointer.node.inquiry", "checkpointer.offline"):
        importlib.import_module(name)


def _by_disk(config: Config, reason: str) -> Document:
    from checkpointer.node.inquiry import Inquiry

    left = ANSWER_SECONDS - _age_of_this_process()
    seconds = min(max(left, LEAST_RUNTIME_SECONDS), LONGEST_RUNTIME_SECONDS)
    inquiry = Inquiry(config.runtime_endpoint, seconds)
    from checkpointer.offline import offline_status  # while the runtime is asked

    document = offline_status(config, inquiry).as_document()
    if document["agent"]["running"]:  # it only listens nowhere, or not yet
        reason = reason.removeprefix("the agent is not running: ")
    document["contact"]["reason"] = reason
    return document


def _age_of_this_process() -> float:
    """Return for how many seconds this process has lived: its imports count too."""
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])  # starttime, see proc(5)
    started = ticks / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def _told(document: Document) -> str:
    """Return what a watcher is to be shown again for when it changes: not the agent's cycles."""
    return json.dumps({**document, "cycle": document["cycle"]["sentence"]}, sort_keys=True)


def _print(document: Document, form: str) -> int:
    checkpoints = document["checkpoints"]
    if form in ("table", "wide"):
        print_facts(_facts(document))
        if checkpoints:
            write("\n")
            print_table(_checkpoints(checkpoints), is_wide=form == "wide")
        if refused := document["notCheckpointable"]:
            write("\n")
            rows = ((r["namespace"], r["pod"], "; ".join(r["reasons"])) for r in refused)
            print_table(table("NAMESPACE NOT-CHECKPOINTABLE WHY", rows))
        if unprotected := document.get("unprotected"):  # an older agent tells none
            write("\n")
            lines = ((name_of(one), one["reason"]) for one in unprotected)
            print_table(table("WOULD-NOT-COME-BACK WHY", lines))
    else:
        print_found(form, document, [name_of(one) for one in checkpoints])
    return 0 if _is_told_by_agent(document) else EXIT_NO


def _is_told_by_agent(document: Document) -> bool:
    return document["agent"]["pid"] is not None


def name_of(one: Document) -> str:
    """Return the workload that a document speaks of, as every command takes it."""
    return f"{one['namespace']}/{one['kind'].lower()}/{one['name']}"


def _facts(document: Document) -> Iterator[tuple[str, str]]:
    agent, contact, kubelet = document["agent"], document["contact"], document["kubelet"]
    yield "node", document["node"]
    is_told = _is_told_by_agent(document)
    if is_told:
        started = age(seconds_since(agent["startedAt"]))
        yield (
            "agent",
            f"running: pid {agent['pid']}, for {started}"
            + (", dry run: it changes nothing" if agent["dryRun"] else ""),
        )
    elif agent["running"]:
        yield "agent", f"unknown: it runs but does not answer: {contact['reason']}"
    else:
        yield "agent", f"down: {contact['reason']}"
    since = seconds_since(contact["since"])
    lasting = f" for {age(since)}" if since is not None else ""
    if is_told:
        yield "contact", f"{contact['state']}{lasting}: {_why(contact)}"
    if contact["state"] == "denied":
        yield "", f"nothing is activated or removed meanwhile: {DENIED_CURE}"
    if contact["state"] == "lost" and contact["answering"]:
        yield "", "the API answers again; it is not trusted yet"
    if kubelet is not None:
        listens = "running," if kubelet["listening"] else "down: it does not listen, was"
        yield "kubelet", f"{listens} started {age(seconds_since(kubelet['startedAt']))} ago"
    if is_told:
        yield "last cycle", document["cycle"]["sentence"]
    yield from _troubles(document)


def _why(contact: Document) -> str:
    """Return what led to the state, and what is seen now where that is something else."""
    cause, seen = contact.get("cause", contact["reason"]), contact["reason"]  # an older agent
    return cause if cause == seen else f"{cause}; now: {seen}"


def _troubles(document: Document) -> Iterator[tuple[str, str]]:
    is_told = _is_told_by_agent(document)
    unknown = {one["source"]: one["reason"] for one in document["unknown"]}
    if not is_told:
        unknown.pop("pods", None)  # only the agent asks the API
    if not is_told and unknown and os.geteuid() != 0:
        yield "user", "not root: much cannot be read; try sudo"
    for source, reason in unknown.items():
        yield "unknown", f"{source}: {reason}"
    if not document["checkpoints"] and "checkpoints" not in unknown:
        yield "checkpoints", "none are stored on this node"
    for one in document["problems"]:
        if one not in unknown.values():
            yield "problem", one


def _checkpoints(checkpoints: list[Document]) -> Any:
    return table(
        "WORKLOAD STATE RUNS REVISION AGE TOKEN WAITS-FOR",
        map(_row, checkpoints),
        wide="STAGE STORED GOOD MATERIAL ISSUE VERDICT PARENT",
    )


def _row(one: Document) -> tuple[str, ...]:
    verdict = one["verdict"] or "-"
    return (
        name_of(one),
        one["state"],
        one["runs"] or "-",
        _text(one["revision"]),
        age(seconds_since(one["revisionTakenAt"])),
        _token(one["tokenExpiry"]),
        one["waitsFor"] or "-",
        _text(one["stage"]),
        ",".join(map(str, one["storedRevisions"])) or "-",
        _text(one["lastKnownGood"] or "none yet"),
        size(one["materialBytes"]),
        _text(one["issue"]),
        verdict,
        one["parentPod"] or "-",
    )


def _token(expiry: str | None) -> str:
    since = seconds_since(expiry)
    if since is None:
        return "-"
    return f"expired {age(since)} ago" if since >= 0 else age(-since)


def _text(value: object) -> str:
    return "-" if value is None else str(value)
