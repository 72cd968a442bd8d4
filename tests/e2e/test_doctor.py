"""The doctor on a real node: what it sees of a real kubelet, and that its promise is kept."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.e2e.cluster.agent import CONFIG, command
from tests.e2e.cluster.control_plane import WORKLOADS
from tests.e2e.cluster.kubelet import MANIFESTS
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

AT_REST = {"clock-sync", "agent-at-boot", "tokens"}
"""What the machine of the tests cannot be well in: nobody keeps its clock, its agent is a process
that nobody starts at boot, and its API server's tokens are short."""


def ask(node: Node, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a command of the agent's on the node; return its exit status and its JSON."""
    called = (*command(), *arguments, "-o", "json", "--config", CONFIG)
    status, output, errors = node.machine.try_to_run(*called)
    assert errors == ""
    return status, json.loads(output)


def told(said: dict[str, Any], check: str) -> list[tuple[str, str]]:
    return [(one["outcome"], one["what"]) for one in said["checks"] if one["check"] == check]


def troubled(said: dict[str, Any]) -> set[str]:
    return {one["check"] for one in said["checks"] if one["outcome"] in ("warn", "fail")}


def test_a_sound_node_is_told_to_be_sound(node: Node) -> None:
    """What the kubelet was told is read from its own process."""

    def has_contact() -> bool:  # it trusts an API that another scenario has cut off a little later
        return told(ask(node, "doctor")[1], "contact")[0][0] == "pass"

    wait_for("the agent's contact", has_contact, 60, interval=1.0)
    _, said = ask(node, "doctor")
    assert troubled(said) - AT_REST == set(), json.dumps(said, indent=1)
    ((outcome, what),) = told(said, "static-pod-path")
    assert (outcome, MANIFESTS in what, "process" in what) == ("pass", True, True)
    ((outcome, what),) = told(said, "kubelet-version")
    assert (outcome, what[:12]) == ("pass", "Kubernetes v")
    ((outcome, what),) = told(said, "runtime-endpoint")
    assert outcome == "pass"
    assert {one["returns"] for one in said["readiness"]["workloads"]} == {"yes"}
    assert len(said["readiness"]["workloads"]) == len(WORKLOADS)


def test_without_api_and_kubelet_it_still_tells(node: Node) -> None:
    """A silent API is told, a kubelet that does not run is found."""
    node.cut_network()
    try:
        node.stop_kubelet()
        status, said = ask(node, "doctor", "--timeout", "2s")
    finally:
        node.mend_network()
        node.start_kubelet()
    assert status == 2
    assert told(said, "kubelet")[0][0] == "fail"
    assert told(said, "api")[0][0] == "warn"
    assert told(said, "selected-pods")[0][0] == "skip"
    assert {one["returns"] for one in said["readiness"]["workloads"]} == {"yes"}
    node.wait_for_kubelet()


def test_what_is_said_to_come_back_does(node: Node) -> None:
    """prepare-reboot says go; the power goes; everything it named is back."""

    def is_ready() -> bool:
        status, said = ask(node, "prepare-reboot", "--strict")
        workloads = {one["workload"].rsplit("/", 1)[-1] for one in said["readiness"]["workloads"]}
        return status == 0 and said["ready"] and workloads == set(WORKLOADS)

    wait_for("prepare-reboot to say go", is_ready, 60, interval=2.0)
    began = time.time()
    node.power_cut()
    node.power_on()
    node.wait_until_returned(since=began)
