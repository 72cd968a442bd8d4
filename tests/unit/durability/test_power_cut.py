"""Whenever the power is cut during a change: what the disk then holds is before or after it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpointer.store.errors import DiskError
from tests.unit.durability.power import Model, PoweredDisk
from tests.unit.durability.promises import IS_FULL, Sweep
from tests.unit.durability.scene import CHANGES, Process
from tests.unit.store.faulty import READING, CrashError, Fault, FaultyCalls

Count = Callable[[str, int], None]

every_model = pytest.mark.parametrize("model", Model, ids=lambda model: model.value)


@every_model
@pytest.mark.parametrize("name", CHANGES)
def test_power_cut_during_a_change_leaves_the_disk_as_before_or_after(
    sweep: Sweep, model: Model, count: Count
) -> None:
    """At any moment, whatever of what was not synced has reached the disk; the next run finishes.

    What a change reported done is there after a power cut right behind it.
    """
    process, calls = sweep.start()
    disk = PoweredDisk(sweep.node.disk, model, IS_FULL)
    calls.on_done = disk.done
    assert sweep.change.do(process) is not False
    assert disk.tree() == sweep.node.tree(), "the model does not follow the real disk"
    for tree in disk.synced():
        sweep.judge(tree, f"power cut after the change, {model.value}", must_be_done=True)
    judge_all(sweep, disk)
    count(f"{model.value} power cuts", disk.cuts)
    count(f"{model.value} combinations", disk.combinations)
    count(f"{model.value} states", sweep.judged)


@pytest.mark.parametrize("name", CHANGES)
def test_power_cut_after_a_death_leaves_the_disk_as_before_or_after(
    sweep: Sweep, count: Count
) -> None:
    """What a process that died has not synced is there for all to see, until the power is cut.

    It is killed before a call (by default before every third fsync), the next run cleans up and
    finishes, and meanwhile or afterwards the power is cut. Only the weaker model has more to it
    than a cut without a death.
    """
    combinations = 0
    changing = [at for at, call in enumerate(sweep.calls) if call not in (*READING, "open")]
    syncs = [at for at in changing if sweep.calls[at] == "fsync"]
    for at in changing if IS_FULL else syncs[-1::-3]:
        process, calls = sweep.start(Fault(at, crash="before"))
        disk = PoweredDisk(sweep.node.disk, Model.POSIX)
        disk.is_watching = False
        calls.on_done = disk.done
        with pytest.raises(CrashError):
            sweep.change.do(process)
        calls.bury()
        disk.leave_behind()
        again = Process(sweep.node, FaultyCalls(on_done=disk.done))
        assert again.clean() == ()
        if not sweep.change.is_done(again):
            assert sweep.change.do(again) is not False
        for tree in disk.states.values():
            sweep.judge(tree, f"power cut after a death before call {at}, {sweep.calls[at]}")
        combinations += disk.combinations
    count("combinations after deaths", combinations)
    count("states after deaths and power cuts", sweep.judged)


@pytest.mark.parametrize("name", CHANGES)
def test_power_cut_after_a_failed_sync_and_a_retry_finds_the_change_done(
    sweep: Sweep, count: Count
) -> None:
    """What the failed call left is seen by the retry, which finds nothing to do: it must have it
    on disk all the same before it is done."""
    syncs = [at for at, call in enumerate(sweep.calls) if call == "fsync"]
    for at in syncs:
        process, calls = sweep.start(Fault(at, error=errno.EIO))
        disk = PoweredDisk(sweep.node.disk, Model.POSIX)
        disk.is_watching = False
        calls.on_done = disk.done
        try:
            is_done = sweep.change.do(process) is not False
        except DiskError:
            is_done = False
        if not is_done:
            assert sweep.change.do(process) is not False
        why = f"power cut after a retry of what failed at call {at}"
        for tree in disk.synced():
            sweep.judge(tree, why, must_be_done=True)
    count("failed syncs with a retry and a power cut", len(syncs))


@every_model
def test_write_without_sync_is_found_out(place: Path, model: Model) -> None:
    """The proof of the proof: were nothing synced, what is judged would be damaged."""
    sweep = Sweep(place, "activate")
    process, calls = sweep.start()
    disk = PoweredDisk(sweep.node.disk, model)
    calls.on_done = lambda name, *what: None if name == "fsync" else disk.done(name, *what)
    assert sweep.change.do(process) is not False
    with pytest.raises(AssertionError):
        judge_all(sweep, disk)


def judge_all(sweep: Sweep, disk: PoweredDisk) -> None:
    for tree in disk.states.values():
        sweep.judge(tree, f"power cut, {disk.model.value}")
