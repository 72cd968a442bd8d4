"""What must hold at every step of every schedule."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checkpointer.core.contact import ContactState
from checkpointer.core.facts import Known
from checkpointer.core.lease import FRESH_SECONDS, LONGEST_SECONDS, under_way_since
from checkpointer.core.plan import Action, Activate, Plan, Release, Remove
from checkpointer.core.rules import Rules
from checkpointer.node.cluster import STATE
from tests.simulation.schedules.node import OTHER_UID, TWIN, Node
from tests.simulation.schedules.workloads import Kind

if TYPE_CHECKING:
    from tests.simulation.schedules.world import World

DOWN_SECONDS = 200.0
"""How long a wanted workload may be down although the facts allow it to run. Longest when the
newest revision cannot start: the copy crashes three times, 10, 20 and 40 s apart, first."""
BACKOFF_SECONDS = 300.0
"""How much longer where the kubelet keeps restarting a parent of the later stage: such a one may
die for the API's absence alone, and its copy would too. It is left its longest backoff first."""
ACTIVE_SECONDS = 360.0
"""The same for a copy whose parent can run: that may sit in the kubelet's longest backoff of five
minutes, where a full disk kept the agent from giving way to its first starts."""
BESIDE_SECONDS = 60.0
"""How long parent and copy may run side by side on one port."""
ANSWERING_SECONDS = 5.0
"""How long the API must have answered, with whatever refusal, for every activation to be wrong:
the probe, its timeout and the second between two of them."""
GRACE_SECONDS = 5.0
"""How long at least a parent must be down that the kubelet knows: a restart takes about one."""
STEADY_SECONDS = 15.0
"""How long a kubelet must have had contact for the agent to know of it."""
HAND_OVER_SECONDS = 65.0
GIVEN_UP_SECONDS = 60.0
"""How much longer than the deadline of a hand-over a master's API server may be away until the
others wait for it no more."""
NEEDS_NO_TURN = "its parent is Ready"
"""Why a copy of stage 0 goes without a hand-over."""
ENDING_SECONDS = 1.0
"""How long an API server that is given way may still serve."""
DEADLINE_SECONDS = Rules().hand_over_seconds
RETURN_SECONDS = 15.0
"""How much longer than a hand-over's deadline the API of a single node may be away: its copy serves
some 3 s after its manifest is written (the folder's event, a sandbox, the boot). It may have lost
its first start to the parent's last one, and be started again after 10 s."""
RETAKEN_SECONDS = 80.0
"""How long a damaged checkpoint may be without its last revision while its parent can be read. At
once, as a rule; but a minute after the last try, 10 s after the parent is Ready, and as soon as
the pods are listed again."""
CYCLES_PER_MINUTE = 500
"""With 50 ms between two cycles it could be 1200."""
WRITES_PER_MINUTE = 300
"""System calls that change the disk, at most: a revision takes some twenty."""


class BrokenError(Exception):
    """A promise is broken; `promise` names it, the text says where and when."""

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise


@dataclass
class _Seen:
    """What has been seen of one workload on one node."""

    up_at: float = 0.0
    allowed_since: float = 0.0
    beside_since: float | None = None
    dark_at: float = 0.0
    """When the copy was last needed, or not there."""
    had_revision: bool = False
    whole_at: float = 0.0
    """When a damaged checkpoint was last whole, or could not be taken anew."""
    given_way_at: float | None = None
    """When its copy last made way; None once a hand-over and what may follow it are over."""
    given_way_boot: int = 0


@dataclass
class _Watched:
    """What has been seen of one node."""

    node: Node
    workloads: list[tuple[Kind, _Seen]]
    plans: int = 0
    """How many have been checked."""
    cycles: int = 0
    changes: int = 0
    steady_since: float | None = None
    """Since when its kubelet has contact."""
    steady_run: int = 0
    """Its kubelet's last run that had contact for some time."""
    gave_way: tuple[int, float] | None = None
    """In which boot and when its copy of the API server made way, until one serves again."""
    served_at: float = 0.0
    """When its API server last served."""


class Invariants:
    """Checks a world after each of its steps."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen = {
            (node.name, kind.name): _Seen() for node in world.nodes for kind in world.cluster.kinds
        }
        self._watched = [
            _Watched(
                node, [(kind, self._seen[node.name, kind.name]) for kind in world.cluster.kinds]
            )
            for node in world.nodes
        ]
        self.down_seconds = DOWN_SECONDS
        self.api_gaps: list[tuple[float, float]] = []
        """From when to when no API server of a self-hosted cluster answered, wherever."""
        self.longest_down = 0.0
        self.longest_given_way = 0.0
        """The longest absence of a single node's API server amid or after a hand-over."""
        self._api_served = False
        self.longest_beside = 0.0
        self.longest_active = 0.0
        self.longest_damaged = 0.0

    def disturb(self) -> None:
        """Note that something was done to the node: what takes time begins anew."""
        now = self._world.timeline.now
        for seen in self._seen.values():
            seen.allowed_since = seen.dark_at = now
            seen.beside_since = None

    def check(self) -> None:
        """Raise BrokenError when a promise does not hold now."""
        self._note_api()
        now = self._world.timeline.now
        for watched in self._watched:
            node = watched.node
            can_use_api, serving = node.can_use_api(), node.serving()
            _note_steadiness(watched, can_use_api, now)
            if len(node.plans) != watched.plans:
                self._check_plans(watched)
            self._check_pace(watched, now)
            _note_return(watched, now)
            is_sound = self._is_sound(node)
            copies = node.copies() if can_use_api else ()
            for kind, seen in watched.workloads:
                is_allowed = is_sound and self._is_allowed(node, kind, can_use_api)
                if kind.shares_a_port and is_allowed:
                    self._check_beside(node, kind, seen, can_use_api)
                if not is_allowed:
                    seen.allowed_since = seen.dark_at = now
                elif kind.name not in copies:
                    seen.dark_at = now
                if (active := now - seen.dark_at) > self.longest_active or active > ACTIVE_SECONDS:
                    self._check_active(node, kind, active)
                if kind.name in serving:
                    seen.up_at = now
                else:
                    down = now - max(seen.up_at, seen.allowed_since)
                    if down > self.longest_down or down > self.down_seconds:
                        self._check_down(node, kind, down)
                if seen.given_way_at is not None:
                    self._check_hand_over(node, kind, seen)
                if kind.name not in node.damaged:
                    seen.whole_at = now
                else:
                    self._check_retaken(node, kind, seen, is_sound and can_use_api)
        self._check_turns()

    def check_end(self) -> None:
        """Check what takes long to look at."""
        for node in self._world.nodes:
            for name, content in node.foreign.items():
                path = node.manifests / name
                if not path.is_file() or path.read_bytes() != content:
                    self._fail("nothing foreign is touched", node, name)

    def _note_api(self) -> None:
        if not self._world.cluster.is_self_hosted:
            return
        now = self._world.timeline.now
        serves = any(watched.node.serves_api() for watched in self._watched)
        if not serves and self._api_served:
            self.api_gaps.append((now, now))
            if self._world.schedule.stays_back and len(self.api_gaps) > 1:
                raise BrokenError("the API stays once it is back", f"away again at {now:.2f} s")
        elif not serves and self.api_gaps:
            self.api_gaps[-1] = (self.api_gaps[-1][0], now)
        self._api_served = serves

    def _check_plans(self, watched: _Watched) -> None:
        first, watched.plans = watched.plans, len(watched.node.plans)
        for _, plan in watched.node.plans[first:]:
            self._check_plan(watched, plan)

    def _check_plan(self, watched: _Watched, plan: Plan) -> None:
        node = watched.node
        assert node.agent is not None
        for action in plan.actions:
            kind = node.kind_of(action.workload)
            if kind.is_api:
                self._note_hand_over(node, self._seen[node.name, kind.name], action)
            if isinstance(action, Release) and kind.is_api:
                watched.gave_way = node.boots, self._world.timeline.now
                self._check_lease(node, action)
            if isinstance(action, Activate) and _needs_no_loss(action):
                self._check_return(node, kind)
            elif isinstance(action, Activate):
                self._check_activation(watched, kind)
            if isinstance(action, Remove) and self._world.cluster.is_wanted(kind, node.name):
                self._fail("nothing wanted is removed", node, kind.name)
        self._check_revisions(node)

    def _check_turns(self) -> None:
        """Check that of all masters that can see each other one at most has given way."""
        amid = [watched.node for watched in self._watched if watched.gave_way is not None]
        amid = [node for node in amid if node.has_network and not node.serves_api()]
        if len(amid) > 1:
            self._fail("masters hand over one at a time", amid[-1], f"beside {amid[0].name}")

    def _check_lease(self, node: Node, release: Release) -> None:
        """Check that no record of another master says that it is amid its hand-over, where the
        lease is used: by time slots that ends for the others when its API server is ready."""
        if not self._world.schedule.has_lease or release.reason == NEEDS_NO_TURN:
            return
        for other in self._world.nodes:
            if other is not node and other.has_network and self._is_handing_over(other):
                self._fail("no lease is had beside a hand-over", node, f"beside {other.name}")

    def _is_handing_over(self, node: Node) -> bool:
        """Tell whether a record says so, and its lease cannot have ended.

        A Ready parent ends a hand-over, though the disk that has the record may take no writes.
        """
        stored = node.agent.store.read() if node.agent is not None else None
        checkpoints = stored.value.checkpoints if isinstance(stored, Known) else ()
        amid = (
            c for c in checkpoints if not self._has_ready_parent(node, node.kind_of(c.workload))
        )
        begun = under_way_since(Known(tuple(amid)), {}, f"boot-{node.name}-{node.boots}")
        return begun is not None and node.monotonic() - begun < LONGEST_SECONDS - FRESH_SECONDS

    def _check_return(self, node: Node, kind: Kind) -> None:
        """Check the return of a copy whose parent was not back in time, or another revision in the
        place of one that keeps crashing: contact may be good, by another master."""
        assert node.agent is not None
        state = node.agent.contact.state
        if state in (ContactState.DENIED, ContactState.SUSPECT):
            self._fail("activated only while contact is lost", node, f"{kind.name} while {state}")
        if not node.runtime.answers:
            self._fail("activated only while the runtime answers", node, kind.name)

    def _check_activation(self, watched: _Watched, kind: Kind) -> None:
        node = watched.node
        assert node.agent is not None
        if node.agent.contact.state is not ContactState.LOST:
            state = node.agent.contact.state.value
            self._fail("activated only while contact is lost", node, f"{kind.name} while {state}")
        if node.now - node.answering_since > ANSWERING_SECONDS:
            self._fail("nothing is activated while the API answers", node, kind.name)
        if not node.runtime.answers:
            self._fail("activated only while the runtime answers", node, kind.name)
        if kind.stage == 0 and self._is_taken_away(node, kind):
            return
        knows = any(
            w.kind is kind and w.pod is not None and not w.is_terminating
            for w in node.kubelet.workers.values()
        )
        if (
            knows
            and watched.steady_run == node.kubelet.run_number
            and not self._was_released(node, kind)
            and not self._is_short_lived(kind)
            and node.now - self._seen[node.name, kind.name].up_at < GRACE_SECONDS
        ):
            self._fail("the kubelet is left time to restart what it knows", node, kind.name)
        for process in () if _has_lost_its_plugin(node, kind) else node.runtime.mains(kind):
            is_sound = not process.is_doomed and not process.is_copy
            if is_sound and process.since < node.now:
                self._fail("nothing is activated beside a running parent", node, kind.name)

    def _is_short_lived(self, kind: Kind) -> bool:
        """Tell whether the wanted version serves and dies: its next start is not waited for."""
        cluster = self._world.cluster
        wanted = kind.name, cluster.versions[kind.name]
        return wanted in cluster.faulty - cluster.broken

    def _is_taken_away(self, node: Node, kind: Kind) -> bool:
        """Tell whether the API wants the parent to end: what is left of it is not waited for."""
        pods = [p for p in self._world.cluster.pods_of(node.name) if p.kind is kind]
        return all(p.is_terminating for p in pods)

    def _was_released(self, node: Node, kind: Kind) -> bool:
        """Tell whether a hand-over's deadline may be what counts, and not the grace."""
        return any(
            isinstance(action, Release) and action.workload == kind.workload
            for when, plan in node.plans
            if node.now - when < HAND_OVER_SECONDS
            for action in plan.actions
        )

    def _check_revisions(self, node: Node) -> None:
        assert node.agent is not None
        stored = node.agent.store.read()
        if not isinstance(stored, Known) or node.disk.fault:
            return
        for checkpoint in stored.value.checkpoints:
            is_twins = any(r.parent_uid.startswith(TWIN) for r in checkpoint.revisions)
            if is_twins and not _belongs_to_twin(node):
                self._fail("nothing of another cluster is stored", node, checkpoint.workload.name)
        found = {c.workload: bool(c.revisions) for c in stored.value.checkpoints}
        for kind in self._world.cluster.kinds:
            seen = self._seen[node.name, kind.name]
            has = found.get(kind.workload, False)
            is_excused = (
                kind.name in node.tampered | node.damaged
                or not self._world.cluster.is_wanted(kind, node.name)
            )
            if seen.had_revision and not has and not is_excused:
                self._fail("good revisions never come to none", node, kind.name)
            seen.had_revision = has

    def _check_pace(self, watched: _Watched, now: float) -> None:
        """Count anew what has grown: what has not can only be fewer in the last minute."""
        node = watched.node
        cycles, changes = len(node.wakes), node.disk.changes
        if cycles != watched.cycles or changes != watched.changes:
            watched.cycles, watched.changes = cycles, changes
            minute_ago = now - 60.0
            if cycles - bisect_left(node.wakes, minute_ago) > CYCLES_PER_MINUTE:
                self._fail("the agent never loops hot", node, "too many cycles in a minute")
            node.note_writes()
            if node.writes_in_a_minute() > WRITES_PER_MINUTE:
                self._fail("the agent never loops hot", node, "too many writes in a minute")
        if node.agent is not None and node.agent.faults:
            self._fail("no cycle fails", node, "")

    def _check_active(self, node: Node, kind: Kind, active: float) -> None:
        """Note the longest time so far, and check this one: limits differ by workload."""
        self.longest_active = max(self.longest_active, active)
        waits_for_turn = kind.stage == 0 and len(self._world.nodes) > 1
        if active > ACTIVE_SECONDS and not waits_for_turn:
            self._fail("a copy goes when its parent can run", node, kind.name)

    def _check_down(self, node: Node, kind: Kind, down: float) -> None:
        """Note the longest time so far, and check this one: limits differ by workload."""
        self.longest_down = max(self.longest_down, down)
        limit = self.down_seconds
        if kind.stage > 0 and self._keeps_dying(node, kind):
            limit += BACKOFF_SECONDS
        if down > limit and self._has_sound_revision(node, kind):
            self._fail("what is wanted runs again in time", node, f"{kind.name}, {down:.0f} s")

    def _can_be_taken(self, node: Node, kind: Kind) -> bool:
        """Tell whether the agent has contact, and the API a parent that is wanted and Ready."""
        assert node.agent is not None
        has_contact = node.agent.contact.state is ContactState.REACHABLE
        is_wanted = self._world.cluster.is_wanted(kind, node.name)
        return has_contact and is_wanted and self._has_ready_parent(node, kind)

    def _check_retaken(self, node: Node, kind: Kind, seen: _Seen, is_possible: bool) -> None:
        """Note that the last revision is there again, or check for how long it has been missing."""
        if not is_possible or not self._can_be_taken(node, kind):
            seen.whole_at = node.now
            return
        assert node.agent is not None
        stored = node.agent.store.read()
        checkpoints = stored.value.checkpoints if isinstance(stored, Known) else ()
        if any(c.workload == kind.workload and c.revisions and c.is_current for c in checkpoints):
            node.damaged.discard(kind.name)
            return
        damaged = node.now - seen.whole_at
        self.longest_damaged = max(self.longest_damaged, damaged)
        if damaged > RETAKEN_SECONDS:
            self._fail("what is damaged is stored anew", node, f"{kind.name}, {damaged:.0f} s")

    def _note_hand_over(self, node: Node, seen: _Seen, action: Action) -> None:
        """Note that one begins, or that its workload was activated for the loss of contact."""
        if isinstance(action, Release):
            seen.given_way_at, seen.given_way_boot = node.now, node.boots
        elif isinstance(action, Activate) and seen.up_at > (seen.given_way_at or 0.0):
            seen.given_way_at = None

    def _check_hand_over(self, node: Node, kind: Kind, seen: _Seen) -> None:
        """Check that a node's only API server is back by the deadline, the parent's or the copy's.

        It counts from the last of: the release, the last moment at which it served, and whatever
        happened to the node since. A Ready parent ends a hand-over, and so does a reboot; masters
        have each other.
        """
        assert seen.given_way_at is not None
        now, limit = node.now, DEADLINE_SECONDS + RETURN_SECONDS
        is_past = seen.up_at == now and now - seen.given_way_at > limit
        is_over = is_past or self._has_ready_parent(node, kind)
        if is_over or node.boots != seen.given_way_boot or len(self._world.nodes) > 1:
            seen.given_way_at = None
            return
        away = now - max(seen.given_way_at, seen.up_at, seen.allowed_since)
        self.longest_given_way = max(self.longest_given_way, away)
        if away > limit and self._has_sound_revision(node, kind):
            self._fail("a hand-over ends with an API server", node, f"away for {away:.0f} s")

    def _has_ready_parent(self, node: Node, kind: Kind) -> bool:
        """Tell whether the API says of a parent whose containers run that it is Ready."""
        processes = node.runtime.processes
        for pod in self._world.cluster.pods_of(node.name):
            mine = [processes.get(pod.container_ids.get(name, "")) for name in kind.containers]
            if pod.kind is kind and pod.ready_at is not None and all(mine):
                return not any(process and process.is_doomed for process in mine)
        return False

    def _check_beside(self, node: Node, kind: Kind, seen: _Seen, can_use_api: bool) -> None:
        """Check for how long both have run. One that was started unseen, with no agent there, shows
        by the API alone that it serves: it is not given way to while nobody can ask that."""
        both = [p for p in node.runtime.mains(kind) if not p.is_doomed]
        is_unseen = any(not p.is_copy and p.since < node.agent_since for p in both)
        if len({p.is_copy for p in both}) < 2 or (is_unseen and not can_use_api):
            seen.beside_since = None
            return
        if seen.beside_since is None:
            seen.beside_since = node.now
        beside = node.now - seen.beside_since
        self.longest_beside = max(self.longest_beside, beside)
        if beside > BESIDE_SECONDS:
            self._fail("parent and copy are not left side by side", node, kind.name)

    def _is_sound(self, node: Node) -> bool:
        """Tell whether the node has all it needs for anything to run."""
        agent = node.agent
        if agent is None or agent.is_dead or not node.kubelet.is_up or not node.runtime.answers:
            return False
        if node.disk.fault or node.lie or node.kubelet.refusals:
            return False
        return node.fault in ("", "refused", "silent", "tls", "error", "slow")

    def _is_allowed(self, node: Node, kind: Kind, can_use_api: bool) -> bool:
        """Tell whether a sound node has all it needs for the workload to run."""
        name = kind.name
        if name in node.tampered or name in node.damaged or name in node.bad_copies:
            return False
        cluster = self._world.cluster
        if not cluster.is_wanted(kind, node.name):
            return False
        if kind.is_declared and any(
            w.kind is kind and w.pod is not None for w in node.kubelet.workers.values()
        ):
            # Admission refuses the copy for as long as the kubelet has its twin of the API.
            return can_use_api and not self._is_broken(node, kind)
        if not can_use_api:
            return True
        return not self._is_broken(node, kind) and self._has_maker(node, kind)

    def _has_maker(self, node: Node, kind: Kind) -> bool:
        """Tell whether the workload has a pod here, or a controller-manager that can make one.

        While the API answers nothing is activated: a pod that is gone stays so for as long as every
        controller-manager is of a version that cannot start.
        """
        cluster = self._world.cluster
        for pod in cluster.pods_of(node.name):  # in every step: no generator
            if pod.kind is kind and not pod.is_terminating:
                return True
        controllers = [one for one in cluster.kinds if one.is_controller]
        can_run = (not self._is_broken(n, c) for n in self._world.nodes for c in controllers)
        return kind.is_controller or cluster.controllers_run() or any(can_run)

    def _is_broken(self, node: Node, kind: Kind) -> bool:
        """Tell whether the parent cannot run, by the version that it has or is to have."""
        cluster = self._world.cluster
        faulty = cluster.faulty
        if not faulty:
            return False
        versions = {p.version for p in cluster.pods_of(node.name) if p.kind is kind}
        return any(
            (kind.name, version) in faulty for version in {*versions, cluster.versions[kind.name]}
        )

    def _keeps_dying(self, node: Node, kind: Kind) -> bool:
        """Tell whether the kubelet knows a parent that cannot run."""
        return any(
            w.kind is kind and w.pod is not None and self._is_broken(node, kind)
            for w in node.kubelet.workers.values()
        )

    def _has_sound_revision(self, node: Node, kind: Kind) -> bool:
        assert node.agent is not None
        stored = node.agent.store.read()
        if not isinstance(stored, Known):
            return True
        broken = {f"image:{v}" for name, v in self._world.cluster.faulty if name == kind.name}
        return any(
            revision.digest not in broken
            for checkpoint in stored.value.checkpoints
            if checkpoint.workload == kind.workload
            for revision in checkpoint.revisions
        )

    def _fail(self, promise: str, node: Node, what: str) -> None:
        raise BrokenError(promise, f"{what} on {node.name} at {node.now:.2f} s")


def _needs_no_loss(action: Activate) -> bool:
    return "given way" in action.reason or action.reason.startswith("revision ")


def _belongs_to_twin(node: Node) -> bool:
    """Tell whether another cluster was the first that the node had contact with: it is pinned."""
    assert node.agent is not None
    pin = node.agent.store.read_state(STATE)
    return isinstance(pin, Known) and pin.value.get("uid") == OTHER_UID


def _has_lost_its_plugin(node: Node, kind: Kind) -> bool:
    """Tell whether what runs beside the parent's main container is dead: the runtime does not show
    which of the two serves, and one that the kubelet never starts again may be the one."""
    processes = node.runtime.processes.values()
    there = (p.kind is kind and p.container == kind.beside and not p.is_copy for p in processes)
    return bool(kind.beside) and not any(there)


def _note_return(watched: _Watched, now: float) -> None:
    """Note that the API server that was to come back has, or that nobody waits for it any more.

    The others see no release, only an API server that does not answer, and wait from there: one
    that made way when it had not served for long already, such as a copy that could not start, is
    waited for no longer by that. Nothing was taken from the API by it.
    """
    is_serving = watched.node.serves_api()
    if is_serving:
        watched.served_at = now
    if watched.gave_way is None:
        return
    boot, since = watched.gave_way
    limit = watched.node.config.timing.hand_over_seconds + GIVEN_UP_SECONDS
    is_back = is_serving and now - since > ENDING_SECONDS
    if is_back or boot != watched.node.boots or now - watched.served_at > limit:
        watched.gave_way = None


def _note_steadiness(watched: _Watched, can_use_api: bool, now: float) -> None:
    kubelet = watched.node.kubelet
    if not (can_use_api and kubelet.is_up and kubelet.knows_pods):
        watched.steady_since = None
    elif watched.steady_since is None:
        watched.steady_since = now
    elif now - watched.steady_since >= STEADY_SECONDS:
        watched.steady_run = kubelet.run_number
