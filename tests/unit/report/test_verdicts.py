"""The last verdict on each workload, for metrics and status."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from checkpointer.core.workload import Workload
from checkpointer.manifest.sanitize import Options, sanitize
from checkpointer.manifest.verdict import Finding, Outcome, Verdict
from checkpointer.report.verdicts import Verdicts, gist
from tests.unit.manifest.builders import make_container, make_pod, make_sources

WEB = Workload("kube-system", "DaemonSet", "web")
DNS = Workload("kube-system", "Deployment", "dns")
GOOD = Verdict(Outcome.CHECKPOINTABLE, WEB, {"kind": "Pod"})
WARNED = Verdict(Outcome.WITH_WARNINGS, WEB, {"kind": "Pod"}, warnings=(Finding("spec.os", "odd"),))
REFUSED = Verdict(Outcome.REFUSED, DNS, None, refusals=(Finding("spec.volumes", "no"),))


def test_workloads_are_counted_by_their_last_outcome() -> None:
    """A gauge: each workload once, and every outcome there, at zero if need be."""
    verdicts = Verdicts()
    assert verdicts.by_outcome == dict.fromkeys(Outcome, 0)
    for verdict in (GOOD, REFUSED, WARNED):
        verdicts.record(verdict)
    assert verdicts.by_outcome == {
        Outcome.CHECKPOINTABLE: 0,
        Outcome.WITH_WARNINGS: 1,
        Outcome.REFUSED: 1,
    }


def test_changes_are_counted_and_repetitions_are_not() -> None:
    """A counter: the first verdict on a workload is a change too."""
    verdicts = Verdicts()
    for verdict in (GOOD, GOOD, WARNED, WARNED, GOOD, REFUSED, REFUSED):
        verdicts.record(verdict)
    assert verdicts.changes == {
        Outcome.CHECKPOINTABLE: 2,
        Outcome.WITH_WARNINGS: 1,
        Outcome.REFUSED: 1,
    }


def test_workloads_that_are_gone_are_forgotten() -> None:
    """What the API no longer binds to this node is in no gauge."""
    verdicts = Verdicts()
    verdicts.record(GOOD)
    verdicts.record(REFUSED)
    verdicts.retain({DNS})
    assert set(verdicts.last) == {DNS}


def test_what_is_kept_of_a_verdict_holds_no_secret() -> None:
    """Inlined values are in the manifest, and that is not kept."""
    reference = {"secretKeyRef": {"name": "s", "key": "k"}}
    pod = make_pod(make_container(env=[{"name": "PASSWORD", "valueFrom": reference}]))
    sources = make_sources(secrets={"s": {"data": {"k": "aHVudGVyMg=="}}})
    verdict = sanitize(pod, "/m", sources, Options(node_name="n", inline_secrets=True))
    assert "hunter2" in str(verdict)
    verdicts = Verdicts()
    verdicts.record(verdict)
    assert "hunter2" not in str(verdicts.last)


@pytest.mark.parametrize(
    "value",
    ["hunter2", "hunter2\n", "\0hunter2", "$(hunter2)", "\x1bhunter2", "hunter2" * (2 << 20)],
)
@pytest.mark.parametrize("kind", ["env", "envFrom"])
@pytest.mark.parametrize("spec", [{}, {"runtimeClassName": "kata", "hostUsers": False}])
def test_no_finding_quotes_a_value(value: str, kind: str, spec: dict[str, Any]) -> None:
    """Whatever is wrong with it, or beside it: what is told to others holds names only."""
    encoded = base64.b64encode(value.encode()).decode()
    sources = make_sources(secrets={"s": {"data": {"k": encoded, "1 k": encoded}}})
    container = make_container(
        **{
            "env": {
                "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
            },
            "envFrom": {"envFrom": [{"secretRef": {"name": "s"}}]},
        }[kind]
    )
    options = Options(node_name="n", inline_secrets=True)
    verdict = sanitize(make_pod(container, **spec), "/m", sources, options)
    told = (verdict.refusals, verdict.warnings, verdict.changes, verdict.volumes)
    assert "hunter2" not in str(told)


def test_the_gist_of_a_verdict_is_what_an_operator_reads_in_it() -> None:
    """Outcome, reasons and cures; not the manifest, which changes with every detail."""
    assert gist(GOOD) == gist(Verdict(Outcome.CHECKPOINTABLE, WEB, {"kind": "Other"}))
    others = [
        WARNED,
        Verdict(Outcome.WITH_WARNINGS, WEB, {}, warnings=(Finding("spec.os", "odd", "mend it"),)),
        Verdict(Outcome.WITH_WARNINGS, WEB, {}, warnings=(Finding("spec", "odd"),)),
        Verdict(Outcome.WITH_WARNINGS, WEB, {}, warnings=WARNED.warnings * 2),
        REFUSED,
    ]
    assert len({gist(verdict) for verdict in (GOOD, *others)}) == 1 + len(others)
