"""The agent as a DaemonSet's pod beside its own copy: installed, upgraded, booted, uninstalled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpointer.__main__ import main
from checkpointer.core.facts import Known
from checkpointer.simulation import control_plane
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.waiting import wait_until
from checkpointer.store.revisions import Store
from tests.simulation.agent_pods import BROKEN, NAME, AgentPods, is_copy, own_manifests, spec
from tests.simulation.quick import LONG, PACE

SETTINGS: dict[str, Any] = {
    "timing": {"ready": "1s", "grace": "1s", "leave": "2s", "tick": "1s", "removalInterval": "0s"},
    "contact": {"recovery": "0s", "healthyInterval": "500ms"},
    "probe": {"timeout": "500ms", "jitter": "0s"},
}


@pytest.fixture
def node(folder: Path) -> Iterator[SimulatedNode]:
    with SimulatedNode(folder, self_hosted=False, pace=PACE) as simulated:
        simulated.write_agent_config(**SETTINGS)
        yield simulated
    assert simulated.errors == []


@pytest.fixture
def agents(node: SimulatedNode) -> Iterator[AgentPods]:
    """The agent installed as from manifests/: a DaemonSet and the Service that marks it."""
    pods = AgentPods(node)
    install(node)
    yield pods
    pods.close()


def install(node: SimulatedNode, image: str = "agent:1") -> None:
    node.cluster.apply("services", control_plane.named("kube-system", NAME))
    wanted = control_plane.controller(NAME, spec(image))
    del wanted["spec"]["template"]["metadata"]["annotations"]  # it need not ask for itself
    node.cluster.apply("daemonsets", wanted)


def uninstall(node: SimulatedNode) -> None:
    node.cluster.delete("daemonsets", "kube-system", NAME)
    node.cluster.delete("services", "kube-system", NAME)


def active_images(node: SimulatedNode) -> list[str]:
    """Return the images of the agent's own manifests in the kubelet's folder."""
    pods = (json.loads(path.read_text()) for path in own_manifests(node))
    return [pod["spec"]["containers"][0]["image"] for pod in pods]


def images(node: SimulatedNode) -> list[str]:
    return sorted(one.config.image for one in node.running(NAME))


def stored(node: SimulatedNode) -> set[str]:
    found = Store(node.store_folder).read()
    assert isinstance(found, Known)
    return {c.workload.name for c in found.value.checkpoints if c.revisions}


def is_installed(node: SimulatedNode, agents: AgentPods, image: str = "agent:1") -> bool:
    """Tell whether pod and copy of this image are there, and the pod works."""
    return (
        active_images(node) == [image]
        and images(node) == [image, image]
        and agents.working() is not None
    )


def is_clean(node: SimulatedNode) -> bool:
    return node.manifests() == set() and not node.store_folder.exists() and node.running(NAME) == []


def test_its_copy_is_parked_beside_it(node: SimulatedNode, agents: AgentPods) -> None:
    """Installed, the DaemonSet's pod works, and its copy waits behind the lock."""
    wait_until(lambda: is_installed(node, agents), LONG, f"the copy\n{agents.output}")
    wait_until(lambda: "parked behind" in agents.output, LONG, "the copy to be parked")
    assert not is_copy(agents.working())


def test_its_pod_is_known_though_it_does_not_ask(
    node: SimulatedNode, agents: AgentPods, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its checkpoint is not one whose pod has left the node: who reads that would worry."""
    wait_until(lambda: is_installed(node, agents), LONG, f"the copy\n{agents.output}")
    main(["doctor", "-o", "json", "--config", str(node.agent_config_file)])
    checks = json.loads(capsys.readouterr().out)["checks"]
    told = {one["check"]: one["what"] for one in checks if one["outcome"] == "pass"}
    assert told["selected-pods"] == "1 of 1 selected pods are checkpointable"
    assert told["freshness"] == "the newest revisions are what their parents are now"


def test_an_upgrade_reaches_pod_and_copy(node: SimulatedNode, agents: AgentPods) -> None:
    """The old copy gives way to the new pod, which then replaces it."""
    wait_until(lambda: is_installed(node, agents), LONG, f"the copy\n{agents.output}")
    install(node, "agent:2")
    wait_until(lambda: is_installed(node, agents, "agent:2"), LONG, f"agent:2\n{agents.output}")
    assert "giving way to the parked instance" in agents.output
    assert not is_copy(agents.working())


def test_a_broken_upgrade_leaves_the_old_copy_at_work(
    node: SimulatedNode, agents: AgentPods
) -> None:
    """A pod that fails as soon as it works never becomes the copy; the next upgrade does."""
    wait_until(lambda: is_installed(node, agents), LONG, f"the copy\n{agents.output}")
    install(node, BROKEN)

    def is_given_up() -> bool:
        state = Store(node.store_folder).read_state("itself")
        return isinstance(state, Known) and state.value.get("tries") == 3

    wait_until(is_given_up, LONG, f"the broken one to be given up\n{agents.output}")
    wait_until(lambda: is_copy(agents.working()), LONG, f"the old copy\n{agents.output}")
    assert active_images(node) == ["agent:1"]
    install(node, "agent:3")
    wait_until(lambda: is_installed(node, agents, "agent:3"), LONG, f"agent:3\n{agents.output}")


def test_after_a_reboot_without_an_api_the_copy_works_alone(
    node: SimulatedNode, agents: AgentPods
) -> None:
    """It activates the others; when the API is back, they and the DaemonSet's pod return."""
    node.add_daemonset("web", {"containers": [{"name": "web", "image": "web"}]})
    wait_until(lambda: is_installed(node, agents), LONG, f"the copy\n{agents.output}")
    wait_until(lambda: stored(node) == {"web", NAME}, LONG, "the checkpoints")
    node.power_off()
    node.cut_network(Mode.REFUSED)
    node.power_on()
    wait_until(lambda: node.copies("web"), LONG, f"web's copy\n{agents.output}")
    assert is_copy(agents.working())
    assert images(node) == ["agent:1"]
    node.restore_network()
    wait_until(lambda: not node.copies("web") and node.parents("web"), LONG, "web's parent")
    wait_until(lambda: images(node) == ["agent:1", "agent:1"], LONG, "the DaemonSet's pod")
    assert is_copy(agents.working())
    assert active_images(node) == ["agent:1"]


def test_uninstalling_leaves_the_node_as_before(node: SimulatedNode, agents: AgentPods) -> None:
    """No manifest, no store, no process; what was there before stays."""
    foreign = node.manifest_folder / "somebody.yaml~"
    node.add_daemonset("web", {"containers": [{"name": "web", "image": "web"}]})
    wait_until(lambda: is_installed(node, agents), LONG, f"the copy\n{agents.output}")
    wait_until(lambda: stored(node) == {"web", NAME}, LONG, "the checkpoints")
    foreign.write_text("kept")
    uninstall(node)
    wait_until(
        lambda: node.manifests() == {foreign.name} and not node.store_folder.exists(),
        LONG,
        f"all to be removed\n{agents.output}",
    )
    wait_until(lambda: not node.running(NAME), LONG, "the last process to end")
    lock = node.folder / "run/checkpointer.lock"
    wait_until(lambda: not lock.exists(), LONG, "the lock's file to go with the process")
    assert node.parents("web")


def test_uninstalling_waits_for_an_api_that_is_lost_meanwhile(
    node: SimulatedNode, agents: AgentPods
) -> None:
    """What was not seen to be gone for long enough stays, and goes when the API is back."""
    node.write_agent_config(**{**SETTINGS, "timing": {**SETTINGS["timing"], "leave": "5s"}})
    wait_until(lambda: is_installed(node, agents), LONG, f"the copy\n{agents.output}")
    uninstall(node)
    wait_until(lambda: is_copy(agents.working()), LONG, f"the copy to work\n{agents.output}")
    node.cut_network(Mode.REFUSED)
    wait_until(lambda: "contact lost" in agents.output, LONG, "the loss to be noticed")
    assert active_images(node) == ["agent:1"]
    node.restore_network()
    wait_until(lambda: is_clean(node), LONG, f"all to be removed\n{agents.output}")


def test_uninstalling_goes_on_after_a_power_cut(node: SimulatedNode, agents: AgentPods) -> None:
    """The node comes back once more without an API; when that is back too, nothing of ours stays.

    The DaemonSet is gone by then, so only the copy is there to do it.
    """
    node.write_agent_config(**{**SETTINGS, "timing": {**SETTINGS["timing"], "leave": "5s"}})
    node.add_daemonset("web", {"containers": [{"name": "web", "image": "web"}]})
    wait_until(lambda: is_installed(node, agents), LONG, f"the copy\n{agents.output}")
    wait_until(lambda: stored(node) == {"web", NAME}, LONG, "the checkpoints")
    uninstall(node)
    node.power_off()
    node.cut_network(Mode.REFUSED)
    node.power_on()
    wait_until(lambda: node.copies("web"), LONG, f"web's copy\n{agents.output}")
    assert is_copy(agents.working())
    node.restore_network()
    wait_until(lambda: is_clean(node), LONG, f"all to be removed\n{agents.output}")
    assert node.parents("web")


def test_it_survives_being_killed_at_any_time(node: SimulatedNode, agents: AgentPods) -> None:
    """Killed again and again, it still comes to be installed, upgraded and uninstalled."""

    def through_kills(condition: Any, what: str) -> None:
        for _ in range(3):
            wait_until(lambda: condition() or agents.working(), LONG, what)
            if condition():
                break
            agents.kill_working()
        wait_until(condition, LONG, f"{what}\n{agents.output}")

    through_kills(lambda: is_installed(node, agents), "the copy")
    install(node, "agent:2")
    through_kills(lambda: is_installed(node, agents, "agent:2"), "agent:2")
    uninstall(node)
    through_kills(lambda: is_clean(node), "all to be removed")
