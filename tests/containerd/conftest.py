"""Fixtures over a real containerd; without one the tests are skipped, or fail where demanded."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from checkpointer.node.cri import ContainerRuntime
from tests.containerd.harness import RealContainerd, missing
from tests.containerd.pods import Pods

REQUIRE = "POD_CHECKPOINTER_REQUIRE_REAL"


@pytest.fixture(scope="session")
def real_runtime() -> None:
    """Skip where there is no containerd to start; with POD_CHECKPOINTER_REQUIRE_REAL=1 fail."""
    if lacking := missing():
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{REQUIRE}=1, but no real containerd: {lacking}")
        pytest.skip(f"no real containerd: {lacking}")


@pytest.fixture(scope="module")
def containerd(real_runtime: None) -> Iterator[RealContainerd]:
    """A containerd with the test images, shared by a module's tests."""
    with RealContainerd() as containerd:
        containerd.start()
        containerd.import_images()
        yield containerd


@pytest.fixture
def pods(containerd: RealContainerd) -> Iterator[Pods]:
    """Makes pods; removes them all afterwards."""
    pods = Pods(containerd)
    yield pods
    pods.remove_all()


@pytest.fixture
def runtime(containerd: RealContainerd) -> Iterator[ContainerRuntime]:
    """The adapter under test."""
    adapter = ContainerRuntime(containerd.endpoint)
    yield adapter
    adapter.close()
