"""The agent's image under a real containerd, as its pod runs it.

CHECKPOINTER_IMAGE names a docker-archive of the image, tagged `localhost/pod-checkpointer:dev`
(docs/testing.md tells how); without it there is nothing to test.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containerd.harness import RealContainerd

pytestmark = pytest.mark.containerd

IMAGE = "localhost/pod-checkpointer:dev"
TOOLS = ("sh", "bash", "dash", "apt", "dpkg", "pip", "pip3", "gcc", "cc", "make", "perl", "ld")
SIZE_LIMIT = 110 * 1024 * 1024
"""Bytes, unpacked. docs/install.md tells what to expect."""


@pytest.fixture(scope="module")
def archive() -> Path:
    path = os.environ.get("CHECKPOINTER_IMAGE")
    if not path:
        pytest.skip("CHECKPOINTER_IMAGE is not set: no built image")
    return Path(path)


@pytest.fixture(scope="module")
def loaded(archive: Path, real_runtime: None) -> Iterator[RealContainerd]:
    """A containerd that has the image."""
    with RealContainerd() as containerd:
        containerd.start()
        containerd.import_image(archive, IMAGE)
        yield containerd


def run(containerd: RealContainerd, *command: str, mounts: tuple[str, ...] = ()) -> str:
    """Run the image as its pod does: read-only, without privileges. Returns what it printed."""
    mounted = [f"--mount=type=bind,src={path},dst={path},options=rbind:ro" for path in mounts]
    return containerd.ctr(
        *("run", "--rm", "--read-only", "--snapshotter", containerd.snapshotter),
        *(*mounted, IMAGE, "image-test", *command),
    )


def test_agent_starts_on_a_read_only_root(loaded: RealContainerd) -> None:
    """The pod's root file system is read-only."""
    assert run(loaded, "/usr/bin/checkpointer", "--version").startswith("checkpointer ")


def test_all_that_a_command_loads_is_there(loaded: RealContainerd, tmp_path: Path) -> None:
    """A module or library that was left out would be missed on the day it is needed."""
    pod = tmp_path / "pod.json"
    pod.write_text(json.dumps(_POD))
    tmp_path.chmod(0o755)
    said = run(loaded, "/usr/bin/checkpointer", "explain", "-f", str(pod), mounts=(str(tmp_path),))
    assert "kube-system/tunnel" in said


_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "tunnel",
        "namespace": "kube-system",
        "uid": "0b6f0a80-0000-4000-8000-000000000001",
        "annotations": {"checkpointer.alpha.coreos.com/checkpoint": "true"},
    },
    "spec": {"containers": [{"name": "tunnel", "image": "example.invalid/tunnel:1"}]},
    "status": {"phase": "Running"},
}


def _files(archive: Path) -> dict[str, int]:
    """Return the path and size of each file of the image."""
    found: dict[str, int] = {}
    with tarfile.open(archive) as outer:
        manifest = outer.extractfile("manifest.json")
        assert manifest is not None
        for layer in json.load(manifest)[0]["Layers"]:
            content = outer.extractfile(layer)
            assert content is not None
            with tarfile.open(fileobj=io.BytesIO(content.read())) as inner:
                found.update({entry.name: entry.size for entry in inner if entry.isfile()})
    return found


def test_image_has_no_tools(archive: Path) -> None:
    """Who gets into the container finds nothing there to go on with."""
    assert [path for path in _files(archive) if Path(path).name in TOOLS] == []


def test_image_is_small(archive: Path) -> None:
    """Each node pulls it."""
    assert sum(_files(archive).values()) < SIZE_LIMIT


def test_image_says_what_it_is_and_starts_the_agent(archive: Path) -> None:
    """Labels are what a registry and an inventory go by."""
    with tarfile.open(archive) as outer:
        manifest = outer.extractfile("manifest.json")
        assert manifest is not None
        entry = outer.extractfile(json.load(manifest)[0]["Config"])
        assert entry is not None
        config = json.load(entry)["config"]
    assert config["Entrypoint"] == ["/usr/bin/checkpointer"]
    assert config["Cmd"] == ["run"]
    labels = {name.removeprefix("org.opencontainers.image.") for name in config["Labels"]}
    assert {"title", "description", "licenses", "version", "revision", "base.name"} <= labels
