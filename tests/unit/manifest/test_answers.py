"""What an API server cannot have sent is told with its path, and not what it says."""

from __future__ import annotations

from typing import Any

import pytest

from checkpointer.manifest.answers import object_misfit


@pytest.mark.parametrize(
    ("resource", "answer", "told"),
    [
        ("secrets", {"data": {"a": "aA=="}}, ""),
        ("secrets", {"data": {"a": {"hunter2": 1}}}, "data: expected map of strings, found an"),
        ("configmaps", {"binaryData": ["hunter2"]}, "binaryData: expected map of strings"),
        ("nodes", {"status": {"nodeInfo": 5}}, "status.nodeInfo: expected an object"),
        ("nodes", {"items": [{"metadata": []}]}, "items[0].metadata: expected an object"),
        ("nodes", {"items": [{"status": []}]}, "items[0].status: expected an object"),
        ("endpoints", {"subsets": [{"addresses": [1]}]}, "subsets[0].addresses[0]: expected"),
        ("services", {"metadata": {"name": 1}}, "metadata.name: expected string, found a number"),
        ("services", {"spec": 1}, ""),
        ("persistentvolumes", {"spec": {"hostPath": "/srv"}}, "spec.hostPath: expected an object"),
    ],
)
def test_an_objects_misfit_is_told_by_its_path(
    resource: str, answer: dict[str, Any], told: str
) -> None:
    """Only what somebody here reads has to fit."""
    found = object_misfit(resource, answer)
    assert found.startswith(told)
    assert bool(found) is bool(told)
