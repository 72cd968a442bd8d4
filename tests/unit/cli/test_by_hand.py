"""activate and release: by hand, without an agent, held until lifted."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from checkpointer.core.hold import ACTIVE, RELEASED, Hold
from checkpointer.simulation.waiting import wait_until
from checkpointer.store.lock import InstanceLock

NAME = "kube-system/daemonset/gateway"


def hold_of(stand: Any) -> Any:
    stand.store.invalidate()
    return stand.store.read().value.checkpoints[0].hold


def test_activate_runs_a_copy_and_holds_it(stand: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no agent there, by the code that the agent would use."""
    monkeypatch.setenv("SUDO_USER", "alice")
    stand.add_revision()
    answer = stand.run("activate", "gateway", "--reason", "a drill")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out == f"{NAME}: held active until it is lifted; its copy runs\n"
    assert [c.config.image for c in stand.node.copies("main")] == ["gateway:1"]
    hold = hold_of(stand)
    assert (hold.wanted, hold.by, hold.reason) == (ACTIVE, "alice as root", "a drill")
    assert stand.run("activate", "gateway").status == 0


def test_release_takes_it_out_and_holds_it(stand: Any) -> None:
    """When there is nobody else to do its work, only with --force."""
    stand.add_revision()
    stand.run("activate", "gateway")
    refused = stand.run("release", "gateway")
    assert refused.status == 3
    assert "its copy is all that is left of it" in refused.err
    answer = stand.run("release", "gateway", "--force", "--for", "1h")
    assert answer.status == 0
    assert stand.node.copies("main") == []
    hold = hold_of(stand)
    assert hold.wanted == RELEASED
    assert hold.until == pytest.approx(time.time() + 3600, abs=60)
    assert hold.boot_id == stand.node.boot_id_file.read_text().strip()
    assert hold.began == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=60)
    lifted = stand.run("release", "gateway", "--lift")
    assert lifted.out == f"{NAME}: no longer held released; the agent will decide\n"
    assert hold_of(stand) is None
    assert "nothing to lift" in stand.run("activate", "gateway", "--lift").out


def test_a_hold_is_shown_for_as_long_as_it_still_counts(stand: Any) -> None:
    """After a reboot with the clock moved back, no longer than was asked for."""
    stand.add_revision()
    later = time.time() + 400 * 86400
    hold = Hold(RELEASED, later, "root", until=later + 1e8, boot_id="another", began=1.0)
    stand.store.write_hold(stand.workload, hold)
    shown = stand.run("show", "gateway", "-o", "json").json["hold"]
    until = datetime.fromisoformat(shown["until"]).timestamp()
    assert until == pytest.approx(
        time.time() + 1e8 - time.clock_gettime(time.CLOCK_BOOTTIME), abs=60
    )
    assert shown["inForce"] is True
    stand.store.write_hold(stand.workload, replace(hold, until=later + 0.001))
    assert stand.run("show", "gateway", "-o", "json").json["hold"]["inForce"] is False
    assert stand.run("list", "-o", "json").json[0]["held"] is None


def test_what_is_done_without_an_agent_is_in_the_history(
    stand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes in the morning reads who did what; the agent tells it in Events then."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    stand.add_revision()
    stand.run("activate", "gateway", "--reason", "a drill")
    stand.run("release", "gateway", "--force")
    stand.run("release", "gateway", "--lift")
    found = stand.run("history", "-o", "json").json
    assert [(one["kind"], one["reason"]) for one in found] == [
        ("held", "active by hand, root: a drill"),
        ("activated", "by hand, root: a drill"),
        ("held", "released by hand, root"),
        ("released", "by hand"),
        ("hold-lifted", "it was held released by hand, root"),
    ]
    assert [one["seq"] for one in found] == [1, 2, 3, 4, 5]


def test_activating_beside_its_parent_is_refused(stand: Any) -> None:
    """With the ports that they would fight over, and what to do instead."""
    container = {"name": "main", "image": "gateway:1"}
    stand.node.add_daemonset("gateway", {"hostNetwork": True, "containers": [container]})
    wait_until(lambda: stand.node.parents("main"), 5, "the parent")
    stand.add_revision()
    answer = stand.run("activate", "gateway")
    assert answer.status == 3
    assert "would fight it over port 8443; stop the parent first" in answer.err
    assert hold_of(stand) is None
    assert stand.node.copies() == []


def test_a_dry_run_changes_nothing(stand: Any) -> None:
    """It says what would be done."""
    stand.add_revision()
    answer = stand.run("activate", "gateway", "--dry-run")
    assert (
        answer.out == f"{NAME}: would activate revision 1 and hold it active until it is lifted\n"
    )
    assert hold_of(stand) is None
    assert stand.node.manifests() == set()


def test_activate_does_not_guess_what_runs(stand: Any) -> None:
    """A runtime that hangs is no empty one."""
    stand.add_revision()
    stand.node.cri.hangs = True
    answer = stand.run("activate", "gateway")
    assert answer.status == 1
    assert "the container runtime does not answer" in answer.err
    assert stand.node.manifests() == set()


def test_a_running_agent_is_left_to_do_it(stand: Any) -> None:
    """The hold is written, and the command waits for the copy."""
    stand.add_revision()
    lock = InstanceLock(stand.node.folder / "run/checkpointer.lock")
    assert lock.try_acquire()
    try:
        answer = stand.run("activate", "gateway", "--timeout", "0")
    finally:
        lock.release()
    assert answer.status == 4
    assert "its copy does not run yet" in answer.out
    assert hold_of(stand).wanted == ACTIVE
    assert stand.node.manifests() == set()


def test_the_agent_does_what_the_hold_says(stand: Any) -> None:
    """Woken by the file; until it is lifted."""
    stand.add_revision()
    stand.node.agent.start()
    wait_until(lambda: "contact reachable" in stand.node.agent.log.read_text(), 20, "the agent")
    assert stand.run("activate", "gateway", "--timeout", "20s").status == 0
    assert "by hand, root" in stand.node.agent.log.read_text()
    assert stand.run("release", "gateway", "--force", "--timeout", "20s").status == 0
    assert stand.node.copies() == []


def test_lifted_while_it_waits_it_says_so(stand: Any) -> None:
    """Two operators at once."""
    stand.add_revision()
    stand.node.cut_network()
    stand.node.agent.stop()

    def lift() -> None:
        wait_until(lambda: hold_of(stand) is not None, 5, "the hold")
        stand.store.write_hold(stand.workload, None)

    lock = InstanceLock(stand.node.folder / "run/checkpointer.lock")
    assert lock.try_acquire()
    other = threading.Thread(target=lift)
    other.start()
    try:
        answer = stand.run("activate", "gateway", "--timeout", "20s")
    finally:
        other.join()
        lock.release()
    assert answer.status == 3
    assert "somebody has lifted the hold meanwhile" in answer.err
