"""Makes pods as a kubelet would, through the CRI: sandboxes and containers with its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import Message

from checkpointer.node import cri_v1_pb2 as pb
from checkpointer.node.cri_connection import Answer, Connection, Method
from tests.containerd.harness import TEST_IMAGE, RealContainerd

_DEADLINE_SECONDS = 30.0
_RUN_SANDBOX = Method("RuntimeService", "RunPodSandbox", pb.RunPodSandboxResponse)
_STOP_SANDBOX = Method("RuntimeService", "StopPodSandbox", pb.StopPodSandboxResponse)
_REMOVE_SANDBOX = Method("RuntimeService", "RemovePodSandbox", pb.RemovePodSandboxResponse)
_LIST_SANDBOXES = Method("RuntimeService", "ListPodSandbox", pb.ListPodSandboxResponse)
_CREATE = Method("RuntimeService", "CreateContainer", pb.CreateContainerResponse)
_START = Method("RuntimeService", "StartContainer", pb.StartContainerResponse)


@dataclass(frozen=True)
class Pod:
    """Who a pod is, to the kubelet."""

    uid: str
    name: str = "api-x7k2p"
    namespace: str = "kube-system"
    attempt: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def kubelet_labels(self) -> dict[str, str]:
        """Return the labels that the kubelet adds (kuberuntime/labels.go)."""
        return {
            "io.kubernetes.pod.name": self.name,
            "io.kubernetes.pod.namespace": self.namespace,
            "io.kubernetes.pod.uid": self.uid,
        }


class Pods:
    """Runs pods on a containerd."""

    def __init__(self, containerd: RealContainerd) -> None:
        self._endpoint = containerd.endpoint
        self._cgroup_parent = containerd.cgroup_parent
        self._logs = containerd.folder / "logs"

    def run_sandbox(self, pod: Pod) -> str:
        """Run a sandbox in the host's network and return its id."""
        request = pb.RunPodSandboxRequest(config=self._sandbox_config(pod))
        return self._call(_RUN_SANDBOX, request).pod_sandbox_id

    def create(
        self, pod: Pod, sandbox_id: str, name: str, command: Sequence[str], attempt: int = 0
    ) -> str:
        """Create a container, not started, and return its id."""
        request = pb.CreateContainerRequest(
            pod_sandbox_id=sandbox_id,
            config=pb.ContainerConfig(
                metadata=pb.ContainerMetadata(name=name, attempt=attempt),
                image=pb.ImageSpec(image=TEST_IMAGE),
                command=command,
                labels={"io.kubernetes.container.name": name, **pod.kubelet_labels},
                annotations={"io.kubernetes.container.restartCount": str(attempt)},
                log_path=f"{name}/{attempt}.log",
                linux=pb.LinuxContainerConfig(
                    security_context=pb.LinuxContainerSecurityContext(
                        namespace_options=_HOST_NETWORK
                    )
                ),
            ),
            sandbox_config=self._sandbox_config(pod),
        )
        (self._log_folder(pod) / name).mkdir(parents=True, exist_ok=True)
        return self._call(_CREATE, request).container_id

    def start(self, container_id: str) -> None:
        """Start a created container."""
        request = pb.StartContainerRequest(container_id=container_id)
        self._call(_START, request)

    def run(
        self, pod: Pod, sandbox_id: str, name: str, command: Sequence[str], attempt: int = 0
    ) -> str:
        """Create and start a container and return its id."""
        container_id = self.create(pod, sandbox_id, name, command, attempt)
        self.start(container_id)
        return container_id

    def remove_all(self) -> None:
        """Stop and remove every sandbox with its containers."""
        listed = self._call(_LIST_SANDBOXES, pb.ListPodSandboxRequest())
        for sandbox in listed.items:
            stop = pb.StopPodSandboxRequest(pod_sandbox_id=sandbox.id)
            self._call(_STOP_SANDBOX, stop)
            remove = pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id)
            self._call(_REMOVE_SANDBOX, remove)

    def _call(self, method: Method[Answer], request: Message) -> Answer:
        with Connection(self._endpoint) as connection:
            return connection.call(method, request, _DEADLINE_SECONDS)

    def _sandbox_config(self, pod: Pod) -> pb.PodSandboxConfig:
        return pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(
                name=pod.name, uid=pod.uid, namespace=pod.namespace, attempt=pod.attempt
            ),
            log_directory=str(self._log_folder(pod)),
            labels={**pod.labels, **pod.kubelet_labels},
            annotations=pod.annotations,
            linux=pb.LinuxPodSandboxConfig(
                cgroup_parent=self._cgroup_parent,
                security_context=pb.LinuxSandboxSecurityContext(namespace_options=_HOST_NETWORK),
            ),
        )

    def _log_folder(self, pod: Pod) -> Path:
        return self._logs / f"{pod.namespace}_{pod.name}_{pod.uid}"


_HOST_NETWORK = pb.NamespaceOption(network=pb.NODE)
