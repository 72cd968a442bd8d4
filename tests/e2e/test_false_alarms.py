"""An API server that cannot be reached is no reason to start another one while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from tests.e2e.cluster.control_plane import API_SERVER
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.waiting import hold, wait_for
from tests.e2e.summary import DETECTION, GAP, LOSS, Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LONG_SECONDS = 45.0
"""Longer than the 30 s after which a parent that is down counts as not coming back."""
STEADY_SECONDS = 20.0


def test_api_server_killed_in_place(node: Node, record: Record) -> None:
    """The kubelet restarts a container that dies; the agent leaves it to it."""
    sandboxes = node.containerd.sandboxes()
    with node.watch_manifests() as folder, node.watch_service() as service:
        began = time.monotonic()
        node.kill_container(API_SERVER)
        wait_for("the API to go", lambda: not node.api.is_ready(), 10, interval=0.01)
        wait_for("the API to come back", node.api.is_ready, 60)
        hold(LONG_SECONDS, node.check_processes)
    record.seconds("API away", service.longest_gap())
    record.seconds("watched", time.monotonic() - began)
    assert folder.happenings == []
    assert node.containerd.sandboxes() == sandboxes


def test_network_cut_while_all_runs(node: Node, record: Record) -> None:
    """A black hole between the node and its API: the pods run on, and nothing is activated."""
    sandboxes = node.containerd.sandboxes()
    with node.watch_manifests() as folder, node.watch_service() as service:
        cut = time.monotonic()
        node.cut_network()
        try:
            node.wait_for_agent("contact lost", LONG_SECONDS)
            record.column(DETECTION, time.monotonic() - cut)
            hold(LONG_SECONDS, node.check_processes)
        finally:
            node.mend_network()
        node.wait_for_kubelet()
        hold(10, node.check_processes)
    record.seconds("API itself not serving", service.seconds_not_serving())
    assert folder.happenings == []
    assert node.containerd.sandboxes() == sandboxes


@dataclass(frozen=True, slots=True)
class Outage:
    """How the API goes away, and what that means for the time it takes to bring it back."""

    refused: bool
    noticed: bool
    """Whether the kubelet is restarted when the agent knows of the outage, or at once."""
    manifest_seconds: float
    """From the death of the unmanaged API server to the manifest of its copy."""
    serving_seconds: float
    """From there to the copy's service."""


OUTAGES = {
    "refused": Outage(True, noticed=True, manifest_seconds=5, serving_seconds=10),
    # A kubelet that cannot ask for its node looks after volumes only between two timeouts.
    "black hole": Outage(False, noticed=False, manifest_seconds=35, serving_seconds=120),
}


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES.keys())
def test_kubelet_restarted_during_an_outage(
    node: Node, record: Record, patience: float, outage: Outage
) -> None:
    """Old containers run on unmanaged: nothing is activated until they die, and then it is."""
    with node.watch_manifests() as folder, node.watch_service() as service:
        cut = time.monotonic()
        node.cut_network(refuse=outage.refused)
        try:
            if outage.noticed:
                node.wait_for_agent("contact lost", 30)
                record.column(DETECTION, time.monotonic() - cut)
            node.restart_kubelet()
            hold(LONG_SECONDS, node.check_processes)
            assert folder.happenings == []
            killed, began = time.monotonic(), time.time()
            node.kill_container(API_SERVER)
            wait_for("the copy's manifest", lambda: folder.activated, 60, interval=0.02)
            wait_for("the copy to serve", node.api.is_ready, 180)
            hold(STEADY_SECONDS, node.check_processes)
        finally:
            node.mend_network()
        mended = time.monotonic()
        node.wait_until_returned(since=began, restarted=[API_SERVER])
        hold(STEADY_SECONDS, node.check_processes)
    activated = folder.activated[0]
    serving = service.first_answer(killed + 0.5)
    record.column(LOSS, activated.moment - killed)
    record.seconds("death to serving", serving and serving + 0.5)
    before = service.seconds_not_serving(killed - 1.0, mended)
    record.seconds("not serving before the network is back", before)
    record.seconds("last copy released", folder.released[-1].moment - mended)
    record.column(GAP, service.seconds_not_serving(mended))
    assert API_SERVER in activated.name
    assert activated.moment - killed <= outage.manifest_seconds * patience
    assert serving is not None
    assert serving + 0.5 - (activated.moment - killed) <= outage.serving_seconds * patience
    assert folder.present == []
    assert node.is_ready()
