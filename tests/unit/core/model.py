"""A node in virtual time: a kubelet, a runtime and a self-hosted API server, as small as can be.

The API answers while an API server runs here, the parent's or a copy's. Both want the same port:
who comes second dies and waits for its backoff. The kubelet knows its API pods only once it has
reached the API in its current run; until then it does not stop what is taken out of the folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from checkpointer.core.checkpoint import ActiveManifest, Checkpoint, Record, Revision
from checkpointer.core.contact import (
    Contact,
    ContactRules,
    ContactState,
    ProbeOutcome,
    ProbeResult,
    after_probe,
    initial_contact,
    next_probe_in,
)
from checkpointer.core.decide import decide, needs_runtime
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.observation import KubeletRun, Observation, Pod
from checkpointer.core.plan import (
    Activate,
    Kill,
    Memory,
    Plan,
    Release,
    Remove,
    Snapshot,
    StartAnew,
)
from checkpointer.core.rules import Rules
from checkpointer.core.runtime import Container, ContainerState, Runtime, Sandbox
from tests.unit.core.builders import (
    ALONE,
    API,
    OTHER_POD,
    at,
    container_of,
    copy_sandbox,
    manifest,
    parent_sandbox,
    pod,
    revision,
    stamp,
)

STEP = 0.1
SYNC_SECONDS = 1.0
"""How long the API must be there for the kubelet to learn of its pods."""
START_SECONDS = 0.2
PLEG_SECONDS = 1.0
"""How long the kubelet takes to see that a sandbox has ended, and to start its pod again."""
READY_SECONDS = 1.0
_CONTACT_RULES = ContactRules()


@dataclass(slots=True)
class _Program:
    """One pod's API server under the kubelet."""

    sandbox: Sandbox
    container: Container | None = None
    start_at: float = 0.0
    since: float = 0.0
    restarts: int = 0
    has_port: bool = False

    @property
    def is_running(self) -> bool:
        return self.container is not None and self.container.state is ContainerState.RUNNING

    @property
    def serves(self) -> bool:
        return self.is_running and self.has_port

    def die(self) -> None:
        if self.container is not None:
            self.container = replace(self.container, state=ContainerState.EXITED)


@dataclass(slots=True)
class SelfHostedNode:
    """The node and its agent. `parent_works` is whether the parent's API server stays up."""

    now: float = 0.0
    rules: Rules = Rules()
    network: bool = True
    parent_works: bool = True
    copy_works: bool = True
    longest_backoff: float = 300.0
    bind_seconds: float = 0.5
    """How long an API server takes from its start to its port."""
    kubelet_run: int = 1
    kubelet_started: float = 0.0
    kubelet_knows: bool = False
    revisions: tuple[Revision, ...] = (revision(),)
    record: Record = Record(parents=("parent-uid",))
    has_checkpoint: bool = True
    active: ActiveManifest | None = None
    parent: _Program | None = None
    copies: dict[str, _Program] = field(default_factory=dict)
    records: list[_Program] = field(default_factory=list)
    """What the runtime still lists of pods that died with the machine."""
    events: list[tuple[float, str]] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    away_seconds: float = 0.0
    _reached_since: float | None = None
    _contact: Contact = field(default_factory=lambda: initial_contact(0.0))
    _memory: Memory = Memory()
    _next_probe: float = 0.0
    _next_cycle: float = 0.0

    @property
    def api_runs(self) -> bool:
        return any(p.serves for p in (self.parent, *self.copies.values()) if p)

    @property
    def parent_is_up(self) -> bool:
        return self.parent is not None and self.parent.serves

    def settle(self) -> None:
        """Let the parent run under a kubelet that knows it, and the agent see it."""
        self.parent = self._new_parent()
        self._run_program(self.parent)
        self.parent.has_port = True
        self.kubelet_knows = True
        self.run(60)
        self.events.clear()
        self.away_seconds = 0.0

    def run(self, seconds: float) -> None:
        """Let the time pass."""
        for _ in range(round(seconds / STEP)):
            self.now = round(self.now + STEP, 3)
            self._kubelet()
            self._probe()
            if self.now >= self._next_cycle:
                self._cycle()
            if not (self.api_runs and self.network):
                self.away_seconds += STEP

    def cut_power(self) -> None:
        """Everything dies; the records of dead containers stay; kubelet and agent start again."""
        for program in (self.parent, *self.copies.values()):
            if program is not None:
                program.die()
                program.sandbox = replace(program.sandbox, ready=False)
        self.restart_kubelet()
        self.restart_agent()

    def restart_kubelet(self) -> None:
        self.kubelet_run += 1
        self.kubelet_started = self.now
        self.kubelet_knows, self._reached_since = False, None
        self._next_cycle = self.now  # the agent watches its socket

    def restart_agent(self) -> None:
        self._contact = initial_contact(self.now)
        self._memory = Memory(contact_kubelet=self._memory.contact_kubelet)
        self._next_probe = self._next_cycle = self.now

    def kill_parent(self) -> None:
        """Kill its container in place; the sandbox lives."""
        if self.parent is not None and self.parent.is_running:
            self.parent.die()
            self.parent.start_at = self.now + 1.0

    def _kubelet(self) -> None:
        reached = self.api_runs and self.network
        self._reached_since = (self._reached_since or self.now) if reached else None
        if self._reached_since is not None and self.now - self._reached_since >= SYNC_SECONDS:
            self.kubelet_knows = True
        self._sync_copies()
        if self.kubelet_knows:
            if self.parent is None or not self.parent.sandbox.ready:
                self.records.extend([self.parent] if self.parent else [])
                self.parent = self._new_parent()
            self._start_when_due(self.parent, self.parent_works)
        elif self.parent is not None and self.parent.is_running:
            self._bind(self.parent)  # whoever watches over it

    def _sync_copies(self) -> None:
        active = self.active
        for uid, copy in list(self.copies.items()):
            if (active is None or uid != active.uid) and self.kubelet_knows:
                del self.copies[uid]
            elif copy.sandbox.ready and active is not None and uid == active.uid:
                self._start_when_due(copy, self.copy_works)
        if active is None:
            return
        program = self.copies.get(active.uid)
        if program is None or not program.sandbox.ready:
            sandbox = copy_sandbox(uid=active.uid, created_at=stamp(self.now))
            restarts = 0 if program is None else program.restarts + 1
            self.records.extend([] if program is None else [program])
            self.copies[active.uid] = _Program(
                sandbox, start_at=self.now + START_SECONDS, restarts=restarts
            )

    def _start_when_due(self, program: _Program, works: bool) -> None:
        if program.is_running:
            self._bind(program)
            fails = not works and self.now - program.since >= READY_SECONDS
            if program.is_running and fails:
                program.die()
            if not program.is_running:
                program.start_at = self.now + self._backoff(program)
        elif program.container is not None and program.start_at <= program.since:
            program.start_at = self.now + self._backoff(program)
        elif self.now >= program.start_at:
            self._run_program(program)
            self._bind(program)
            if not program.is_running:
                program.start_at = self.now + self._backoff(program)

    def _bind(self, program: _Program) -> None:
        """Take the port when it is time to, or die of it."""
        if program.has_port or self.now - program.since < self.bind_seconds - STEP / 2:
            return
        if self.api_runs:
            program.die()
        else:
            program.has_port = True

    def _backoff(self, program: _Program) -> float:
        program.restarts += 1
        return min(10.0 * 2.0 ** min(program.restarts - 1, 10), self.longest_backoff)

    def _run_program(self, program: _Program) -> None:
        attempt = 0 if program.container is None else program.container.attempt + 1
        program.container = container_of(
            program.sandbox,
            id=f"{program.sandbox.id}-{attempt}",
            attempt=max(attempt, program.restarts),
            created_at=stamp(self.now),
        )
        program.since, program.has_port = self.now, False

    def _new_parent(self) -> _Program:
        sandbox = parent_sandbox(id=f"parent-{self.now}", created_at=stamp(self.now))
        return _Program(sandbox, start_at=self.now + START_SECONDS)

    def _probe(self) -> None:
        if self.now < self._next_probe:
            return
        outcome = ProbeOutcome.ANSWERED
        if not (self.api_runs and self.network):
            outcome = ProbeOutcome.FAILED
        before = self._contact
        result = ProbeResult(outcome, outcome.value)
        self._contact = after_probe(before, [result], _CONTACT_RULES, self.now)
        self._next_probe = self.now + next_probe_in(self._contact, _CONTACT_RULES)
        if (before.state, before.is_answering) != (self._contact.state, self._contact.is_answering):
            self._next_cycle = self.now

    def _observe(self) -> Observation:
        contact = self._contact
        programs = [p for p in (self.parent, *self.copies.values(), *self.records) if p]
        runtime = Runtime(
            tuple(p.sandbox for p in programs),
            tuple(p.container for p in programs if p.container is not None),
        )
        known = contact.state in (ContactState.REACHABLE, ContactState.SUSPECT)
        stored = (Checkpoint(API, self.revisions, self.record),) if self.has_checkpoint else ()
        seen = Observation(
            contact=contact,
            pods=Known((self._api_pod(), OTHER_POD)) if known else Unknown("contact is lost"),
            runtime=Known(runtime),
            kubelet=Known(KubeletRun(f"run-{self.kubelet_run}", stamp(self.kubelet_started), True)),
            manifests=Known(() if self.active is None else (self.active,)),
            checkpoints=Known(stored),
            masters=ALONE,
        )
        if needs_runtime(seen.contact, seen.manifests, seen.checkpoints):
            return seen
        return replace(seen, runtime=Unknown("not asked"))

    def _api_pod(self) -> Pod:
        container = self.parent.container if self.parent else None
        up = self.now - self.parent.since if self.parent_is_up and self.parent else 0.0
        return pod(
            ready=up >= READY_SECONDS,
            ready_seconds=up,
            container_ids=frozenset() if container is None else frozenset({container.id}),
        )

    def _cycle(self) -> None:
        seen = self._observe()
        plan = decide(seen, self._memory, self.rules, frozenset(), at(self.now))
        self._memory = plan.memory
        self.record = plan.records.get(API, self.record)
        for action in plan.actions:
            self._apply(action)
        if plan.actions or plan.records:
            self.plans.append(plan)
        self._next_cycle = self.now + plan.wake_in

    def _apply(self, action: Activate | Release | Kill | StartAnew | Snapshot | Remove) -> None:
        self.events.append((self.now, type(action).__name__))
        match action:
            case Activate(_, number, issue, _, stop):
                uid = f"copy-{issue}"
                self.active = manifest(
                    revision=number, issue=issue, uid=uid, written_at=stamp(self.now)
                )
                for program in self.copies.values():
                    if program.sandbox.id in stop:
                        program.die()
                        program.sandbox = replace(program.sandbox, ready=False)
            case Release(_, _, _, kill):
                self.active = None
                self._kill(kill)
            case Kill(_, kill):
                self._kill(kill)
            case StartAnew(_, sandbox):
                self._start_anew(sandbox)
            case Remove():
                self.has_checkpoint = False

    def _start_anew(self, sandbox: str) -> None:
        """Have a kubelet that knows of the pod make it anew; its backoff goes on where it was."""
        old = self.parent
        assert old is not None
        assert old.sandbox.id == sandbox
        old.container, old.sandbox = None, replace(old.sandbox, ready=False)
        if self.kubelet_knows:
            self.parent = self._new_parent()
            self.parent.start_at, self.parent.restarts = self.now + PLEG_SECONDS, old.restarts

    def _kill(self, containers: tuple[str, ...]) -> None:
        for program in self.copies.values():
            if program.container is not None and program.container.id in containers:
                program.die()
                program.start_at = program.since
