"""When `prepare-reboot` says no, and of what it only warns."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import pytest

from checkpointer.cli import prepare_reboot
from checkpointer.config import Config
from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.doctor.readiness import Outlook, Readiness
from checkpointer.doctor.snapshots import Taken

VIP, WEB = (Workload("kube-system", "DaemonSet", name) for name in ("kube-vip", "web"))
SHOP = Workload("default", "Deployment", "shop")
READY = Readiness((Outlook(VIP, 0), Outlook(WEB, 1)))
FRESH = Taken(VIP, "kube-vip-1", 1, is_new=True)
NO_VIP = f"{VIP} has no fresh snapshot: it is not Ready"
NO_WEB = f"{WEB} has no fresh snapshot: it is not Ready"

Prepare = Callable[..., tuple[int, list[str], list[str]]]


def stale(workload: Workload) -> Taken:
    return Taken(workload, f"{workload.name}-2", 1, is_new=False, reason="it is not Ready")


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Prepare:
    """Run it on a node that would bring all back; return its exit status, reasons, warnings."""

    def run(taken: Fact[tuple[Taken, ...]], *flags: str) -> tuple[int, list[str], list[str]]:
        def no_check(*_: Any) -> tuple[()]:
            return ()

        monkeypatch.setattr(prepare_reboot, "_take", lambda *_: taken)
        monkeypatch.setattr("checkpointer.doctor.gather.gather", lambda *_: None)
        monkeypatch.setattr("checkpointer.doctor.checks.check", no_check)
        monkeypatch.setattr("checkpointer.doctor.readiness.readiness", lambda *_: READY)
        parser = argparse.ArgumentParser()
        prepare_reboot.add_arguments(parser)
        status = prepare_reboot._prepare(parser.parse_args(["-o", "json", *flags]), Config())
        said = json.loads(capsys.readouterr().out)
        return status, said["reasons"], said["warnings"]

    return run


@pytest.mark.parametrize(
    ("taken", "flags", "expected"),
    [
        ((FRESH,), (), (0, [], [])),
        ((stale(VIP),), (), (3, [NO_VIP], [])),
        ((stale(VIP),), ("--allow-stale",), (0, [], [NO_VIP])),
        ((FRESH, stale(WEB)), (), (0, [], [NO_WEB])),
        ((FRESH, stale(WEB)), ("--strict",), (3, [NO_WEB], [])),
        ((FRESH, stale(WEB)), ("--strict", "--allow-stale"), (0, [], [NO_WEB])),
        ((stale(VIP), stale(WEB)), (), (3, [NO_VIP], [NO_WEB])),
    ],
)
def test_stage_zero_has_to_be_fresh(
    prepare: Prepare, taken: tuple[Taken, ...], flags: tuple[str, ...], expected: Any
) -> None:
    """Always: a stale API server may not come up. Of the rest it warns, unless --strict."""
    assert prepare(Known(taken), *flags) == expected


def test_one_fresh_snapshot_of_a_workload_will_do(prepare: Prepare) -> None:
    """Amid an update the old pod is terminating beside the new one; others are not selected."""
    assert prepare(Known((stale(VIP), FRESH, stale(SHOP)))) == (0, [], [])


def test_without_any_snapshot_the_answer_is_no(prepare: Prepare) -> None:
    """Whatever is stored, unless somebody accepts it."""
    status, (reason,), warnings = prepare(Unknown("contact is lost"))
    assert (status, warnings) == (3, [])
    assert reason.startswith("no fresh snapshots: contact is lost.")
    assert prepare(Unknown("contact is lost"), "--allow-stale") == (0, [], [])
