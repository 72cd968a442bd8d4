"""Whatever fails, the kubelet's folder shows a manifest whole or not at all, and nothing else."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from checkpointer.core.facts import Known
from checkpointer.core.workload import Workload
from checkpointer.node.manifests import PREFIX, ManifestFolder
from checkpointer.store.errors import DiskError

NAME = f"{PREFIX}x.json"


@dataclass(frozen=True)
class Mark:
    """What mark_of finds."""

    workload: Workload
    revision: int
    issue: int
    uid: str


def manifest(issue: int) -> bytes:
    return json.dumps({"issue": issue, "padding": "x" * 200}).encode()


def mark_of(content: bytes) -> Mark | None:
    try:
        return Mark(Workload("n", "Pod", "x"), 1, json.loads(content)["issue"], "u")
    except (ValueError, KeyError):
        return None


def what_the_kubelet_sees(path: Path) -> dict[str, bytes]:
    """Every file whose name does not begin with a dot."""
    return {n: (path / n).read_bytes() for n in os.listdir(path) if not n.startswith(".")}


OPERATIONS = {
    "activate": (lambda f: f.write(NAME, manifest(0)), None, manifest(0)),
    "issue anew": (lambda f: f.write(NAME, manifest(1)), manifest(0), manifest(1)),
    "release": (lambda f: f.remove(NAME), manifest(0), None),
}


def start(path: Path, before: bytes | None) -> None:
    """Make the folder as it is before the operation."""
    for name in os.listdir(path):
        (path / name).unlink()
    (path / "etcd.yaml").write_bytes(b"foreign")
    (path / ".etcd.yaml.swp").write_bytes(b"foreign")
    if before is not None:
        (path / NAME).write_bytes(before)
        (path / NAME).chmod(0o600)


def check(path: Path, before: bytes | None, after: bytes | None) -> None:
    seen = what_the_kubelet_sees(path)
    assert seen.pop("etcd.yaml") == b"foreign"
    assert seen in ({NAME: content} if content else {} for content in (before, after))


@pytest.mark.parametrize("name", OPERATIONS)
def test_failing_or_dying_at_any_call_shows_the_kubelet_all_or_nothing(ram_path, kit, name):
    """And the next run finishes, with no file of ours left over."""
    operate, before, after = OPERATIONS[name]
    start(ram_path, before)
    calls = kit.FaultyCalls()
    operate(ManifestFolder(ram_path, mark_of, calls))
    faults = [{"error": error} for error in kit.errors]
    faults += [{"crash": how} for how in ("before", "after", "half")]
    for at in range(len(calls.names)):
        for fault in faults:
            start(ram_path, before)
            faulty = kit.FaultyCalls(kit.Fault(at, **fault))
            folder = ManifestFolder(ram_path, mark_of, faulty)
            with suppress(DiskError, kit.CrashError):
                operate(folder)
            faulty.bury()
            check(ram_path, before, after)
            if "error" in fault:
                assert not [n for n in os.listdir(ram_path) if n.startswith(".pod-")]
            again = ManifestFolder(ram_path, mark_of)
            again.clean()
            operate(again)
            check(ram_path, after, after)
            assert isinstance(again.observe(), Known)
            left = set(os.listdir(ram_path)) - {NAME}
            assert left == {"etcd.yaml", ".etcd.yaml.swp"}


def test_io_error_that_passes_is_forgotten(ram_path, kit):
    """An active manifest that could not be read once is not foreign for good."""
    start(ram_path, manifest(0))
    calls = kit.FaultyCalls()
    ManifestFolder(ram_path, mark_of, calls).observe()
    for at in range(len(calls.names)):
        folder = ManifestFolder(ram_path, mark_of, kit.FaultyCalls(kit.Fault(at, error=5)))
        first = folder.observe().value
        assert (first.ours, first.foreign) == ((), ("etcd.yaml", NAME))
        assert first.problems == (f"{ram_path}/{NAME} is left alone: Input/output error",)
        assert len(folder.observe().value.ours) == 1


def test_being_out_of_handles_is_unknown_and_never_an_empty_folder(ram_path, kit):
    """What could not be read may be an active manifest."""
    start(ram_path, manifest(0))
    calls = kit.FaultyCalls()
    ManifestFolder(ram_path, mark_of, calls).observe()
    for at in range(len(calls.names)):
        folder = ManifestFolder(ram_path, mark_of, kit.FaultyCalls(kit.Fault(at, error=24)))
        answer = folder.observe()
        assert not isinstance(answer, Known)
        assert answer.reason == f"cannot read {ram_path}/{NAME}: Too many open files"
        assert len(folder.observe().value.ours) == 1
