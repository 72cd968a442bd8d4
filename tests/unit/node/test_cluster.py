"""The cluster that a node belongs to: pinned once, told apart from any other."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.node.cluster import ASK_SECONDS, STATE, ClusterPin
from checkpointer.store.revisions import Store


@dataclass
class Api:
    """Says what the namespace's UID is, if anything."""

    uid: str | None = None
    asked: list[str] = field(default_factory=list)

    def find(self, path: str) -> Fact[Mapping[str, Any] | None]:
        self.asked.append(path)
        if self.uid is None:
            return Unknown("HTTP 403")
        return Known({"metadata": {"uid": self.uid}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    write(tmp_path, "one")
    return tmp_path


def write(folder: Path, *authorities: str) -> None:
    """Write a kubeconfig that trusts these."""
    found = [base64.b64encode(text.encode()).decode() for text in authorities]
    marks = "-----{} CERTIFICATE-----\n"
    text = "".join(marks.format("BEGIN") + one + "\n" + marks.format("END") for one in found)
    (folder / "ca.crt").write_text(text)
    cluster = {"server": "https://127.0.0.1:6443", "certificate-authority": "ca.crt"}
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}],
        "clusters": [{"name": "c", "cluster": cluster}],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    os.utime(path, ns=(len(text) * 10**9, len(text) * 10**9))


def look(folder: Path, api: Api) -> Fact[bool]:
    """Look as an agent does that has just started."""
    return ClusterPin(folder / "kubeconfig", api, Store(folder / "store")).look(1.0, 1.0, False)


def test_the_first_contact_pins_its_cluster(folder: Path) -> None:
    """By the authority and, where it may be read, the UID of kube-system."""
    assert look(folder, Api("uid-1")) == Known(True)
    state = Store(folder / "store").read_state(STATE)
    assert isinstance(state, Known)
    assert state.value["uid"] == "uid-1"
    assert len(state.value["authorities"]) == 1


@pytest.mark.parametrize(
    ("authority", "uid", "is_own"),
    [
        ("one", "uid-1", True),
        ("one", "uid-2", False),
        ("one", None, True),
        ("two", "uid-1", True),
        ("two", "uid-2", False),
        ("two", None, False),
    ],
)
def test_another_cluster_is_told(
    folder: Path, authority: str, uid: str | None, is_own: bool
) -> None:
    """The UID decides; where it may not be read, the authority does."""
    look(folder, Api("uid-1"))
    write(folder, authority)
    assert look(folder, Api(uid)) == Known(is_own)
    write(folder, "one")
    assert look(folder, Api("uid-1")) == Known(True)


def test_an_authority_is_replaced_by_way_of_both(folder: Path) -> None:
    """Old, old and new, new: one cluster all the way, with no right to read the UID."""
    for authorities in (("old",), ("old", "new"), ("new",)):
        write(folder, *authorities)
        assert look(folder, Api()) == Known(True)


def test_the_api_is_asked_once_per_contact_and_more_when_pods_are_missing(folder: Path) -> None:
    """At rest nothing is asked again."""
    api = Api("uid-1")
    pin = ClusterPin(folder / "kubeconfig", api, Store(folder / "store"))
    for now in (1.0, 50.0, 500.0):
        pin.look(1.0, now, False)
    assert len(api.asked) == 1
    pin.look(1.0, 500.0 + ASK_SECONDS, True)
    pin.look(600.0, 600.0, False)
    assert len(api.asked) == 3


def test_what_cannot_be_told_is_unknown_and_a_problem(folder: Path) -> None:
    """A pin that cannot be read says nothing; and the sentence says what does not happen now."""
    look(folder, Api("uid-1"))
    (folder / "store/.state/cluster.json").write_text("{")
    pin = ClusterPin(folder / "kubeconfig", Api("uid-1"), Store(folder / "store"))
    assert isinstance(pin.look(1.0, 1.0, False), Unknown)
    assert pin.problems[0].startswith("nothing is removed")


def test_the_api_is_asked_again_when_there_are_new_parents(folder: Path) -> None:
    """Before a snapshot of them is taken: they may be another cluster's, come unnoticed."""
    api = Api("uid-1")
    pin = ClusterPin(folder / "kubeconfig", api, Store(folder / "store"))
    one, two = frozenset({"a"}), frozenset({"a", "b"})
    for parents in (one, one, two, one, two):
        assert pin.look(1.0, 1.0, False, parents) == Known(True)
    assert len(api.asked) == 2
    api.uid = "uid-2"
    assert pin.look(1.0, 1.0, False, frozenset({"c"})) == Known(False)


def test_another_cluster_is_a_problem_until_its_pin_is_moved_away(folder: Path) -> None:
    """The sentence says which file; the cluster that answers is pinned soon after."""
    look(folder, Api("uid-1"))
    pin = ClusterPin(folder / "kubeconfig", Api("uid-2"), Store(folder / "store"))
    assert pin.look(1.0, 1.0, False) == Known(False)
    path = folder / "store/.state/cluster.json"
    (problem,) = pin.problems
    assert problem.startswith("nothing is removed and no snapshot is taken: ")
    assert problem.endswith(f"move {path} away")
    path.unlink()
    assert pin.look(1.0, 1.0 + ASK_SECONDS, False) == Known(True)
    assert pin.problems == ()


@pytest.mark.parametrize("content", ["{", '{"authorities": null}', "[]", None])
def test_a_damaged_pin_is_told_with_its_path_and_its_cure(
    folder: Path, content: str | None
) -> None:
    """Whatever is wrong with it; moved away, the cluster that answers is pinned anew."""
    look(folder, Api("uid-1"))
    path = folder / "store/.state/cluster.json"
    if content is None:
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_text(content)
    pin = ClusterPin(folder / "kubeconfig", Api("uid-1"), Store(folder / "store"))
    assert isinstance(pin.look(1.0, 1.0, False), Unknown)
    (problem,) = pin.problems
    assert problem.count(str(path)) == 1
    assert problem.endswith("; move that file away, and the cluster that answers is pinned anew")
    path.rename(folder / "away")
    assert pin.look(1.0, 1.0 + ASK_SECONDS, False) == Known(True)
    assert pin.problems == ()
    assert path.is_file()


def test_a_kubeconfig_that_cannot_be_read_is_not_cured_by_moving_the_pin(folder: Path) -> None:
    """The sentence names what is wrong."""
    (folder / "ca.crt").unlink()
    pin = ClusterPin(folder / "kubeconfig", Api("uid-1"), Store(folder / "store"))
    assert isinstance(pin.look(1.0, 1.0, False), Unknown)
    assert "move that file away" not in pin.problems[0]
