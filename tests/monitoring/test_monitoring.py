"""manifests/monitoring and docs/monitoring.md against what the agent really exports."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from checkpointer.core.checkpoint import HandOver, Record
from checkpointer.core.facts import Known
from checkpointer.core.observation import NOT_ASKED, Itself, Observation
from checkpointer.report.happenings import Happening, Kind
from checkpointer.report.metrics import Inputs, Metrics
from checkpointer.report.status import (
    AgentStatus,
    ContactStatus,
    Cycle,
    RevisionDetails,
    build_status,
)
from checkpointer.report.tally import Tally
from checkpointer.report.verdicts import Verdicts
from tests.unit.core.builders import DNS, SAME_KUBELET, at, checkpoint, manifest, reachable

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "manifests/monitoring"
RULES = FOLDER / "prometheusrule.yaml"
DASHBOARD = FOLDER / "dashboard.json"
DOCUMENT = ROOT / "docs/monitoring.md"
NAME = re.compile(r"\bpod_checkpointer_[a-z0-9_]+")
ROW = re.compile(r"\| `(pod_checkpointer_\w+)` \| (\w+) \| ([^|]*) \| (\S[^|]*\S) \|")


RECORD = Record(good=(1,), hand_over=HandOver(to="uid", boot_id=at(0.0).boot_id, since=5.0))


def families() -> dict[str, Any]:
    """Return every family that an agent with an active checkpoint exports, by its name."""
    seen = Observation(
        reachable(),
        Known(()),
        NOT_ASKED,
        Known(SAME_KUBELET),
        Known((manifest(), manifest(DNS))),
        Known((checkpoint(record=RECORD), checkpoint(DNS))),
        itself=Itself(DNS, "own-uid"),
    )
    status = build_status(
        AgentStatus("node-1", "1", 7),
        ContactStatus("reachable", "ok", 1.0, 1.0),
        Cycle(seen, {}, "", at(10.0)),
        {},
        dict.fromkeys((c.workload for c in seen.checkpoints.value), RevisionDetails(1, 1.0)),
    )
    tally = Tally()
    tally.happened(Happening(Kind.ACTIVATED, 0.0))
    text = Metrics(lambda: Inputs(status, tally, Verdicts(), 1, 0)).exposition()[0].decode()
    return {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(text)
        if family.name.startswith("pod_checkpointer_")
    }


def exported() -> set[str]:
    """Return every sample's name."""
    return {sample.name for family in families().values() for sample in family.samples}


def test_every_metric_is_documented_as_it_is() -> None:
    """Name, type, labels and meaning in docs/monitoring.md are those of the exposition."""
    rows = [match for line in DOCUMENT.read_text().splitlines() if (match := ROW.fullmatch(line))]
    documented = {row[1]: (row[2], row[3].strip(), row[4]) for row in rows}
    expected = {}
    for name, family in families().items():
        labels = sorted({key for s in family.samples for key in s.labels} - {"le"})
        shown = ", ".join(f"`{label}`" for label in labels)
        expected[name] = (family.type, shown, family.documentation)
    assert len(rows) == len(documented)
    assert documented == expected


@pytest.mark.parametrize("path", [RULES, DASHBOARD, DOCUMENT], ids=lambda path: path.name)
def test_every_name_that_is_asked_for_is_exported(path: Path) -> None:
    """No alert, panel or sentence waits for a metric that does not exist."""
    asked = set(NAME.findall(path.read_text()))
    assert asked
    assert asked - exported() - set(families()) == set()


def test_dashboard_is_one_that_grafana_takes() -> None:
    """Panels have distinct ids and lie beside each other; every query goes to the variable."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all("$node" in target["expr"] for target in panel["targets"])


def test_port_is_the_one_that_the_agent_documents() -> None:
    """The PodMonitor scrapes the default port."""
    from checkpointer.config import Config, host_and_port

    monitor = yaml.safe_load((FOLDER / "podmonitor.yaml").read_text())
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["portNumber"] == host_and_port(Config().http.address)[1]


def test_alerts_name_node_and_severity() -> None:
    """Each says where it is, how bad, and what to do."""
    for rule in rules()["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert "$labels.node" in rule["annotations"]["summary"]
        assert len(rule["annotations"]["description"]) > 40


def rules() -> Any:
    return yaml.safe_load(RULES.read_text())["spec"]


@pytest.fixture
def promtool() -> str:
    """Prometheus' own judge; with POD_CHECKPOINTER_REQUIRE_REAL=1 it has to be there."""
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("POD_CHECKPOINTER_REQUIRE_REAL") == "1":
            pytest.fail("promtool is missing: apt-get install prometheus")
        pytest.skip("promtool is missing (Debian: apt-get install prometheus)")
    return found


def run(promtool: str, *arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [promtool, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_valid_with_their_templates(promtool: str, tmp_path: Path) -> None:
    """Prometheus takes them as they are."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    run(promtool, "check", "rules", "rules.yaml", cwd=tmp_path)


def test_rules_fire_when_they_should(promtool: str, tmp_path: Path) -> None:
    """Each on its own trouble, in time and not before; none on a healthy node."""
    spec = rules()
    for rule in spec["groups"][0]["rules"]:
        del rule["annotations"]  # else each would have to be repeated word for word
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
    tests = Path(__file__).with_name("rules_test.yaml")
    shutil.copy(tests, tmp_path)
    run(promtool, "test", "rules", tests.name, cwd=tmp_path)


def test_every_alert_is_tested() -> None:
    """An alert without a test of its firing is none to trust."""
    tests = yaml.safe_load(Path(__file__).with_name("rules_test.yaml").read_text())["tests"]
    fired = {
        one["alertname"]
        for test in tests
        for one in test["alert_rule_test"]
        if one.get("exp_alerts")
    }
    quiet = {one["alertname"] for one in tests[0]["alert_rule_test"] if not one.get("exp_alerts")}
    alerts = {rule["alert"] for rule in rules()["groups"][0]["rules"]}
    assert fired == quiet == alerts
