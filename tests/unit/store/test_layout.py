"""Names in the store: total, distinct, inside."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.core.facts import Known
from checkpointer.core.workload import Workload
from checkpointer.store import layout
from checkpointer.store.contents import Stored
from checkpointer.store.layout import (
    decode,
    encode,
    revision_number,
    workload_folder,
    workload_name,
    workload_of_names,
)
from checkpointer.store.revisions import Store

TEXT = st.text(st.characters(), max_size=300)
KINDS = st.sampled_from(["DaemonSet", "daemonset", "Daemonset", "x-DaemonSet", "Pod", "A.b", "%"])
WORKLOADS = st.builds(Workload, TEXT, TEXT | KINDS, TEXT)
ROOT = Path("/root/of/store")


@given(TEXT)
def test_encoded_name_stays_in_its_folder(text):
    """Any text becomes one visible file name that a file system takes."""
    name = encode(text)
    assert 0 < len(os.fsencode(name)) <= 200
    assert not name.startswith(".")
    assert "/" not in name
    assert "\0" not in name


@given(TEXT)
def test_short_name_comes_back(text):
    """Decoding is the inverse wherever nothing was cut; what was cut decodes to nothing."""
    name = encode(text)
    assert decode(name) in (text, None)
    if len(text) <= 16:
        assert decode(name) == text


@given(TEXT)
def test_only_encoded_names_decode(name):
    """A name that encode does not give is nobody's."""
    text = decode(name)
    assert text is None or encode(text) == name


@given(TEXT, TEXT)
def test_two_texts_have_two_names(one, other):
    """Encoding never makes two things one, even where a file system ignores case."""
    assert (encode(one).lower() == encode(other).lower()) == (one == other)


def test_long_names_that_differ_at_the_end_differ():
    """What is cut off is in the digest."""
    assert encode("a" * 300 + "b") != encode("a" * 300 + "c")


@given(WORKLOADS)
def test_workloads_folder_is_two_below_the_root(workload):
    """Nothing climbs out, whatever the API or a file says."""
    folder = workload_folder(ROOT, workload)
    assert Path(os.path.normpath(folder)).parent.parent == ROOT


@given(WORKLOADS, WORKLOADS)
def test_two_workloads_have_two_folders(one, other):
    """Namespace, kind and name each count."""
    assert (workload_folder(ROOT, one) == workload_folder(ROOT, other)) == (one == other)


@given(WORKLOADS)
def test_folder_tells_its_workload_or_nothing(workload):
    """A folder is never taken for another workload's."""
    folder = workload_folder(ROOT, workload)
    assert workload_of_names(folder.parent.name, folder.name) in (workload, None)


@given(TEXT, TEXT)
def test_any_two_names_are_a_workloads_own_or_nobodys(namespace, name):
    """What lies there by accident is not a workload."""
    workload = workload_of_names(namespace, name)
    if workload is not None:
        assert workload_folder(ROOT, workload) == ROOT / namespace / name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Workload("a-b", "Pod", "c"), Workload("a", "Pod", "b-c")),
        (Workload("a", "DaemonSet", "x"), Workload("a", "daemonset", "x")),
        (Workload("a", "DaemonSet", "x"), Workload("a", "Daemonset", "x")),
        (Workload("a", "Pod", "b.c"), Workload("a", "Pod.b", "c")),
        (Workload("a", "x-Foo", "b"), Workload("a", "Foo", "b")),
        (Workload("a", "A.b", "c"), Workload("a", "A%2Eb", "c")),
    ],
)
def test_names_that_look_alike_differ(one, other):
    """The classic collisions of joined names."""
    assert workload_folder(ROOT, one) != workload_folder(ROOT, other)
    assert workload_of_names(one.namespace, workload_name(one)) == one
    assert workload_of_names(other.namespace, workload_name(other)) == other


@pytest.mark.parametrize(
    ("workload", "folder"),
    [
        (Workload("kube-system", "DaemonSet", "kube-proxy"), "kube-system/daemonset.kube-proxy"),
        (Workload("n", "Deployment", "coredns.v2"), "n/deployment.coredns.v2"),
        (Workload("n", "CloneSet", "web"), "n/x-%43lone%53et.web"),
        (Workload("..", "Pod", "../../etc"), "%2E./pod...%2F..%2Fetc"),
        (Workload("", "Pod", ""), "%/pod."),
    ],
)
def test_folder_is_readable_for_people(workload, folder):
    """Known kinds are lower case, and a well-behaved name is itself."""
    assert workload_folder(ROOT, workload) == ROOT / folder
    assert workload_of_names(*folder.split("/")) == workload


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1", 1),
        ("120", 120),
        *((name, None) for name in ["0", "01", "-1", "1 ", "", "9" * 19, "1.bak"]),
        *((name, None) for name in ["\u0661", ".1", "1\n"]),
    ],
)
def test_revision_is_a_plain_number(name, number):
    """Anything else in the folder of revisions is not a revision."""
    assert revision_number(name) == number


def test_socket_of_the_agent_is_no_part_of_the_store(root: Path) -> None:
    """It comes and goes without a checkpoint being read again, listed, or cleaned away."""
    root.mkdir(mode=0o700)
    store = Store(root)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / layout.SOCKET))
        assert store.read() == Known(Stored())
        assert not store.invalidate_path(root / layout.SOCKET)
        assert store.clean() == ()
        assert (root / layout.SOCKET).exists()
