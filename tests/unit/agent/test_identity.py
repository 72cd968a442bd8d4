"""Who the agent is to the API: rotated without a restart, by any kind of credential, few rights."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkpointer.core.facts import Known, Unknown
from checkpointer.node.api import ApiClient
from checkpointer.node.pods import NodePods
from checkpointer.node.rights import NEEDED_FOR, Rights, request_of
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.authorizer import User
from checkpointer.simulation.certificates import Authority
from checkpointer.simulation.waiting import wait_until

NODE = "/api/v1/nodes/node-1"
SECRETS = "/api/v1/namespaces/kube-system/secrets"


def become(kubeconfig: Path, user: dict[str, Any]) -> None:
    """Write another user into the kubeconfig."""
    content = yaml.safe_load(kubeconfig.read_text())
    content["users"][0]["user"] = user
    kubeconfig.write_text(yaml.safe_dump(content))


def rotate(folder: Path, authority: Authority, name: str) -> None:
    """Replace the client certificate as the kubelet does: by a rename within its folder."""
    pair = authority.client(name, "system:nodes")
    new = folder / "pki/new.pem"
    new.write_bytes(pair.certificate + pair.key)
    new.replace(folder / "pki/kubelet-client-current.pem")


def test_client_shows_the_rotated_certificate_on_its_next_connection(
    api: ApiServer, kubeconfig: Path, folder: Path, authority: Authority
) -> None:
    """The same client goes on: nothing is read anew from the kubeconfig, only the certificate."""
    client = ApiClient(kubeconfig)
    assert client.find(NODE) == Known(None)
    rotate(folder, authority, "system:node:renamed")
    client.cut()
    assert isinstance(client.find(NODE), Unknown)  # the connection that was cut, at the most
    assert client.find(NODE) == Unknown(f"GET {NODE}: HTTP 403")
    client.close()


def test_pods_are_followed_through_an_expired_certificate(
    api: ApiServer, kubeconfig: Path, folder: Path, authority: Authority, kit: Any
) -> None:
    """An API server closes the connection of a certificate that expired; the new one goes on."""
    api.cluster.create("pods", kit.pod_object("a"))
    pods = NodePods(kubeconfig, "node-1", kit.Calls(), kit.Calls())
    pods.start()
    wait_until(lambda: isinstance(pods.pods, Known), 5, "the pods")
    rotate(folder, authority, "system:node:node-1")
    before = pods.client
    pods.interrupt()
    wait_until(lambda: pods.client is not before and isinstance(pods.pods, Known), 10, "the pods")
    pods.close()


def test_exec_plugin_gives_the_credentials(api: ApiServer, kubeconfig: Path, folder: Path) -> None:
    """As kubectl runs it: what it prints is the token."""
    api.tokens["from-the-plugin"] = User("system:node:node-1", ("system:nodes",))
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "from-the-plugin"},
    }
    (folder / "credential.json").write_text(json.dumps(credential))
    program = f"print(open({str(folder / 'credential.json')!r}).read())"
    plugin = {"command": sys.executable, "args": ["-c", program], "interactiveMode": "Never"}
    become(kubeconfig, {"exec": {"apiVersion": credential["apiVersion"], **plugin}})
    client = ApiClient(kubeconfig)
    assert client.find(NODE) == Known(None)
    client.close()


def test_missing_right_is_warned_of_once(
    api: ApiServer, kubeconfig: Path, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """One sentence with the right, what is lost without it, and where the cure is."""
    pods = NodePods(kubeconfig, "node-1", kit.Calls(), kit.Calls())
    pods.start()
    wait_until(lambda: isinstance(pods.pods, Known), 5, "the pods")
    with caplog.at_level(logging.WARNING):
        for name in ("a", "b", "a"):
            assert pods.find(f"{SECRETS}/{name}") == Unknown(f"GET {SECRETS}/{name}: HTTP 403")
    pods.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"this identity may not get secrets (GET {SECRETS}/a: HTTP 403): pods that opted in to "
        "secrets in their environment cannot be checkpointed; allow it to, see docs/identity.md"
    ]


def test_pods_that_may_not_be_listed_are_warned_of(
    api: ApiServer, kubeconfig: Path, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Without this right there is nothing that the agent can do."""
    pods = NodePods(kubeconfig, "another-node", kit.Calls(), kit.Calls())
    with caplog.at_level(logging.WARNING):
        pods.start()
        wait_until(lambda: pods.was_asked, 5, "an answer")
        assert pods.pods == Unknown("GET /api/v1/pods: HTTP 403")
        pods.close()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("this identity may not list and watch pods (GET /api/v1/pods: HTTP 403)")


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/api/v1/pods", "pods"),
        ("/api/v1/nodes/n", "nodes"),
        ("/api/v1/namespaces/ns/configmaps/c", "configmaps"),
        ("/api/v1/persistentvolumes/v", "persistentvolumes"),
    ],
)
def test_right_is_told_by_the_path(
    path: str, resource: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Objects of a namespace, of the cluster, and collections."""
    Rights().refused(path)
    assert f" {resource} (GET {path}: HTTP 403): {NEEDED_FOR[request_of(path)]}" in caplog.text


def test_right_that_a_node_does_without_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """The kubelet's identity may not read controllers, and need not."""
    Rights().refused("/apis/apps/v1/namespaces/kube-system/daemonsets/pod-checkpointer")
    Rights().refused("/api/v1/nodes?labelSelector=node-role.kubernetes.io%2Fcontrol-plane")
    assert caplog.text == ""


def test_rights_that_are_warned_of_are_documented() -> None:
    """The warning refers to the page."""
    page = (Path(__file__).parents[3] / "docs/identity.md").read_text()
    assert [name for name, _ in NEEDED_FOR if f"| `{name}` |" not in page] == []
