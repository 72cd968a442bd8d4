"""The shapes of pods that users run, each with its whole verdict."""

from __future__ import annotations

import copy
import json

import pytest

from checkpointer.manifest.acceptance import refusals
from checkpointer.manifest.render import canonical, content_digest, render
from checkpointer.manifest.verdict import Outcome
from tests.unit.manifest import golden_pods


@pytest.mark.parametrize("name", golden_pods.NAMES)
def test_verdict_is_the_one_on_file(name: str) -> None:
    """The verdict on a real pod is exactly the reviewed one."""
    assert golden_pods.described(golden_pods.sanitized(name)) == golden_pods.expected(name)


@pytest.mark.parametrize("name", golden_pods.NAMES)
def test_input_is_not_changed(name: str) -> None:
    """Sanitizing leaves the parent as it was."""
    pod, sources, options = golden_pods.load(name)
    before = copy.deepcopy(pod)
    golden_pods.sanitize(pod, golden_pods.ROOT, sources, options)
    assert pod == before


@pytest.mark.parametrize("name", golden_pods.NAMES)
def test_rendered_bytes_are_stable_and_accepted(name: str) -> None:
    """Rendering twice gives the same bytes, and the gate takes them as the file they are."""
    verdict = golden_pods.sanitized(name)
    if verdict.manifest is None:
        assert verdict.outcome is Outcome.REFUSED
        return
    digest = content_digest(verdict.manifest, "material")
    rendered = render(verdict.manifest, verdict.workload, "edge-07", digest, 3, 0)
    again = golden_pods.sanitized(name)
    assert again.manifest is not None
    assert render(again.manifest, again.workload, "edge-07", digest, 3, 0) == rendered
    manifest = json.loads(rendered.content)
    assert refusals(manifest, "edge-07", len(rendered.content)) == ()
    assert canonical(manifest) == rendered.content
