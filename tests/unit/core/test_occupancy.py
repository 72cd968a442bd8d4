"""Occupancy: who of a workload is up in the runtime."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.core.checkpoint import Record
from checkpointer.core.occupancy import (
    SOURCE_ANNOTATION,
    WORKLOAD_LABEL,
    Occupancy,
    occupancies,
    occupancy_of,
)
from checkpointer.core.runtime import ContainerState, Runtime, Sandbox
from checkpointer.core.workload import Workload
from tests.unit.core.builders import (
    API,
    DNS,
    EMPTY,
    checkpoint,
    container_of,
    copy_sandbox,
    dead,
    parent_sandbox,
    revision,
)


def ids(occupancy: Occupancy) -> dict[str, list[str]]:
    """Return what is up, by whose it is; without what is empty."""
    found = {
        "copy": [s.id for s in occupancy.copy_sandboxes],
        "copy containers": [c.id for c in occupancy.copy_containers],
        "parent": [s.id for s in occupancy.parent_sandboxes],
        "parent running": [c.id for c in occupancy.parent_running],
    }
    return {key: value for key, value in found.items() if value}


def seen(*sandboxes: Sandbox) -> dict[str, list[str]]:
    """Return the occupancy when each of these sandboxes runs its app container."""
    runtime = Runtime(sandboxes, tuple(container_of(s) for s in sandboxes))
    return ids(occupancy_of(checkpoint(), runtime))


def test_nothing_is_up_in_an_empty_runtime() -> None:
    """The state after a power cut."""
    occupancy = occupancy_of(checkpoint(), EMPTY)
    assert occupancy == Occupancy()
    assert not occupancy.is_running


def test_a_parent_is_known_by_its_uid() -> None:
    """Whatever its name and labels are."""
    stranger = parent_sandbox(name="renamed", labels={})
    assert seen(stranger) == {
        "parent": ["parent-uid-sandbox"],
        "parent running": ["parent-uid-apiserver"],
    }


PARENT_LOOK = {"parent": ["new-sandbox"], "parent running": ["new-apiserver"]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, PARENT_LOOK),
        ({"labels": {"k8s-app": "kube-apiserver", "more": "x"}}, PARENT_LOOK),
        ({"annotations": {}}, PARENT_LOOK),
        ({"labels": {}}, {}),
        ({"labels": {"k8s-app": "else"}}, {}),
        ({"name": "else-x7k2p"}, {}),
        ({"name": "kube-apiserver-5d78c9-x7k2p"}, {}),
        ({"namespace": "default"}, {}),
        ({"annotations": {SOURCE_ANNOTATION: "file"}}, {}),
        ({"annotations": {SOURCE_ANNOTATION: "http"}}, {}),
    ],
)
def test_a_parent_made_out_of_sight_is_known_by_labels_and_name(
    changes: dict[str, object], expected: dict[str, list[str]]
) -> None:
    """It was made while contact was lost; a static pod is never a parent."""
    sandbox = replace(parent_sandbox("new", name="kube-apiserver-abcde"), **changes)  # type: ignore[arg-type]
    assert seen(sandbox) == expected


def test_labels_of_any_stored_revision_make_a_parent() -> None:
    """A rollout may have changed them."""
    old, new = revision(1), revision(2, labels=(("k8s-app", "renamed"),))
    runtime = Runtime((parent_sandbox("new"),))
    occupancy = occupancy_of(checkpoint(API, new, old), runtime)
    assert ids(occupancy) == {"parent": ["new-sandbox"]}


def test_a_copy_is_known_by_our_mark() -> None:
    """Its name and its other labels are the parent's, nearly."""
    assert seen(copy_sandbox()) == {
        "copy": ["copy-uid-sandbox"],
        "copy containers": ["copy-uid-apiserver"],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": {WORKLOAD_LABEL: DNS.digest}},
        {"labels": {WORKLOAD_LABEL: "no-digest"}},
        {"namespace": "default"},
    ],
)
def test_a_copy_of_something_else_is_nobodys(changes: dict[str, object]) -> None:
    """Another workload's mark, or ours in another namespace."""
    assert seen(replace(copy_sandbox(), **changes)) == {}  # type: ignore[arg-type]


def test_a_pod_of_the_api_with_our_mark_is_no_copy() -> None:
    """Anybody may put a label on a pod; it must neither hold an activation nor be killed."""
    marked = {"k8s-app": "kube-apiserver", WORKLOAD_LABEL: API.digest}
    stranger = parent_sandbox("stranger", name="stranger", labels=marked)
    assert seen(stranger) == {}
    parent = parent_sandbox(labels=marked)
    assert set(seen(parent)) == {"parent", "parent running"}


def test_parent_and_copy_side_by_side_are_kept_apart() -> None:
    """Each container belongs to its pod."""
    assert seen(parent_sandbox(), copy_sandbox()) == {
        "copy": ["copy-uid-sandbox"],
        "copy containers": ["copy-uid-apiserver"],
        "parent": ["parent-uid-sandbox"],
        "parent running": ["parent-uid-apiserver"],
    }


@pytest.mark.parametrize("state", list(ContainerState))
@pytest.mark.parametrize(
    ("sandbox", "may_run"),
    [
        (parent_sandbox(), (ContainerState.RUNNING, ContainerState.UNKNOWN)),
        (parent_sandbox(ready=False), (ContainerState.RUNNING,)),
        (copy_sandbox(), (ContainerState.RUNNING,)),
    ],
)
def test_what_runs_or_may_run_counts(
    sandbox: Sandbox, may_run: tuple[ContainerState, ...], state: ContainerState
) -> None:
    """Not what is created or exited; an unknown state counts while the parent's sandbox lives."""
    container = replace(container_of(sandbox), state=state)
    occupancy = occupancy_of(checkpoint(), Runtime((sandbox,), (container,)))
    assert occupancy.is_running is (state in may_run)


def test_a_container_counts_though_its_sandbox_is_not_listed() -> None:
    """The two lists are not of one moment; the parent is known by its UID."""
    runtime = Runtime((), (container_of(parent_sandbox()),))
    assert occupancy_of(checkpoint(), runtime).is_running


def test_a_renamed_container_of_a_parent_counts() -> None:
    """A rollout that was never Ready is in no revision; a copy must not start beside it."""
    runtime = Runtime((parent_sandbox(),), (container_of(parent_sandbox(), "renamed"),))
    assert occupancy_of(checkpoint(), runtime).is_running


def test_one_of_several_app_containers_is_enough_to_run() -> None:
    """Two containers in one pod; the second has died."""
    pair = checkpoint(API, revision(app_containers=("apiserver", "helper")))
    sandbox = parent_sandbox()
    containers = (dead(container_of(sandbox)), container_of(sandbox, "helper"))
    occupancy = occupancy_of(pair, Runtime((sandbox,), containers))
    assert ids(occupancy)["parent running"] == ["parent-uid-helper"]


@pytest.mark.parametrize("sandbox", [parent_sandbox(), copy_sandbox()])
def test_init_containers_do_not_make_a_workload_run(sandbox: Sandbox) -> None:
    """Where the pod's app containers are known to be down."""
    containers = (container_of(sandbox, "wait-for-api"), dead(container_of(sandbox)))
    assert not occupancy_of(checkpoint(), Runtime((sandbox,), containers)).is_running


def test_without_a_readable_revision_every_container_counts() -> None:
    """Nobody knows which are app containers; none is the wrong guess."""
    bare = replace(checkpoint(), revisions=())
    runtime = Runtime((parent_sandbox(),), (container_of(parent_sandbox(), "any"),))
    assert occupancy_of(bare, runtime).is_running


def test_dead_sandboxes_of_a_parent_are_not_up() -> None:
    """A power cut leaves them in the runtime's records; those of a copy still tell of it."""
    runtime = Runtime((parent_sandbox(ready=False), copy_sandbox(ready=False)))
    assert ids(occupancy_of(checkpoint(), runtime)) == {"copy": ["copy-uid-sandbox"]}


def test_dead_containers_of_a_copy_are_kept() -> None:
    """Their attempts tell of a crash loop."""
    crashed = dead(container_of(copy_sandbox()), attempt=3)
    occupancy = occupancy_of(checkpoint(), Runtime((copy_sandbox(),), (crashed,)))
    assert occupancy.copy_containers == (crashed,)
    assert occupancy.copy_running == ()


def test_each_checkpoint_gets_its_own() -> None:
    """Two workloads in one pass, neither sees the other's."""
    dns = checkpoint(
        DNS,
        revision(labels=(("k8s-app", "dns"),), app_containers=("dns",)),
        record=Record(parents=("dns-uid",)),
    )
    dns_sandbox = parent_sandbox("dns-uid", name="coredns-5d-abcde", labels={"k8s-app": "dns"})
    runtime = Runtime(
        (parent_sandbox(), dns_sandbox, copy_sandbox(DNS, "dns-copy")),
        (container_of(parent_sandbox()), container_of(dns_sandbox, "dns")),
    )
    found = occupancies([checkpoint(), dns], runtime)
    assert {digest: ids(o) for digest, o in found.items()} == {
        API.digest: {
            "parent": ["parent-uid-sandbox"],
            "parent running": ["parent-uid-apiserver"],
        },
        DNS.digest: {
            "copy": ["dns-copy-sandbox"],
            "parent": ["dns-uid-sandbox"],
            "parent running": ["dns-uid-dns"],
        },
    }


WORKLOADS = [API, DNS, Workload("default", "Pod", "tunnel")]


@given(
    st.lists(
        st.builds(
            Sandbox,
            id=st.uuids().map(str),
            namespace=st.sampled_from(["kube-system", "default"]),
            name=st.sampled_from(["kube-apiserver-abcde", "tunnel", "coredns-5d-abcde"]),
            uid=st.uuids().map(str),
            attempt=st.just(0),
            ready=st.booleans(),
            created_at=st.integers(0, 9),
            labels=st.dictionaries(
                st.sampled_from(["k8s-app", WORKLOAD_LABEL]),
                st.sampled_from(["kube-apiserver", *(w.digest for w in WORKLOADS)]),
            ),
            annotations=st.dictionaries(
                st.just(SOURCE_ANNOTATION), st.sampled_from(["api", "file"])
            ),
        ),
        max_size=12,
    )
)
def test_a_sandbox_is_never_parent_and_copy_nor_of_two_workloads(sandboxes: list[Sandbox]) -> None:
    """Whatever the runtime lists."""
    runtime = Runtime(tuple(sandboxes), tuple(container_of(s) for s in sandboxes))
    found = occupancies([checkpoint(w) for w in WORKLOADS], runtime)
    owners = [s.id for o in found.values() for s in (*o.copy_sandboxes, *o.parent_sandboxes)]
    assert len(owners) == len(set(owners))
    for occupancy in found.values():
        assert all(s.annotations.get(SOURCE_ANNOTATION) != "api" for s in occupancy.copy_sandboxes)
        assert all(
            s.annotations.get(SOURCE_ANNOTATION) != "file" for s in occupancy.parent_sandboxes
        )
