"""The simulated API server as clients see it: over HTTPS, in good and in ill health."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from kubernetes import client, config, watch

from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.authorizer import User
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.waiting import wait_until

HERE = {"fieldSelector": "spec.nodeName=node-1"}


@pytest.fixture
def session(api: ApiServer, folder: Path) -> Iterator[requests.Session]:
    """A client with the kubelet's certificate."""
    with requests.Session() as opened:
        opened.trust_env = False
        opened.verify = str(folder / "ca.crt")
        opened.cert = str(folder / "pki/kubelet-client-current.pem")
        yield opened


@pytest.fixture
def core(api: ApiServer, folder: Path) -> Iterator[client.CoreV1Api]:
    """The kubernetes package's client on the kubelet's kubeconfig."""
    settings = client.Configuration()
    config.load_kube_config(str(folder / "kubelet.conf"), client_configuration=settings)
    with client.ApiClient(settings) as opened:
        yield client.CoreV1Api(opened)


def create_pod(api: ApiServer, name: str, node: str = "node-1", **spec: Any) -> dict[str, Any]:
    return api.cluster.create(
        "pods",
        {
            "metadata": {"name": name, "namespace": "kube-system"},
            "spec": {"nodeName": node, "containers": [], **spec},
        },
    )


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        (Mode.SERVING, 200),
        (Mode.REFUSED, requests.ConnectionError),
        (Mode.BLACK_HOLE, requests.Timeout),
        (Mode.RESET, requests.ConnectionError),
        (Mode.ERROR, 500),
        (Mode.THROTTLED, 429),
        (Mode.UNAUTHORIZED, 401),
        (Mode.FORBIDDEN, 403),
        (Mode.WRONG_CERTIFICATE, requests.exceptions.SSLError),
        (Mode.EMPTY_LISTS, 200),
    ],
    ids=lambda value: value.name if isinstance(value, Mode) else "",
)
def test_each_mode_looks_as_it_says(
    api: ApiServer, session: requests.Session, mode: Mode, seen: int | type[Exception]
) -> None:
    """Each failure is the one a client of a real API server would see."""
    api.mode = mode
    if isinstance(seen, int):
        assert session.get(f"{api.url}/readyz", timeout=2).status_code == seen
    else:
        with pytest.raises(seen):
            session.get(f"{api.url}/readyz", timeout=0.3)


def test_slow_answers_come_late(api: ApiServer, session: requests.Session) -> None:
    """A slow server answers, but not at once."""
    api.slow_seconds, api.mode = 0.2, Mode.SLOW
    began = time.monotonic()
    assert session.get(f"{api.url}/readyz", timeout=2).status_code == 200
    assert time.monotonic() - began >= 0.2


def test_stopped_server_refuses(api: ApiServer, session: requests.Session) -> None:
    """Where no process listens, connections are refused, and accepted again afterwards."""
    api.stop()
    with pytest.raises(requests.ConnectionError, match="refused"):
        session.get(f"{api.url}/readyz", timeout=1)


def test_black_hole_lets_go(api: ApiServer, session: requests.Session) -> None:
    """A request that was held up is answered once the network is back."""
    api.mode = Mode.BLACK_HOLE
    threading.Timer(0.2, lambda: setattr(api, "mode", Mode.SERVING)).start()
    assert session.get(f"{api.url}/readyz", timeout=3).text == "ok"


def test_stop_ends_a_black_hole(api: ApiServer, session: requests.Session) -> None:
    """A server can be stopped while connections hang in it."""
    api.mode = Mode.BLACK_HOLE
    threading.Timer(0.2, api.stop).start()
    with pytest.raises(requests.ConnectionError):
        session.get(f"{api.url}/readyz", timeout=10)


def test_lists_are_empty_only_in_that_mode(api: ApiServer, session: requests.Session) -> None:
    """The lie of an empty list covers lists, not what is asked for by name."""
    create_pod(api, "a")
    pods, named = f"{api.url}/api/v1/pods", f"{api.url}/api/v1/namespaces/kube-system/pods/a"
    assert len(session.get(pods, params=HERE, timeout=2).json()["items"]) == 1
    api.mode = Mode.EMPTY_LISTS
    assert session.get(pods, params=HERE, timeout=2).json()["items"] == []
    assert session.get(named, timeout=2).status_code == 200


def test_no_certificate_is_401_but_readyz_is_open(api: ApiServer, folder: Path) -> None:
    """Whoever shows no certificate may ask for health and nothing else."""
    with requests.Session() as anonymous:
        anonymous.trust_env = False
        anonymous.verify = str(folder / "ca.crt")
        assert anonymous.get(f"{api.url}/readyz", timeout=2).status_code == 200
        assert anonymous.get(f"{api.url}/api/v1/pods", params=HERE, timeout=2).status_code == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1", 200),
        ("/api/v1/pods", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-2", 403),
        ("/api/v1/namespaces/kube-system/pods/here", 200),
        ("/api/v1/namespaces/kube-system/pods/elsewhere", 403),
        ("/api/v1/namespaces/kube-system/pods/gone", 403),
        ("/api/v1/namespaces/kube-system/secrets/used", 200),
        ("/api/v1/namespaces/kube-system/secrets/missing", 404),
        ("/api/v1/namespaces/kube-system/secrets/unused", 403),
        ("/api/v1/namespaces/kube-system/secrets", 403),
        ("/api/v1/namespaces/kube-system", 403),
        ("/apis/apps/v1/namespaces/kube-system/daemonsets", 403),
        ("/api/v1/nodes/node-1", 404),
        ("/api/v1/nodes/node-2", 403),
        ("/nowhere", 404),
    ],
)
def test_node_may_read_what_the_node_authorizer_allows(
    api: ApiServer, session: requests.Session, path: str, status: int
) -> None:
    """The kubelet's identity sees its own pods and what they refer to."""
    volumes = [{"name": n, "secret": {"secretName": n}} for n in ("used", "missing")]
    create_pod(api, "here", volumes=volumes)
    create_pod(api, "elsewhere", node="node-2")
    for name in ("used", "unused"):
        metadata = {"name": name, "namespace": "kube-system"}
        api.cluster.create("secrets", {"metadata": metadata})
    assert session.get(api.url + path, timeout=2).status_code == status


def test_token_names_the_user(api: ApiServer, folder: Path) -> None:
    """A bearer token counts in place of a certificate."""
    api.tokens["t0ken"] = User("system:serviceaccount:kube-system:agent")
    with requests.Session() as bearer:
        bearer.trust_env = False
        bearer.verify = str(folder / "ca.crt")
        bearer.headers["Authorization"] = "Bearer t0ken"
        assert bearer.get(f"{api.url}/api/v1/pods", timeout=2).status_code == 200
        bearer.headers["Authorization"] = "Bearer other"
        assert bearer.get(f"{api.url}/api/v1/pods", timeout=2).status_code == 401


def test_list_is_paged(api: ApiServer, core: client.CoreV1Api) -> None:
    """`limit` and `continue` go through all objects."""
    for name in "abc":
        create_pod(api, name)
    first = core.list_namespaced_pod("kube-system", field_selector=HERE["fieldSelector"], limit=2)
    rest = core.list_namespaced_pod(
        "kube-system",
        field_selector=HERE["fieldSelector"],
        limit=2,
        _continue=first.metadata._continue,
    )
    assert [pod.metadata.name for pod in first.items + rest.items] == ["a", "b", "c"]
    assert rest.metadata._continue is None


def test_watch_tells_of_changes(api: ApiServer, core: client.CoreV1Api) -> None:
    """From a list's version on, a watch tells of pods that come, change and go, here only."""
    create_pod(api, "a")
    listed = core.list_pod_for_all_namespaces(field_selector=HERE["fieldSelector"])
    create_pod(api, "elsewhere", node="node-2")
    create_pod(api, "b")
    api.cluster.update("pods", "kube-system", "b", lambda pod: pod.update(status={"phase": "X"}))
    api.cluster.delete("pods", "kube-system", "a")
    stream = watch.Watch().stream(
        core.list_pod_for_all_namespaces,
        field_selector=HERE["fieldSelector"],
        resource_version=listed.metadata.resource_version,
        timeout_seconds=1,
    )
    seen = [(event["type"], event["object"].metadata.name) for event in stream]
    assert seen == [("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "a")]


def test_old_version_is_gone(api: ApiServer, core: client.CoreV1Api) -> None:
    """A watch from a version that was compacted away ends in 410."""
    create_pod(api, "a")
    api.cluster.compact()
    stream = watch.Watch().stream(
        core.list_pod_for_all_namespaces,
        field_selector=HERE["fieldSelector"],
        resource_version="2",
        timeout_seconds=5,
    )
    with pytest.raises(client.ApiException) as caught:
        list(stream)
    assert caught.value.status == 410


def test_bookmarks_come_if_asked_for(api: ApiServer, session: requests.Session) -> None:
    """A watch that allows bookmarks gets them while nothing happens."""
    api.bookmark_seconds = 0.1
    query = {**HERE, "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": "1"}
    text = session.get(f"{api.url}/api/v1/pods", params=query, timeout=5).text
    assert '"type": "BOOKMARK"' in text


def test_client_notices_the_end_of_its_watch_at_once(
    api: ApiServer, session: requests.Session
) -> None:
    """When the server stops, open watches break; nobody waits for a timeout."""
    query = {**HERE, "watch": "1"}
    with session.get(f"{api.url}/api/v1/pods", params=query, timeout=20, stream=True) as answer:
        threading.Timer(0.1, api.stop).start()
        began = time.monotonic()
        with pytest.raises(requests.RequestException):
            list(answer.iter_lines())
        assert time.monotonic() - began < 2


def test_deletion_is_left_to_the_kubelet(api: ApiServer, core: client.CoreV1Api) -> None:
    """A pod on a node is marked; with no grace it goes at once; a wrong UID is a conflict."""
    create_pod(api, "a")
    wrong = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="other"))
    with pytest.raises(client.ApiException) as caught:
        core.delete_namespaced_pod("a", "kube-system", body=wrong)
    assert caught.value.status == 409
    core.delete_namespaced_pod("a", "kube-system")
    pod = api.cluster.get("pods", "kube-system", "a")
    assert pod is not None
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 30
    core.delete_namespaced_pod("a", "kube-system", grace_period_seconds=0)
    assert api.cluster.get("pods", "kube-system", "a") is None


def test_events_are_taken(api: ApiServer, core: client.CoreV1Api) -> None:
    """The kubelet's identity may write events."""
    event = client.CoreV1Event(
        metadata=client.V1ObjectMeta(generate_name="a.", namespace="kube-system"),
        involved_object=client.V1ObjectReference(kind="Pod", name="a"),
        reason="Checkpointed",
    )
    core.create_namespaced_event("kube-system", event)
    assert [one["reason"] for one in api.cluster.objects("events")] == ["Checkpointed"]


def test_token_request_is_bound_to_the_pod(api: ApiServer, core: client.CoreV1Api) -> None:
    """A token asked for carries expiry and account, and ends with its pod."""
    pod = create_pod(api, "a")
    bound = client.V1BoundObjectReference(kind="Pod", name="a", uid=pod["metadata"]["uid"])
    answer = core.create_namespaced_service_account_token(
        "agent",
        "kube-system",
        client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(audiences=[], bound_object_ref=bound)
        ),
    )
    header = {"Authorization": f"Bearer {answer.status.token}"}
    with requests.Session() as bearer:
        bearer.trust_env = False
        bearer.verify = core.api_client.configuration.ssl_ca_cert
        pods = f"{api.url}/api/v1/pods"
        assert bearer.get(pods, headers=header, timeout=2).status_code == 200
        api.cluster.delete("pods", "kube-system", "a")
        assert bearer.get(pods, headers=header, timeout=2).status_code == 401


def test_requests_are_counted_by_kind(api: ApiServer, session: requests.Session) -> None:
    """What came in is counted, also what was not answered well."""
    session.get(f"{api.url}/readyz", timeout=2)
    session.get(f"{api.url}/api/v1/pods", params=HERE, timeout=2)
    api.mode = Mode.ERROR
    session.get(f"{api.url}/api/v1/pods", params=HERE, timeout=2)
    wait_until(lambda: api.connections == 2, 2, "the second connection")
    assert api.requests == {"get readyz": 1, "list pods": 2}
