"""What `doctor` and `prepare-reboot` print."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from checkpointer.cli.doctor_forms import Preparation, print_preparation, print_results
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.doctor.readiness import Outlook, Readiness
from checkpointer.doctor.result import Outcome, Result
from checkpointer.doctor.snapshots import Taken

WEB = Workload("kube-system", "DaemonSet", "web")
RESULTS = (
    Result("user", Outcome.PASS, "root"),
    Result("images", Outcome.FAIL, "image web:1 is not on this node", "pull it"),
)
LOST = Readiness((Outlook(WEB, 0, "image web:1 is not on this node"),))
LINE = (
    "reboot without the API: this node would bring back: nothing; would not: "
    "kube-system/daemonset/web\nbecause image web:1 is not on this node\n"
)


def test_a_row_says_what_and_below_it_the_cure(capsys: pytest.CaptureFixture[str]) -> None:
    """And the last line is the summary, in lines of a fixed length when no terminal shows them."""
    print_results(RESULTS, LOST, "table")
    assert capsys.readouterr().out == (
        "pass  user    root\n"
        "fail  images  image web:1 is not on this node\n"
        "              -> pull it\n"
        f"\n{LINE}"
    )


def test_quiet_leaves_out_what_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing wrong the summary is all there is."""
    print_results(RESULTS[:1], LOST, "table", is_quiet=True)
    assert capsys.readouterr().out == LINE


def test_a_name_from_outside_forges_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters are shown, not sent to the terminal."""
    print_results((Result("x", Outcome.WARN, "a\n\x1b[31mpass", "c"),), LOST, "table")
    assert "\x1b" not in capsys.readouterr().out


def test_shells_get_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the checks that want a look; of the workloads that a reboot would bring back."""
    print_results((*RESULTS, RESULTS[1]), LOST, "name")
    assert capsys.readouterr().out == "images\n"
    well = Readiness((*LOST.outlooks, Outlook(WEB._replace(name="dns"), 1)))
    print_preparation(Preparation(None, RESULTS, well, ()), "name")
    assert capsys.readouterr().out == "kube-system/daemonset/dns\n"
    print_preparation(Preparation(None, RESULTS, replace(well, blocker="no store"), ()), "name")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_programs_get_all_of_it(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """The same document in both forms."""
    print_results(RESULTS, LOST, form, is_quiet=True)
    said = {"json": json.loads, "yaml": yaml.safe_load}[form](capsys.readouterr().out)
    assert said == {
        "outcome": "fail",
        "checks": [
            {"check": "user", "outcome": "pass", "what": "root", "cure": ""},
            {
                "check": "images",
                "outcome": "fail",
                "what": "image web:1 is not on this node",
                "cure": "pull it",
            },
        ],
        "readiness": {
            "summary": LOST.line,
            "blocker": "",
            "workloads": [
                {
                    "workload": "kube-system/daemonset/web",
                    "stage": 0,
                    "returns": "no",
                    "reason": "image web:1 is not on this node",
                    "hold": "",
                }
            ],
        },
    }


@pytest.mark.parametrize(
    ("readiness", "returns", "reason"),
    [
        (Readiness((Outlook(WEB, 1),)), "yes", ""),
        (Readiness((Outlook(WEB, 1, "silent", is_unknown=True),)), "unknown", "silent"),
        (Readiness((Outlook(WEB, 1),), "the store is gone"), "no", "the store is gone"),
    ],
)
def test_what_returns(
    capsys: pytest.CaptureFixture[str], readiness: Readiness, returns: str, reason: str
) -> None:
    """Yes only when it positively does."""
    print_results((), readiness, "json")
    (said,) = json.loads(capsys.readouterr().out)["readiness"]["workloads"]
    assert (said["returns"], said["reason"]) == (returns, reason)


TAKEN = (
    Taken(WEB, "web-1", 3, is_new=True),
    Taken(WEB, "web-2", 3, is_new=False),
    Taken(WEB, "web-3", None, is_new=False, reason="it is not Ready"),
)


def test_a_preparation_ends_in_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """First what became of each pod, at the end whether to go on."""
    print_preparation(Preparation(Known(TAKEN), (), LOST, ("web would not",)), "table")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "snapshot of kube-system/daemonset/web (pod web-1): new, revision 3",
        "snapshot of kube-system/daemonset/web (pod web-2): as it was, revision 3",
        "snapshot of kube-system/daemonset/web (pod web-3): it is not Ready, there is no revision",
        "",
    ]
    assert lines[-1] == "do not reboot: web would not"


def test_what_is_stale_is_told_before_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """In both forms: nobody is to look for it among the snapshots."""
    found = Preparation(Known(TAKEN), (), LOST, (), ("web has no fresh snapshot",))
    print_preparation(found, "table")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "warning: web has no fresh snapshot",
        "ready: this node may be rebooted",
    ]
    print_preparation(found, "json")
    said = json.loads(capsys.readouterr().out)
    assert (said["ready"], said["warnings"]) == (True, ["web has no fresh snapshot"])


@pytest.mark.parametrize(
    ("snapshots", "line"),
    [
        (None, "snapshots: none taken (dry run)"),
        (Unknown("contact is lost"), "snapshots: none taken: contact is lost"),
        (Known(()), "snapshots: no pod of this node is selected"),
    ],
)
def test_without_snapshots_it_says_why(
    capsys: pytest.CaptureFixture[str], snapshots: Known[tuple[Taken, ...]] | None, line: str
) -> None:
    """And ready is ready, if nothing speaks against it."""
    print_preparation(Preparation(snapshots, (), LOST, ()), "table")
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == (line, "ready: this node may be rebooted")


def test_a_preparation_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """With the doctor's document around it."""
    print_preparation(Preparation(Known(TAKEN[:1]), RESULTS, LOST, ("no",)), "json")
    said = json.loads(capsys.readouterr().out)
    assert (said["ready"], said["reasons"], said["outcome"]) == (False, ["no"], "fail")
    assert said["snapshots"] == {
        "reason": "",
        "pods": [
            {
                "workload": "kube-system/daemonset/web",
                "pod": "web-1",
                "revision": 3,
                "new": True,
                "reason": "",
            }
        ],
    }
