"""Fails every test in whose output a planted secret appears, in whatever form.

A pytest plugin for the whole suite. It searches what tests and their processes write (stdout,
stderr, log records, what a test captured itself), and of simulated nodes the logs and journals,
the Events that their API was sent, status and metrics of their agents. Secrets are those of the
simulation (`checkpointer.simulation.planted`) and the one that tests customarily use.

A test that has secrets shown on purpose says so: `@pytest.mark.shows_secrets`.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from checkpointer.agent import Agent
from checkpointer.node.pods import NodePods
from checkpointer.report.agent_socket import AgentUnreachableError, ask_agent
from checkpointer.report.http import Endpoints
from checkpointer.report.log import _TextFormatter
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.planted import PLANTED

CUSTOMARY = "hunter2"
_LOGS = ("*.log", "**/journal*.jsonl")
_PAGES = ("/statusz", "/metrics")
_ASK_SECONDS = 2.0


def forms_of(secret: bytes) -> set[bytes]:
    """Return the secret and what every base64 text that contains it contains."""
    forms = {secret}
    for before in range(3):
        # Three bytes are four characters: what stands beside the secret changes those at its ends.
        encoded = base64.b64encode(b"\0" * before + secret)
        first = (before * 8 + 5) // 6
        forms.add(encoded[first : (before + len(secret)) * 8 // 6])
    return forms | {form.translate(_URL_SAFE) for form in forms}


_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_ONCE = forms_of(PLANTED.encode()) | forms_of(CUSTOMARY.encode())
# A kubeconfig in a secret is encoded twice.
_SECRETS = re.compile(b"|".join(map(re.escape, _ONCE | {f for s in _ONCE for f in forms_of(s)})))


class Secrecy:
    """What was seen where since the last look."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def see(self, where: str, text: object) -> None:
        """Search a text, from any thread."""
        if not text:
            return
        content = text if isinstance(text, bytes) else str(text).encode(errors="replace")
        if _SECRETS.search(content):
            self._found[where] = None

    def take(self) -> tuple[str, ...]:
        """Return where secrets were seen, and forget it."""
        found, self._found = tuple(self._found), {}
        return found


class _Records(logging.Handler):
    """Sees every record that any handler could see, in the form in which the agent writes it.

    That leaves out what the exceptions of libraries say; pytest's own report does not.
    """

    def __init__(self, secrecy: Secrecy) -> None:
        super().__init__()
        self._secrecy = secrecy
        self.setFormatter(_TextFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # a record that cannot be formatted is the test's affair
            self._secrecy.see(f"log record of {record.name}", self.format(record))


class Taps:
    """Looks at what goes through functions of others, and leaves it as it is."""

    def __init__(self, secrecy: Secrecy) -> None:
        self._secrecy = secrecy
        self._undo: list[Callable[[], None]] = []

    def open(self) -> None:
        """Begin to look."""
        see = self._secrecy.see
        self._after(pytest.CaptureFixture, "readouterr", lambda _, got: _each(see, "output", got))
        self._after(subprocess.Popen, "communicate", lambda _, got: _each(see, "process", got))
        self._after(Endpoints, "__call__", lambda _, got: see("page of the agent", got.content))
        self._before(NodePods, "post", lambda _, path, body: see(f"POST {path}", json.dumps(body)))
        self._before(Agent, "_close", self._see_agent)
        self._before(SimulatedNode, "close", self._see_pages)
        self._after(SimulatedNode, "close", lambda node, _: self._see_node(node))

    def close(self) -> None:
        """Be as if nothing had been."""
        for undo in reversed(self._undo):
            undo()
        self._undo = []

    def _see_agent(self, agent: Agent) -> None:
        """Look at what an agent in this process would answer."""
        reporter: Any = agent.reporter
        self._secrecy.see("status of the agent", json.dumps(reporter.status().as_document()))
        self._secrecy.see("metrics of the agent", reporter.metrics()[0])

    def _see_pages(self, node: SimulatedNode) -> None:
        """Look at what an agent that runs as a process answers."""
        for path in _PAGES if node.agent.is_running else ():
            with suppress(AgentUnreachableError):
                answer = ask_agent(node.store_folder, path, _ASK_SECONDS)
                self._secrecy.see(f"{path} of the node's agent", answer[1])

    def _see_node(self, node: SimulatedNode) -> None:
        for path in _files(node.folder, _LOGS):
            with suppress(OSError):
                self._secrecy.see(f"{path.relative_to(node.folder)} of the node", path.read_bytes())
        for event in node.cluster.objects("events"):
            self._secrecy.see("an Event at the simulated API", json.dumps(event))

    def _after(self, owner: Any, name: str, look: Callable[[Any, Any], object]) -> None:
        real = getattr(owner, name)

        def call(itself: Any, *args: Any, **more: Any) -> Any:
            result = real(itself, *args, **more)
            look(itself, result)
            return result

        self._replace(owner, name, real, call)

    def _before(self, owner: Any, name: str, look: Callable[..., object]) -> None:
        real = getattr(owner, name)

        def call(itself: Any, *args: Any, **more: Any) -> Any:
            look(itself, *args, **more)
            return real(itself, *args, **more)

        self._replace(owner, name, real, call)

    def _replace(self, owner: Any, name: str, real: Any, call: Any) -> None:
        setattr(owner, name, call)
        self._undo.append(lambda: setattr(owner, name, real))


def _each(see: Callable[[str, object], None], where: str, texts: Iterable[object]) -> None:
    for text in texts:
        see(f"{where} that the test has read", text)


def _files(folder: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from folder.rglob(pattern) if "/" not in pattern else folder.glob(pattern)


_SECRECY = pytest.StashKey[Secrecy]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shows_secrets: has secrets shown on purpose")
    secrecy = config.stash[_SECRECY] = Secrecy()
    taps, records = Taps(secrecy), _Records(secrecy)
    taps.open()
    logging.getLogger().addHandler(records)
    config.add_cleanup(taps.close)
    config.add_cleanup(lambda: logging.getLogger().removeHandler(records))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    secrecy = item.config.stash[_SECRECY]
    for name, content in report.sections:
        # Those of another phase were seen before, and records as they came.
        if name.endswith(report.when) and " log " not in name:
            secrecy.see(name.lower(), content)
    found = secrecy.take()
    if found and item.get_closest_marker("shows_secrets") is None:
        report.outcome = "failed"
        told = f"a planted secret appears in: {', '.join(found)}"
        report.longrepr = f"{report.longrepr}\n\n{told}" if report.longrepr else told
    return report
