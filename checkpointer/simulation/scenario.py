"""The story of `checkpointer demo`: a power cut without an API server, then a cut network.

Every step waits for a fact seen from outside the agent: files, the runtime's state, answers of
the API. The agent's own word is evidence of nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from checkpointer.simulation.control_plane import WORKLOADS
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.scene import Scene
from checkpointer.simulation.self_hosting import IMAGE
from checkpointer.simulation.timeline import Timeline
from checkpointer.simulation.waiting import TimedOutError, wait_until

_QUIET_SECONDS = 6.0
"""For how long nothing may happen while the API is away and everything runs."""


@dataclass(slots=True)
class Act:
    """A part of the story and the steps of it that were observed, with their seconds."""

    name: str
    steps: list[tuple[str, float]] = field(default_factory=list)
    ok: bool = False


class StepFailedError(Exception):
    """A step of the story was not observed; the message names act and step."""


class Story:
    """Plays the acts on a node that has been started; `patience` stretches its deadlines."""

    def __init__(self, node: SimulatedNode, timeline: Timeline, patience: float = 1.0) -> None:
        self.acts: list[Act] = []
        self.scene = Scene(node)
        self._node = node
        self._timeline = timeline
        self._patience = patience
        self._before_cut: set[str] = set()

    def play(self) -> None:
        """Play all acts; StepFailedError at the first step that is not observed."""
        self.scene.place_foreign_files()
        with self._act("Power cut, and no API server to boot from"):
            self._prepare()
            self._cut_power()
            self._recover()
            self._release()
        with self._act("API out of reach, with everything still running"):
            self._cut_network()
            self._restore_network()

    def _prepare(self) -> None:
        node = self._node
        self._step(
            "self-hosted control plane is up: 3 pods Ready, API served by one of them",
            lambda: node.is_pivoted and self.scene.ready_parents() == set(WORKLOADS),
            15,
        )
        node.agent.start()
        self._step("agent has stored a checkpoint of each of the 3", self.scene.are_stored, 20)
        if not self.scene.has_only_foreign_files():
            raise self._failure("nothing is active while all is well", "a manifest appeared")

    def _cut_power(self) -> None:
        node = self._node
        node.power_off()
        self._step(
            "power cut: no container runs, the API refuses connections",
            lambda: not node.running() and not self.scene.api_answers(),
            5,
        )

    def _recover(self) -> None:
        """Boot; the API server's checkpoint has to be the first of ours in the folder."""
        node = self._node
        booted_at = time.monotonic()
        node.power_on()
        node.agent.start()
        self._step(
            "node boots: the kubelet runs its own static pods, and no pod of the API",
            lambda: node.copies("etcd") and not node.parents(),
            5,
        )
        self._step(
            "checkpoint of kube-apiserver is the first in the manifest folder",
            lambda: self.scene.active_images(IMAGE),
            15,
        )
        if others := {image for image in self.scene.active_images() if IMAGE not in image}:
            raise self._failure("kube-apiserver first", f"active beside it: {sorted(others)}")
        self._step("its copy runs", lambda: node.copies(IMAGE), 10)
        self._step("API answers again, with the parent's certificate", self.scene.api_answers, 15)
        self._timeline.note(f"API back {time.monotonic() - booted_at:.1f} s after the boot began")

    def _release(self) -> None:
        node = self._node
        self._step(
            "kubelet has its pods back: a sandbox for each parent",
            lambda: self.scene.parent_sandboxes() == set(WORKLOADS),
            20,
        )
        self._step(
            "checkpoints released: no file of ours in the manifest folder",
            lambda: self.scene.has_only_foreign_files(),
            30,
        )
        # Its watch through the copy ends with the copy; one that comes now is a new one.
        asked = node.api.requests
        self._step(
            "parents run and are Ready, no copy is left",
            lambda: (
                {one.config.name for one in node.parents()} >= set(WORKLOADS)
                and not any(node.copies(name) for name in WORKLOADS)
                and self.scene.api_answers()
                and self.scene.ready_parents() == set(WORKLOADS)
            ),
            30,
        )
        asked["get readyz"] = node.api.requests["get readyz"]
        self._step(
            "agent is back in contact: probes answered, its watch open again",
            lambda: all(
                node.api.requests[what] >= asked[what] + count
                for what, count in (("get readyz", 4), ("watch pods", 1))
            ),
            20,
        )
        self._hold("it stays so", lambda: self.scene.has_only_foreign_files(), 1.0)

    def _cut_network(self) -> None:
        node = self._node
        before = {one.id for one in node.running()}
        connections = node.api.connections
        node.cut_network()
        self._step(
            "network cut: the agent knocks and gets no answer",
            lambda: node.api.connections >= connections + 3,
            20,
        )
        self._hold(
            f"nothing happens for {_QUIET_SECONDS:g} s: no manifest, no container",
            lambda: (
                self.scene.has_only_foreign_files() and {one.id for one in node.running()} == before
            ),
            _QUIET_SECONDS,
        )
        self._before_cut = before

    def _restore_network(self) -> None:
        node = self._node
        requests = node.api.requests.total()
        node.restore_network()
        self._step(
            "network restored: the agent is answered again",
            lambda: node.api.requests.total() >= requests + 3,
            20,
        )
        self._hold(
            "still nothing has happened",
            lambda: (
                self.scene.has_only_foreign_files()
                and {one.id for one in node.running()} == self._before_cut
            ),
            1.0,
        )
        status = node.agent.stop()
        if status != 0:
            raise self._failure("agent ends on SIGTERM", f"exit status {status}")

    @contextmanager
    def _act(self, name: str) -> Iterator[None]:
        self._timeline.title(f"Act {len(self.acts) + 1}: {name}")
        act = Act(name)
        self.acts.append(act)
        yield
        act.ok = True

    def _step(self, name: str, condition: Callable[[], object], seconds: float) -> None:
        agent = self._node.agent
        with self._timeline.waiting(name):
            try:
                took = wait_until(
                    lambda: condition() or agent.has_died, seconds * self._patience, name
                )
            except TimedOutError as error:
                raise self._failure(name, str(error)) from None
        if agent.has_died:
            raise self._failure(name, "the agent has ended by itself")
        self._record(name, took)

    def _hold(self, name: str, condition: Callable[[], object], seconds: float) -> None:
        """Watch for so long that the condition never fails."""
        with self._timeline.waiting(name):
            try:
                wait_until(lambda: not condition() or self._node.agent.has_died, seconds, name)
            except TimedOutError:
                pass
            else:
                raise self._failure(name, f"it did not last; the folder has {self.scene.files()}")
        self._record(name, seconds)

    def _record(self, name: str, seconds: float) -> None:
        self.acts[-1].steps.append((name, round(seconds, 3)))
        self._timeline.done(name, seconds)

    def _failure(self, step: str, why: str) -> StepFailedError:
        problems = "".join(f"\nfault of the simulation: {one}" for one in self._node.errors)
        return StepFailedError(f"act {len(self.acts)}, step {step!r}: {why}{problems}")
