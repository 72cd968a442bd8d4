"""restart: a static pod by its manifest, other pods through the runtime; nothing gets lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkpointer.node.set_aside import hidden_path, original_name, put_back, set_aside
from checkpointer.simulation.waiting import wait_until
from checkpointer.store.durable import Disk
from checkpointer.store.errors import ForeignFileError, StoreError


def fingerprint(path: Path) -> tuple[bytes, int, int]:
    status = path.stat()
    return path.read_bytes(), status.st_ino, status.st_mtime_ns


def start(stand: Any, *arguments: str) -> subprocess.Popen[str]:
    """Start the command as a process of its own."""
    config = str(stand.node.agent_config_file)
    command = [sys.executable, "-m", "checkpointer", *arguments, "--config", config]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize(
    "name", ["etcd", "etcd-node-1", "kube-system/etcd", "etcd.yaml", "KUBE-SYSTEM/etcd-node-1"]
)
def test_a_static_pod_is_restarted_by_its_manifest(stand: Any, name: str) -> None:
    """A new container runs; the file is what it was, to the inode."""
    path = stand.place("etcd", terminationGracePeriodSeconds=1)
    other = stand.place("other")
    before, others = fingerprint(path), fingerprint(other)
    (old,) = stand.node.running("etcd")
    (neighbour,) = stand.node.running("other")
    answer = stand.run("restart", name)
    assert (answer.status, answer.err) == (0, "")
    assert "static pod kube-system/etcd: runs again after " in answer.out
    (new,) = stand.node.running("etcd")
    assert new.id != old.id
    assert stand.node.running("other") == [neighbour]
    assert (fingerprint(path), fingerprint(other)) == (before, others)
    assert sorted(os.listdir(stand.node.manifest_folder)) == ["etcd.yaml", "other.yaml"]


def test_a_dry_run_of_it_says_what_would_be_done(stand: Any) -> None:
    """And does not."""
    path = stand.place("etcd")
    running = stand.node.running()
    answer = stand.run("restart", "etcd", "--dry-run")
    assert answer.out == (
        f"static pod kube-system/etcd: would set {path} aside, wait for its end, put it back\n"
    )
    assert stand.node.running() == running


def test_an_api_pod_is_restarted_through_the_runtime(stand: Any) -> None:
    """The kubelet starts its containers again."""
    container = {"name": "main", "image": "gateway:1"}
    stand.node.add_daemonset("gateway", {"containers": [container]})
    wait_until(lambda: stand.node.parents("main"), 5, "the pod")
    (old,) = stand.node.parents("main")
    assert stand.run("restart", old.sandbox.config.name).status == 0
    assert stand.node.parents("main")[0].id != old.id


def test_a_copy_is_restarted_and_its_manifest_left_alone(stand: Any) -> None:
    """With the API away the kubelet would not follow a change of it."""
    stand.add_revision()
    stand.run("activate", "gateway")
    (name,) = stand.node.manifests()
    before = fingerprint(stand.node.manifest_folder / name)
    (old,) = stand.node.copies("main")
    assert stand.run("restart", "gateway").status == 0
    assert stand.node.copies("main")[0].id != old.id
    assert fingerprint(stand.node.manifest_folder / name) == before


def test_nothing_is_stopped_that_nobody_would_start_again(stand: Any) -> None:
    """The kubelet must run, and know the pod."""
    container = {"name": "main", "image": "gateway:1"}
    stand.node.add_daemonset("gateway", {"containers": [container]})
    wait_until(lambda: stand.node.parents("main"), 5, "the pod")
    stand.place("etcd")
    running = {c.id for c in stand.node.running()}
    stand.node.cut_network()
    stand.node.restart_kubelet()
    pod = stand.node.parents("main")[0].sandbox.config.name
    answer = stand.run("restart", pod)
    assert answer.status == 3
    assert "the kubelet may not know this pod" in answer.err
    stand.node._stop_kubelet()
    answer = stand.run("restart", "etcd")
    assert answer.status == 3
    assert "the kubelet does not run" in answer.err
    assert {c.id for c in stand.node.running()} == running


def test_a_name_that_nothing_has_is_answered_with_what_runs(stand: Any) -> None:
    """Nothing is moved for a guess."""
    stand.place("etcd")
    answer = stand.run("restart", "etdc")
    assert answer.status == 2
    assert "these run: kube-system/etcd-node-1" in answer.err


def test_a_restart_that_a_signal_ends_puts_the_manifest_back(stand: Any) -> None:
    """Whatever the pod is at."""
    path = stand.place("etcd", terminationGracePeriodSeconds=30)
    stand.node.programs.by_image["etcd:1"] = slow = stand.node.programs.of("etcd:1")
    stand.node.programs.by_image["etcd:1"] = type(slow)(stop_seconds=20.0)
    before = fingerprint(path)
    with start(stand, "restart", "etcd") as process:
        wait_until(lambda: hidden_path(path).exists(), 10, "it to be set aside")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    assert fingerprint(path) == before
    assert not hidden_path(path).exists()


def test_a_restart_that_was_killed_is_finished_by_the_next(stand: Any) -> None:
    """Until then the file is there for everybody to see, and told of."""
    path = stand.place("etcd")
    before = fingerprint(path)
    (old,) = stand.node.running("etcd")
    set_aside(Disk(), path)
    wait_until(lambda: not stand.node.running("etcd"), 5, "the kubelet to stop it")
    answer = stand.run("restart", "etcd")
    assert answer.status == 0
    assert "was set aside by an earlier restart that did not finish" in answer.out
    assert fingerprint(path) == before
    assert stand.node.running("etcd")[0].id != old.id


def test_a_kubelet_that_does_not_stop_the_pod_is_helped(
    stand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that has not reached the API since it started."""
    from checkpointer.cli import restart

    path = stand.place("etcd", terminationGracePeriodSeconds=0)
    monkeypatch.setattr(restart, "MARGIN_SECONDS", 0.3)
    kubelet = stand.node.kubelet
    before = fingerprint(path)
    (old,) = stand.node.running("etcd")
    kubelet.stop()
    answer = stand.run("restart", "etcd", "--force", "--timeout", "0")
    assert answer.status == 4
    assert "the kubelet does not stop it; stopping it through the runtime" in answer.out
    assert old.id not in {c.id for c in stand.node.running("etcd")}
    assert fingerprint(path) == before


# The file itself


def test_set_aside_and_put_back_are_inverse(tmp_path: Path) -> None:
    """Same bytes, same inode, nothing left."""
    path = tmp_path / "etcd.yaml"
    path.write_text("kind: Pod")
    before = fingerprint(path)
    set_aside(Disk(), path)
    assert [p.name for p in tmp_path.iterdir()] == [hidden_path(path).name]
    assert original_name(hidden_path(path).name) == "etcd.yaml"
    assert put_back(Disk(), path) is True
    assert put_back(Disk(), path) is False
    assert fingerprint(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["etcd.yaml"]


def test_put_back_finishes_what_died_between_its_steps(tmp_path: Path) -> None:
    """Both names are one file then."""
    path = tmp_path / "etcd.yaml"
    path.write_text("kind: Pod")
    os.link(path, hidden_path(path))
    assert put_back(Disk(), path) is False
    assert [p.name for p in tmp_path.iterdir()] == ["etcd.yaml"]


def test_put_back_replaces_nothing(tmp_path: Path) -> None:
    """Somebody may have put a new version there meanwhile: both stay."""
    path = tmp_path / "etcd.yaml"
    path.write_text("kind: Pod")
    set_aside(Disk(), path)
    path.write_text("kind: Pod # new")
    with pytest.raises(ForeignFileError, match="is another file than"):
        put_back(Disk(), path)
    with pytest.raises(StoreError, match="the target exists"):
        set_aside(Disk(), path)
    assert hidden_path(path).read_text() == "kind: Pod"
    assert path.read_text() == "kind: Pod # new"


@pytest.mark.parametrize("name", ["etcd.yaml", ".etcd.yaml", ".set-aside-by-pod-checkpointer", ""])
def test_only_our_own_names_are_taken_for_set_aside(name: str) -> None:
    """An editor's hidden file is none of our business."""
    assert original_name(name) is None
