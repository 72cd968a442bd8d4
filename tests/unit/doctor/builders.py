"""A node on which all is well, for tests to spoil one thing at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from checkpointer.config import Config
from checkpointer.core.checkpoint import Checkpoint, Record, Revision
from checkpointer.core.contact import ProbeOutcome, ProbeResult
from checkpointer.core.facts import Known
from checkpointer.core.moment import Moment
from checkpointer.core.observation import KubeletRun
from checkpointer.core.runtime import Container, ContainerState, Runtime
from checkpointer.core.workload import Workload
from checkpointer.doctor.checks import CHECKS
from checkpointer.doctor.facts import AgentSays, ApiView, Examined, Facts, SelectedPod
from checkpointer.doctor.result import Answer
from checkpointer.node.agent_lock import AgentLock
from checkpointer.node.certificates import NodeIdentity, Validity
from checkpointer.node.cri import RuntimeVersion
from checkpointer.node.disk import Place
from checkpointer.node.kubelet_settings import KubeletSettings
from checkpointer.node.static_pods import StaticPod

NOW = 1_800_000_000.0
DAY = 86400.0
WEB = Workload("kube-system", "DaemonSet", "web")
MANIFESTS = Path("/etc/kubernetes/manifests")
STORE = Path("/etc/kubernetes/checkpointer")

REVISION = Revision(
    number=3,
    digest="d3",
    parent_uid="uid-1",
    parent_name="web-abcde",
    labels=(("app", "web"),),
    app_containers=("web",),
    stage=1,
    shares_ports=False,
    created_at=NOW - 60,
    host_ports=(8080,),
)

PLACE = Place(
    path=STORE,
    exists=True,
    kind="ext4",
    is_read_only=False,
    free_bytes=50 << 30,
    total_bytes=100 << 30,
    free_inodes=1_000_000,
    total_inodes=2_000_000,
    owner=0,
    mode=0o755,
)

EXAMINED = Examined(
    Checkpoint(WEB, (REVISION,), Record(parents=("uid-1",))),
    Known(()),
    Known(frozenset()),
    Known(frozenset()),
    Known(NOW + 300 * DAY),
)

POD = SelectedPod(WEB, "web-abcde", 1, is_ready=True, digest="d3")

IDENTITY = NodeIdentity(
    server="https://api:6443",
    authorities=(Validity("CN=kubernetes", NOW - 365 * DAY, NOW + 3285 * DAY),),
    certificate=Validity("O=system:nodes,CN=system:node:edge-07", NOW - 100 * DAY, NOW + 265 * DAY),
)

AGENT = StaticPod(
    "pod-checkpointer-kube-system-daemonset-agent-1.json",
    "kube-system",
    "agent",
    is_ours=True,
    is_marked=True,
    host_paths=(str(STORE), str(MANIFESTS), "/run"),
    images=("registry.example/agent:1",),
)

CONTAINER = Container(
    "c1", "s1", "web", "kube-system", "web-abcde", "uid-1", 0, ContainerState.RUNNING, 1, "web:1"
)


def healthy(**changes: Any) -> Facts:
    """Return the facts of a node on which every check passes, but for the changes."""
    facts = Facts(
        config=Config(),
        node_name="edge-07",
        moment=Moment("boot-1", 5 * DAY, NOW),
        is_root=True,
        manifest_folder=MANIFESTS,
        kubelet=Known(KubeletSettings("config.yaml", MANIFESTS, "unix:///run/cri.sock")),
        kubelet_run=Known(KubeletRun("run-1", 1, listening=True)),
        kubelet_version=Known("Kubernetes v1.36.2"),
        runtime_endpoint="unix:///var/run/cri.sock",
        runtime=Known(RuntimeVersion("containerd", "1.6.20", "v1")),
        containers=Known(Runtime((), (CONTAINER,))),
        identity=Known(IDENTITY),
        probes=Known({"https://api:6443": ProbeResult(ProbeOutcome.ANSWERED, "HTTP 200")}),
        api=Known(ApiView(Known((POD,)), Known(0.0), Known("v1.36.2"))),
        is_synchronized=Known(value=True),
        store_place=Known(PLACE),
        store_safety="",
        manifest_place=Known(replace(PLACE, path=MANIFESTS)),
        examined=Known((EXAMINED,)),
        store_problems=(),
        static_pods=Known((AGENT, StaticPod("etcd.yaml", "kube-system", "etcd"))),
        lock=Known(AgentLock(is_held=True, is_in_pod=True)),
        agent=Known(AgentSays("reachable", "HTTP 200")),
    )
    return replace(facts, **changes)


def ask(name: str, **changes: Any) -> list[Answer]:
    """Return what one check says of a healthy node with these changes."""
    return list(CHECKS[name](healthy(**changes)))
