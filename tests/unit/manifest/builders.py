"""Small pods to say one thing about: the API's form, with as little as that needs."""

from __future__ import annotations

from typing import Any

from checkpointer.core.facts import Known
from checkpointer.manifest.sanitize import Options, Sources, sanitize
from checkpointer.manifest.verdict import Verdict

ROOT = "/material"
NODE = Options(node_name="edge-07", service_host=None)


def make_pod(
    *containers: dict[str, Any], metadata: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    """Return a pod on the host's network, of a DaemonSet `web` in kube-system."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-abcde",
            "namespace": "kube-system",
            "uid": "11111111-2222-3333-4444-555555555555",
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "DaemonSet",
                    "name": "web",
                    "uid": "99999999-2222-3333-4444-555555555555",
                    "controller": True,
                }
            ],
            **(metadata or {}),
        },
        "spec": {
            "hostNetwork": True,
            "containers": list(containers) or [make_container()],
            **spec,
        },
    }


def make_container(name: str = "main", **fields: Any) -> dict[str, Any]:
    """Return a container whose image is on the node."""
    return {
        "name": name,
        "image": "registry.example/web:1",
        "imagePullPolicy": "IfNotPresent",
        **fields,
    }


def make_sources(
    config_maps: dict[str, Any] | None = None,
    secrets: dict[str, Any] | None = None,
    claims: dict[str, Any] | None = None,
) -> Sources:
    """Return sources that are all known; None for an object that does not exist."""
    return Sources(
        {name: Known(value) for name, value in (config_maps or {}).items()},
        {name: Known(value) for name, value in (secrets or {}).items()},
        {name: Known(value) for name, value in (claims or {}).items()},
    )


def judge(pod: Any, sources: Sources | None = None, options: Options = NODE) -> Verdict:
    """Sanitize with the material below /material."""
    return sanitize(pod, ROOT, sources or Sources(), options)


def copied_spec(
    pod: Any, sources: Sources | None = None, options: Options = NODE
) -> dict[str, Any]:
    """Return the spec of the copy of a pod that can be checkpointed."""
    verdict = judge(pod, sources, options)
    assert verdict.manifest is not None, verdict.refusals
    spec: dict[str, Any] = verdict.manifest["spec"]
    return spec


def first_container(
    pod: Any, sources: Sources | None = None, options: Options = NODE
) -> dict[str, Any]:
    """Return the first container of the copy."""
    container: dict[str, Any] = copied_spec(pod, sources, options)["containers"][0]
    return container


def refused_paths(verdict: Verdict) -> list[str]:
    """Return where a verdict refuses."""
    return [finding.path for finding in verdict.refusals]
