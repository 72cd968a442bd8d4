"""A simulated node: all its parts in one temporary folder, with a power switch.

    <folder>/etc/kubernetes/{kubelet.conf,manifests/,checkpointer/}
            /etc/checkpointer.yaml
            /var/lib/kubelet/          the kubelet's folder
            /run/cri.sock, /run/checkpointer.lock
            /boot_id
            /agent.log

The API server, the kubelet and the runtime are simulated in threads of this process; the agent
is the real one, in its own.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import yaml

from checkpointer.simulation import api_writes, control_plane, mirrors, volumes
from checkpointer.simulation.agent_process import AgentProcess, agent_arguments
from checkpointer.simulation.alarms import Alarms
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.certificates import Authority, write_kubeconfig
from checkpointer.simulation.cluster import Cluster, Object
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.controllers import Controllers
from checkpointer.simulation.cri_server import CriServer
from checkpointer.simulation.kubelet import Kubelet, KubeletConfig
from checkpointer.simulation.programs import Programs
from checkpointer.simulation.runtime import Runtime
from checkpointer.simulation.runtime_records import ContainerRecord
from checkpointer.simulation.self_hosting import IMAGE, SelfHosting
from checkpointer.simulation.static_pods import SOURCE
from checkpointer.simulation.surroundings import Pace

Settings = dict[str, Any]


class SimulatedNode:
    """A node, running between `start` and `close`; also a context manager that does both.

    With `self_hosted` the API is served by the node's own kube-apiserver pods and the control
    plane is installed; without, it is somewhere else and always runs.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "node-1",
        *,
        self_hosted: bool = True,
        pace: Pace | None = None,
        api_start_seconds: float = 0.8,
    ) -> None:
        self.folder = folder
        self.name = name
        self.self_hosted = self_hosted
        self.kubeconfig = folder / "etc/kubernetes/kubelet.conf"
        self.manifest_folder = folder / "etc/kubernetes/manifests"
        self.store_folder = folder / "etc/kubernetes/checkpointer"
        self.kubelet_folder = folder / "var/lib/kubelet"
        self.boot_id_file = folder / "boot_id"
        self.agent_config_file = folder / "etc/checkpointer.yaml"
        self.authority = Authority()
        self.cluster = Cluster()
        self.alarms = Alarms()
        self.programs = Programs(control_plane.programs())
        self.runtime = Runtime(self.programs, self.alarms)
        self.cri = CriServer(self.runtime, folder / "run/cri.sock")
        self.api = ApiServer(self.cluster, self.authority, folder / "api")
        self.controllers = Controllers(self.api, name)
        self.agent = AgentProcess(agent_arguments(self.agent_config_file), folder / "agent.log")
        self.has_network = True
        self.kubelet: Kubelet | None = None
        self._pace = pace or Pace()
        self._hosting: SelfHosting | None = None
        if self_hosted:
            self._hosting = SelfHosting(self.api, self.runtime, self.alarms)
            self.programs.by_image[IMAGE] = self._hosting.program(api_start_seconds)

    def __enter__(self) -> SimulatedNode:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_pivoted(self) -> bool:
        """Tell whether the API is served by the node's own pods."""
        return self._hosting is not None and self._hosting.is_pivoted

    @property
    def errors(self) -> list[str]:
        """Return faults of the simulation itself: a test should find none."""
        kubelet = self.kubelet.errors if self.kubelet is not None else []
        return [*self.api.errors, *self.controllers.errors, *self.alarms.errors, *kubelet]

    def start(self) -> None:
        """Install the node and switch it on, with an API server to begin with."""
        for folder in (self.manifest_folder, self.kubelet_folder, self.folder / "run"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.kubelet_folder / "config.yaml").write_text(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
            f"staticPodPath: {self.manifest_folder}\n"
        )
        client = self.authority.client(f"system:node:{self.name}", "system:nodes")
        write_kubeconfig(self.kubeconfig, self.api.url, self.authority.certificate, client)
        mirrors.register_node(self.cluster, self.name, "127.0.0.1")
        self.cluster.apply("endpoints", control_plane.endpoints("127.0.0.1"))
        for namespace in ("default", control_plane.NAMESPACE):
            root_ca = control_plane.root_ca(namespace, self.authority)
            self.cluster.apply("configmaps", root_ca)
            self.cluster.apply("serviceaccounts", control_plane.named(namespace, "default"))
        if self.self_hosted:
            control_plane.install(self.cluster, self.authority, self.api.port)
        self.api.start(self.authority.serving("127.0.0.1", "localhost"))
        self.controllers.start()
        self.power_on()

    def close(self) -> None:
        """End everything; the folder stays."""
        self.agent.stop()
        self._stop_kubelet()
        self.cri.close()
        self.controllers.stop()
        self.alarms.close()
        self.api.stop()

    def power_on(self) -> None:
        """Boot: runtime and kubelet start; the agent is a service that its owner starts."""
        self.boot_id_file.write_text(f"{uuid.uuid4()}\n")
        self.cri.open()
        self.start_kubelet()

    def power_off(self) -> None:
        """Cut the power: every process ends at once, what was in memory is gone."""
        self.agent.kill()
        self._stop_kubelet()
        self.cri.close()
        self.runtime.lose_power()
        volumes.lose_tmpfs(self.kubelet_folder)

    def start_kubelet(self) -> None:
        """Start a kubelet that knows nothing yet."""
        config = KubeletConfig(
            self.name, self.kubelet_folder, self.manifest_folder, pace=self._pace
        )
        self.kubelet = Kubelet(config, self.api, self.runtime, lambda: self.has_network)
        self.kubelet.start()

    def restart_kubelet(self) -> None:
        """Stop the kubelet and start another; containers go on."""
        self._stop_kubelet()
        self.start_kubelet()

    def restart_runtime(self) -> None:
        """Restart the runtime's daemon; containers go on, connections do not."""
        self.cri.close()
        self.cri.open()

    def cut_network(self, mode: Mode = Mode.BLACK_HOLE) -> None:
        """Have the API server and registries out of reach, in the way given."""
        self.has_network = False
        self.api.mode = mode

    def restore_network(self) -> None:
        """Have all within reach again."""
        self.has_network = True
        self.api.mode = Mode.SERVING

    def add_daemonset(self, name: str, spec: Object, namespace: str = "kube-system") -> None:
        """Have one pod of this spec on the node, marked to be checkpointed; again: roll it out."""
        wanted = control_plane.controller(name, spec, namespace)
        self.cluster.apply("daemonsets", wanted)

    def add_deployment(
        self, name: str, spec: Object, namespace: str = "kube-system", replicas: int = 1
    ) -> None:
        """Have so many pods of this spec, marked to be checkpointed; again: roll them out."""
        wanted = control_plane.controller(name, spec, namespace, replicas=replicas)
        self.cluster.apply("deployments", wanted)

    def delete_pod(self, workload: str, namespace: str = "kube-system") -> None:
        """Delete the pods of one controller through the API, as an operator would."""
        for pod in self.pods(workload, namespace):
            api_writes.delete_pod(self.cluster, namespace, pod["metadata"]["name"])

    def pods(self, workload: str = "", namespace: str | None = None) -> list[Object]:
        """Return the API's own pods on this node, of one controller if named; no mirrors."""
        return [
            pod
            for pod in self.cluster.objects("pods", namespace)
            if pod["spec"].get("nodeName") == self.name
            and not mirrors.is_mirror(pod)
            and pod["metadata"]["name"].startswith(workload)
        ]

    def running(self, container: str = "") -> list[ContainerRecord]:
        """Return the running containers, of one name if given."""
        return [
            one
            for one in self.runtime.containers()
            if one.is_running and container in ("", one.config.name)
        ]

    def copies(self, container: str = "") -> list[ContainerRecord]:
        """Return the running containers of static pods."""
        return [one for one in self.running(container) if is_static(one)]

    def parents(self, container: str = "") -> list[ContainerRecord]:
        """Return the running containers of the API's pods."""
        return [one for one in self.running(container) if not is_static(one)]

    def manifests(self) -> set[str]:
        """Return the names that the kubelet would read in the manifest folder."""
        return {
            path.name for path in self.manifest_folder.iterdir() if not path.name.startswith(".")
        }

    def write_agent_config(self, **overrides: Any) -> Path:
        """Write the agent's configuration, with keys over those of `agent_configuration`."""
        settings = merged(agent_configuration(self), overrides)
        self.agent_config_file.parent.mkdir(parents=True, exist_ok=True)
        self.agent_config_file.write_text(yaml.safe_dump(settings))
        return self.agent_config_file

    def _stop_kubelet(self) -> None:
        if self.kubelet is not None:
            self.kubelet.stop()
            self.kubelet = None


def is_static(container: ContainerRecord) -> bool:
    """Tell whether the container's pod came from the manifest folder."""
    return container.sandbox.config.annotations.get(SOURCE) == "file"


def agent_configuration(node: SimulatedNode) -> Settings:
    """Return the agent's configuration for the node: its places, and times in seconds not minutes.

    `checkpointer.config` is the schema.
    """
    return {
        "apiVersion": "checkpointer.alpha.coreos.com/v1alpha1",
        "kind": "CheckpointerConfiguration",
        "nodeName": node.name,
        "kubeconfig": str(node.kubeconfig),
        "manifestDirectory": str(node.manifest_folder),
        "storeDirectory": str(node.store_folder),
        "kubeletDirectory": str(node.kubelet_folder),
        "runtimeEndpoint": node.cri.endpoint,
        "lockFile": str(node.folder / "run/checkpointer.lock"),
        "bootIDFile": str(node.boot_id_file),
        "timing": {"ready": "2s", "absent": "5s"},
        "contact": {"recovery": "1s", "healthyInterval": "1s"},
        "probe": {"jitter": "0s", "timeout": "1s"},
        "http": {"address": ""},  # a simulation must not take a port of this machine
    }


def merged(settings: Settings, overrides: Settings) -> Settings:
    """Return the settings with the overrides, group by group."""
    found = dict(settings)
    for key, value in overrides.items():
        inner = found.get(key)
        found[key] = merged(inner, value) if isinstance(inner, dict) else value
    return found
