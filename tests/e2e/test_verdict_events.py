"""Verdicts are told as Events by the kubelet's own identity, and a real API server takes them."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import images
from tests.e2e.cluster.api import ApiError, Object
from tests.e2e.cluster.kubelet import NODE
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.waiting import hold, wait_for
from tests.e2e.summary import Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAMESPACE = "kube-system"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
EVENTS = f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"
PREFIX = "checkpointer.alpha.coreos.com"
TOLD_SECONDS = 120.0
"""A pod is judged when it was Ready for a while, a refused one again after a minute."""


@pytest.fixture
def pod(node: Node) -> Iterator[Object]:
    """A pod that can be refused for two reasons, one after the other, and that never is taken."""
    secret = {"password": base64.b64encode(b"\xff\xfe").decode()}
    node.api.create(f"{CORE}/secrets", {"metadata": {"name": "binary"}, "data": secret})
    reference = {"secretKeyRef": {"name": "binary", "key": "password"}}
    try:
        yield node.api.create(
            f"{CORE}/pods",
            {
                "metadata": {"name": "refused", "annotations": {f"{PREFIX}/checkpoint": "true"}},
                "spec": {
                    "nodeName": NODE,
                    "terminationGracePeriodSeconds": 1,
                    "automountServiceAccountToken": False,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [
                        {
                            "name": "main",
                            "image": images.PAUSE,
                            "env": [{"name": "PASSWORD", "valueFrom": reference}],
                        }
                    ],
                },
            },
        )
    finally:
        node.api.delete(f"{CORE}/secrets/binary")
        with contextlib.suppress(ApiError):
            node.api.delete(f"{CORE}/pods/refused")
        wait_for("the pod to go", lambda: is_gone(node), 60)


def is_gone(node: Node) -> bool:
    try:
        node.api.get(f"{CORE}/pods/refused")
    except ApiError as error:
        return error.code == 404
    return False


def events(node: Node, pod: Object) -> list[Object]:
    """Return our Events on the pod, oldest first."""
    found = [
        event
        for event in node.api.items(EVENTS)
        if event.get("reportingController") == PREFIX
        and event["regarding"].get("uid") == pod["metadata"]["uid"]
    ]
    return sorted(found, key=lambda event: str(event["eventTime"]))


def test_a_verdict_is_told_once_per_change(node: Node, pod: Object, record: Record) -> None:
    """Refused, refused for another reason, and not a word more after a restart of the agent."""
    wait_for("the first Event", lambda: len(events(node, pod)) == 1, TOLD_SECONDS)
    (first,) = events(node, pod)
    assert (first["reason"], first["type"]) == ("CheckpointRefused", "Warning")
    assert first["regarding"]["name"] == "refused"
    assert "would be readable" in first["note"]
    opt_in = {f"{PREFIX}/inline-secrets": "true"}
    node.api.patch(f"{CORE}/pods/refused", {"metadata": {"annotations": opt_in}})
    wait_for("the second Event", lambda: len(events(node, pod)) == 2, TOLD_SECONDS)
    assert "is not text" in events(node, pod)[1]["note"]
    assert node.agent is not None
    log = node.agent.log
    node.stop_agent()
    begun = log.stat().st_size
    node.start_agent()

    def has_judged() -> bool:
        with log.open("rb") as file:  # both of them write to it
            file.seek(begun)
            return b"no snapshot of kube-system/pod/refused" in file.read()

    wait_for("the agent to judge the pod again", has_judged, TOLD_SECONDS)
    hold(5, node.check_processes)
    assert len(events(node, pod)) == 2
    record.count("Events of three judgements", len(events(node, pod)))
