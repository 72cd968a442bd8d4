"""What the sanitizer makes of real-world pods is accepted by a real kubelet and API server.

The pods are those of tests/unit/manifest/golden. Only what needs their images and the host is
replaced: every container runs a stand-in that waits (init containers: one that ends at once), and
the host's folders are those of a folder made for them.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from checkpointer.manifest.acceptance import refusals
from checkpointer.manifest.render import RenderedManifest, canonical, content_digest, render
from checkpointer.manifest.sanitize import sanitize
from tests.e2e.cluster import images
from tests.e2e.cluster.api import ApiError, Object
from tests.e2e.cluster.kubelet import NODE
from tests.e2e.cluster.node import Node
from tests.e2e.cluster.waiting import hold, wait_for
from tests.e2e.summary import Record
from tests.unit.manifest import golden_pods

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PLACE = "/var/lib/golden"
WAITS, ENDS = "e2e.invalid/waits:1", "e2e.invalid/ends:1"
ACCEPTED_SECONDS = 120.0
GONE_SECONDS = 120.0
GRACE_SECONDS = 6
"""Longer than any golden pod's preStop sleeps; the stand-in does not end by itself."""
RELIST_SECONDS = 25.0
"""Longer than the kubelet's fileCheckFrequency, after which it reads all files again."""

REFUSALS = re.compile(
    r"Could not process manifest file|can't process config file|couldn't parse as pod"
    r"|Failed creating a mirror pod"
)

# exit(0), in as many bytes as what it replaces in the program that waits.
_EXIT = {
    "x86_64": bytes.fromhex("31ff b03c 0f05 ebfe 90"),
    "aarch64": b"".join(
        word.to_bytes(4, "little")
        for word in (0xD2800000, 0xD2800BA8, 0xD4000001, *(0x14000000,) * 4)
    ),
}


@dataclass(frozen=True)
class Copy:
    """A golden pod's copy, made for this cluster."""

    name: str
    rendered: RenderedManifest
    manifest: dict[str, Any]

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"]["namespace"])

    @property
    def path(self) -> str:
        """Where the API has its mirror pod."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.rendered.pod_name}-{NODE}"


def test_golden_manifests_run(node: Node, record: Record) -> None:
    """None is refused; each has a mirror pod, and each of its containers was made and started."""
    copies = [made for name in golden_pods.NAMES if (made := make_copy(name)) is not None]
    record.count("manifests", len(copies))
    assert node.kubelet is not None
    log = node.kubelet.log
    with prepared(node, copies):
        begun = log.stat().st_size
        for copy in copies:
            write(node, copy)
        states = {
            copy.name: wait_for(
                f"the mirror pod of {copy.name}", lambda copy=copy: mirror(node, copy), 60
            )
            and wait_for_containers(node, copy)
            for copy in copies
        }
        hold(RELIST_SECONDS, node.check_processes)
        with log.open("rb") as file:
            file.seek(begun)
            told = file.read().decode(errors="replace").splitlines()
        for copy in copies:
            assert mirror(node, copy), f"{copy.name} is gone"
    assert [line for line in told if REFUSALS.search(line)] == []
    assert {name: state for name, state in states.items() if state} == {}
    record.count("containers started", sum(len(list(containers_of(c.manifest))) for c in copies))


def make_copy(name: str) -> Copy | None:
    """Return the copy of a golden pod, or None if it is one that is refused."""
    pod, sources, options = golden_pods.load(name)
    root = f"{PLACE}/{name}/material"
    verdict = sanitize(pod, root, sources, replace(options, node_name=NODE))
    if verdict.manifest is None:
        return None
    manifest = stand_in(verdict.manifest, name)
    assert refusals(manifest, NODE, len(canonical(manifest))) == ()
    digest = content_digest(manifest, "")
    return Copy(name, render(manifest, verdict.workload, NODE, digest, 1, 1), manifest)


def stand_in(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """Replace images, commands and the host's folders; everything else stays."""
    spec = {**manifest["spec"], "terminationGracePeriodSeconds": GRACE_SECONDS}
    for kind in ("initContainers", "containers"):
        if kind in spec:
            spec[kind] = [stand_in_container(c, kind) for c in spec[kind]]
    if "volumes" in spec:
        spec["volumes"] = [stand_in_volume(volume, name) for volume in spec["volumes"]]
    return {**manifest, "spec": spec}


def stand_in_container(container: dict[str, Any], kind: str) -> dict[str, Any]:
    ends = kind == "initContainers" and container.get("restartPolicy") != "Always"
    kept = {key: value for key, value in container.items() if key != "args"}
    return {**kept, "image": ENDS if ends else WAITS, "command": ["/ends" if ends else "/waits"]}


def stand_in_volume(volume: dict[str, Any], name: str) -> dict[str, Any]:
    path = volume.get("hostPath", {}).get("path", "")
    if not path or path.startswith(PLACE):
        return volume
    host_path = {**volume["hostPath"], "path": f"{PLACE}/{name}/host{path}".rstrip("/")}
    return {**volume, "hostPath": host_path}


@contextmanager
def prepared(node: Node, copies: list[Copy]) -> Iterator[None]:
    """Have images, folders, namespaces and priority classes there; leave no trace of them."""
    node.stop_agent()  # files with its mark are its own business
    node.activations.is_judging = False
    waits = images.pause_program()
    ends = waits.replace(images._CODE[platform.machine()][1], _EXIT[platform.machine()])
    load(node, WAITS, "waits", waits)
    load(node, ENDS, "ends", ends)
    for copy in copies:
        make_folders(node.machine.disk, copy.manifest["spec"])
    made = [path for copy in copies for path in create_surroundings(node, copy)]
    try:
        yield
    finally:
        for copy in copies:
            (node.manifests / copy.rendered.file_name).unlink(missing_ok=True)
        for copy in copies:
            wait_for(f"{copy.name} to end", lambda copy=copy: not mirror(node, copy), GONE_SECONDS)
        for path in made:
            node.api.delete(path)
        node.activations.is_judging = True
        node.start_agent()


def load(node: Node, reference: str, program: str, content: bytes) -> None:
    file = node.machine.disk / program
    file.write_bytes(content)
    node.containerd.load_image(reference, file)
    file.unlink()


def make_folders(disk: Path, spec: dict[str, Any]) -> None:
    """Make what a node would have: folders, parents of files, and what subPaths lead to."""
    for volume in spec.get("volumes", ()):
        if "hostPath" not in volume:
            continue
        path = disk / volume["hostPath"]["path"].lstrip("/")
        is_file = volume["hostPath"].get("type", "").startswith("File")
        (path.parent if is_file else path).mkdir(parents=True, exist_ok=True)
        for container in containers_of({"spec": spec}):
            for mount in container.get("volumeMounts", ()):
                if mount["name"] == volume["name"] and mount.get("subPath"):
                    (path / mount["subPath"]).touch()


def create_surroundings(node: Node, copy: Copy) -> Iterator[str]:
    """Create the namespace and priority class of a pod where missing; yield what to delete."""
    spec, core = copy.manifest["spec"], "/api/v1/namespaces"
    wanted = [(core, {"apiVersion": "v1", "kind": "Namespace"}, copy.namespace)]
    if name := spec.get("priorityClassName"):
        classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
        described = {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "value": spec["priority"],
        }
        wanted.append((classes, described, name))
    for path, described, name in wanted:
        try:
            node.api.create(path, {**described, "metadata": {"name": name}})
        except ApiError as error:
            if error.code != 409:  # it is there already
                raise
        else:
            yield f"{path}/{name}"


def write(node: Node, copy: Copy) -> None:
    """Put the manifest into the kubelet's folder as the agent does: hidden, then renamed."""
    target = node.manifests / copy.rendered.file_name
    hidden = target.with_name(f".{target.name}")
    hidden.write_bytes(copy.rendered.content)
    hidden.rename(target)


def mirror(node: Node, copy: Copy) -> Object | None:
    """Return the copy's mirror pod; it has to be that of this very manifest."""
    try:
        pod = node.api.get(copy.path)
    except ApiError as error:
        if error.code == 404:
            return None
        raise
    assert pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] == copy.rendered.uid
    return pod


def wait_for_containers(node: Node, copy: Copy) -> str:
    """Wait until every container was started; return what the pod's status says if one was not."""

    def problems() -> list[str]:
        pod = mirror(node, copy)
        status = pod["status"] if pod else {}
        said = {
            container["name"]: container
            for kind in ("initContainerStatuses", "containerStatuses")
            for container in status.get(kind, ())
        }
        return [
            f"{container['name']}: {said.get(container['name'], status)}"
            for container in containers_of(copy.manifest)
            if not said.get(container["name"], {}).get("containerID")
        ]

    try:
        wait_for("the containers", lambda: not problems(), ACCEPTED_SECONDS)
    except AssertionError:
        return "; ".join(problems())
    return ""


def containers_of(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kind in ("initContainers", "containers"):
        yield from manifest["spec"].get(kind, ())
