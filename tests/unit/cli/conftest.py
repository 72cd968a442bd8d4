"""A node's folders, and a simulated API server that knows this node."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkpointer.__main__ import main
from checkpointer.core.checkpoint import Revision
from checkpointer.core.workload import Workload
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.certificates import Authority, write_kubeconfig
from checkpointer.simulation.cluster import Cluster
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.surroundings import Pace
from checkpointer.simulation.waiting import wait_until
from checkpointer.store.rendered import read_rendered
from checkpointer.store.revisions import NewRevision, Store

QUICK = Pace(
    list_seconds=0.02,
    sandbox_seconds=0.05,
    container_seconds=0.05,
    notice_seconds=0.05,
    backoff_seconds=0.5,
    recheck_seconds=0.2,
    mirror_seconds=0.1,
    relist_seconds=0.5,
    tick_seconds=0.02,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private folder with a path short enough for unix sockets, which pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="cpc-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def api(folder: Path) -> Iterator[ApiServer]:
    """A running API server, and `folder/kubelet.conf` for node-1."""
    authority = Authority()
    server = ApiServer(Cluster(), authority, folder / "api")
    server.start(authority.serving("127.0.0.1", "localhost"))
    client = authority.client("system:node:node-1", "system:nodes")
    write_kubeconfig(folder / "kubelet.conf", server.url, authority.certificate, client)
    yield server
    server.stop()
    assert server.errors == []


WORKLOAD = Workload("kube-system", "DaemonSet", "gateway")


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Stand:
    """A simulated node whose API is somewhere else, its store, and commands run on it."""

    node: SimulatedNode
    store: Store
    run: Callable[..., Answer]
    workload: Workload = WORKLOAD

    def add_revision(
        self, workload: Workload = WORKLOAD, image: str = "gateway:1", **changes: Any
    ) -> Revision:
        """Store a revision of one container on the host's network, with a secret volume."""

        def manifest_for(root: str) -> dict[str, Any]:
            container = {
                "name": "main",
                "image": image,
                "env": [{"name": "PASSWORD", "value": f"hunter2-{image}"}],
                "volumeMounts": [{"name": "certs", "mountPath": "/certs", "readOnly": True}],
            }
            volume = {"name": "certs", "hostPath": {"path": f"{root}/certs", "type": "Directory"}}
            return {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": workload.name, "namespace": workload.namespace},
                "spec": {
                    "hostNetwork": True,
                    "terminationGracePeriodSeconds": 2,
                    "containers": [container],
                    "volumes": [volume],
                },
            }

        usual = Revision(
            number=0,
            digest=f"digest-of-{image}",
            parent_uid="parent-uid",
            parent_name=f"{workload.name}-x7k2p",
            labels=(("k8s-app", workload.name),),
            app_containers=("main",),
            stage=1,
            shares_ports=False,
            created_at=1_700_000_000.0,
            host_ports=(8443,),
        )
        revision = replace(usual, **changes)
        folder = self.node.folder / "rendered" / image.replace(":", "-")
        (folder / "..1").mkdir(parents=True, exist_ok=True)
        (folder / "..1/tls.key").write_text(f"key of {image}")
        if not (folder / "..data").is_symlink():
            (folder / "..data").symlink_to("..1")
            (folder / "tls.key").symlink_to("..data/tls.key")
        volume = replace(read_rendered(folder, "kubernetes.io~secret", "certs", ()), name="certs")
        self.node.runtime.images.add(image)
        return self.store.add(NewRevision(workload, revision, manifest_for, (volume,)))

    def place(self, name: str, **spec: Any) -> Path:
        """Put somebody else's static pod into the manifest folder; wait until it runs."""
        path = self.node.manifest_folder / f"{name}.yaml"
        container = {"name": name, "image": f"{name}:1"}
        metadata = {"name": name, "namespace": "kube-system"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        path.write_text(
            yaml.safe_dump(
                {**pod, "spec": {"hostNetwork": True, "containers": [container], **spec}}
            )
        )
        wait_until(lambda: self.node.running(name), 5, f"{name} to run")
        return path


@pytest.fixture
def stand(folder: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Stand]:
    """A node without an agent, and its commands."""
    with SimulatedNode(folder, self_hosted=False, pace=QUICK) as node:
        config = node.write_agent_config()
        capfd.readouterr()

        def run(*arguments: str) -> Answer:
            try:
                status = main([*arguments, "--config", str(config)])
            except SystemExit as error:
                status = int(error.code or 0)
            captured = capfd.readouterr()
            assert "Traceback" not in captured.err
            return Answer(status, captured.out, captured.err)

        yield Stand(node, Store(node.store_folder), run)
    assert node.errors == []
