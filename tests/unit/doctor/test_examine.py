"""What activating a stored revision would bring, judged before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.facts import Known, Unknown
from checkpointer.doctor.examine import examine
from tests.unit.core.builders import checkpoint


class StoreOf:
    """A store whose only revision has this manifest; its digests fit."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self._manifest = manifest

    def manifest(self, *_: object) -> dict[str, Any]:
        return self._manifest

    def token_expiry(self, *_: object) -> None:
        return None


@pytest.mark.parametrize(
    ("manifest", "refusal"),
    [
        ({}, "metadata: expected an object"),
        ({"metadata": "web"}, "metadata: expected an object"),
        ({"metadata": {"labels": "app=web"}}, "metadata.labels: expected an object"),
        ({"metadata": {"annotations": 7}}, "metadata.annotations: expected an object"),
    ],
)
def test_a_manifest_without_metadata_is_one_that_the_kubelet_refuses(
    tmp_path: Path, manifest: dict[str, Any], refusal: str
) -> None:
    """Whoever sealed it anew: `verify` and `doctor` say what is wrong with it."""
    store: Any = StoreOf(manifest)
    found = examine(store, checkpoint(), "node-1", None, tmp_path)
    assert found.refusals == Known((refusal,))
    assert isinstance(found.absent, Unknown)
