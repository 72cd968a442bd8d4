"""What is remembered of the agent itself, and the end of the store."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.checkpoint import OwnRecord
from checkpointer.core.facts import Known
from checkpointer.core.workload import Workload
from checkpointer.report.agent_socket import listen_on_socket
from checkpointer.store.errors import StoreError
from checkpointer.store.layout import SOCKET
from checkpointer.store.own import OWN_STATE, own_state, own_workload, parse_own
from checkpointer.store.revisions import Store
from checkpointer.store.system_calls import SystemCalls

RECORD = OwnRecord(
    workload=Workload("kube-system", "DaemonSet", "pod-checkpointer"),
    cluster="ab12",
    has_marker=True,
    gone_seconds=12.5,
    leaving=True,
    gave_way_to=3,
    tries=2,
    refusals=1,
)


@pytest.mark.parametrize("record", [RECORD, OwnRecord()])
def test_the_record_survives_a_restart(tmp_path: Path, record: OwnRecord) -> None:
    """All of it, also what was never set."""
    store = Store(tmp_path / "store")
    store.write_state("itself", own_state(record))
    found = Store(tmp_path / "store").read_state("itself")
    assert isinstance(found, Known)
    assert parse_own(found.value) == record


def test_what_is_missing_is_as_if_never_set() -> None:
    """An older version's state, or none, and keys of a later one."""
    assert parse_own({}) == OwnRecord()
    assert parse_own({"tries": 1, "invented_later": True}) == OwnRecord(tries=1)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"leaving": "yes"}, "leaving is not of type bool"),
        ({"leaving": 1}, "leaving is not of type bool"),
        ({"tries": True}, "tries is not of type int"),
        ({"workload": "kube-system"}, "workload is missing"),
        ({"workload": {"namespace": "a", "kind": "b"}}, "workload.name is missing"),
    ],
)
def test_a_damaged_record_is_named_by_its_key(state: dict[str, Any], said: str) -> None:
    """Nothing is guessed: on a wrong guess the agent could leave the node."""
    with pytest.raises(StoreError, match=said):
        parse_own(state)


def test_a_dissolved_store_is_gone_and_stays_so(tmp_path: Path) -> None:
    """Whoever wants to remember something afterwards is told that there is no store."""
    store = Store(tmp_path / "store")
    store.write_state("itself", own_state(RECORD))
    assert store.dissolve() == ()
    assert not (tmp_path / "store").exists()
    with pytest.raises(StoreError, match="the agent has left"):
        store.write_state("itself", own_state(RECORD))
    assert not (tmp_path / "store").exists()
    assert store.dissolve() == ()


class MountedRoot(SystemCalls):
    """The root is a mount of its own, as in the agent's pod."""

    def __init__(self, error: int) -> None:
        self.error = error

    def rmdir(self, path: str) -> None:
        if path.endswith("/store"):
            raise OSError(self.error, os.strerror(self.error))
        super().rmdir(path)


@pytest.mark.parametrize("error", [errno.EBUSY, errno.EROFS])
def test_a_root_that_is_a_mount_is_left_empty(tmp_path: Path, error: int) -> None:
    """In a pod it cannot be removed, and that is no fault."""
    store = Store(tmp_path / "store", MountedRoot(error))
    store.write_state("itself", own_state(RECORD))
    assert store.dissolve() == ()
    assert list((tmp_path / "store").iterdir()) == []
    other = Store(tmp_path / "store", MountedRoot(errno.EIO))
    with pytest.raises(StoreError, match="cannot remove"):
        other.dissolve()


def test_what_is_not_ours_stays_in_the_store_and_is_named(tmp_path: Path) -> None:
    """A folder that somebody keeps things in is left with them."""
    root = tmp_path / "store"
    store = Store(root)
    store.write_state("itself", own_state(RECORD))
    (root / "notes.txt").write_text("mine")
    assert store.dissolve() == (f"{root / 'notes.txt'} is not ours and stays",)
    assert [path.name for path in root.iterdir()] == ["notes.txt"]


def test_the_agents_socket_goes_with_the_store(tmp_path: Path) -> None:
    """It is still listened on while the agent leaves; a file of that name is somebody's."""
    root = tmp_path / "store"
    store = Store(root)
    store.write_state("itself", own_state(RECORD))
    listening, _ = listen_on_socket(root)
    with listening:
        assert store.dissolve() == ()
    assert not root.exists()
    other = Store(root)
    other.write_state("itself", own_state(RECORD))
    (root / SOCKET).write_text("mine")
    assert other.dissolve() == (f"{root / SOCKET} is not ours and stays",)


def test_whose_pods_the_agents_were_is_known_where_it_ever_ran(tmp_path: Path) -> None:
    """Nobody's before; a state that cannot be read is nobody's either."""
    store = Store(tmp_path / "store")
    assert own_workload(store) is None
    store.write_state(OWN_STATE, own_state(RECORD))
    assert own_workload(store) == RECORD.workload
    store.write_state(OWN_STATE, {"workload": "pod-checkpointer"})
    assert own_workload(store) is None
