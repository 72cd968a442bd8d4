"""`checkpointer restart`: restart a pod of this node without the API, the safe way.

A static pod: its manifest is set aside, the kubelet stops the pod, the manifest is put back. A
checkpoint's copy or an API pod: its containers are stopped through the runtime, and the kubelet
starts them again. Interrupted at any point, the next run finishes it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from checkpointer.cli.command import (
    EXIT_NO,
    EXIT_UNDER_WAY,
    RefusedError,
    UsageError,
    carry_out,
    describe,
)
from checkpointer.cli.holding import POLL_SECONDS, duration
from checkpointer.cli.local_node import LocalNode, NodeError
from checkpointer.cli.output import say
from checkpointer.cli.pods_here import COPY, STATIC, PodHere, find_pod, pods_here
from checkpointer.cli.static_manifests import StaticManifest, find_manifest
from checkpointer.config import Config
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.occupancy import occupancy_of
from checkpointer.core.runtime import Runtime
from checkpointer.errors import CheckpointerError
from checkpointer.node.kubelet import Kubelet, read_boot_id
from checkpointer.node.patience import check_answers
from checkpointer.node.set_aside import hidden_path, put_back, set_aside
from checkpointer.store.durable import Disk
from checkpointer.values import dataclass

ABOUT = """Restart a pod of this node without the API, and wait until it runs again. A static pod
is stopped by its manifest being set aside (a name with a dot, in the same folder) and started by
its being put back, byte by byte as it was. The containers of a checkpoint's copy or of an API pod
are stopped through the runtime; the kubelet starts them again. An interrupted restart is finished
by running it again."""

DEFAULT_GRACE_SECONDS = 30
MARGIN_SECONDS = 10.0
"""Beyond a pod's grace, until the kubelet is taken not to follow: until it has reached the API
since its start it stops no pod whose manifest goes (kubelet-facts.md 4.2)."""

CONTACT_STATE = "contact"


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be restarted: a static pod's manifest, or a pod that the runtime shows."""

    shown: str
    manifest: StaticManifest | None
    pod: PodHere | None
    grace_seconds: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `restart`."""
    describe(
        parser,
        ABOUT,
        {
            0: "it runs again (or would be restarted: --dry-run)",
            EXIT_NO: "refused; the message says why",
            EXIT_UNDER_WAY: "it was stopped, and does not run again yet",
        },
    )
    parser.add_argument(
        "name", metavar="NAME", help="[NAMESPACE/]POD, a workload, or a manifest's file name"
    )
    parser.add_argument(
        "--timeout",
        type=duration,
        default=60.0,
        metavar="DURATION",
        help="how long to wait for it to run again (default: 60s)",
    )
    parser.add_argument(
        "--force", action="store_true", help="though nothing may be there to start it again"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and change nothing"
    )


def run(arguments: argparse.Namespace) -> int:
    """Restart it; return the exit status."""
    return carry_out(_restart, arguments)


def _restart(arguments: argparse.Namespace, config: Config) -> int:
    node = LocalNode(config)
    runtime = node.needed_running()
    target = _target(node, runtime, arguments.name)
    if not arguments.force:
        _check(node, target, runtime)
    before = _containers(node, runtime, target)
    started = time.monotonic()
    if target.manifest is not None:
        how = f"set {target.manifest.path} aside, wait for its end, put it back"
    else:
        how = "stop its containers through the runtime; the kubelet starts them again"
    if arguments.dry_run:
        say(f"{target.shown}: would {how}")
        return 0
    if target.manifest is not None:
        _by_manifest(node, target, before)
    else:
        _by_runtime(node, before, target.grace_seconds)
    say(f"{target.shown}: stopped")
    end = time.monotonic() + arguments.timeout

    def runs_again() -> bool:
        now = node.running()
        return isinstance(now, Known) and bool(_containers(node, now.value, target) - before)

    if not _wait(runs_again, end):
        say(f"{target.shown}: does not run again yet; see: checkpointer logs {arguments.name}")
        return EXIT_UNDER_WAY
    say(f"{target.shown}: runs again after {time.monotonic() - started:.1f} s")
    return 0


def _target(node: LocalNode, runtime: Runtime, wanted: str) -> Target:
    check_answers(node.config.manifest_directory)
    manifest = find_manifest(node.config.manifest_directory, wanted, node.name)
    if manifest is not None:
        name = f"static pod {manifest.namespace}/{manifest.name}"
        return Target(name, manifest, None, manifest.grace_seconds)
    found = node.store.read()
    checkpoints = found.value.checkpoints if isinstance(found, Known) else ()
    pod = find_pod(pods_here(runtime, checkpoints), wanted, node.name)
    if pod.kind == STATIC:
        raise UsageError(
            f"{pod}: a static pod without a manifest in {node.config.manifest_directory}; is "
            "manifestDirectory the kubelet's staticPodPath?"
        )
    return Target(f"{pod.kind} {pod}", None, pod, _grace(node, pod))


def _grace(node: LocalNode, pod: PodHere) -> int:
    """Return the pod's terminationGracePeriodSeconds, as far as a stored revision tells."""
    if pod.checkpoint is None or not pod.checkpoint.revisions:
        return DEFAULT_GRACE_SECONDS
    number = pod.checkpoint.revisions[0].number
    try:
        spec: dict[str, Any] = node.store.manifest(pod.checkpoint.workload, number)["spec"]
        grace = spec.get("terminationGracePeriodSeconds")
    except (CheckpointerError, KeyError):
        return DEFAULT_GRACE_SECONDS
    return grace if isinstance(grace, int) else DEFAULT_GRACE_SECONDS


def _check(node: LocalNode, target: Target, runtime: Runtime) -> None:
    """Refuse to stop what nobody would start again. Raises RefusedError."""
    boot_id = read_boot_id(node.config.boot_id_file)
    run = Kubelet(node.kubelet_directory).run(boot_id.value if isinstance(boot_id, Known) else "")
    if isinstance(run, Unknown) or not run.value.listening:
        why = run.reason if isinstance(run, Unknown) else "it does not listen"
        raise RefusedError(
            f"{target.shown}: the kubelet does not run ({why}): nothing would start it again; "
            "start the kubelet first, or insist with --force"
        )
    pod = target.pod
    if pod is None:
        return
    if pod.kind == COPY:
        if pod.checkpoint is None or node.active(pod.checkpoint.workload) is None:
            raise RefusedError(
                f"{target.shown}: its manifest is not in the kubelet's folder any more: nothing "
                "would start it again"
            )
        occupancy = occupancy_of(pod.checkpoint, runtime)
        shares = all(r.shares_ports for r in pod.checkpoint.revisions[:1])
        if occupancy.parent_sandboxes and not shares:
            raise RefusedError(
                f"{target.shown}: its parent waits for its ports and would take them; to hand "
                f"over: checkpointer release {pod.checkpoint.workload}; or insist with --force"
            )
        return
    known = node.store.read_state(CONTACT_STATE)
    is_known = isinstance(known, Known) and known.value.get("kubelet") == run.value.identity
    if not is_known and not any(s.created_at > run.value.started_at for s in pod.sandboxes):
        raise RefusedError(
            f"{target.shown}: the kubelet may not know this pod, for it has started since contact "
            "with the API was lost: nothing would start it again; insist with --force, or stop "
            "it and let its checkpoint take over"
        )


def _containers(node: LocalNode, runtime: Runtime, target: Target) -> frozenset[str]:
    """Return the ids of the target's running containers."""
    found = (pod for pod in pods_here(runtime, ()) if _is_target(node, pod, target))
    return frozenset(c.id for pod in found for c in pod.running)


def _is_target(node: LocalNode, pod: PodHere, target: Target) -> bool:
    if target.pod is not None:
        return pod.uid == target.pod.uid
    manifest = target.manifest
    return (
        manifest is not None
        and pod.kind == STATIC
        and pod.namespace == manifest.namespace
        and pod.name == f"{manifest.name}-{node.name}"
    )


def _by_manifest(node: LocalNode, target: Target, before: frozenset[str]) -> None:
    """Set the manifest aside until the pod has ended; put it back in any case but SIGKILL."""
    assert target.manifest is not None  # noqa: S101 - the caller's condition
    path, disk = target.manifest.path, Disk()
    if target.manifest.is_set_aside:
        say(f"{target.shown}: was set aside by an earlier restart that did not finish")
    with _signals_raised():
        try:
            if not target.manifest.is_set_aside:
                put_back(disk, path)  # an earlier restart may have died between its last steps
                set_aside(disk, path)
            _await_end(node, target, before)
        finally:
            _put_back(disk, path)


def _await_end(node: LocalNode, target: Target, before: frozenset[str]) -> None:
    """Wait for the kubelet to stop the pod; do it through the runtime if it does not follow."""

    def has_ended() -> bool:
        now = node.running()
        return isinstance(now, Known) and not (_containers(node, now.value, target) & before)

    if _wait(has_ended, time.monotonic() + target.grace_seconds + MARGIN_SECONDS):
        return
    say(f"{target.shown}: the kubelet does not stop it; stopping it through the runtime")
    _by_runtime(node, before, target.grace_seconds)


def _by_runtime(node: LocalNode, containers: frozenset[str], grace_seconds: int) -> None:
    for container in sorted(containers):
        node.needed_runtime().stop_container(container, grace_seconds)


def _put_back(disk: Disk, path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # nothing may come between this and the end
    put_back(disk, path)
    if hidden_path(path).exists():
        raise NodeError(f"{path} was not put back: it is {hidden_path(path)}")


@contextmanager
def _signals_raised() -> Iterator[None]:
    """Let signals that would end this process run what puts the manifest back."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, _stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _wait(is_so: Callable[[], bool], end: float) -> bool:
    while not is_so():
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_SECONDS)
    return True
