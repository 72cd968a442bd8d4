"""The agent is killed again and again, at any moment, and nothing is lost by it.

E2E_SEED    what the moments are drawn from (default: a new one, which is printed).
E2E_KILLS   how many rounds of all that happens (default 1).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.cluster.background import Background
from tests.e2e.cluster.control_plane import API_SERVER, NAMESPACE, WORKLOADS
from tests.e2e.cluster.images import PAUSE
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.waiting import hold, wait_for
from tests.e2e.summary import Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

BACK_SECONDS = 480.0
"""A parent may lose starts to its copy because nobody looked: it is in its backoff then."""
STEADY_SECONDS = 20.0

FOREIGN = {
    "foreign.yaml": f"""\
apiVersion: v1
kind: Pod
metadata: {{name: foreign, namespace: default}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: foreign, image: "{PAUSE}"}}]
""",
    ".hidden.yaml": "what an editor left",
    "pod-checkpointer.md": "# not the agent's, whatever it is called\n",
}


class Killer(Background):
    """Kills the agent at random moments and starts it again at once, as a supervisor does.

    Every other life is too short to get anything done; the others may last long enough. After some
    kills the last one lives on: what the agent has to wait for it may have to wait for anew, since
    it is only kept in memory how long a pod has been down.
    """

    def __init__(self, node: Node, draw: random.Random) -> None:
        self._node, self._draw = node, draw
        super().__init__()
        self._lock = threading.Lock()
        self._most = draw.randint(4, 10)
        self.kills = 0

    def power_cycle(self) -> None:
        """Cut and restore the power while nobody would start an agent on a machine that is off."""
        with self._lock:
            self._node.power_cut()
            self._node.power_on()

    def _work(self) -> None:
        while self.kills < self._most:
            short = self.kills % 2 == 0
            life = self._draw.uniform(0.05, 2.0) if short else self._draw.uniform(2.0, 15.0)
            if self._over.wait(life):
                return
            with self._lock:
                agent = self._node.agent
                assert agent is not None
                agent.require()
                agent.kill()
                self._node.start_agent()
                self.kills += 1


def test_agent_killed_again_and_again(node: Node, record: Record) -> None:
    """All comes back, no file of ours stays in the folder, and no other file is touched."""
    seed = int(os.environ.get("E2E_SEED") or random.randrange(2**32))  # noqa: S311
    print(f"E2E_SEED={seed}")  # noqa: T201 - to have it again
    draw = random.Random(seed)  # noqa: S311
    foreign = {name: node.manifests / name for name in FOREIGN}
    for name, path in foreign.items():
        path.write_text(FOREIGN[name])
    wait_for("the foreign pod", lambda: node.containerd.running("foreign"), 60)
    before = look_at(foreign)
    try:
        with node.watch_manifests() as folder:
            for _ in range(int(os.environ.get("E2E_KILLS", "1"))):
                events = dict(EVENTS)
                for name in draw.sample(sorted(events), len(events)):
                    with Killer(node, draw) as killer:
                        record.seconds(f"back after {name}", events[name](node, killer))
                    record.count(f"kills during {name}", killer.kills)
                hold(STEADY_SECONDS, node.check_processes)
        assert folder.present == []
        assert look_at(foreign) == before
        assert node.is_ready()
    finally:
        for path in foreign.values():
            path.unlink(missing_ok=True)
    record.count("seed", seed)
    assert node.checkpoints() == set(WORKLOADS)


def power_cycle(node: Node, killer: Killer) -> float:
    since, begun = time.time(), time.monotonic()
    killer.power_cycle()
    node.wait_until_returned(since=since, seconds=BACK_SECONDS)
    return time.monotonic() - begun


def outage(node: Node, killer: Killer) -> float:
    """The way to the API is cut, the kubelet restarted, and then the API server dies, unmanaged."""
    node.cut_network(refuse=True)
    try:
        hold(5)
        node.restart_kubelet()
        hold(20)
        since = time.time()
        node.kill_container(API_SERVER)
        wait_for("a copy to serve", node.api.is_ready, BACK_SECONDS)
    finally:
        node.mend_network()
    begun = time.monotonic()
    node.wait_until_returned(since=since, restarted=[API_SERVER], seconds=BACK_SECONDS)
    return time.monotonic() - begun


def rollout(node: Node, killer: Killer) -> float:
    since, begun = time.time(), time.monotonic()
    node.roll_out(API_SERVER, [f"--v={1 + killer.kills % 2}"])
    wait_for("the API to go", lambda: not node.api.is_ready(), 60, 0.05)
    node.wait_until_returned(since=since, restarted=[API_SERVER], seconds=BACK_SECONDS)
    return time.monotonic() - begun


def deletion(node: Node, killer: Killer) -> float:
    since, begun = time.time(), time.monotonic()
    name = node.parents()[API_SERVER]["metadata"]["name"]
    node.api.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
    wait_for("the API to go", lambda: not node.api.is_ready(), 60, 0.05)
    node.wait_until_returned(since=since, restarted=[API_SERVER], seconds=BACK_SECONDS)
    return time.monotonic() - begun


EVENTS: dict[str, Callable[[Node, Killer], float]] = {
    "a power cycle": power_cycle,
    "an outage": outage,
    "a rollout": rollout,
    "a deletion": deletion,
}


def look_at(files: dict[str, Path]) -> dict[str, tuple[object, ...]]:
    """Return all that a change of a file would show in."""
    return {
        name: (path.read_bytes(), stat.st_ino, stat.st_mode, stat.st_uid, stat.st_mtime_ns)
        for name, path in files.items()
        if (stat := path.stat())
    }
