"""All that the agent tells of itself, in one place: the loop reports here, others ask here.

The loop calls `begin` and `end` around each cycle's actions, from its own thread. Status, metrics
and health are asked for from the threads of the HTTP server; they see the last finished cycle,
and never hold the loop up.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from checkpointer import __version__
from checkpointer.config import Config
from checkpointer.core.contact import Contact, ContactState
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.moment import Moment
from checkpointer.core.observation import NOT_ASKED, Observation
from checkpointer.core.plan import Plan
from checkpointer.core.runtime import Runtime
from checkpointer.manifest.verdict import Verdict
from checkpointer.report.announcer import Announcer
from checkpointer.report.details import DetailsReader, StoreSize
from checkpointer.report.events import Events
from checkpointer.report.happenings import Happening
from checkpointer.report.history import Historian
from checkpointer.report.node_condition import Api, NodeCondition, condition_of
from checkpointer.report.recorder import Recorder
from checkpointer.report.snapshots import SnapshotRequests, late_report, report
from checkpointer.report.status import (
    AgentStatus,
    Cycle,
    Status,
    build_protection,
    build_status,
    contact_status,
    serving_revisions,
)
from checkpointer.report.tally import Tally
from checkpointer.report.verdicts import Verdicts
from checkpointer.store.revisions import Store
from checkpointer.values import replace

if TYPE_CHECKING:
    from checkpointer.report.http import HTTP
    from checkpointer.report.metrics import Metrics

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 1.0
"""How soon the runtime is asked again for whoever asks for the status at rest."""

STALLED_SECONDS = 60.0
"""Beyond two ticks: how long one cycle may take before the loop counts as stalled. Stopping what
hangs in the runtime may take its time."""


def read_clocks(boot_id: str = "") -> Moment:
    """Return the node's clocks' reading."""
    return Moment(boot_id, time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


class Reporter:
    """What one agent tells. `contact` returns the newest, `wake` has the loop turn."""

    def __init__(
        self,
        config: Config,
        store: Store,
        api: Api,
        node_name: str,
        contact: Callable[[], Contact],
        wake: Callable[[], None],
    ) -> None:
        self._config, self._store = config, store
        self._contact, self._wake = contact, wake
        self.verdicts = Verdicts()
        self.tally = Tally()
        self.events = Events(store, api, node_name)
        self._announcer = Announcer(store, api, node_name)
        self._condition = NodeCondition(api, node_name)
        self.recorder = Recorder(self._happened)
        self.requests = SnapshotRequests()
        """Who waits for fresh snapshots: the loop takes them in its next cycle."""
        self._historian = Historian(config.store_directory, store.prepare)
        self._agent = AgentStatus(node_name, __version__, os.getpid(), time.time())
        self._began = read_clocks().monotonic
        self.look: Callable[[], Fact[Runtime]] = lambda: NOT_ASKED
        """Asks the runtime what runs, and waits only shortly. From any thread."""
        self._looked: tuple[float, Fact[Runtime]] = float("-inf"), NOT_ASKED
        self._last: Cycle | None = None
        self._details, self._details_lock = DetailsReader(store), threading.Lock()
        self._store_size = StoreSize(store)
        self._metrics: Metrics | None = None
        self._http: HTTP | None = None
        self._is_serving = False

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what is wrong with reporting itself, a sentence each."""
        return (self._historian.problem,) if self._historian.problem else ()

    def start(self) -> None:
        """The agent is the node's one: it may be asked, and what happens is written down."""
        self._is_serving = True
        self.recorder.started(read_clocks(), __version__)

    def judged(self, pod: Mapping[str, Any], verdict: Verdict) -> None:
        """Take over the verdict on a pod."""
        self.verdicts.record(verdict)
        self.events.tell(pod, verdict)

    def end(
        self,
        seen: Observation,
        plan: Plan,
        now: Moment,
        problems: tuple[str, ...],
        failures: Mapping[str, str],
    ) -> None:
        """Take over a finished cycle; `failures` are those of snapshots, by the parent's UID."""
        self.recorder.end()
        seconds = read_clocks().monotonic - now.monotonic
        self.tally.cycles.add(seconds)
        told = (*problems, *self.problems)
        self._last = Cycle(seen, plan.standings, plan.sentence, now, seconds, told, dict(failures))
        if self._is_serving and _is_telling(seen):
            found = build_protection(self._last, self.verdicts.last)
            self._condition.take(condition_of(found))

    def left(self) -> None:
        """The agent has left the node for good: nobody is told of it any more."""
        self._condition.close()
        self._condition.remove()

    def answer(
        self, asked: int | None, seen: Observation, plan: Plan, failures: Mapping[str, str]
    ) -> None:
        """Answer those who waited for the snapshots of this cycle."""
        if asked is None:
            return
        stored = self._store.read()
        checkpoints = Known(stored.value.checkpoints) if isinstance(stored, Known) else stored
        self.requests.answer(asked, report(seen, plan, failures, checkpoints))

    def serve(self) -> None:
        """Be there for those who ask over HTTP, where that is wanted; cheap when it is so."""
        if not self._is_serving:
            return
        if self._http is None:
            from checkpointer.report.http import HTTP

            self._http = HTTP(self._config, self, self._store.prepare)
        self._http.ensure()

    def close(self, seconds: float) -> None:
        """Stop serving; give Events that wait so long."""
        if self._http is not None:
            self._http.close()
        if self._is_serving:
            self.recorder.stopped(read_clocks())
        self._announcer.close()
        self._condition.close()
        self.events.close(seconds)

    def status(self) -> Status:
        """Return what the agent knows, and what runs now if no decision had to know it.

        At rest nobody asks the runtime. One that is slow to answer then tells nothing: that is
        no source that failed. From any thread.
        """
        last = self._last
        if last is not None and last.seen.runtime is NOT_ASKED:
            found = self._look()
            if isinstance(found, Known):
                last = replace(last, seen=replace(last.seen, runtime=found))
        return self._status(last)

    def _look(self) -> Fact[Runtime]:
        """Return what runs as of a second ago at most: to be asked often is no load to it."""
        now = read_clocks().monotonic
        looked_at, found = self._looked
        if now - looked_at >= LOOK_AGAIN_SECONDS:
            found = self.look()
            self._looked = now, found
        return found

    def _status(self, last: Cycle | None) -> Status:
        contact = contact_status(self._contact(), read_clocks())
        with self._details_lock:
            details = self._details.read(serving_revisions(last.seen)) if last else {}
        return build_status(self._agent, contact, last, self.verdicts.last, details)

    def metrics(self) -> tuple[bytes, str]:
        """Return the metrics, and the content type they are in. From any thread."""
        from checkpointer.report.metrics import Inputs, Metrics

        if self._metrics is None:
            self._metrics = Metrics(
                lambda: Inputs(
                    self._status(self._last),
                    self.tally,
                    self.verdicts,
                    self._store_size.read(),
                    self.events.waiting + self._announcer.waiting,
                )
            )
        return self._metrics.exposition()

    def unhealthy(self) -> str:
        """Return why the loop does not turn as it should, or nothing. From any thread."""
        last = self._last
        since = self._began if last is None else last.now.monotonic + last.seconds
        age = read_clocks().monotonic - since
        if age <= 2 * self._config.timing.tick_seconds + STALLED_SECONDS:
            return ""
        return f"no cycle has been finished for {age:.0f} s"

    def unready(self) -> str:
        """Return why the checkpoints cannot be told yet, or nothing. From any thread."""
        last = self._last
        if last is None:
            return "no cycle has been finished yet"
        checkpoints: Fact[Any] = last.seen.checkpoints
        return checkpoints.reason if isinstance(checkpoints, Unknown) else ""

    def snapshot(self, seconds: float) -> tuple[bool, dict[str, Any]]:
        """Have snapshots taken of all parents that are Ready, within so many seconds.

        Return whether that was tried, and a SnapshotReport. From any thread but the loop's.
        """
        number = self.requests.ask()
        self._wake()
        found = self.requests.wait(number, seconds) or late_report(seconds)
        return found["reason"] is None, found

    def reconcile(self) -> None:
        """Have the loop look at everything now. From any thread."""
        self._wake()

    def _happened(self, happenings: list[Happening], now: Moment) -> None:
        if not self._is_serving:
            return
        numbered = self._historian.write(happenings, now.monotonic)
        for happening in numbered:
            self.tally.happened(happening)
        self._announcer.take(numbered)


def _is_telling(seen: Observation) -> bool:
    """Tell whether the API answers and its pods are known: what is selected, and who refused."""
    return seen.contact.state is ContactState.REACHABLE and isinstance(seen.pods, Known)
