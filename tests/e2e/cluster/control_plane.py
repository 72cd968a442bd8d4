"""A control plane twice: as processes to begin with, and as pods of the cluster itself.

The processes serve on ports of their own, so both can run side by side until the pods are Ready:
no pod ever fails for a port that is taken.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.cluster.api import Api, ApiError, Object
from tests.e2e.cluster.binaries import Binaries
from tests.e2e.cluster.certificates import Authority, service_account_keys
from tests.e2e.cluster.machine import ADDRESS, OTHER_ADDRESS, Machine
from tests.e2e.cluster.processes import Process
from tests.e2e.cluster.waiting import wait_for

NAMESPACE = "kube-system"
READ = f"/api/v1/namespaces/{NAMESPACE}/pods?limit=1"
"""What the API server answers as soon as it serves at all, before it calls itself ready."""
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
WORKLOADS = (API_SERVER, CONTROLLER_MANAGER, SCHEDULER)
PORT = 6443
FIRST_PORT = 16443
"""Where the API server that is a process serves."""

CHECKPOINT_ANNOTATION = "checkpointer.alpha.coreos.com/checkpoint"
_MATERIAL = "/etc/kubernetes/material"


@dataclass(frozen=True, slots=True)
class Options:
    """What a test wants to be different about the control plane's pods."""

    share_port: bool = False
    """Whether API servers may listen beside each other (--permit-port-sharing)."""
    declared_ports: bool = False
    """Whether the API server's pod declares its host port."""
    node: str = ""
    """The one node that they are for, where the cluster has others."""
    flags: dict[str, list[str]] = field(default_factory=dict)
    """More flags, by workload."""


def image(workload: str, binaries: Binaries) -> str:
    return f"e2e.invalid/{workload}:{binaries.release}"


def material(authority: Authority) -> dict[str, str]:
    """Return the files that the control plane's programs are given, by name."""
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
    addresses = ["127.0.0.1", "10.96.0.1", ADDRESS, OTHER_ADDRESS]
    serving = authority.server("kube-apiserver", [*names, *addresses])
    kubelet_client = authority.client("kube-apiserver-kubelet-client", "system:masters")
    tokens = service_account_keys()
    return {
        "ca.crt": authority.pair.certificate,
        "ca.key": authority.pair.key,
        "apiserver.crt": serving.certificate,
        "apiserver.key": serving.key,
        "kubelet-client.crt": kubelet_client.certificate,
        "kubelet-client.key": kubelet_client.key,
        "sa.pub": tokens.certificate,
        "sa.key": tokens.key,
    }


class ProcessControlPlane:
    """API server, controller manager and scheduler as processes of the machine."""

    def __init__(self, machine: Machine, binaries: Binaries, authority: Authority) -> None:
        self._machine = machine
        self._binaries = binaries
        self._folder = machine.disk / "etc/kubernetes/first"
        self._folder.mkdir(exist_ok=True)
        for name, content in material(authority).items():
            (self._folder / name).write_text(content)
        for name in (CONTROLLER_MANAGER, SCHEDULER):
            server = f"https://127.0.0.1:{FIRST_PORT}"
            config = authority.kubeconfig(server, authority.client(f"system:{name}"))
            (self._folder / f"{name}.conf").write_text(config)
        self._processes: list[Process] = []
        self.api_start_seconds = 0.0
        """How long the API server took to be ready: what this machine can do at best."""

    def start(self, api: Api) -> None:
        """Start all three; return when the API is ready."""
        self.start_api_server(api)
        self.start_controllers()

    def start_controllers(self) -> None:
        """Start controller manager and scheduler."""
        folder = Path("/etc/kubernetes/first")
        short_lease = [
            *("--leader-elect-lease-duration=8s", "--leader-elect-renew-deadline=6s"),
            "--leader-elect-retry-period=1s",
        ]
        for name, flags in (
            (CONTROLLER_MANAGER, [*controller_manager_flags(folder), "--secure-port=20257"]),
            (SCHEDULER, [*scheduler_flags(), "--secure-port=20259"]),
        ):
            self._start(name, [f"--kubeconfig={folder}/{name}.conf", *flags, *short_lease])

    def start_api_server(self, api: Api) -> None:
        """Start that one alone, and return when it is ready."""
        self._start(API_SERVER, api_server_flags(Path("/etc/kubernetes/first"), FIRST_PORT))

        def is_ready() -> bool:
            self.require()
            return api.is_ready()

        wait_for("the first API server", is_ready, 60, 0.02)
        self.api_start_seconds = time.monotonic() - self._processes[0].started

    def stop(self) -> None:
        """Stop them, the API server last, and remove what they were given."""
        for process in reversed(self._processes):
            process.stop()
        for file in self._folder.iterdir():
            file.unlink()

    def _start(self, name: str, flags: list[str]) -> None:
        process = self._machine.start(f"first-{name}", self._binaries[name], *flags)
        self._processes.append(process)

    def require(self) -> None:
        """Raise AssertionError if one of them ended by itself."""
        for process in self._processes:
            process.require()

    def forget(self) -> None:
        """Take note that they ended with their machine."""
        self._processes = []


def api_server_flags(folder: Path, port: int) -> list[str]:
    return [
        f"--advertise-address={ADDRESS}",
        "--allow-privileged",
        "--authorization-mode=Node,RBAC",
        f"--client-ca-file={folder}/ca.crt",
        "--enable-admission-plugins=NodeRestriction",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--kubelet-client-certificate={folder}/kubelet-client.crt",
        f"--kubelet-client-key={folder}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--secure-port={port}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder}/sa.pub",
        f"--service-account-signing-key-file={folder}/sa.key",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--tls-cert-file={folder}/apiserver.crt",
        f"--tls-private-key-file={folder}/apiserver.key",
    ]


def controller_manager_flags(folder: Path) -> list[str]:
    return [
        f"--cluster-signing-cert-file={folder}/ca.crt",
        f"--cluster-signing-key-file={folder}/ca.key",
        "--node-monitor-grace-period=600s",  # a power cut is not to taint the only node
        f"--root-ca-file={folder}/ca.crt",
        f"--service-account-private-key-file={folder}/sa.key",
        "--use-service-account-credentials",
    ]


def scheduler_flags() -> list[str]:
    return []


def create_pods(api: Api, authority: Authority, binaries: Binaries, options: Options) -> None:
    """Create the control plane as objects of the API it is going to serve."""
    _prepare_namespace(api, authority)
    for workload in WORKLOADS:
        template = _template(workload, binaries, options, [])
        spec: Object = {"selector": {"matchLabels": {"app": workload}}, "template": template}
        if workload != API_SERVER:
            # One pod at a time: the new one could not be Ready beside the old, on one node.
            spec |= {"replicas": 1, "strategy": {"type": "Recreate"}}
        kind = "DaemonSet" if workload == API_SERVER else "Deployment"
        api.create(_collection(workload), _object("apps/v1", kind, workload, spec=spec))


def template_patch(
    workload: str, binaries: Binaries, options: Options, more_flags: list[str]
) -> tuple[str, Object]:
    """Return the path of a workload and the merge patch that gives its template more flags."""
    template = _template(workload, binaries, options, more_flags)
    return f"{_collection(workload)}/{workload}", {"spec": {"template": template}}


def _collection(workload: str) -> str:
    plural = "daemonsets" if workload == API_SERVER else "deployments"
    return f"/apis/apps/v1/namespaces/{NAMESPACE}/{plural}"


def _template(workload: str, binaries: Binaries, options: Options, more_flags: list[str]) -> Object:
    folder = Path(_MATERIAL)
    flags = {
        API_SERVER: [
            *api_server_flags(folder, PORT),
            *(["--permit-port-sharing=true"] if options.share_port else []),
        ],
        CONTROLLER_MANAGER: controller_manager_flags(folder),
        SCHEDULER: scheduler_flags(),
    }[workload]
    command = [f"/{workload}", *flags, *options.flags.get(workload, []), *more_flags]
    return _pod_template(workload, command, image(workload, binaries), options)


def _prepare_namespace(api: Api, authority: Authority) -> None:
    core = f"/api/v1/namespaces/{NAMESPACE}"
    wait_for("the namespace's default service account", lambda: _exists(api, core), 60)
    secret = _object("v1", "Secret", "control-plane", stringData=material(authority))
    api.create(f"{core}/secrets", secret)
    for name, roles in (
        (CONTROLLER_MANAGER, ["system:kube-controller-manager"]),
        (SCHEDULER, ["system:kube-scheduler", "system:volume-scheduler"]),
    ):
        api.create(f"{core}/serviceaccounts", _object("v1", "ServiceAccount", name))
        subject = {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        for role in roles:
            api.create(f"{rbac}/clusterrolebindings", _binding("ClusterRole", role, subject))
        reader = _binding("Role", "extension-apiserver-authentication-reader", subject)
        api.create(f"{rbac}/namespaces/{NAMESPACE}/rolebindings", reader)


def _exists(api: Api, core: str) -> bool:
    try:
        return bool(api.get(f"{core}/serviceaccounts/default"))
    except ApiError:
        return False


def _binding(kind: str, role: str, subject: Object) -> Object:
    binding = "ClusterRoleBinding" if kind == "ClusterRole" else "RoleBinding"
    group = "rbac.authorization.k8s.io"
    return _object(
        f"{group}/v1",
        binding,
        f"e2e:{role.removeprefix('system:')}:{subject['name']}",
        roleRef={"apiGroup": group, "kind": kind, "name": role},
        subjects=[subject],
    )


def _pod_template(workload: str, command: list[str], image: str, options: Options) -> Object:
    port, path = {
        API_SERVER: (PORT, "/readyz"),
        CONTROLLER_MANAGER: (10257, "/healthz"),
        SCHEDULER: (10259, "/healthz"),
    }[workload]
    # Through the loopback address: a network that is cut must not make a serving pod unready.
    check = {"host": "127.0.0.1", "port": port, "path": path, "scheme": "HTTPS"}
    container: Object = {
        "name": workload,
        "image": image,
        "command": command,
        "readinessProbe": {"httpGet": check, "periodSeconds": 1, "failureThreshold": 3},
    }
    spec: Object = {
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    if options.node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": options.node}
    if workload != SCHEDULER:
        container["volumeMounts"] = [{"name": "material", "mountPath": _MATERIAL, "readOnly": True}]
        spec["volumes"] = [{"name": "material", "secret": {"secretName": "control-plane"}}]
    if workload == API_SERVER:
        if options.declared_ports:
            container["ports"] = [{"containerPort": PORT, "hostPort": PORT}]
    else:
        spec["serviceAccountName"] = workload
        # There is no kube-proxy: the service address would lead nowhere.
        container["env"] = [
            {"name": "KUBERNETES_SERVICE_HOST", "value": "127.0.0.1"},
            {"name": "KUBERNETES_SERVICE_PORT", "value": str(PORT)},
        ]
    metadata = {"labels": {"app": workload}, "annotations": {CHECKPOINT_ANNOTATION: "true"}}
    return {"metadata": metadata, "spec": spec}


def _object(version: str, kind: str, name: str, **content: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **content}


def describe(pods: list[Object]) -> str:
    """Return one line that tells the state of each pod, for messages."""
    lines = []
    for pod in pods:
        statuses = pod.get("status", {}).get("containerStatuses", [])
        states = [json.dumps(s.get("state")) for s in statuses]
        lines.append(f"{pod['metadata']['name']}: {pod['status'].get('phase')} {states}")
    return "; ".join(lines)
