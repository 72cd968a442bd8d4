"""`checkpointer run`: the agent as a process.

The second of two instances is parked before it imports anything heavy, until it has the lock.
"""

from __future__ import annotations

import argparse
import os

from checkpointer.cli.complaint import complain
from checkpointer.config import Config, ConfigError, load
from checkpointer.errors import CheckpointerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from checkpointer.cli.loop import Loop
    from checkpointer.store.lock import InstanceLock, StoreTakenError

DEFAULT_CONFIG = "/etc/kubernetes/pod-checkpointer.yaml"
OPEN_FILES = 128
"""How many the agent may have open; it has less than twenty at rest, and up to sixteen who ask."""

EXIT_FAILED = 1
EXIT_USAGE = 2

EPILOG = """exit status: 0 a signal ended it, or with --once all of the cycle was done; 1 it could
not run, or its loop hung and was given up, or with --once not all could be done; 2 wrong usage or
configuration"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `run`."""
    parser.epilog = EPILOG
    add_config_arguments(parser)
    parser.add_argument("--log-level", metavar="LEVEL", help="same as --set log.level=LEVEL")
    parser.add_argument("--log-format", metavar="FORM", help="same as --set log.format=FORM")
    parser.add_argument(
        "--once", action="store_true", help="end after the first cycle on settled contact"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and change nothing"
    )


def add_config_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare the options by which every command finds the configuration."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help=f"configuration file (default: $CHECKPOINTER_CONFIG, else {DEFAULT_CONFIG} if there)",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="one setting over the file and the environment, such as timing.grace=10s; "
        "docs/configuration.md lists them",
    )
    parser.add_argument("--node-name", metavar="NAME", help="same as --set nodeName=NAME")
    parser.add_argument("--kubeconfig", metavar="FILE", help="same as --set kubeconfig=FILE")


def run(arguments: argparse.Namespace) -> int:
    """Run the agent until a signal ends it; return the exit status."""
    try:
        config = read_config(arguments)
    except (OSError, ConfigError, UnicodeDecodeError) as error:
        complain(error)
        return EXIT_USAGE
    try:
        return _run_alone(config, arguments)
    except CheckpointerError as error:
        complain(error)
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED


def read_config(arguments: argparse.Namespace) -> Config:
    """Return the settings of file, environment and flags. Raises ConfigError, OSError."""
    path = arguments.config or os.environ.get("CHECKPOINTER_CONFIG") or None
    if path is None and os.path.exists(DEFAULT_CONFIG):
        path = DEFAULT_CONFIG
    text = None
    if path is not None:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    overrides = {}
    for setting in arguments.set:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError([f"--set {setting}: expected KEY=VALUE"])
        overrides[key] = value
    flags = {
        "nodeName": arguments.node_name,
        "kubeconfig": arguments.kubeconfig,
        "log.level": getattr(arguments, "log_level", None),
        "log.format": getattr(arguments, "log_format", None),
    }
    overrides |= {key: given for key, given in flags.items() if given is not None}
    config = load(text, os.environ, overrides, source=path or "configuration")
    if config.selection.label_selectors or config.stage_zero is not None:
        from checkpointer.settings import check  # only where it is needed: see above

        check(config)
    return config


def _run_alone(config: Config, arguments: argparse.Namespace) -> int:
    from checkpointer.parked import HELD, park
    from checkpointer.store.lock import InstanceLock, LockWaitEndedError

    if arguments.dry_run:
        return _run_agent(config, arguments)
    lock = InstanceLock(config.lock_file)
    held = os.environ.pop(HELD, "")
    if not (held.isdecimal() and lock.adopt(int(held))) and not lock.try_acquire():
        park(lock.path, lambda: _say_parked(config.log.format))
        try:
            lock.acquire()  # in here, at the price of more memory
        except LockWaitEndedError:
            return 0
    try:
        return _run_agent(config, arguments, lock)
    finally:
        lock.release()


def _say_parked(form: str) -> None:
    """Log that this instance waits, in the form of `report.log`, which it must not load."""
    import sys
    import time

    message = "parked behind the other instance"
    now = time.time()
    at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
    line = f"{at} INFO    {message}"
    if form == "json":  # none of the values needs quoting
        line = (
            f'{{"time": "{at}", "level": "info", "logger": "{__name__}", "message": "{message}"}}'
        )
    print(line, file=sys.stderr, flush=True)


def _run_agent(
    config: Config, arguments: argparse.Namespace, lock: InstanceLock | None = None
) -> int:
    import contextlib
    import signal

    from checkpointer.cli.loop import Loop
    from checkpointer.parked import SIGNALS
    from checkpointer.store.lock import StoreTakenError

    _ensure_open_files()
    loop = Loop(config, once=arguments.once, dry_run=arguments.dry_run)
    for number in SIGNALS:
        signal.signal(number, lambda *_: loop.stop())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked by `park`
    try:
        is_over = loop.run()
    except StoreTakenError as error:
        assert lock is not None  # noqa: S101 - a dry run takes none
        _wait_for_store(error, loop, lock)
        return 0
    if not is_over:
        complain(
            f"the loop hangs and is given up: is {config.store_directory}, "
            f"{config.kubelet_directory} or what is logged to on a dead mount?"
        )
        if lock is not None:
            lock.release()  # a thread in the kernel would keep it beyond the end of the process
        loop.let_go()
        os._exit(EXIT_FAILED)  # whatever else would wait for that thread
    if loop.has_left and lock is not None:
        with contextlib.suppress(OSError):  # it lies in memory: no reboot brings it back
            lock.remove()
    return 0 if loop.is_well or not arguments.once else EXIT_FAILED


def _wait_for_store(error: StoreTakenError, loop: Loop, lock: InstanceLock) -> None:
    """Be parked until the store is free, with our own lock kept; return if a signal came first.

    Nobody waits for a lock while he has the store: no two can wait for each other. Raises the error
    where this cannot be parked.
    """
    import logging
    import signal

    from checkpointer.parked import HELD, SIGNALS, park

    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if loop.is_stopping:
        return
    os.environ[HELD] = str(lock.keep())
    park(error.path, lambda: logging.getLogger(__name__).error("parked: %s", error))
    raise error


def _ensure_open_files() -> None:
    """Have room for what the agent opens. Raises CheckpointerError when it may not have it.

    Without, gRPC would abort the process, and say nothing that helps.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= OPEN_FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        raise CheckpointerError(
            f"the limit of open files is {hard}: expected {OPEN_FILES} or more; raise it where the "
            "agent is started (`ulimit -n`, LimitNOFILE= of a systemd unit)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))
