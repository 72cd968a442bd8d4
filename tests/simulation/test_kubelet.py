"""The simulated kubelet's rules, on a node whose API server is somewhere else."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkpointer.simulation import pod_status, tokens
from checkpointer.simulation.api_writes import MIRROR
from checkpointer.simulation.backoff import Backoff
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.programs import BROKEN, Program
from checkpointer.simulation.waiting import wait_until
from tests.simulation.conftest import QUICK

IMAGE = "docker.io/library/web:1"


def spec(image: str = IMAGE, **more: Any) -> dict[str, Any]:
    return {
        "containers": [{"name": "web", "image": image}],
        "terminationGracePeriodSeconds": 1,
    } | more


def place(node: SimulatedNode, name: str = "copy", **more: Any) -> Path:
    """Put a static pod's manifest into the folder the way it should be done: by a rename."""
    uid = more.pop("uid", None)
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "kube-system", **({"uid": uid} if uid else {})},
        "spec": spec(**more),
    }
    path = node.manifest_folder / f"{name}.json"
    hidden = path.with_name(f".{path.name}")
    hidden.write_text(json.dumps(manifest))
    os.rename(hidden, path)
    return path


def ready(node: SimulatedNode, workload: str = "web") -> list[str]:
    return [one["metadata"]["uid"] for one in node.pods(workload) if pod_status.is_ready(one)]


def run_parent(node: SimulatedNode, **more: Any) -> str:
    """Have a DaemonSet's pod run and be Ready; return its UID."""
    node.add_daemonset("web", spec(**more))
    wait_until(lambda: ready(node), 5, "a Ready pod")
    return ready(node)[0]


def boot_offline(node: SimulatedNode, mode: Mode = Mode.REFUSED) -> None:
    """Power-cycle the node with the API away and the usual image there."""
    node.runtime.images.add(IMAGE)
    node.power_off()
    node.cut_network(mode)
    node.power_on()


def test_pods_of_the_api_run_and_are_reported(node: SimulatedNode) -> None:
    """Phase, conditions, address, container status and image reach the API."""
    uid = run_parent(node)
    (pod,) = node.pods("web")
    status = pod["status"]
    assert status["phase"] == "Running"
    assert status["podIP"].startswith("10.88.")
    (container,) = status["containerStatuses"]
    (record,) = node.parents("web")
    assert container["containerID"] == f"containerd://{record.id}"
    assert (container["restartCount"], container["ready"]) == (0, True)
    assert record.config.labels["io.kubernetes.pod.uid"] == uid
    assert IMAGE in node.runtime.images


def test_fresh_kubelet_knows_no_pod_of_the_api(node: SimulatedNode) -> None:
    """Booted with no API, only static pods start; the API's come when it answers."""
    place(node)
    run_parent(node)
    boot_offline(node)
    wait_until(lambda: node.copies("web"), 5, "the static pod")
    assert node.kubelet is not None
    assert not node.kubelet.sources_ready
    assert node.parents() == []
    node.restore_network()
    wait_until(lambda: node.parents("web"), 5, "the pod of the API")
    (record,) = node.parents("web")
    assert record.config.attempt == 1


def test_stale_ready_condition_stays_until_the_kubelet_reports(node: SimulatedNode) -> None:
    """After a power cut the API goes on saying Ready of what is dead."""
    uid = run_parent(node)
    node.power_off()
    assert ready(node) == [uid]


@pytest.mark.parametrize("change", ["delete", "edit"])
def test_static_pods_are_not_stopped_before_sources_are_ready(
    node: SimulatedNode, change: str
) -> None:
    """Deleted or edited offline, the old pod runs on; the new one waits for its name."""
    path = place(node, uid="old")
    boot_offline(node)
    wait_until(lambda: node.copies("web"), 5, "the static pod")
    if change == "delete":
        path.unlink()
    else:
        place(node, uid="new")
    assert_stays(node, lambda: uids(node) == {"old"})
    node.runtime.kill(node.copies("web")[0].id)
    assert_stays(node, lambda: uids(node) == set())
    node.restore_network()
    if change == "edit":
        wait_until(lambda: uids(node) == {"new"}, 5, "the new pod")
    else:
        wait_until(lambda: not node.runtime.sandboxes(), 5, "the end of the old pod")


def uids(node: SimulatedNode) -> set[str]:
    return {one.sandbox.config.uid for one in node.copies("web")}


def assert_stays(node: SimulatedNode, holds: Callable[[], bool]) -> None:
    """Watch that the condition holds for ten of the kubelet's rounds."""
    assert node.kubelet is not None
    kubelet, last = node.kubelet, node.kubelet.rounds + 10
    wait_until(lambda: not holds() or kubelet.rounds >= last, 10, "ten rounds")
    assert holds()


def test_static_pods_are_stopped_once_sources_are_ready(node: SimulatedNode) -> None:
    """With the API reached once, a deleted manifest ends its pod, also when it is away again."""
    path = place(node)
    wait_until(lambda: node.copies("web"), 5, "the static pod")
    node.cut_network()
    path.unlink()
    wait_until(lambda: not node.runtime.sandboxes(), 5, "its end")


def test_kubelet_restart_leaves_containers_unmanaged(node: SimulatedNode) -> None:
    """With the API away, a new kubelet neither stops nor restarts what it does not know."""
    run_parent(node)
    (before,) = node.parents("web")
    node.cut_network()
    node.restart_kubelet()
    assert_stays(node, lambda: [one.id for one in node.parents("web")] == [before.id])
    node.runtime.kill(before.id)
    assert_stays(node, lambda: not node.parents("web"))
    node.restore_network()
    wait_until(lambda: node.parents("web"), 5, "its restart by UID")
    assert node.parents("web")[0].sandbox.id == before.sandbox.id


def test_orphans_are_killed_once_sources_are_ready(node: SimulatedNode) -> None:
    """A pod that vanished from the API while the kubelet was away is stopped."""
    run_parent(node)
    assert node.kubelet is not None
    node.kubelet.stop()
    (pod,) = node.pods("web")
    node.cluster.delete("daemonsets", "kube-system", "web")
    node.cluster.delete("pods", "kube-system", pod["metadata"]["name"])
    node.start_kubelet()
    wait_until(lambda: not node.runtime.sandboxes(), 5, "the orphan's end")


def test_second_pod_with_the_port_fails_for_good(node: SimulatedNode) -> None:
    """The API's pod is rejected beside a copy that declares its port; its owner replaces it."""
    ports = [{"containerPort": 6443}]
    container = {"name": "web", "image": IMAGE, "ports": ports}
    path = place(node, containers=[container], hostNetwork=True)
    wait_until(lambda: node.copies("web"), 5, "the copy")
    node.add_daemonset("web", spec(containers=[container], hostNetwork=True))
    wait_until(
        lambda: any((pod.get("status") or {}).get("reason") == "NodePorts" for pod in node.pods()),
        5,
        "the rejection",
    )
    path.unlink()
    wait_until(lambda: ready(node), 8, "a replacement")


def test_port_conflict_without_declaration_is_a_crash_loop(node: SimulatedNode) -> None:
    """Whoever comes second exits with 1, waits in back-off, and takes over in the end."""
    node.programs.by_image["web"] = Program(ports=(6443,))
    path = place(node, hostNetwork=True)
    wait_until(lambda: node.copies("web"), 5, "the copy")
    node.add_daemonset("web", spec(hostNetwork=True))
    wait_until(lambda: waiting_reasons(node) == ["CrashLoopBackOff"], 5, "a crash loop")
    path.unlink()
    wait_until(lambda: ready(node), 10, "the parent")
    assert node.parents("web")[0].config.attempt >= 1


def test_pod_whose_dead_are_forgotten_has_no_back_off(folder: Path) -> None:
    """With its sandbox ended it is started at once, and its restarts are counted on."""
    pace = replace(QUICK, backoff_seconds=3600.0, backoff_limit_seconds=3600.0)
    with SimulatedNode(folder, self_hosted=False, pace=pace) as node:
        node.programs.by_image["web"] = Program(ports=(6443,))
        path = place(node, hostNetwork=True)
        wait_until(lambda: node.copies("web"), 5, "the copy")
        node.add_daemonset("web", spec(hostNetwork=True))
        wait_until(lambda: waiting_reasons(node) == ["CrashLoopBackOff"], 10, "a crash loop")
        path.unlink()
        wait_until(lambda: not node.copies("web"), 10, "the copy's end")
        dead = node.runtime.containers()
        for one in dead:
            node.runtime.remove_container(one.id)
        node.runtime.stop_sandbox(dead[0].sandbox.id)
        wait_until(lambda: ready(node), 5, "the parent")
        assert node.parents("web")[0].config.attempt == dead[0].config.attempt + 1
    assert node.errors == []


def waiting_reasons(node: SimulatedNode) -> list[str]:
    return [
        container["state"]["waiting"]["reason"]
        for pod in node.pods("web")
        for container in (pod["status"].get("containerStatuses") or ())
        if "waiting" in container["state"]
    ]


def test_backoff_begins_at_once_where_an_old_container_is_known() -> None:
    """The first restart is immediate, then 10 s doubling to 300 s after each end."""
    backoff, key = Backoff(), ("uid", "web")
    assert backoff.remaining(key, ended_at=0.0, now=0.0) == 0.0
    backoff.count(key, ended_at=0.0, now=0.0)
    delays = []
    now = 0.0
    for _ in range(7):
        delay = backoff.remaining(key, ended_at=now, now=now)
        delays.append(delay)
        ended, now = now, now + delay
        backoff.count(key, ended_at=ended, now=now)
    assert delays == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    assert backoff.remaining(key, ended_at=now + 601.0, now=now + 601.0) == 0.0


def test_broken_image_is_restarted_with_attempts(node: SimulatedNode) -> None:
    """A pod that dies at once is Running, never Ready, with a growing restart count."""
    node.programs.by_image[IMAGE] = BROKEN
    node.add_daemonset("web", spec())
    wait_until(
        lambda: any(one.config.attempt >= 2 for one in node.runtime.containers()), 8, "restarts"
    )
    assert ready(node) == []


def test_refused_manifest_is_remembered(node: SimulatedNode) -> None:
    """A manifest against the rules is no pod, and the reason can be read."""
    place(node, serviceAccountName="web")
    assert node.kubelet is not None
    refused = node.kubelet
    wait_until(lambda: "copy.json" in refused.refused, 5, "the refusal")
    assert node.copies() == []


def test_mirror_pods_come_and_go_with_the_api(node: SimulatedNode) -> None:
    """A static pod shows in the API with the suffix and the hash; its end removes it."""
    boot_offline(node)
    path = place(node, uid="6d9a2b1e-6c1f-5e0a-9a53-0d8f3b8a2f10")
    wait_until(lambda: node.copies("web"), 5, "the static pod")
    node.restore_network()
    wait_until(lambda: mirrors(node), 5, "the mirror")
    (mirror,) = mirrors(node)
    assert mirror["metadata"]["name"] == "copy-node-1"
    assert mirror["metadata"]["annotations"][MIRROR] == "6d9a2b1e-6c1f-5e0a-9a53-0d8f3b8a2f10"
    assert [one["kind"] for one in mirror["metadata"]["ownerReferences"]] == ["Node"]
    path.unlink()
    wait_until(lambda: not mirrors(node), 5, "its removal")


def mirrors(node: SimulatedNode) -> list[dict[str, Any]]:
    return [
        pod
        for pod in node.cluster.objects("pods")
        if MIRROR in (pod["metadata"].get("annotations") or {})
    ]


def test_same_uid_edit_changes_nothing_but_the_image(node: SimulatedNode) -> None:
    """With an explicit UID only another image restarts the container."""
    place(node, uid="same")
    wait_until(lambda: node.copies("web"), 5, "the static pod")
    (before,) = node.copies("web")
    place(node, uid="same", containers=[{"name": "web", "image": IMAGE, "args": ["-x"]}])
    assert_stays(node, lambda: [one.id for one in node.copies()] == [before.id])
    place(node, uid="same", image="docker.io/library/web:2")
    wait_until(
        lambda: [one.config.image for one in node.copies()] == ["docker.io/library/web:2"],
        5,
        "the new image",
    )


def test_deleted_pod_ends_and_is_replaced_with_a_new_uid(node: SimulatedNode) -> None:
    """Deletion through the API ends the containers; the DaemonSet makes another pod."""
    first = run_parent(node)
    node.delete_pod("web")
    wait_until(lambda: ready(node) and ready(node) != [first], 8, "the replacement")
    assert not (node.kubelet_folder / "pods" / first).exists()


def test_rollout_replaces_the_pod(node: SimulatedNode) -> None:
    """A changed template ends in one pod of the new one, for both kinds of controller."""
    for add in (node.add_daemonset, node.add_deployment):
        name = add.__name__.removeprefix("add_")
        add(name, spec())
        wait_until(lambda name=name: ready(node, name), 5, "the first pod")
        first = ready(node, name)
        add(name, spec("docker.io/library/web:2"))
        wait_until(
            lambda name=name, first=first: (
                ready(node, name) != first and len(node.pods(name)) == 1 and ready(node, name)
            ),
            8,
            "the second pod",
        )


def test_volumes_are_rendered_as_the_kubelet_does(node: SimulatedNode) -> None:
    """Folders, links, modes and contents of all four kinds, under the pod's UID."""
    secret = {"key": base64.b64encode(b"secret").decode()}
    for resource, data in (("secrets", secret), ("configmaps", {"key": "plain", "other": "x"})):
        metadata = {"name": "web", "namespace": "kube-system"}
        node.cluster.create(resource, {"metadata": metadata, "data": data})
    items = [{"key": "key", "path": "deep/er", "mode": 0o600}]
    volumes = [
        {"name": "s", "secret": {"secretName": "web", "defaultMode": 0o400}},
        {"name": "c", "configMap": {"name": "web", "items": items}},
        {"name": "o", "configMap": {"name": "missing", "optional": True}},
        {
            "name": "d",
            "downwardAPI": {
                "items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.namespace"}}]
            },
        },
    ]
    uid = run_parent(node, volumes=volumes)
    root = node.kubelet_folder / "pods" / uid / "volumes"
    key = root / "kubernetes.io~secret/s/key"
    assert os.readlink(key) == "..data/key"
    assert os.readlink(key.parent / "..data").startswith("..20")
    assert (key.read_text(), key.stat().st_mode & 0o777) == ("secret", 0o400)
    deep = root / "kubernetes.io~configmap/c/deep/er"
    assert (deep.read_text(), deep.stat().st_mode & 0o777) == ("plain", 0o600)
    assert list((root / "kubernetes.io~configmap/o/..data").iterdir()) == []
    assert (root / "kubernetes.io~downward-api/d/name").read_text() == "kube-system"
    assert (root / "kubernetes.io~secret/s").stat().st_mode & 0o7777 == 0o1777
    (access,) = (root / "kubernetes.io~projected").iterdir()
    claims = tokens.claims_of((access / "token").read_text())
    assert claims["kubernetes.io"]["pod"]["uid"] == uid
    assert claims["exp"] - claims["iat"] == 31_536_000


def test_volumes_follow_their_sources(node: SimulatedNode) -> None:
    """A changed secret is swapped in; a renewed token is another one."""
    metadata = {"name": "web", "namespace": "kube-system"}
    node.cluster.create("secrets", {"metadata": metadata, "data": {"key": "YQ=="}})
    uid = run_parent(node, volumes=[{"name": "s", "secret": {"secretName": "web"}}])
    root = node.kubelet_folder / "pods" / uid / "volumes"
    (token,) = (root / "kubernetes.io~projected").glob("*/token")
    before = token.read_text()
    node.cluster.apply("secrets", {"metadata": metadata, "data": {"key": "Yg=="}})
    key = root / "kubernetes.io~secret/s/key"
    wait_until(lambda: key.read_text() == "b", 5, "the new secret")
    assert token.read_text() == before
    assert node.kubelet is not None
    node.kubelet.renew_tokens()
    wait_until(lambda: token.read_text() != before, 5, "the new token")


def test_missing_secret_keeps_the_pod_from_starting(node: SimulatedNode) -> None:
    """Without what it mounts the pod gets no sandbox; with it, it starts."""
    node.add_daemonset("web", spec(volumes=[{"name": "s", "secret": {"secretName": "late"}}]))
    wait_until(lambda: waiting_reasons(node) == ["ContainerCreating"], 5, "the wait")
    assert node.runtime.sandboxes() == []
    metadata = {"name": "late", "namespace": "kube-system"}
    node.cluster.create("secrets", {"metadata": metadata, "data": {}})
    wait_until(lambda: ready(node), 5, "the pod")


def test_memory_volumes_are_gone_after_a_power_cut(node: SimulatedNode) -> None:
    """Secrets and projections are empty, configMaps survive."""
    for resource in ("secrets", "configmaps"):
        metadata = {"name": "web", "namespace": "kube-system"}
        node.cluster.create(resource, {"metadata": metadata, "data": {"key": "YQ=="}})
    volumes = [
        {"name": "s", "secret": {"secretName": "web"}},
        {"name": "c", "configMap": {"name": "web"}},
    ]
    uid = run_parent(node, volumes=volumes)
    boot = node.boot_id_file.read_text()
    boot_offline(node)
    root = node.kubelet_folder / "pods" / uid / "volumes"
    assert list((root / "kubernetes.io~secret/s").iterdir()) == []
    assert (root / "kubernetes.io~configmap/c/key").is_file()
    assert node.boot_id_file.read_text() != boot


def test_environment_is_filled_in(node: SimulatedNode) -> None:
    """Literals, expansion, keys, prefixes and fields arrive in the container."""
    metadata = {"name": "web", "namespace": "kube-system"}
    node.cluster.create("configmaps", {"metadata": metadata, "data": {"KEY": "v"}})
    env = [
        {"name": "A", "value": "a"},
        {"name": "B", "value": "$(A)-$(NONE)-$$(A)"},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "KEY"}}},
        {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]
    sources = [{"prefix": "P_", "configMapRef": {"name": "web"}}]
    run_parent(node, containers=[{"name": "web", "image": IMAGE, "env": env, "envFrom": sources}])
    assert node.parents("web")[0].config.environment == {
        "P_KEY": "v",
        "A": "a",
        "B": "a-$(NONE)-$(A)",
        "C": "v",
        "D": "node-1",
    }


def test_init_containers_run_first(node: SimulatedNode) -> None:
    """An init container ends with 0 before the others start."""
    run_parent(node, initContainers=[{"name": "init", "image": "docker.io/library/init:1"}])
    by_name = {one.config.name: one for one in node.runtime.containers()}
    assert by_name["init"].exit_code == 0
    assert by_name["init"].finished_at <= by_name["web"].created_at


def test_image_that_cannot_be_pulled_keeps_the_container_waiting(node: SimulatedNode) -> None:
    """Offline, a missing image or the policy Always means ErrImagePull."""
    boot_offline(node)
    place(node, image="docker.io/library/missing:1")
    sandboxes = node.runtime.sandboxes
    wait_until(lambda: [one for one in sandboxes() if one.is_ready], 5, "the sandbox")
    assert_stays(node, lambda: not node.copies())
    node.has_network = True
    wait_until(lambda: node.copies(), 5, "the pull")


def test_kubelet_socket_is_new_with_each_start(node: SimulatedNode) -> None:
    """What tells the kubelet's start: a socket that is made anew."""
    socket = node.kubelet_folder / "pod-resources/kubelet.sock"
    before = socket.stat()
    node.restart_kubelet()
    after = socket.stat()
    assert socket.is_socket()
    assert (after.st_ctime_ns, after.st_ino) != (before.st_ctime_ns, before.st_ino)


def test_node_selector_without_its_label_is_a_final_rejection(node: SimulatedNode) -> None:
    """The kubelet looks itself whether a pod belongs on its node (2.5)."""
    node.cluster.create(
        "pods",
        {
            "metadata": {"name": "web", "namespace": "kube-system"},
            "spec": {**spec(nodeSelector={"zone": "a"}), "nodeName": node.name},
        },
    )
    wait_until(lambda: node.pods("web")[0].get("status"), 5, "a status")
    status = node.pods("web")[0]["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "NodeAffinity")
    assert node.runtime.sandboxes() == []
