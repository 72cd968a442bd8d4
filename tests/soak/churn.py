"""What happens to a node in some months, in a few seconds: one round after the other.

Each round rolls a workload out, has another come and go, takes the API away in one of all the
ways, kills the workload while it is away (so that its copy is activated, and released when the
API is back), restarts kubelet and runtime, lets the runtime hang, and asks the agent for its
pages. Every step waits for what it is to bring about.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from checkpointer.core.facts import Known
from checkpointer.report.agent_socket import AgentUnreachableError, ask_agent
from checkpointer.simulation import control_plane
from checkpointer.simulation.agent_process import AgentProcess
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.waiting import wait_until
from checkpointer.store.errors import StoreError
from checkpointer.store.revisions import Store
from tests.simulation.quick import LONG, PACE

SETTINGS: dict[str, Any] = {
    "timing": {
        "ready": "0s",
        "grace": "1s",
        "absent": "500ms",
        "removalInterval": "0s",
        "tick": "500ms",
    },
    "contact": {"recovery": "0s", "healthyInterval": "250ms"},
    "probe": {"timeout": "300ms", "jitter": "0s"},
}
ENDINGS = (Mode.REFUSED, Mode.BLACK_HOLE, Mode.RESET, Mode.WRONG_CERTIFICATE)
"""In these ways contact is lost and copies are activated."""
ILLNESSES = (
    Mode.ERROR,
    Mode.THROTTLED,
    Mode.UNAUTHORIZED,
    Mode.FORBIDDEN,
    Mode.SLOW,
    Mode.EMPTY_LISTS,
)
"""In these the API is there."""


class Churn:
    """An edge node with an agent, and rounds of everything."""

    def __init__(self, folder: Path, counts: Path | None = None) -> None:
        """Make the node in `folder`; with `counts` its agent can tell what it holds there."""
        self.node = SimulatedNode(folder, self_hosted=False, pace=PACE)
        if counts is not None:
            arguments = ("-m", "tests.soak.agent", str(counts), "run", "--config")
            config = str(self.node.agent_config_file)
            self.node.agent = AgentProcess((*arguments, config), folder / "agent.log")
        self._store = Store(self.node.store_folder)
        self._rounds = itertools.count(1)
        self._endings, self._illnesses = itertools.cycle(ENDINGS), itertools.cycle(ILLNESSES)

    @property
    def pid(self) -> int:
        """Return the agent's process; the same one from `start` to `close`."""
        assert self.node.agent.pid is not None, "\n".join(self.node.agent.last_lines(40))
        return self.node.agent.pid

    def start(self) -> None:
        """Let the node run, with one workload that is stored."""
        self.node.start()
        self.node.api.slow_seconds = 0.1
        self.node.write_agent_config(**SETTINGS)
        self._give_secret(0)
        self._roll(0)
        self.node.agent.start()
        self._wait(lambda: self._images("web") == {"web:0"}, "the first checkpoint")

    def close(self) -> None:
        self.node.close()

    def round(self) -> None:
        """Let everything happen once."""
        number = next(self._rounds)
        self._give_secret(number)
        self._roll(number)
        self._wait(lambda: self._images("web") == {f"web:{number}"}, "the rollout's checkpoint")
        self._come_and_go()
        self._fall_ill(next(self._illnesses))
        self._lose_contact(next(self._endings), hangs=number % 2 == 0)
        self.node.restart_runtime()
        self.node.restart_kubelet()
        self._ask_pages()
        self._settle()

    def _give_secret(self, number: int) -> None:
        secret = control_plane.named("kube-system", "login")
        self.node.cluster.apply("secrets", {**secret, "data": {"password": "cGxhbnRlZA=="}})
        settings = control_plane.named("kube-system", "settings")
        self.node.cluster.apply("configmaps", {**settings, "data": {"round": str(number)}})

    def _roll(self, number: int) -> None:
        self.node.add_daemonset("web", _spec(f"web:{number}"))

    def _come_and_go(self) -> None:
        name = "guest"
        self.node.add_deployment(name, _spec("guest:1"))
        self._wait(lambda: self._images(name), "the guest's checkpoint")
        self.node.cluster.delete("deployments", "kube-system", name)
        self._wait(lambda: not self._images(name), "the guest's checkpoint to be removed")

    def _fall_ill(self, mode: Mode) -> None:
        """Let the API be ill for three probes."""
        with self._api_is(mode):
            asked = self.node.api.connections
            self._wait(
                lambda: (
                    mode in (Mode.SLOW, Mode.EMPTY_LISTS) or self.node.api.connections >= asked + 3
                ),
                "three probes",
            )
        self._wait(self._is_reachable, f"contact after {mode.value}")

    def _lose_contact(self, mode: Mode, hangs: bool) -> None:
        """Take the API away and kill the workload; its copy comes, and goes when all is back."""
        self.node.has_network = False
        with self._api_is(mode):
            self.node.restart_kubelet()
            if hangs:
                self.node.cri.hangs = True
                self._wait(lambda: "no answer within" in self._status(), "the hanging runtime")
                self.node.cri.hangs = False
            for container in self.node.parents("main"):
                self.node.runtime.kill(container.id)
            self._wait(lambda: self.node.copies("main"), f"the copy after {mode.value}")
        self.node.has_network = True
        self._wait(lambda: not self.node.copies("main"), "the copy to be released")
        self._wait(lambda: self.node.parents("main"), "the parent")

    def _ask_pages(self) -> None:
        for path in ("/statusz", "/metrics", "/healthz", "/readyz", "/nothing"):
            ask_agent(self.node.store_folder, path, LONG)
        ask_agent(self.node.store_folder, "/v1/reconcile", LONG, "POST")

    def _settle(self) -> None:
        self._wait(self._is_reachable, "contact")
        self._wait(lambda: not self.node.manifests(), "the manifest folder to be empty")

    @contextmanager
    def _api_is(self, mode: Mode) -> Iterator[None]:
        self.node.api.mode = mode
        try:
            yield
        finally:
            self.node.api.mode = Mode.SERVING

    def _images(self, name: str) -> set[str]:
        """Return the images of the newest stored revision of a workload; none is an empty set."""
        self._store.invalidate()
        stored = self._store.read()
        for one in stored.value.checkpoints if isinstance(stored, Known) else ():
            if one.workload.name == name and one.revisions:
                with suppress(StoreError):  # the agent may be removing it
                    manifest = self._store.manifest(one.workload, one.revisions[0].number)
                    return {container["image"] for container in manifest["spec"]["containers"]}
        return set()

    def _status(self) -> str:
        try:
            return ask_agent(self.node.store_folder, "/statusz", LONG)[1].decode()
        except AgentUnreachableError:
            return ""

    def _is_reachable(self) -> bool:
        try:
            document = json.loads(self._status())
        except ValueError:
            return False
        return bool(document["contact"]["state"] == "reachable")

    def _wait(self, condition: Any, what: str) -> None:
        wait_until(lambda: self.pid and condition(), LONG, what)


def _spec(image: str) -> dict[str, Any]:
    names = ("login", "settings")
    return {
        "containers": [
            {
                "name": "main",
                "image": image,
                "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in names],
            }
        ],
        "terminationGracePeriodSeconds": 0,
        "volumes": [
            {"name": "login", "secret": {"secretName": "login"}},
            {"name": "settings", "configMap": {"name": "settings"}},
        ],
    }
