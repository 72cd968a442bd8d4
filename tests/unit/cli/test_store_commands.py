"""list, show, verify, diff and gc: what is stored, from the disk and the runtime alone."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from checkpointer.core.checkpoint import Record
from checkpointer.core.hold import RELEASED, Hold
from checkpointer.store.lock import InstanceLock

NAME = "kube-system/daemonset/gateway"


def test_an_empty_store_is_said_so(stand: Any) -> None:
    """On standard error: a pipe gets nothing."""
    answer = stand.run("list")
    assert (answer.status, answer.out) == (0, "")
    assert answer.err == f"no checkpoints in {stand.store.root}\n"


def test_list_tells_what_is_stored(stand: Any) -> None:
    """Plain in a pipe; the wide form has more columns."""
    stand.add_revision()
    stand.add_revision(image="gateway:2")
    stand.store.write_hold(stand.workload, Hold(RELEASED, 0.0, "alice"))
    titles, row = stand.run("list").out.splitlines()
    assert titles.split() == ["WORKLOAD", "REVISIONS", "AGE", "STAGE", "ACTIVE", "HELD"]
    assert row.split()[:2] == [NAME, "2,1"]
    assert row.split()[3:] == ["1", "-", "released"]
    wide = stand.run("list", "-o", "wide").out.splitlines()
    assert wide[0].split()[-2:] == ["PARENT", "DIGEST"]
    assert stand.run("list", "-o", "name").out == f"{NAME}\n"
    (found,) = stand.run("list", "-o", "json").json
    assert (found["revisions"], found["held"]) == ([2, 1], "released")
    assert yaml.safe_load(stand.run("list", "-o", "yaml").out) == [found]


@pytest.mark.parametrize(
    "name",
    ["gateway", "kube-system/gateway", NAME, "KUBE-SYSTEM/DaemonSet/gateway", "gateway-x7k2p"],
)
def test_a_workload_goes_by_several_names(stand: Any, name: str) -> None:
    """Its own, qualified or not, and its parent's."""
    stand.add_revision()
    assert stand.run("show", name, "-o", "json").json["workload"] == NAME


def test_a_name_that_nothing_has_is_answered_with_those_there_are(stand: Any) -> None:
    """Wrong usage, and no guessing."""
    stand.add_revision()
    answer = stand.run("show", "gatewya")
    assert answer.status == 2
    assert answer.err == f"checkpointer: gatewya: no checkpoint of that name; there are: {NAME}\n"


def test_show_tells_all_but_contents(stand: Any) -> None:
    """Provenance, revisions, material by name, mode, owner, digest."""
    stand.add_revision()
    for form in ("table", "json", "yaml"):
        answer = stand.run("show", "gateway", "-o", form)
        assert answer.status == 0
        assert "tls.key" in answer.out
        assert "gateway-x7k2p" in answer.out
        assert "key of gateway" not in answer.out
        assert "hunter2" not in answer.out
    assert stand.run("show", "gateway", "-o", "name").out == f"{NAME}\n"


@pytest.mark.shows_secrets
def test_show_hides_values_in_the_manifest_unless_asked(stand: Any) -> None:
    """Any of them may have come from a secret."""
    stand.add_revision()
    hidden = stand.run("show", "gateway", "--manifest")
    assert "hunter2" not in hidden.out
    assert yaml.safe_load(hidden.out)["spec"]["containers"][0]["image"] == "gateway:1"
    assert "hunter2-gateway:1" in stand.run("show", "gateway", "--manifest", "--reveal").out


def test_show_of_a_revision_that_is_not_there_says_which_are(stand: Any) -> None:
    """Numbers are counted up, never used again."""
    stand.add_revision()
    answer = stand.run("show", "gateway", "--revision", "7")
    assert answer.status == 2
    assert "no revision 7 that verifies; there are 1" in answer.err


def test_verify_is_good_when_all_is(stand: Any) -> None:
    """Digests, gate, images."""
    stand.add_revision()
    answer = stand.run("verify")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.splitlines()[1].split() == [NAME, "1", "ok", "ok", "present", "-"]


def test_no_name_at_all_is_told_as_such(stand: Any) -> None:
    """A variable of a script that is empty."""
    answer = stand.run("show", "")
    assert answer.status == 2
    assert answer.err.startswith("checkpointer: '': no checkpoint of that name; ")


def test_verify_of_nothing_is_not_good(stand: Any) -> None:
    """A script that goes by the exit status must not take an empty store for a node that is fit."""
    answer = stand.run("verify")
    assert answer.status == 3
    assert answer.err == f"no checkpoints in {stand.store.root}\n"


def test_verify_tells_what_is_not_good(stand: Any) -> None:
    """By the exit status, the table, and a sentence that says what to do."""
    stand.add_revision()
    stand.node.runtime.images.clear()
    answer = stand.run("verify", "gateway")
    assert answer.status == 3
    assert "missing" in answer.out
    assert "the runtime does not have image gateway:1; load it" in answer.err
    stand.node.runtime.images.add("gateway:1")
    key = next(stand.store.root.rglob("tls.key"))
    key.write_text("something else")
    answer = stand.run("verify", "gateway")
    assert answer.status == 3
    assert "content differs" in answer.err
    assert "something else" not in answer.out + answer.err


def test_verify_does_not_call_good_what_it_has_not_looked_at(stand: Any) -> None:
    """Of a checkpoint without a revision that verifies; what is wrong is said once."""
    stand.add_revision()
    next(stand.store.root.rglob("manifest.json")).write_text("{}")
    answer = stand.run("verify")
    assert answer.status == 3
    assert answer.out.splitlines()[1].split() == [NAME, "-", "failed", "-", "-", "-"]
    (line,) = answer.err.splitlines()
    assert line.startswith(f"{NAME}: revision 1 is skipped: ")


def test_verify_does_not_take_silence_for_absence(stand: Any) -> None:
    """A runtime that hangs has not said that an image is missing."""
    stand.add_revision()
    stand.node.cri.hangs = True
    answer = stand.run("verify")
    assert answer.status == 0
    assert "unknown" in answer.out
    assert "images were not looked for" in answer.err


def test_diff_of_revisions_shows_names_and_no_values(stand: Any) -> None:
    """Of files and variables it is said that they differ."""
    stand.add_revision()
    stand.add_revision(image="gateway:2")
    answer = stand.run("diff", "gateway", "--revisions", "1")
    assert answer.status == 3
    assert "-  - image: gateway:1" in answer.out.replace("    image", "  - image")
    assert "! file certs/tls.key: content differs" in answer.out
    assert "! environment variable PASSWORD of container main: its value differs" in answer.out
    assert "hunter2" not in answer.out
    assert "revisions/" not in answer.out
    assert stand.run("diff", "gateway", "--revisions", "1", "-o", "name").out == f"{NAME}\n"
    same = stand.run("diff", "gateway", "--revisions", "2..2", "-o", "name")
    assert (same.status, same.out) == (0, "")
    assert stand.run("diff", "gateway", "--revisions", "x").status == 2


def test_diff_without_the_api_compares_the_files_of_the_kubelet(stand: Any) -> None:
    """The spec is not known then, and that is said."""
    stand.add_revision()
    stand.node.cut_network()
    stand.node.api.stop()
    volume = stand.node.kubelet_folder / "pods/parent-uid/volumes/kubernetes.io~secret/certs"
    (volume / "..1").mkdir(parents=True)
    (volume / "..1/tls.key").write_text("a renewed key")
    (volume / "..data").symlink_to("..1")
    (volume / "tls.key").symlink_to("..data/tls.key")
    answer = stand.run("diff", "gateway", "-o", "json")
    assert answer.status == 3
    assert answer.json["differences"] == ["! file certs/tls.key: content differs"]
    assert "only its files are compared" in answer.err


def test_gc_removes_what_is_beyond_the_ones_to_keep(stand: Any) -> None:
    """Never what serves or is held; a dry run removes nothing."""
    for number in range(1, 5):
        stand.add_revision(image=f"gateway:{number}")
    stand.store.write_record(stand.workload, Record(failed=(4, 3)))
    (stand.store.root / ".pod-checkpointer-new-0123456789abcdef").write_text("half")
    told = stand.run("gc", "--keep", "1", "--dry-run", "-o", "json").json
    assert [one["what"] for one in told] == [f"{NAME} revision 1", f"{NAME} revision 3", "leftover"]
    assert stand.run("gc", "--keep", "1").status == 0
    stand.store.invalidate()
    (checkpoint,) = stand.store.read().value.checkpoints
    assert [r.number for r in checkpoint.revisions] == [4, 2]
    assert stand.run("gc", "--keep", "1").err == "nothing to remove\n"


def test_gc_keeps_the_last_known_good(stand: Any) -> None:
    """An old revision that served well is what a crashing copy goes back to."""
    for number in range(1, 6):
        stand.add_revision(image=f"gateway:{number}")
    stand.store.write_record(stand.workload, Record(good=(5, 3), failed=(5,)))
    told = stand.run("gc", "--keep", "1", "--dry-run", "-o", "json").json
    assert [one["what"] for one in told] == [f"{NAME} revision 1", f"{NAME} revision 2"]
    assert stand.run("gc", "--keep", "1").status == 0
    stand.store.invalidate()
    (checkpoint,) = stand.store.read().value.checkpoints
    assert [r.number for r in checkpoint.revisions] == [5, 4, 3]


def test_gc_leaves_the_store_to_a_running_agent(stand: Any) -> None:
    """Two writers could remove what the other one writes."""
    stand.add_revision()
    stand.add_revision(image="gateway:2")
    lock = InstanceLock(stand.node.folder / "run/checkpointer.lock")
    assert lock.try_acquire()
    try:
        answer = stand.run("gc", "--keep", "1")
        assert answer.status == 3
        assert "the agent runs" in answer.err
        assert "revision 1" in stand.run("gc", "--keep", "1", "--dry-run").out
    finally:
        lock.release()
