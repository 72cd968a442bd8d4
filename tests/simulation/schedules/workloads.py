"""The workloads that a simulated cluster consists of, and how their programs behave."""

from __future__ import annotations

from dataclasses import dataclass, replace

from checkpointer.core.workload import Workload

NAMESPACE = "kube-system"


@dataclass(frozen=True)
class Kind:
    """One workload: who it is, which ports it takes, what it is to the cluster."""

    name: str
    stage: int = 1
    ports: tuple[int, ...] = ()
    """On the host: two of them cannot run side by side."""
    is_declared: bool = False
    """Whether a copy still declares its ports: off the host's network. The kubelet's admission
    then refuses whichever pod comes second."""
    shares_a_port: bool = False
    """Whether its program binds with SO_REUSEPORT: two of them run, and get half each."""
    boot_seconds: float = 1.0
    """From its start to its readiness."""
    is_api: bool = False
    is_store: bool = False
    """Whether API servers need most of them, wherever these run."""
    is_controller: bool = False
    is_way: bool = False
    """Whether the node reaches the API through it."""
    beside: str = ""
    """The name of a second container, such as a plugin: it holds no port, serves nothing, and
    runs whatever becomes of the main one."""

    @property
    def main(self) -> str:
        """Return the container whose program holds the ports and does the work."""
        return self.name

    @property
    def containers(self) -> tuple[str, ...]:
        return (self.main, self.beside) if self.beside else (self.main,)

    @property
    def workload(self) -> Workload:
        return Workload(NAMESPACE, "DaemonSet", self.name)

    @property
    def on_host_network(self) -> bool:
        return bool(self.ports) and not self.is_declared


API = Kind("kube-apiserver", 0, (6443,), boot_seconds=2.0, is_api=True)
API_WITH_PLUGIN = replace(API, beside="kms")
"""With the plugin that decrypts its secrets, in one pod."""
ETCD = Kind("etcd", 0, (2379,), boot_seconds=45.0, is_store=True)
MANAGER = Kind("kube-controller-manager", 1, (10257,), is_controller=True)
DNS = Kind("coredns")
WAY = Kind("kube-vip", 0, (2112,), is_way=True)
PROXY = Kind("kube-proxy", 1, (10256,), shares_a_port=True)
GATEWAY = Kind("gateway", 1, (443,), is_declared=True)
