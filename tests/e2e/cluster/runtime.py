"""etcd and containerd of a machine: the services that are there before the kubelet."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from checkpointer.core.facts import Known
from checkpointer.node.cri import ContainerRuntime
from tests.e2e.cluster import images
from tests.e2e.cluster.binaries import Binaries, may_raise_priority
from tests.e2e.cluster.machine import Machine
from tests.e2e.cluster.processes import Process
from tests.e2e.cluster.waiting import wait_for

SOCKET = "/run/containerd/containerd.sock"
POD_NETWORK = "10.244.0.0/24"


def start_etcd(machine: Machine, binaries: Binaries) -> Process:
    """Start etcd on its data and return it when it answers."""
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    etcd = machine.start(
        "etcd",
        *(binaries.etcd, "--name=e2e", "--data-dir=/var/lib/etcd"),
        *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
        *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
        f"--initial-cluster=e2e={peer}",
    )

    def answers() -> bool:
        etcd.require()
        with machine.network.connect(("127.0.0.1", 2379), 1) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return b'"true"' in connection.recv(4096)

    wait_for("etcd to be healthy", answers, 30, interval=0.02)
    return etcd


class Containerd:
    """containerd on the machine's disk; its state is in /run, so a power cut loses it."""

    def __init__(self, machine: Machine, binaries: Binaries) -> None:
        self._machine = machine
        folder = machine.disk / "etc/kubernetes/containerd"
        (folder / "net.d").mkdir(parents=True)
        (folder / "config.toml").write_text(_config(binaries.cni))
        (folder / "net.d/10-e2e.conflist").write_text(json.dumps(_network()))

    def start(self) -> Process:
        """Start it and return it when it answers a kubelet, which would end if it did not.

        Its CRI plugin refuses all calls for a while after the rest answers.
        """
        process = self._machine.start(
            "containerd", "containerd", "--config", "/etc/kubernetes/containerd/config.toml"
        )
        endpoint = f"unix://{self._machine.root}{SOCKET}"

        def answers() -> bool:
            process.require()
            with contextlib.closing(ContainerRuntime(endpoint)) as runtime:
                return isinstance(runtime.version(), Known)

        wait_for("containerd to answer", answers, 30, interval=0.02)
        return process

    def load_image(self, reference: str, program: Path) -> None:
        """Make an image of one static program and put it among the node's images."""
        self._import(reference, program.name, program.read_bytes())

    def load_pause(self) -> None:
        self._import(images.PAUSE, "pause", images.pause_program())

    def running(self, container: str) -> dict[str, int]:
        """Return the ids of the running containers of this name, each with its process id."""
        label = f'labels."io.kubernetes.container.name"=={container}'
        named = self._ctr("containers", "ls", "-q", label).split()
        tasks = [line.split() for line in self._ctr("tasks", "ls").splitlines()[1:]]
        return {i: int(pid) for i, pid, state in tasks if i in named and state == "RUNNING"}

    def sandboxes(self) -> set[str]:
        """Return the ids of all sandboxes that run."""
        known = self._ctr("containers", "ls", "-q", 'labels."io.cri-containerd.kind"==sandbox')
        tasks = [line.split() for line in self._ctr("tasks", "ls").splitlines()[1:]]
        return {i for i, _, state in tasks if i in known.split() and state == "RUNNING"}

    def kill(self, container: str) -> None:
        """Kill the one running container of this name; its sandbox stays."""
        (identity,) = self.running(container)
        self._ctr("tasks", "kill", "--signal", "SIGKILL", identity)

    def forget_containers(self) -> None:
        """Delete the records of all containers, of sandboxes too; none may be running.

        The CRI plugin reads them when containerd starts, so it has to be started again.
        """
        known = self._ctr("containers", "ls", "-q").split()
        if known:
            self._ctr("containers", "rm", *known)

    def _import(self, reference: str, program: str, content: bytes) -> None:
        archive = self._machine.disk / f"{program}.tar"
        images.write_archive(archive, reference, program, content)
        self._ctr("images", "import", str(archive))
        archive.unlink()

    def _ctr(self, *arguments: str) -> str:
        return self._machine.run("ctr", "-n", "k8s.io", *arguments, seconds=120)


def _config(cni: Path) -> str:
    limit_priority = "false" if may_raise_priority() else "true"
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{images.PAUSE}"
restrict_oom_score_adj = {limit_priority}
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni}"
conf_dir = "/etc/kubernetes/containerd/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""


def _network() -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": POD_NETWORK}]]},
    }
    host_ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "e2e", "plugins": [bridge, host_ports]}
