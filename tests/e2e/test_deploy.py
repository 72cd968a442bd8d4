"""The image as the DaemonSet of the manifests, with nothing else set up: from first to last.

E2E_IMAGE  a docker-archive of the image, tagged `localhost/pod-checkpointer:dev` (docs/testing.md);
           without it this is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.cluster.agent import MANIFEST_PREFIX
from tests.e2e.cluster.control_plane import NAMESPACE, WORKLOADS
from tests.e2e.cluster.kubelet import NODE
from tests.e2e.cluster.machine import POD_BOOT_ID
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.waiting import DeadlineError, wait_for
from tests.e2e.conftest import Maker
from tests.e2e.power_cycle import CYCLES, PowerCycle, tell_of_many
from tests.e2e.summary import Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

MANIFESTS = Path(__file__).parents[2] / "manifests"
NAME = "pod-checkpointer"
IMAGE = "localhost/pod-checkpointer"
BOOT_ID = [
    {
        "op": "add",
        "path": "/spec/template/spec/containers/0/env/-",
        "value": {"name": "CHECKPOINTER_BOOT_ID_FILE", "value": f"/{POD_BOOT_ID}"},
    }
]
"""A container has a /proc of its own: there the boot of a machine is that of its host."""
ACTIVATION_SECONDS = 10.0
"""From the kubelet's start: it makes the agent's pod first, which a process of its own is not."""
SERVING_SECONDS = 20.0


class Deployment:
    """What an operator does with kubectl, and what is then on the node."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node, self._folder = node, folder
        program = shutil.which("kubectl", path=sysconfig.get_path("scripts")) or "kubectl"
        config = node.machine.disk / "etc/kubernetes/admin.conf"
        config.write_text(node.admin_kubeconfig())
        self._kubectl = [program, "--kubeconfig", str(config)]

    def apply(self, tag: str) -> None:
        kustomization = {
            "resources": [f"{os.path.relpath(MANIFESTS, self._folder)}/base"],
            "images": [{"name": IMAGE, "newTag": tag}],
            "patches": [{"target": {"kind": "DaemonSet"}, "patch": json.dumps(BOOT_ID)}],
        }
        (self._folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        self.node.machine.run(*self._kubectl, "apply", "-k", self._folder)

    def delete(self) -> None:
        self.node.machine.run(*self._kubectl, "delete", "--wait=false", "-k", self._folder)

    def own_copy(self) -> str | None:
        """Return the image of the agent's own copy, as its manifest has it."""
        for path in self.node.manifests.glob(f"{MANIFEST_PREFIX}*"):
            pod = json.loads(path.read_text())
            if pod["metadata"]["labels"].get("app.kubernetes.io/name") == NAME:
                return str(pod["spec"]["containers"][0]["image"])
        return None

    def other_copies(self) -> int:
        manifests = len(list(self.node.manifests.glob(f"{MANIFEST_PREFIX}*")))
        return manifests - (self.own_copy() is not None)

    def images(self) -> list[str]:
        """Return the images of the agent's pods that are Ready, as the API has them."""
        return sorted(
            pod["spec"]["containers"][0]["image"]
            for pod in self.node.pods()
            if pod["metadata"]["labels"].get("app.kubernetes.io/name") == NAME
            and any(
                c["type"] == "Ready" and c["status"] == "True"
                for c in pod["status"].get("conditions", [])
            )
        )

    def is_settled(self, tag: str) -> bool:
        """Return whether the pod and its copy run this version, and no other copy is active."""
        image = f"{IMAGE}:{tag}"
        return (
            self.own_copy() == image
            and self.images() == [image, image]
            and len(self.node.containerd.running(NAME)) == 2
            and self.other_copies() == 0
        )

    def condition(self) -> bool:
        """Return whether the node tells of its checkpoints, by its condition."""
        told = self.node.api.get(f"/api/v1/nodes/{NODE}")["status"]["conditions"]
        return any(one["type"] == "CheckpointsReady" for one in told)

    def remains(self) -> list[str]:
        """Return what there is of ours on the node."""
        found = [*self.node.manifests.glob(f"{MANIFEST_PREFIX}*"), *self.node.store.rglob("*")]
        return [*map(str, found), *self.node.containerd.running(NAME)]

    def wait(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        def holds_now() -> bool:
            self.node.check_processes()
            return holds()

        try:
            wait_for(what, holds_now, seconds)
        except DeadlineError as error:
            logs = (self.node.machine.disk / "var/log/pods").glob(f"{NAMESPACE}_{NAME}*/*/*.log")
            tails = [f"{path}:\n{path.read_text()[-3000:]}" for path in logs]
            told = [f"{error}", f"remains: {self.remains()[:20]}", self.node.describe(), *tails]
            raise DeadlineError("\n".join(told)) from None


@pytest.fixture
def deployment(maker: Maker, tmp_path: Path) -> Iterator[Deployment]:
    """A node of its own that has the image, and no agent."""
    archive = os.environ.get("E2E_IMAGE")
    if not archive:
        pytest.skip("E2E_IMAGE is not set: no image to deploy")
    node = maker.node()
    try:
        node.build()
        node.machine.run("ctr", "-n", "k8s.io", "images", "import", archive, seconds=120)
        node.machine.run("ctr", "-n", "k8s.io", "images", "tag", f"{IMAGE}:dev", f"{IMAGE}:next")
        yield Deployment(node, tmp_path)
    finally:
        node.remove()


@pytest.fixture
def protected(deployment: Deployment, record: Record) -> Deployment:
    """The node after one apply: the agent, its copy, and a checkpoint of each parent."""
    begun = time.monotonic()
    deployment.apply("dev")
    deployment.wait("the agent and its copy", lambda: deployment.is_settled("dev"), 120)
    deployment.node.wait_for_checkpoints(60)
    record.seconds("from apply to protected", time.monotonic() - begun)
    return deployment


def cycle(protected: Deployment, record: Record) -> PowerCycle:
    """Cut the power and restore it; return when parents and the agent's pod are as before."""
    node = protected.node
    with node.watch_service() as service, node.watch_manifests() as folder:
        node.power_cut()
        booted = time.time()
        start = node.power_on(with_agent=False)
        protected.wait("the API", node.api.is_ready, 120)
        protected.wait(
            "the parents to return, and the pod to be parked again",
            lambda: (
                node.is_ready(since=booted)
                and protected.is_settled("dev")
                and all(len(node.containerd.running(name)) == 1 for name in WORKLOADS)
            ),
            300,
        )
    seen = PowerCycle(start, service, folder)
    seen.tell(record)
    return seen


def test_deployed_agent_boots_alone_is_upgraded_and_leaves(
    protected: Deployment, record: Record
) -> None:
    """One apply protects the node, a boot with no API is survived, one delete leaves nothing."""
    node = protected.node
    protected.wait("the node's condition", protected.condition, 60)
    seen = cycle(protected, record)
    record.seconds("kubelet's start to all returned", time.monotonic() - seen.start)

    begun = time.monotonic()
    protected.apply("next")
    protected.wait("the upgrade", lambda: protected.is_settled("next"), 240)
    record.seconds("upgrade", time.monotonic() - begun)

    begun = time.monotonic()
    protected.delete()
    protected.wait("nothing to be left", lambda: protected.remains() == [], 240)
    record.seconds("uninstall", time.monotonic() - begun)
    assert node.is_ready()
    node.wait_for_kubelet()  # whose own report must not bring it back
    assert not protected.condition()


def test_power_cycles_with_the_agent_as_a_pod(
    protected: Deployment, record: Record, patience: float
) -> None:
    """The kubelet starts the agent's copy with no API, and that the API: each time anew."""
    runs = [cycle(protected, record) for _ in range(CYCLES)]
    tell_of_many(record, runs)
    for run in runs:
        assert run.activation is not None
        assert run.activation <= ACTIVATION_SECONDS * patience
        assert run.serving is not None
        assert run.serving <= SERVING_SECONDS * patience
