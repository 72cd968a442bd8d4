"""Kubeconfigs and settings: a value, or an error that names file or key and tells no secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from checkpointer.config import ConfigError, load
from checkpointer.node.kubeconfig import Kubeconfig, KubeconfigError, read_kubeconfig
from checkpointer.settings import check
from tests.fuzz.hostile import FUZZED, mutated, spoiled
from tests.fuzz.node import kubeconfig
from tests.secrecy import Secrecy

SETTINGS: dict[str, Any] = {
    "apiVersion": "checkpointer.alpha.coreos.com/v1alpha1",
    "kind": "CheckpointerConfiguration",
    "nodeName": "node-1",
    "kubeconfig": "/etc/kubernetes/kubelet.conf",
    "endpoints": ["https://10.0.0.1:6443"],
    "selection": {
        "namespaces": ["kube-system"],
        "labelSelectors": [
            {"matchLabels": {"a": "b"}},
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
        ],
    },
    "stageZero": [{"namespaces": ["kube-system"], "names": ["*-proxy"]}],
    "timing": {"grace": "30s", "tick": 5, "leave": "1m30s"},
    "contact": {"failures": 3, "recovery": "1s"},
    "snapshot": {"keepRevisions": 3, "requests": "none"},
    "http": {"address": "127.0.0.1:9000", "allowRemote": False},
    "log": {"level": "info", "format": "json"},
}


def written(document: Any) -> bytes:
    """Return a document as YAML, or as JSON where YAML cannot have it."""
    try:
        return bytes(yaml.safe_dump(document).encode(errors="replace"))
    except yaml.YAMLError:
        return json.dumps(document).encode(errors="replace")


def files(document: Any) -> st.SearchStrategy[bytes]:
    return mutated(document).map(written) | spoiled(written(document))


@given(content=files(kubeconfig()))
@FUZZED
def test_kubeconfigs(fresh: Callable[[], Path], content: bytes) -> None:
    """It is read, or refused with its name; what it refers to is not written to."""
    folder, secrecy = fresh(), Secrecy()
    path = folder / "kubelet.conf"
    path.write_bytes(content)
    said = ""
    try:
        found = read_kubeconfig(path)
        assert isinstance(found, Kubeconfig)
        secrecy.see("repr", repr(found))
        found.bearer_token()
    except KubeconfigError as error:
        said = str(error)
        assert said
    secrecy.see("error", said)
    assert secrecy.take() == ()
    assert list(folder.iterdir()) == [path]


@given(content=files(SETTINGS))
@FUZZED
def test_settings(content: bytes) -> None:
    """They are taken, or every fault is named."""
    said: tuple[str, ...] = ("none",)
    try:
        check(load(content.decode(errors="replace")))
    except ConfigError as error:
        said = error.problems
    assert all(said)
    assert said
