"""What activating a stored revision would bring, judged before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def test_a_manifest_without_metadata_is_one_that_the_kubelet_refuses(tmp_path: Path) -> None:
    """Whoever sealed it anew: `verify` and `doctor` say what is wrong with it."""
    store: Any = StoreOf({})
    found = examine(store, checkpoint(), "node-1", None, tmp_path)
    assert found.refusals == Known(("metadata: expected an object",))
    assert isinstance(found.absent, Unknown)
