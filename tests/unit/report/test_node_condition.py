"""The node's condition: what it says, and that it is written when it changes and not else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.checkpoint import HandOver, Record
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.observation import Itself
from checkpointer.node.api import ApiClient
from checkpointer.report.node_condition import TYPE, Condition, NodeCondition, condition_of
from checkpointer.report.status import Cycle, build_protection
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.waiting import wait_until
from tests.unit.core.builders import API, AT_REST, DNS, at, checkpoint, pod

GOOD = Condition("True", "Protected", "1 workload would come back without the API")
BAD = Condition("False", "Unprotected", "x")
READY = {"type": "Ready", "status": "True"}


def condition(checkpoints: Any, **changes: Any) -> Condition:
    seen = replace(AT_REST.observe(), checkpoints=checkpoints, **changes)
    return condition_of(build_protection(Cycle(seen, {}, "", at(0.0)), {}))


def told(*checkpoints: Any, **changes: Any) -> tuple[str, str]:
    found = condition(Known(checkpoints), **changes)
    return found.reason, found.message


def test_what_it_says_of_a_node() -> None:
    """One reason for each thing that somebody would do something about; the worst first."""
    assert told(checkpoint()) == (GOOD.reason, GOOD.message)
    both = told(checkpoint(), checkpoint(DNS))
    assert both == ("Protected", "2 workloads would come back without the API")
    assert told(pods=Known(()))[0] == "NothingCheckpointed"
    own = told(checkpoint(DNS), itself=Itself(DNS, "own-uid"), pods=Known(()))
    assert own[0] == "NothingCheckpointed"
    refused = pod(DNS, "dns", is_parent=False, excluded="no")
    reason, message = told(checkpoint(), pods=Known((refused,)))
    assert reason == "Unprotected"
    assert f"would not come back without the API: {DNS};" in message
    assert told(replace(checkpoint(), revisions=()))[0] == "Unprotected"
    broken = checkpoint(record=Record(hand_over=HandOver(refused="uid-2")))
    reason, message = told(broken)
    assert reason == "ParentRefused"
    assert f"its parent failed: {API};" in message


def test_store_that_cannot_be_read_is_not_an_empty_one() -> None:
    """Nothing is said of the checkpoints then."""
    found = condition(Unknown("the store: Input/output error"))
    assert found == Condition("Unknown", "StoreUnreadable", "the store: Input/output error")


@pytest.fixture
def node(api: ApiServer) -> ApiServer:
    """The API, with a node that its kubelet has said something of."""
    status = {"conditions": [READY]}
    api.cluster.create("nodes", {"metadata": {"name": "node-1"}, "status": status})
    return api


@pytest.fixture
def client(node: ApiServer, folder: Path) -> Iterator[ApiClient]:
    client = ApiClient(folder / "kubelet.conf")
    yield client
    client.close()


def conditions(api: ApiServer) -> dict[str, dict[str, Any]]:
    stored = api.cluster.get("nodes", "", "node-1")
    assert stored is not None
    return {one["type"]: one for one in stored["status"]["conditions"]}


def patches(api: ApiServer) -> int:
    return api.requests["patch nodes/status"]


def test_it_is_written_when_it_changes(node: ApiServer, client: ApiClient) -> None:
    """With the kubelet's identity, beside the kubelet's own; after a restart only what is new."""
    condition = NodeCondition(client, "node-1")
    condition.take(GOOD)
    wait_until(lambda: TYPE in conditions(node), 5, "the condition")
    assert conditions(node)["Ready"] == READY
    first = conditions(node)[TYPE]
    assert (first["status"], first["reason"], first["message"]) == (
        GOOD.status,
        GOOD.reason,
        GOOD.message,
    )
    condition.take(GOOD)
    again = replace(GOOD, message="2 workloads would come back without the API")
    condition.take(again)
    wait_until(lambda: conditions(node)[TYPE]["message"] == again.message, 5, "the message")
    assert conditions(node)[TYPE]["lastTransitionTime"] == first["lastTransitionTime"]
    assert patches(node) == 2
    condition.close()
    restarted = NodeCondition(client, "node-1")
    restarted.take(again)
    restarted.take(BAD)
    wait_until(lambda: conditions(node)[TYPE]["reason"] == BAD.reason, 5, "the change")
    assert patches(node) == 3
    restarted.close()
    restarted.remove()
    assert list(conditions(node)) == ["Ready"]


def test_failure_that_passes_is_tried_again(node: ApiServer, client: ApiClient) -> None:
    """An API without a leader does not lose it."""
    node.mode = Mode.ERROR
    condition = NodeCondition(client, "node-1")
    condition.take(GOOD)
    wait_until(lambda: patches(node) == 1, 5, "a try")
    node.mode = Mode.SERVING
    wait_until(lambda: TYPE in conditions(node), 5, "the condition")
    condition.close()


def test_it_does_not_stay_behind_for_a_moments_failure(
    node: ApiServer, client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent leaves only once; what it cannot take away then, it tells somebody of."""
    condition = NodeCondition(client, "node-1")
    condition.take(GOOD)
    wait_until(lambda: TYPE in conditions(node), 5, "the condition")
    node.mode = Mode.UNAUTHORIZED
    condition.remove()
    assert "CheckpointsReady stays behind" in caplog.text
    node.mode = Mode.ERROR
    leaving = threading.Thread(target=condition.remove)
    tried = patches(node)
    leaving.start()
    wait_until(lambda: patches(node) > tried, 5, "a try")
    node.mode = Mode.SERVING
    leaving.join(10)
    assert list(conditions(node)) == ["Ready"]


def test_identity_that_may_not_costs_one_warning(
    node: ApiServer, client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent goes on without; it does not ask again."""
    node.cluster.create("nodes", {"metadata": {"name": "node-2"}})
    condition = NodeCondition(client, "node-2")
    with caplog.at_level(logging.WARNING):
        condition.take(GOOD)
        wait_until(lambda: caplog.messages, 5, "the warning")
    condition.take(BAD)
    condition.close()
    condition.remove()
    assert len(caplog.messages) == 1
    assert "may not write the node's condition CheckpointsReady" in caplog.text
    assert patches(node) == 2
