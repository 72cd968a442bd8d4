"""YAML that is nested too deeply is an error: PyYAML itself would end the process."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from checkpointer.config import ConfigError, load
from checkpointer.core.facts import Known
from checkpointer.node.kubeconfig import KubeconfigError, read_kubeconfig
from checkpointer.node.static_pods import read_static_pods
from checkpointer.shallow_yaml import DEEPEST, loader

DEEP = "[" * 100_000


def test_kubeconfig(tmp_path: Path) -> None:
    """The agent goes on with what it has, and names the file."""
    path = tmp_path / "kubelet.conf"
    path.write_text(DEEP)
    with pytest.raises(KubeconfigError, match=f"^{path}: not valid YAML$"):
        read_kubeconfig(path)


def test_settings() -> None:
    """They are refused like any that cannot be read."""
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(DEEP)


def test_static_pods(tmp_path: Path) -> None:
    """A file of somebody else's ends no command."""
    (tmp_path / "deep.yaml").write_text(DEEP)
    found = read_static_pods(tmp_path, "node-1")
    assert isinstance(found, Known)
    assert found.value[0].problem == "it is neither JSON nor YAML of a pod"


def test_usual_depths_are_read() -> None:
    """As often as one likes: levels are counted back."""
    text = "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)
    documents = list(yaml.load_all("\n---\n".join([text, text, "{a: [b]}"]), loader()))
    assert documents[2] == {"a": ["b"]}
