"""Masters take turns by a Lease, with the rights that the manifests give and no others.

The other master is a second API server of the same cluster, at an address of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from checkpointer.node.lease import NAME
from tests.e2e.cluster.api import Api, ApiError, Object
from tests.e2e.cluster.background import Background
from tests.e2e.cluster.control_plane import (
    API_SERVER,
    FIRST_PORT,
    NAMESPACE,
    PORT,
    Options,
    ProcessControlPlane,
)
from tests.e2e.cluster.kubelet import NODE
from tests.e2e.cluster.machine import ADDRESS, OTHER_ADDRESS
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.waiting import hold, wait_for
from tests.e2e.conftest import Maker
from tests.e2e.power_cycle import PowerCycle
from tests.e2e.summary import Record

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

MANIFESTS = Path(__file__).parents[2] / "manifests"
OTHER = "node-0"
MASTER = {"node-role.kubernetes.io/control-plane": ""}
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
KUBECONFIG = "/etc/kubernetes/pod-checkpointer.conf"
TOKEN = "/etc/kubernetes/pod-checkpointer.token"
HELD_SECONDS = 25
"""How long the other master holds the Lease when it is its turn."""
BACK_SECONDS = 480.0


@dataclass(slots=True)
class Masters:
    """The node under test, and the API server that is another master's."""

    node: Node
    other: ProcessControlPlane
    other_api: Api

    def power_on(self) -> float:
        """Boot the node; the other master is there before it."""
        return self.node.power_on(before=self.start_other)

    def start_other(self) -> None:
        network = self.node.machine.network
        network.pretend(OTHER_ADDRESS, PORT, (ADDRESS, FIRST_PORT))
        self.other.forget()
        self.other.start_api_server(self.other_api)


@pytest.fixture
def masters(maker: Maker) -> Iterator[Masters]:
    """Two masters, and on the one an agent that is the service account of the manifests."""
    node = maker.node(Options(node=NODE))
    try:
        node.build()
        other = ProcessControlPlane(node.machine, node.binaries, node.authority)
        two = Masters(node, other, node.api_at(FIRST_PORT))
        two.start_other()
        node.api.patch(f"/api/v1/nodes/{NODE}", {"metadata": {"labels": MASTER}})
        node.api.create("/api/v1/nodes", {"metadata": {"name": OTHER, "labels": MASTER}})
        address = {"type": "InternalIP", "address": OTHER_ADDRESS}
        node.api.patch(f"/api/v1/nodes/{OTHER}/status", {"status": {"addresses": [address]}})
        give_rights(node)
        node.agent_settings = {
            "kubeconfig": KUBECONFIG,
            "handOver": {"leaseNamespace": NAMESPACE},
        }
        node.start_agent()
        node.wait_for_checkpoints(90)
        yield two
    finally:
        node.remove()


def give_rights(node: Node) -> None:
    """Create the service account with its roles, and a kubeconfig with a token of it."""
    files = ["base/serviceaccount.yaml", "components/service-account/rbac.yaml"]
    for file in files:
        for body in yaml.safe_load_all((MANIFESTS / file).read_text()):
            is_of_cluster = body["kind"].startswith("ClusterRole")
            place = "" if is_of_cluster else f"namespaces/{NAMESPACE}/"
            version = body["apiVersion"]
            group = "api/v1" if version == "v1" else f"apis/{version}"
            if not is_of_cluster:
                body["metadata"]["namespace"] = NAMESPACE
            node.api.create(f"/{group}/{place}{body['kind'].lower()}s", body)
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/pod-checkpointer"
    asked = {"spec": {"expirationSeconds": 86400}}
    token = node.api.create(f"{account}/token", asked)["status"]["token"]
    config = json.loads(node.admin_kubeconfig())
    config["users"][0]["user"] = {"tokenFile": TOKEN}
    for path, content in ((TOKEN, token), (KUBECONFIG, json.dumps(config))):
        on_disk = node.machine.disk / path.lstrip("/")
        on_disk.touch(0o600)
        on_disk.write_text(content)


class LeaseWatch(Background):
    """Who had the Lease when: asked of the other master's API server, which does not go away."""

    def __init__(self, api: Api) -> None:
        self._api = api
        super().__init__()
        self.holders: list[tuple[float, str]] = []
        """Each change: when it was seen, and the holder's name, empty when it was free."""

    @property
    def order(self) -> list[str]:
        return [holder for _, holder in self.holders]

    def holder_at(self, moment: float) -> str:
        return next((h for seen, h in reversed(self.holders) if seen <= moment), "")

    def _work(self) -> None:
        while not self._over.wait(0.05):
            try:
                holder = holder_of(self._api)
            except OSError:  # the power is cut
                continue
            if not self.holders or self.holders[-1][1] != holder:
                self.holders.append((time.monotonic(), holder))


def holder_of(api: Api) -> str:
    return str((lease(api) or {"spec": {}})["spec"].get("holderIdentity") or "")


def lease(api: Api) -> Object | None:
    try:
        return api.get(f"{LEASES}/{NAME}")
    except ApiError as error:
        if error.code == 404:
            return None
        raise


def hold_as_other(api: Api, seconds: int) -> None:
    """Take the Lease as the other master would, and go down with it."""
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    body = lease(api)
    assert body is not None
    body["spec"] |= {"holderIdentity": OTHER, "leaseDurationSeconds": seconds, "renewTime": when}
    api.update(f"{LEASES}/{NAME}", body)


def test_hand_over_by_a_lease(masters: Masters, record: Record) -> None:
    """It is taken before the copy goes and given back after; one that another has is waited for."""
    node, api = masters.node, masters.other_api
    assert lease(api) is None
    for who, held in (("free", 0), ("the other's", HELD_SECONDS)):
        with (
            node.watch_manifests() as folder,
            node.watch_service() as service,
            LeaseWatch(api) as watch,
        ):
            if held:
                hold_as_other(api, held)
            node.power_cut()
            began = time.time()
            start = masters.power_on()
            node.wait_until_returned(since=began, seconds=BACK_SECONDS)
            wait_for("the lease to be given back", lambda: not holder_of(api), 90)
            hold(5, node.check_processes)
        released = folder.first(API_SERVER, appeared=False)
        activated = folder.first(API_SERVER, appeared=True)
        assert released is not None
        assert activated is not None
        assert watch.holder_at(released + 0.2) == NODE
        assert watch.order[-2:] == [NODE, ""]
        assert released - activated >= held
        record.seconds(f"kubelet's start to release, lease {who}", released - start)
        record.seconds(f"lease {who}: held for", watch.holders[-1][0] - watch.holders[-2][0])
        PowerCycle(start, service, folder).tell(record)
        assert folder.present == []
    stored = lease(api)
    assert stored is not None
    record.count("times that the lease was taken", stored["spec"]["leaseTransitions"])
    logs = [log.read_text() for log in node.machine.logs.glob("*-agent.log")]
    # An API server that has just started may refuse anything: its roles are not there yet.
    told = [line for log in logs for line in log.splitlines() if "lease" in line.lower()]
    assert not [line for line in told if "HTTP 403" in line or "may not" in line]
