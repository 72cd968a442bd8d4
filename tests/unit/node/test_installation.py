"""Which pod the process runs in, and what the API says of the installation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.node.installation import (
    ASK_SECONDS,
    MARKER_SECONDS,
    Installation,
    read_pod_uid,
)

UID = "0f6d2f55-6e5c-4f5e-9a53-0b5dca5b3a0e"
STATIC = "4c1d3ac0a9cf8a1d3ac0a9cf8a1d3ac0"
AGENT = Workload("kube-system", "DaemonSet", "pod-checkpointer")
OWNER = "/apis/apps/v1/namespaces/kube-system/daemonsets/pod-checkpointer"
MARKER = "/api/v1/namespaces/kube-system/services/pod-checkpointer"

TABLE = """\
1525 1400 0:153 / / ro,relatime master:500 - overlay overlay rw,lowerdir=/x
1530 1525 0:157 / /proc rw,nosuid - proc proc rw
{line}
1541 1525 8:1 /etc/kubernetes /etc/kubernetes rw,relatime - ext4 /dev/sda1 rw
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"1535 1525 8:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - ext4 /d rw", UID),
        (f"1535 1525 8:5 /pods/{UID}/containers/a/1b2c /dev/termination-log rw - ext4 /d rw", UID),
        (f"1535 1525 8:1 /k/pods/{STATIC}/etc-hosts /etc/hosts rw - ext4 /d rw", STATIC),
        (f"1535 1525 8:1 /k/pods/{UID}/volumes/v /data rw - ext4 /d rw", ""),
        (f"1535 1525 8:1 /k/pods/{UID}/etc-hosts /mnt/etc/hosts rw - ext4 /d rw", ""),
        ("1535 1525 8:1 /k/pods/../etc-hosts /etc/hosts rw - ext4 /d rw", ""),
        ("1535 1525", ""),
    ],
)
def test_the_pod_is_known_by_what_the_kubelet_mounts(
    tmp_path: Path, line: str, expected: str
) -> None:
    """On one file system with the kubelet's folder, or one of its own; no other pod's folder."""
    table = tmp_path / "mountinfo"
    table.write_text(TABLE.format(line=line))
    assert read_pod_uid(table) == expected


def test_outside_of_a_pod_there_is_none(tmp_path: Path) -> None:
    """Also where there is no mount table at all."""
    assert read_pod_uid(tmp_path / "none") == ""
    assert read_pod_uid() == ""


class Api:
    """Answers by path, and remembers what it was asked."""

    def __init__(self, **answers: Fact[Mapping[str, Any] | None]) -> None:
        self.answers = {OWNER: answers["owner"], MARKER: answers["marker"]}
        self.asked: list[str] = []

    def find(self, path: str) -> Fact[Mapping[str, Any] | None]:
        self.asked.append(path)
        return self.answers.get(path, Unknown("HTTP 403"))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_controller_and_marker_are_asked_for_by_their_names() -> None:
    """A positive answer is True or False; what may not be read is Unknown."""
    api = Api(owner=Unknown("HTTP 403"), marker=Known({"kind": "Service"}))
    place = Installation(UID, Path("/none"), api.find, Clock())
    assert place.look(AGENT, is_here=False) == (Unknown("HTTP 403"), Known(True))
    api.answers = {OWNER: Known(None), MARKER: Known(None)}
    assert place.look(Workload("kube-system", "Node", "x"), is_here=False)[0] == Unknown(
        "nothing is known of controllers of kind Node"
    )
    assert place.look(AGENT, is_here=False) == (Known(False), Known(False))


def test_an_answer_stands_for_a_while() -> None:
    """Seconds while something is wrong, minutes while the agent's pod is here."""
    api, clock = Api(owner=Known({}), marker=Known(None)), Clock()
    place = Installation(UID, Path("/none"), api.find, clock)
    for _ in range(3):
        place.look(AGENT, is_here=True)
    assert api.asked == [MARKER]
    clock.now += MARKER_SECONDS
    place.look(AGENT, is_here=True)
    assert api.asked == [MARKER, MARKER]
    for _ in range(3):
        place.look(AGENT, is_here=False)
    assert api.asked[2:] == [OWNER, MARKER]
    clock.now += ASK_SECONDS
    place.look(AGENT, is_here=False)
    assert len(api.asked) == 6


def test_the_cluster_is_known_by_its_ca(tmp_path: Path) -> None:
    """Another CA is another cluster; one that cannot be read is none."""
    place = Installation(
        UID, tmp_path / "kubeconfig", Api(owner=Known(None), marker=Known(None)).find
    )
    assert place.cluster() == ""
    found = []
    for name in ("one", "two", "one"):
        (tmp_path / name).write_text(name)
        new = tmp_path / "new"
        new.write_text(KUBECONFIG.format(ca=tmp_path / name))
        new.rename(tmp_path / "kubeconfig")
        found.append(place.cluster())
    assert found[0] == found[2] != found[1]
    assert all(len(digest) == 64 for digest in found)
    (tmp_path / "one").write_text("rotated in place")
    assert place.cluster() not in found


KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: a, cluster: {{server: "https://10.0.0.1:6443", certificate-authority: {ca}}}}}]
users: [{{name: u, user: {{}}}}]
contexts: [{{name: c, context: {{cluster: a, user: u}}}}]
current-context: c
"""
