"""The capabilities of the DaemonSet are those that a faithful copy takes: no fewer, no more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.unit.deploy.conftest import ROOT

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)

POD_USER, POD_GROUP = 1234, 2345
_POD = yaml.safe_load((ROOT / "manifests/base/daemonset.yaml").read_text())["spec"]["template"]
GRANTED = _POD["spec"]["containers"][0]["securityContext"]["capabilities"]["add"]

_SCENARIO = """
import sys
from pathlib import Path
from checkpointer.core.checkpoint import Revision
from checkpointer.core.workload import Workload
from checkpointer.store.rendered import read_rendered
from checkpointer.store.revisions import NewRevision, Store

volume, root = map(Path, sys.argv[1:])
workload = Workload("kube-system", "DaemonSet", "web")
read = read_rendered(volume, "kubernetes.io~projected", "v")
revision = Revision(
    number=0, digest="d", parent_uid="u", parent_name="web-1", labels=(),
    app_containers=("web",), stage=1, shares_ports=True, created_at=0.0,
)
store = Store(root)
for number in (1, 2):
    stored = store.add(NewRevision(workload, revision, lambda _: {}, (read,)))
    assert store.verify(workload, stored.number) == ()
store.prune(workload, {2})
"""


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume as the kubelet renders it for a pod with runAsUser and fsGroup."""
    path, data = tmp_path / "v", tmp_path / "v/..2026_01_01"
    data.mkdir(parents=True)
    (data / "token").write_bytes(b"for the pod's user only")
    (data / "token").chmod(0o600)
    os.chown(data / "token", POD_USER, -1)
    (path / "..data").symlink_to(data.name)
    (path / "token").symlink_to("..data/token")
    for folder in (path, data):
        os.chown(folder, -1, POD_GROUP)
        folder.chmod(0o2775)
    return path


def copy_with(capabilities: list[str], volume: Path) -> str:
    """Store a checkpoint with these capabilities alone; return what is wrong with it."""
    bounded = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities)])
    store = volume.parent / "store"
    done = subprocess.run(
        ["setpriv", f"--bounding-set={bounded}", sys.executable, "-c", _SCENARIO, volume, store],
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return done.stderr.splitlines()[-1]
    (copy,) = store.glob("*/*/revisions/2/material/v")
    wrong = [
        path.name
        for path, original in (
            (copy, volume),
            (copy / "..data", volume / "..data"),
            (copy / "token", volume / "token"),
        )
        if _shape(path) != _shape(original)
    ]
    return f"other owners or modes: {', '.join(wrong)}" if wrong else ""


def _shape(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mode, status.st_uid, status.st_gid


def test_granted_capabilities_are_enough(volume: Path) -> None:
    """All that the store does to the node's files works with them."""
    assert copy_with(GRANTED, volume) == ""


@pytest.mark.parametrize("name", GRANTED)
def test_each_granted_capability_is_needed(volume: Path, name: str) -> None:
    """Without it a copy is refused, or is not what its parent had."""
    assert copy_with([n for n in GRANTED if n != name], volume) != ""
