"""The simulated node as a whole: a self-hosted control plane that dies with its node."""

from __future__ import annotations

import base64
import json
import os
import signal
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from checkpointer import config
from checkpointer.simulation import control_plane, pod_status
from checkpointer.simulation.agent_process import AgentProcess
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.scenario import StepFailedError, Story
from checkpointer.simulation.timeline import Timeline
from checkpointer.simulation.waiting import TimedOutError, wait_until


def is_up(node: SimulatedNode) -> bool:
    ready = [pod for pod in node.pods() if pod_status.is_ready(pod)]
    return node.is_pivoted and len(ready) == len(control_plane.WORKLOADS)


def test_control_plane_serves_its_own_api(self_hosted_node: SimulatedNode) -> None:
    """After the pivot the API lives and dies with the node's own kube-apiserver."""
    node = self_hosted_node
    wait_until(lambda: is_up(node), 10, "the control plane")
    (server,) = node.parents("kube-apiserver")
    node.runtime.kill(server.id)
    assert not node.api.is_running
    wait_until(lambda: node.api.is_running, 5, "its restart")


def test_node_without_its_api_server_stays_dark(self_hosted_node: SimulatedNode) -> None:
    """The problem that the agent solves: no API, no pods; no pods, no API."""
    node = self_hosted_node
    wait_until(lambda: is_up(node), 10, "the control plane")
    node.power_off()
    assert node.running() == []
    node.power_on()
    with pytest.raises(TimedOutError):
        wait_until(lambda: node.running() or node.api.is_running, 0.5, "any sign of life")


@pytest.mark.parametrize("has_key", [True, False], ids=["with its material", "without"])
def test_copy_of_the_api_server_needs_its_material(
    self_hosted_node: SimulatedNode, has_key: bool
) -> None:
    """A copy with the parent's certificates brings the API back; one without does not."""
    node = self_hosted_node
    wait_until(lambda: is_up(node), 10, "the control plane")
    secret = node.cluster.get("secrets", "kube-system", "kube-apiserver")
    assert secret is not None
    node.power_off()
    material = node.folder / "material"
    material.mkdir()
    for name, value in secret["data"].items():
        if has_key or name != "tls.key":
            (material / name).write_bytes(base64.b64decode(value))
    mount = {"name": "secrets", "mountPath": "/etc/kubernetes/secrets"}
    image = "registry.k8s.io/kube-apiserver:v1.36.2"
    container = {"name": "kube-apiserver", "image": image, "volumeMounts": [mount]}
    volume = {"name": "secrets", "hostPath": {"path": str(material), "type": "Directory"}}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "copy", "namespace": "kube-system"},
        "spec": {"hostNetwork": True, "containers": [container], "volumes": [volume]},
    }
    (node.manifest_folder / "copy.json").write_text(json.dumps(manifest))
    node.power_on()
    if has_key:
        wait_until(lambda: node.api.answers_node, 5, "the API")
        wait_until(lambda: node.parents("kube-scheduler"), 5, "the other pods")
    else:
        attempts = node.runtime.containers
        wait_until(lambda: any(one.exit_code == 1 for one in attempts()), 5, "its failure")
        assert not node.api.is_running


def test_cut_network_is_not_a_dead_server(node: SimulatedNode) -> None:
    """A cut changes what the node sees; the cluster's controllers go on elsewhere."""
    node.cut_network(Mode.REFUSED)
    assert node.api.is_running
    assert not node.api.answers_node
    node.add_daemonset("late", {"containers": [{"name": "late", "image": "late"}]})
    wait_until(lambda: node.pods("late"), 5, "the pod's object")
    assert node.running() == []
    node.restore_network()
    wait_until(lambda: node.parents("late"), 5, "the pod")


def test_agent_configuration_is_valid(node: SimulatedNode) -> None:
    """The file is one that the agent takes, and overrides go into their group."""
    path = node.write_agent_config(timing={"grace": "1s"})
    settings = config.load(path.read_text())
    assert settings.node_name == "node-1"
    assert settings.timing.grace_seconds == 1.0
    assert settings.timing.ready_seconds == 2.0


def test_agent_process_is_ended_by_force_if_need_be(tmp_path: Path) -> None:
    """SIGTERM first; what it wrote can be read."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    agent = AgentProcess(("-c", code), tmp_path / "log")
    agent.stop_seconds = 0.2
    agent.start()
    wait_until(lambda: agent.last_lines() == ["deaf"], 5, "its first words")
    assert agent.stop() == -signal.SIGKILL
    assert not agent.is_running


def test_story_names_the_step_that_was_not_seen(self_hosted_node: SimulatedNode) -> None:
    """With an agent that does nothing, the step it owes is named."""
    node = self_hosted_node
    node.agent = AgentProcess(("-c", "import time; time.sleep(60)"), node.folder / "agent.log")
    told = StringIO()
    story = Story(node, Timeline(Console(file=told)), patience=0.2)
    with pytest.raises(StepFailedError, match="stored a checkpoint"):
        story.play()
    assert [act.ok for act in story.acts] == [False]
    assert "control plane is up" in told.getvalue()
    assert story.scene.has_foreign_files()
    foreign = node.manifest_folder / "pod-checkpointer-mine.json"
    os.utime(foreign)
    assert not story.scene.has_foreign_files()
