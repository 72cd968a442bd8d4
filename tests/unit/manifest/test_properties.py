"""Laws of sanitizing that hold for every pod."""

from __future__ import annotations

import base64
import copy
import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkpointer.core.facts import Known
from checkpointer.manifest.acceptance import refusals
from checkpointer.manifest.fields import POD_SPEC
from checkpointer.manifest.render import canonical, content_digest, mark_of, render
from checkpointer.manifest.sanitize import Options, Sources, references
from checkpointer.manifest.shapes import Kind
from checkpointer.manifest.verdict import Outcome, Verdict
from tests.unit.manifest.builders import judge, make_container, make_pod
from tests.unit.manifest.pod_strategies import (
    env_entries,
    env_from,
    objects,
    wild,
)
from tests.unit.manifest.valid_pods import drawable, drawn, valid_pod
from tests.unit.manifest.valid_values import CLAIMS, ENV_VALUE

SLOW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
OPTIONS = Options(
    node_name="edge-07", service_host="10.0.0.1", service_port="6443", inline_secrets=True
)


def encoded(secrets: dict[str, Any]) -> dict[str, Any]:
    """Return secrets as the API has them, in base64."""
    return {
        name: secret
        and {"data": {k: base64.b64encode(v.encode()).decode() for k, v in secret["data"].items()}}
        for name, secret in secrets.items()
    }


def known(config_maps: dict[str, Any], secrets: dict[str, Any]) -> Sources:
    return Sources(
        {name: Known(value) for name, value in config_maps.items()},
        {name: Known(value) for name, value in encoded(secrets).items()},
        CLAIMS,
    )


SOURCES = st.builds(known, objects(ENV_VALUE), objects(ENV_VALUE))


NEVER_VALID = {
    "spec.containers.readinessProbe.terminationGracePeriodSeconds": "nobody ends for it",
}
"""Fields that the tables have and no valid pod, with the reason."""

SAME_TABLE = "spec.initContainers.", "spec.containers."
"""Init containers have the fields of containers: one drawn in either is drawn."""


def test_laws_hold_for_every_valid_pod() -> None:
    """What an API server holds, and needs nothing that cannot be had, is never refused.

    Its copy passes the gate, sanitized again is the same, and has stable bytes. The sample is
    always the same, and has seven of eight fields that are not refused outright.
    """
    seen: set[str] = set()

    @given(valid_pod(), SOURCES, st.integers(0, 5))
    @settings(SLOW, max_examples=400, derandomize=True, database=None)
    def laws(pod: dict[str, Any], sources: Sources, issue: int) -> None:
        seen.update(path.replace(*SAME_TABLE) for path in drawn(pod))
        before = copy.deepcopy(pod)
        verdict = judge(pod, sources, OPTIONS)
        assert pod == before
        assert verdict.refusals == ()
        assert verdict.manifest is not None
        assert refusals(verdict.manifest, "edge-07") == ()
        assert references(verdict.manifest) == references({})
        check_again(verdict.manifest)
        check_bytes(pod, sources, verdict, issue)

    laws()
    possible = {path.replace(*SAME_TABLE) for path in drawable()}
    missed = sorted(possible - seen - NEVER_VALID.keys())
    assert len(missed) <= len(possible) // 8, missed
    assert not seen & NEVER_VALID.keys()


def check_again(once: dict[str, Any]) -> None:
    """A copy, sanitized, is the same copy: spec, labels and annotations."""
    twice = judge(once, Sources(), OPTIONS).manifest
    assert twice is not None
    assert twice["spec"] == once["spec"]
    for field in ("labels", "annotations", "namespace"):
        assert twice["metadata"].get(field) == once["metadata"].get(field)


def check_bytes(pod: dict[str, Any], sources: Sources, verdict: Verdict, issue: int) -> None:
    """Equal pods give equal bytes, whatever the order of their keys; the mark is read back."""
    other = judge(json.loads(json.dumps(pod, sort_keys=True)), sources, OPTIONS)
    files = []
    for manifest in (verdict.manifest, other.manifest):
        assert manifest is not None
        digest = content_digest(manifest, "m")
        files.append(render(manifest, verdict.workload, "edge-07", digest, 1, issue))
    assert files[0] == files[1]
    assert refusals(json.loads(files[0].content), "edge-07", len(files[0].content)) == ()
    mark = mark_of(files[0].content)
    assert mark is not None
    assert (mark.workload, mark.issue, mark.uid) == (verdict.workload, issue, files[0].uid)


@given(wild())
@SLOW
def test_wild_pods_get_a_verdict(pod: Any) -> None:
    """No pod raises, none is changed, and what is not refused is accepted by the gate."""
    before = copy.deepcopy(pod)
    verdict = judge(pod, Sources(), OPTIONS)
    assert pod == before
    assert (verdict.manifest is None) is (verdict.outcome is Outcome.REFUSED)
    assert (verdict.outcome is Outcome.REFUSED) is bool(verdict.refusals)
    if verdict.manifest is not None:
        assert refusals(verdict.manifest, "edge-07") == ()
        assert references(verdict.manifest) == references({})
        assert canonical(verdict.manifest) == canonical(json.loads(canonical(verdict.manifest)))


@given(wild())
@SLOW
def test_the_gate_never_raises(manifest: Any) -> None:
    """The gate answers for any manifest, and leaves it as it was."""
    before = copy.deepcopy(manifest)
    refusals(manifest, "edge-07")
    assert manifest == before


@pytest.mark.parametrize("field", sorted(POD_SPEC.rows))
def test_wrong_forms_are_refused_where_they_are(field: str) -> None:
    """A value of a wrong form is found by its path, by the sanitizer and by the gate."""
    if POD_SPEC.rows[field].shape is Kind.ANY:
        return  # dropped or refused whole, and so never looked into
    pod = make_pod(**{field: 1.5})
    assert [finding.path for finding in judge(pod).refusals] == [f"spec.{field}"]
    assert [finding.path for finding in refusals(pod, "edge-07")] == [f"spec.{field}"]


@given(env_entries(), env_from(), objects(ENV_VALUE), objects(ENV_VALUE))
@SLOW
def test_the_copy_s_environment_is_the_parent_s(
    env: list[dict[str, Any]],
    sources: list[dict[str, Any]],
    config_maps: dict[str, Any],
    secrets: dict[str, Any],
) -> None:
    """What a model of the kubelet computes for the parent it computes for the copy, offline."""
    container = make_container(env=env, envFrom=sources)
    pod = make_pod(container, serviceAccountName="web")
    manifest = judge(pod, known(config_maps, secrets), OPTIONS).manifest
    assert manifest is not None
    service = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    parent = kubelet_env(pod, service, config_maps, secrets)
    if any(entry["name"] == "KUBERNETES_SERVICE_HOST" for entry in env) and (
        "KUBERNETES_SERVICE_HOST" in _set_by(env, config_maps, secrets)
    ):
        service["KUBERNETES_SERVICE_PORT"] = "443"
        parent = kubelet_env(pod, service, config_maps, secrets)
    assert kubelet_env(manifest, {}, {}, {}) == parent


def kubelet_env(
    pod: dict[str, Any],
    service: dict[str, str],
    config_maps: dict[str, Any],
    secrets: dict[str, Any],
) -> dict[str, str]:
    """Compute a container's environment as makeEnvironmentVariables of a 1.31 kubelet does."""
    container = pod["spec"]["containers"][0]
    result: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        objects_of = config_maps if "configMapRef" in source else secrets
        reference = source.get("configMapRef") or source.get("secretRef")
        found = objects_of[reference["name"]]
        for key, value in ((found or {}).get("data") or {}).items():
            name = source.get("prefix", "") + key
            if re.fullmatch(r"[-._a-zA-Z][-._a-zA-Z0-9]*", name) and not name.startswith(".."):
                result[name] = value
    for entry in container.get("env", ()):
        value = entry.get("value", "")
        if value:
            result[entry["name"]] = expand(value, {**service, **result})
            continue
        given = _value_from(entry.get("valueFrom") or {}, pod, config_maps, secrets)
        if given is not None:
            result[entry["name"]] = given
    return {**service, **result}


def _value_from(
    source: dict[str, Any],
    pod: dict[str, Any],
    config_maps: dict[str, Any],
    secrets: dict[str, Any],
) -> str | None:
    for field, known_objects in (("configMapKeyRef", config_maps), ("secretKeyRef", secrets)):
        if field in source:
            found = known_objects[source[field]["name"]]
            value: str | None = ((found or {}).get("data") or {}).get(source[field]["key"])
            return value
    path = (source.get("fieldRef") or {}).get("fieldPath", "")
    if path in ("metadata.name", "metadata.uid"):
        return str(pod["metadata"].get(path.removeprefix("metadata."), ""))
    if path == "spec.serviceAccountName":
        return str(pod["spec"].get("serviceAccountName", ""))
    if path.startswith(("metadata.labels", "metadata.annotations")):
        field, _, key = path.removeprefix("metadata.").removesuffix("']").partition("['")
        return str((pod["metadata"].get(field) or {}).get(key, ""))
    return path  # the same for parent and copy


def expand(text: str, variables: dict[str, str]) -> str:
    """Expand as third_party/forked/golang/expansion does: byte by byte, with its oddities."""
    source, result, cursor = text.encode(), bytearray(), 0
    while cursor < len(source):
        byte = source[cursor : cursor + 1]
        if byte != b"$" or cursor + 1 == len(source):
            result += byte
            cursor += 1
            continue
        following = source[cursor + 1 : cursor + 2]
        end = source.find(b")", cursor)
        if following == b"$":
            result += b"$"
            cursor += 2
        elif following == b"(" and end > 0:
            name = source[cursor + 2 : end].decode()
            result += variables.get(name, f"$({name})").encode()
            cursor = end + 1
        else:
            result += b"$" + chr(following[0]).encode()
            cursor += 2
    return result.decode("utf-8", "surrogateescape")


def _set_by(env: list[dict[str, Any]], config_maps: Any, secrets: Any) -> set[str]:
    """Return which names `env` really sets: optional ones may be left out."""
    pod = {"metadata": {}, "spec": {"containers": [{"env": env}]}}
    return set(kubelet_env(pod, {}, config_maps, secrets))
