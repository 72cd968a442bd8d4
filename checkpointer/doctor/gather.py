"""Looking at a node: every source at once, each with a deadline, none able to stop the others."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from checkpointer.config import Config
from checkpointer.core.contact import ProbeOutcome, ProbeResult
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.observation import KubeletRun
from checkpointer.core.runtime import Runtime
from checkpointer.doctor.api_view import view_api
from checkpointer.doctor.deadline import Asked
from checkpointer.doctor.examine import examine
from checkpointer.doctor.facts import AgentSays, AgentSilent, ApiView, Examined, Facts
from checkpointer.errors import CheckpointerError
from checkpointer.node.agent_lock import find_agent
from checkpointer.node.certificates import read_identity
from checkpointer.node.clock import is_synchronized
from checkpointer.node.cri import (
    ContainerRuntime,
    RuntimeVersion,
    find_endpoint,
    find_runtime,
)
from checkpointer.node.disk import look_at
from checkpointer.node.images import PRELOADED
from checkpointer.node.kubeconfig import read_kubeconfig
from checkpointer.node.kubelet import Kubelet, read_boot_id, read_moment
from checkpointer.node.kubelet_settings import KubeletSettings, find_process, read_settings
from checkpointer.node.probe import probe_endpoint
from checkpointer.node.static_pods import StaticPod, read_static_pods
from checkpointer.report.agent_socket import AgentSilentError, ask_agent
from checkpointer.store.contents import Stored
from checkpointer.store.errors import DiskError
from checkpointer.store.revisions import Store
from checkpointer.store.safety import check_folder
from checkpointer.values import dataclass, replace

LEFTOVERS = ("inactive-manifests", "checkpoint-secrets", "checkpoint-configmaps")
"""Folders of the bootkube checkpointer and its heirs, beside the manifest folder."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _RuntimeFound:
    """Where the container runtime is, and whether it answers."""

    endpoint: str
    version: Fact[RuntimeVersion]
    connection: ContainerRuntime | None = None
    """None unless it answers: what does not is not asked again and again."""


_NO_RUNTIME = _RuntimeFound("", Unknown("no container runtime socket was found"))


def gather(config: Config, seconds: float = 5.0) -> Facts:
    """Return what can be seen of this node.

    A source is given up after so many seconds, those that need another one's answer after as
    many again: all in all it takes about twice as long at most.
    """

    def ask(name: str, look: Callable[[], Fact[T]]) -> Asked[T]:
        return Asked(name, look, seconds)

    node = _Node(config, seconds)
    found = ask("the container runtime", node.find_runtime)
    probes = ask("the API", node.probe)
    settings = ask("the kubelet's settings", node.kubelet_settings)
    stored = ask("the store", node.store.read)
    version = ask("the kubelet's version", node.kubelet_version)
    run = ask("the kubelet", node.kubelet_run)
    identity = ask("the kubeconfig", lambda: read_identity(config.kubeconfig))
    safety = ask("the store's folder", node.store_safety)
    store_place = ask("the store's folder", lambda: look_at(config.store_directory))
    place = ask("the manifest folder", lambda: look_at(config.manifest_directory))
    folder = ask("the manifest folder", lambda: Known(config.manifest_directory.resolve()))
    static_pods = ask("the manifest folder", node.static_pods)
    leftovers = ask("the manifest folder", node.leftovers)
    lock = ask("the agent's lock", lambda: find_agent(config.lock_file))
    agent = ask("the agent", node.agent_says)
    answered = found.answer()
    runtime = _RuntimeFound("", answered) if isinstance(answered, Unknown) else answered.value
    containers = ask("the container runtime", lambda: _containers_of(runtime))
    answers, kubelet, contents = probes.answer(), settings.answer(), stored.answer()
    view = ask("the API", lambda: node.api_view(answers, runtime.connection))
    examined = ask("the checkpoints", lambda: node.examine(contents, runtime.connection, kubelet))
    api = view.answer()
    return Facts(
        config=config,
        node_name=node.name,
        moment=read_moment(config.boot_id_file),
        is_root=os.geteuid() == 0,
        manifest_folder=_known(folder.answer(), config.manifest_directory),
        kubelet=kubelet,
        kubelet_run=run.answer(),
        kubelet_version=_first_known(version.answer(), api),
        runtime_endpoint=runtime.endpoint,
        runtime=runtime.version,
        containers=containers.answer(),
        identity=identity.answer(),
        probes=answers,
        api=api,
        is_synchronized=is_synchronized(),
        store_place=store_place.answer(),
        store_safety=_known(safety.answer(), ""),
        manifest_place=place.answer(),
        examined=examined.answer(),
        store_problems=contents.value.problems if isinstance(contents, Known) else (),
        static_pods=static_pods.answer(),
        lock=lock.answer(),
        agent=agent.answer(),
        leftovers=_known(leftovers.answer(), ()),
    )


def answering_runtime(config: Config, seconds: float = 5.0) -> ContainerRuntime | None:
    """Return the node's runtime if it answers within so many seconds."""
    found = Asked("the container runtime", _Node(config, seconds).find_runtime, seconds).answer()
    return found.value.connection if isinstance(found, Known) else None


class _Node:
    """The sources that one node has, each asked in a thread of its own."""

    def __init__(self, config: Config, seconds: float) -> None:
        self.name = config.node_name or socket.gethostname().lower()
        self.store = Store(config.store_directory)
        self._config, self._seconds = config, seconds

    def find_runtime(self) -> Fact[_RuntimeFound]:
        """Return the runtime that is configured, or else the first that answers."""
        configured = self._config.runtime_endpoint
        runtime = ContainerRuntime(configured) if configured else find_runtime()
        if runtime is None and (endpoint := find_endpoint()):
            runtime = ContainerRuntime(endpoint)  # silent, but it can be named
        if runtime is None:
            return Known(_NO_RUNTIME)
        version = runtime.version()
        connection = runtime if isinstance(version, Known) else None
        return Known(_RuntimeFound(runtime.endpoint, version, connection))

    def probe(self) -> Fact[Mapping[str, ProbeResult]]:
        """Ask every endpoint at once."""
        try:
            identity = read_kubeconfig(self._config.kubeconfig)
        except CheckpointerError as error:
            return Unknown(str(error))
        timeout = min(self._config.probe.timeout_seconds, self._seconds / 2)

        def ask(endpoint: str) -> Asked[ProbeResult]:
            def probe() -> Fact[ProbeResult]:
                return Known(probe_endpoint(endpoint, identity, timeout))

            return Asked(endpoint, probe, 0.9 * self._seconds)

        endpoints = self._config.endpoints or (identity.server,)
        asked = {endpoint: ask(endpoint) for endpoint in endpoints}
        silent = ProbeResult(ProbeOutcome.FAILED, "timeout")
        return Known({endpoint: _known(one.answer(), silent) for endpoint, one in asked.items()})

    def kubelet_settings(self) -> Fact[KubeletSettings]:
        """Return the kubelet's settings, its folder for static pods without links."""
        found = read_settings(self._config.kubelet_directory)
        if isinstance(found, Unknown) or found.value.static_pod_path is None:
            return found
        return Known(replace(found.value, static_pod_path=found.value.static_pod_path.resolve()))

    def kubelet_version(self) -> Fact[str]:
        """Ask the very program that runs as the kubelet."""
        process = find_process(self._config.kubelet_directory)
        if isinstance(process, Unknown):
            return process
        try:
            said = subprocess.run(
                [f"/proc/{process.value.pid}/exe", "--version"],
                capture_output=True,
                check=True,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=self._seconds,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return Unknown(f"the kubelet does not tell its version: {type(error).__name__}")
        return Known(said.stdout.strip())

    def kubelet_run(self) -> Fact[KubeletRun]:
        boot_id = _known(read_boot_id(self._config.boot_id_file), "")
        return Kubelet(self._config.kubelet_directory).run(boot_id)

    def store_safety(self) -> Fact[str]:
        """Return why the store must not be used, or nothing."""
        try:
            check_folder(self._config.store_directory)
        except (DiskError, OSError) as error:
            return Known(str(error))
        return Known("")

    def static_pods(self) -> Fact[tuple[StaticPod, ...]]:
        return read_static_pods(self._config.manifest_directory, self.name)

    def agent_says(self) -> Fact[AgentSays | AgentSilent]:
        """Ask the running agent what it sees and what troubles it."""
        timeout = 0.9 * self._seconds  # a silent one is to be told of before it is given up
        try:
            _, content = ask_agent(self._config.store_directory, "/statusz", timeout)
            status = json.loads(content)
            contact, problems = status["contact"], status["problems"]
            return Known(
                AgentSays(str(contact["state"]), str(contact["reason"]), tuple(map(str, problems)))
            )
        except AgentSilentError as error:
            return Known(AgentSilent(str(error)))
        except CheckpointerError as error:
            return Unknown(str(error))
        except (ValueError, KeyError, TypeError):
            return Unknown("the agent's answer is not a status")

    def leftovers(self) -> Fact[tuple[Path, ...]]:
        """Return what other checkpointers have left beside the manifest folder."""
        parent = self._config.manifest_directory.parent
        return Known(tuple(parent / name for name in LEFTOVERS if (parent / name).exists()))

    def api_view(
        self, probes: Fact[Mapping[str, ProbeResult]], runtime: ContainerRuntime | None
    ) -> Fact[ApiView]:
        """Ask the API about this node, if it has just answered a probe."""
        if isinstance(probes, Unknown):
            return probes
        reasons = [one.reason for one in probes.value.values()]
        if all(one.outcome is not ProbeOutcome.ANSWERED for one in probes.value.values()):
            return Unknown(f"the API does not answer: {reasons[0]}")
        return view_api(self._config, self.name, self.store, runtime)

    def examine(
        self,
        stored: Fact[Stored],
        runtime: ContainerRuntime | None,
        kubelet: Fact[KubeletSettings],
    ) -> Fact[tuple[Examined, ...]]:
        """Look into every checkpoint."""
        if isinstance(stored, Unknown):
            return stored
        policy = kubelet.value.pull_policy if isinstance(kubelet, Known) else PRELOADED
        folder = self._config.kubelet_directory
        return Known(
            tuple(
                examine(self.store, one, self.name, runtime, folder, policy)
                for one in stored.value.checkpoints
            )
        )


def _containers_of(found: _RuntimeFound) -> Fact[Runtime]:
    if found.connection is None:
        return Unknown("the container runtime does not answer")
    return found.connection.observe()


def _first_known(version: Fact[str], api: Fact[ApiView]) -> Fact[str]:
    """Return the kubelet's version by itself, or else by the API."""
    if isinstance(version, Unknown) and isinstance(api, Known):
        told = api.value.kubelet_version
        return told if isinstance(told, Known) else version
    return version


def _known(fact: Fact[T], default: T) -> T:
    return fact.value if isinstance(fact, Known) else default
