"""Whose turn it is to hand over: the other masters, whether they answer, and their Lease.

The rules are in `core.turns` and `core.lease`; here the API, the store and the other masters are
asked, each as seldom as a hand-over allows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from checkpointer.config import Config
from checkpointer.core.contact import ContactState, ProbeResult
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.lease import HOLD_SECONDS, Claim, Turn, under_way_since
from checkpointer.core.moment import Moment
from checkpointer.core.observation import Observation
from checkpointer.core.plan import Plan
from checkpointer.core.turns import Masters, has_company, has_others
from checkpointer.errors import CheckpointerError
from checkpointer.node.kubeconfig import read_kubeconfig
from checkpointer.node.lease import HandOverLease
from checkpointer.node.masters import (
    NOT_ALONE_YET,
    WAITING_SECONDS,
    OtherMasters,
    as_state,
    from_state,
    read_masters,
)
from checkpointer.node.pods import NodePods
from checkpointer.node.probe import Prober
from checkpointer.store.revisions import Store
from checkpointer.values import replace

log = logging.getLogger(__name__)

MASTERS_STATE = "masters"
"""Name of the state in the store that holds the control plane's nodes, for a start without API."""

MASTERS_RETRY_SECONDS = 2.0
"""How soon to ask again for the masters while they are not known, longer each time: a new API
server tells its own address only after a while."""

MASTER_TIMEOUT_SECONDS = 0.5
"""How long another master's API server may take to answer, while a hand-over waits for that."""


class MasterTurns:
    """What this master knows of the others. A dry run asks and takes nothing."""

    def __init__(
        self,
        config: Config,
        node_name: str,
        store: Store,
        pods: NodePods,
        prober: Prober,
        clock: Callable[[], float],
        dry_run: bool = False,
    ) -> None:
        self._config, self._node_name, self._dry_run = config, node_name, dry_run
        self._store, self._pods, self._prober = store, pods, prober
        self.masters: Fact[Masters] = Unknown("the store has not been read yet")
        self._due_at, self._pause = 0.0, MASTERS_RETRY_SECONDS
        self._others = OtherMasters(self._ask_master, clock)
        self._lease = HandOverLease(
            pods, config.hand_over.lease_namespace, node_name, config.timing.hand_over_seconds
        )

    @property
    def seem_to_be_one(self) -> bool:
        """Whether no other master is known: others may have joined since."""
        return not has_others(self.masters)

    def recall(self) -> None:
        """Take over what the agent's last run has stored."""
        state = self._store.read_state(MASTERS_STATE)
        self.masters = from_state(state.value) if isinstance(state, Known) else state

    def read(self, contact: ContactState, now: Moment) -> None:
        """Ask for the control plane's nodes now and then, and keep them for worse times."""
        is_due = now.monotonic >= self._due_at
        if contact is not ContactState.REACHABLE or self._pods.client is None or not is_due:
            return
        resync = self._config.timing.resync_seconds
        self._due_at = now.monotonic + min(resync, self._pause)
        self._pause *= 1.5
        masters = read_masters(
            self._pods.find, self._node_name, self._api_port(), self.masters, now.wall
        )
        if isinstance(masters, Unknown):
            log.debug("the control plane's nodes: %s", masters.reason)
            if masters == NOT_ALONE_YET:
                self.masters = masters
            return
        self.masters, self._pause = masters, resync
        self._due_at = now.monotonic + resync
        if not self._dry_run:
            try:
                self._store.write_state(MASTERS_STATE, as_state(masters.value))
            except CheckpointerError as error:
                log.warning("%s", error)

    def told(self, seen: Observation, now: Moment) -> Observation:
        """Return the observation with the masters, and what is known of their Lease."""
        return replace(seen, masters=self.masters, claim=self._lease.claim(now.monotonic))

    def ask(self, seen: Observation, now: Moment) -> Observation:
        """Ask whether the other API servers are there, and if so for the Lease."""
        self._others.look(self.masters)
        seen = replace(seen, others=self._others.told)
        hand_over_seconds = self._config.timing.hand_over_seconds
        if not has_company(seen.others, seen.contact, now.monotonic, hand_over_seconds):
            return seen
        if seen.claim is Claim.OPEN:
            self._lease.take(now)
        return replace(seen, claim=self._lease.claim(now.monotonic))

    def follow(self, plan: Plan, seen: Observation, now: Moment, is_amid: bool) -> Plan:
        """Return the plan, woken for what the turns need; `is_amid` while a copy is active or a
        hand-over is under way."""
        plan = self._follow_others(plan, is_amid)
        plan = self._follow_lease(plan, seen, now, is_amid)
        due_in = self._due_at - now.monotonic
        if isinstance(self.masters, Unknown) and due_in > 0.0:
            plan = replace(plan, wake_in=min(plan.wake_in, due_in))
        return plan

    def _follow_others(self, plan: Plan, is_amid: bool) -> Plan:
        """Count on for how long another master has been away, while a hand-over may wait for it."""
        if not is_amid:
            self._others.forget()
            return plan
        look_in = self._others.look_in()
        if look_in is None:
            return plan
        if look_in <= 0:
            self._others.look(self.masters)
        return replace(plan, wake_in=min(plan.wake_in, look_in or WAITING_SECONDS))

    def _follow_lease(self, plan: Plan, seen: Observation, now: Moment, is_amid: bool) -> Plan:
        """Hold the Lease on while a hand-over is under way, and give it back after it.

        Where it could not be taken, go on to ask for it while one may be to come, and return the
        plan, woken for that.
        """
        if not isinstance(seen.pods, Known):
            return plan
        if not self._lease.is_held:
            try_in = self._lease.try_again(now) if is_amid and not self._dry_run else None
            return plan if try_in is None else replace(plan, wake_in=min(plan.wake_in, try_in))
        began_at = under_way_since(seen.checkpoints, plan.records, now.boot_id)
        if began_at is not None:
            last = began_at + self._config.timing.hand_over_seconds + HOLD_SECONDS
            if now.monotonic < last:
                self._lease.renew(now)
        elif plan.turn is Turn.NONE:
            self._lease.give_back(now)
        return plan

    def _ask_master(self, endpoint: str) -> ProbeResult:
        return self._prober.ask(endpoint, MASTER_TIMEOUT_SECONDS)

    def _api_port(self) -> int:
        try:
            server = read_kubeconfig(self._config.kubeconfig).server
            return urlsplit(server).port or 443
        except (CheckpointerError, ValueError):
            return 6443
