"""Taking over a node of the bootkube checkpointer: nothing lost, nothing done by halves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from checkpointer.bootkube.files import is_running, pod_in, read_old
from checkpointer.bootkube.takeover import Candidate, Cleaned
from checkpointer.config import SelectionConfig
from checkpointer.core.facts import Known
from checkpointer.core.occupancy import occupancy_of
from checkpointer.manifest.acceptance import refusals
from checkpointer.manifest.render import render
from checkpointer.store.durable import Disk
from checkpointer.store.errors import StoreError, UnsafePathError
from checkpointer.store.system_calls import SystemCalls
from tests.unit.bootkube.old_node import (
    API_SERVER,
    MARK,
    NODE,
    SCHEDULER,
    TLS,
    FakeRuntime,
    OldNode,
    api_server,
    scheduler,
)

BUSY = "its copy is active and its parent is not back: it does its parent's work"


def states(candidates: tuple[Candidate, ...]) -> dict[str, str]:
    return {c.old.name.rsplit("-", 1)[0]: c.state for c in candidates}


def reasons(cleaned: tuple[Cleaned, ...]) -> dict[str, str]:
    return {c.old.name.rsplit("-", 1)[0]: c.reason for c in cleaned}


def test_a_revision_is_made_of_manifest_and_files(old_node: OldNode) -> None:
    """It verifies, mounts what the old one did, and the kubelet would accept it."""
    old_node.keep_api_server()
    old_node.import_all()
    store = old_node.store
    assert old_node.revisions() == {API_SERVER: [1]}
    assert store.verify(API_SERVER, 1) == ()
    manifest = store.manifest(API_SERVER, 1)
    rendered = render(manifest, API_SERVER, NODE, "d", 1, 1)
    assert refusals(json.loads(rendered.content), NODE, len(rendered.content)) == ()
    root = store.material_root(API_SERVER, 1)
    volumes = {v["name"]: v["hostPath"] for v in manifest["spec"]["volumes"]}
    assert volumes["secrets"] == {"path": str(root / "secrets"), "type": "Directory"}
    assert volumes["ssl-certs-host"] == {"path": "/usr/share/ca-certificates"}
    for name, content in TLS.items():
        path = root / "secrets" / name
        assert path.read_text() == content
        assert path.stat().st_mode & 0o777 == 0o600
    assert (root / "audit/policy.yaml").read_text() == "rules: []"
    container = manifest["spec"]["containers"][0]
    assert "ports" not in container, "they would make the kubelet refuse the returning parent"


def test_what_is_known_of_the_parent_is_kept(old_node: OldNode) -> None:
    """Its stage, its UID in the record, the time of the old manifest."""
    old = old_node.keep_api_server()
    old_node.import_all()
    stored = old_node.store.read()
    assert isinstance(stored, Known)
    (found,) = stored.value.checkpoints
    uid = old["metadata"]["ownerReferences"][0]["uid"]
    assert found.record.parents == (uid,)
    revision = found.revisions[0]
    assert (revision.parent_uid, revision.stage, revision.shares_ports) == (uid, 0, False)
    path = old_node.places.inactive / "kube-system-kube-apiserver-x7k2p.json"
    assert revision.created_at == path.stat().st_mtime


def test_importing_again_changes_nothing(old_node: OldNode) -> None:
    """The same content is there already; and nothing of the old checkpointer's has changed."""
    old_node.keep_api_server(active=True)
    before = old_node.files()
    old_node.import_all()
    assert states(old_node.takeover().candidates()) == {"kube-apiserver": "imported"}
    old_node.import_all()
    assert old_node.revisions() == {API_SERVER: [1]}
    assert old_node.files() == before


def test_a_snapshot_of_ours_is_newer(old_node: OldNode) -> None:
    """The agent has seen the parent Ready: what the old one kept is not put over that."""
    old_node.keep_api_server()
    old_node.import_all()
    path = old_node.places.secrets / "kube-system/kube-apiserver-x7k2p/kube-apiserver/ca.crt"
    path.write_text("another authority")
    (candidate,) = old_node.takeover().candidates()
    assert (candidate.state, candidate.reasons) == ("ours is newer", ("revision 1",))


@pytest.mark.parametrize("source", ["a\0b", "\ud800", "x" * 300, "a\nb"])
def test_a_path_that_no_file_can_have_is_refused_by_its_name(
    old_node: OldNode, source: str
) -> None:
    """One damaged manifest must not end the takeover of the others."""
    old_node.keep_itself()
    old = old_node.keep_api_server()
    path = old["spec"]["volumes"][1]["hostPath"]
    path["path"] = path["path"].rpartition("/")[0] + f"/{source}"
    old_node.keep(old)
    found = {candidate.state: candidate for candidate in old_node.takeover().candidates()}
    assert set(found) == {"itself", "refused"}
    (reason,) = found["refused"].reasons
    assert reason.startswith(str(old_node.places.secrets))
    assert reason.endswith("is no name of a secret")
    assert reason.isprintable()


def test_a_token_that_it_never_kept_is_taken_from_the_kubelet(old_node: OldNode) -> None:
    """Its own copy of such a pod could not start; without the parent's files ours cannot either."""
    old_node.keep(scheduler())
    (candidate,) = old_node.takeover().candidates()
    assert candidate.state == "refused"
    assert candidate.reasons[0].startswith(
        "volume kube-api-access-9xk2l: the old checkpointer has kept nothing of it"
    )
    uid = scheduler()["metadata"]["ownerReferences"][0]["uid"]
    volume = old_node.kubelet_folder / f"pods/{uid}/volumes/kubernetes.io~projected"
    data = volume / "kube-api-access-9xk2l/..2026_01_01_00_00_00.1"
    data.mkdir(parents=True)
    (data / "token").write_text("eyJh.eyJl.c2ln")
    (data.parent / "..data").symlink_to(data.name)
    (data.parent / "token").symlink_to("..data/token")
    old_node.import_all()
    assert old_node.revisions() == {SCHEDULER: [1]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}, "env"),
        ({"securityContext": {"procMount": "Nonsense"}}, "procMount"),
    ],
)
def test_what_the_gate_refuses_is_not_imported(
    old_node: OldNode, change: dict[str, Any], said: str
) -> None:
    """The same gate as for every pod: the kubelet would not take it."""
    old = old_node.keep_api_server()
    old["spec"]["containers"][0].update(change)
    old_node.keep(old)
    (candidate,) = old_node.takeover().candidates()
    assert candidate.state == "refused"
    assert said in candidate.reasons[0]
    assert candidate.new is None


def test_the_nodes_configuration_restricts_it_as_ever(old_node: OldNode) -> None:
    """A namespace that it does not allow buys nothing."""
    old_node.keep_api_server()
    takeover = old_node.takeover(selection=SelectionConfig(namespaces=("edge",)))
    (candidate,) = takeover.candidates()
    assert candidate.reasons == ("this node's configuration does not allow namespace kube-system",)


def test_missing_files_are_named(old_node: OldNode) -> None:
    """The old manifest was written before its files: it may never have had them."""
    old_node.keep(api_server(old_node.root))
    (candidate,) = old_node.takeover().candidates()
    assert candidate.state == "refused"
    assert candidate.reasons[0].endswith("the files of volume secrets, is not there")


def test_of_two_checkpoints_of_a_workload_the_one_that_serves_counts(old_node: OldNode) -> None:
    """The old one kept them by pod: a rollout left the one before."""
    old_node.keep_api_server(name="kube-apiserver-aaaaa", active=True)
    old_node.keep_api_server(name="kube-apiserver-zzzzz")
    found = {c.old.name: c.state for c in old_node.takeover().candidates()}
    assert found == {"kube-apiserver-aaaaa": "to import", "kube-apiserver-zzzzz": "superseded"}


def test_only_its_own_is_read(old_node: OldNode) -> None:
    """Not our copies, nor other manifests, hidden files, folders, links or damaged ones."""
    ours = api_server(old_node.root)
    ours["metadata"]["labels"]["checkpointer.alpha.coreos.com/workload"] = "0123456789abcdef"
    other = api_server(old_node.root)
    other["metadata"]["annotations"][MARK] = "kube-system/DaemonSet/kube-apiserver"
    folder = old_node.places.inactive
    (folder / "ours.json").write_text(json.dumps(ours))
    (folder / "other.json").write_text(json.dumps(other))
    (folder / "static.yaml").write_text("kind: Pod")
    (folder / "broken.json").write_text('{"kind":"Pod","metadata":{"name":1}}')
    (folder / ".4711").write_text(json.dumps(api_server(old_node.root)))
    (folder / "folder.json").mkdir()
    (old_node.root / "real.json").write_text(json.dumps(api_server(old_node.root)))
    (folder / "link.json").symlink_to(old_node.root / "real.json")
    assert read_old(old_node.places, SystemCalls()) == ()
    assert pod_in(b"\xff") is None
    assert pod_in(json.dumps(api_server(old_node.root)).encode()) is not None


def test_folders_that_others_may_write_to_are_not_trusted(old_node: OldNode) -> None:
    """Who can put a file there would have a static pod of it."""
    old_node.keep_api_server()
    old_node.places.inactive.chmod(0o777)
    with pytest.raises(UnsafePathError, match="writable by others"):
        old_node.takeover().candidates()


def test_files_are_readable_for_the_pods_group(old_node: OldNode) -> None:
    """With an fsGroup the kubelet lets the group read; the old checkpointer let only the owner."""
    old_node.keep_api_server(securityContext={"fsGroup": 1000})
    remnant = old_node.places.secrets / "kube-system/kube-apiserver-x7k2p/kube-apiserver/.12345"
    remnant.write_text("half")
    old_node.import_all()
    folder = old_node.store.material_root(API_SERVER, 1) / "secrets"
    assert (folder / "ca.crt").stat().st_mode & 0o777 == 0o640
    assert not (folder / ".12345").exists()


def test_an_active_old_copy_keeps_ours_from_starting(old_node: OldNode) -> None:
    """Both on one port would be an outage of its own; when it is gone, ours may start."""
    old = old_node.keep_api_server(active=True)
    old_node.import_all()
    stored = old_node.store.read()
    assert isinstance(stored, Known)
    (checkpoint,) = stored.value.checkpoints
    runtime = FakeRuntime()
    runtime.run(old, is_copy=True)
    seen = runtime.observe()
    assert isinstance(seen, Known)
    assert occupancy_of(checkpoint, seen.value).is_running
    foreign = {**old, "metadata": {**old["metadata"], "annotations": {}}}
    strange = FakeRuntime()
    strange.run(foreign, is_copy=True)
    seen = strange.observe()
    assert isinstance(seen, Known)
    assert not occupancy_of(checkpoint, seen.value).is_running


def test_cleaning_up_leaves_nothing_of_it(old_node: OldNode) -> None:
    """Its files, and the folders when they are empty; the parent runs, the old copy has ended."""
    old = old_node.keep_api_server(active=True)
    old_node.keep_itself()
    old_node.import_all()
    runtime = FakeRuntime()
    copy = runtime.run(old, is_copy=True)
    runtime.run(old, is_copy=False)
    takeover = old_node.takeover()
    cleaned = takeover.clean_up(takeover.candidates(), runtime)
    assert [(c.old.is_itself, c.is_gone) for c in cleaned] == [(True, True), (False, True)]
    assert runtime.stopped == [(copy, 0)]
    assert old_node.files() == set()
    for folder in (old_node.places.inactive, old_node.places.secrets, old_node.places.config_maps):
        assert not folder.exists()
    assert old_node.revisions() == {API_SERVER: [1]}
    again = old_node.takeover()
    assert again.clean_up(again.candidates(), runtime) == ()


def test_an_active_copy_stays_until_its_parent_is_back(old_node: OldNode) -> None:
    """With all that it mounts: it does its parent's work."""
    old = old_node.keep_api_server(active=True)
    old_node.import_all()
    before = old_node.files()
    runtime = FakeRuntime()
    runtime.run(old, is_copy=True)
    takeover = old_node.takeover()
    assert reasons(takeover.clean_up(takeover.candidates(), runtime)) == {"kube-apiserver": BUSY}
    assert old_node.files() == before
    assert runtime.stopped == []
    parent = runtime.run(old, is_copy=False)
    runtime.containers = [c for c in runtime.containers if c.id != parent]
    told = reasons(takeover.clean_up(takeover.candidates(), runtime))
    assert told == {"kube-apiserver": BUSY}, "the kubelet may need the API for the container"
    assert runtime.stopped == []


@pytest.mark.parametrize("runtime", [None, FakeRuntime(is_silent=True)])
def test_without_the_runtimes_word_an_active_copy_stays(
    old_node: OldNode, runtime: FakeRuntime | None
) -> None:
    """It cannot be told whether its parent is back."""
    old_node.keep_api_server(active=True)
    old_node.import_all()
    before = old_node.files()
    takeover = old_node.takeover()
    (cleaned,) = takeover.clean_up(takeover.candidates(), runtime)
    assert not cleaned.is_gone
    assert "its copy is active" in cleaned.reason
    assert old_node.files() == before


def test_files_stay_while_a_copy_still_ends(old_node: OldNode) -> None:
    """It has them mounted; the next call takes them."""
    old = old_node.keep_api_server(active=True)
    old_node.import_all()
    runtime = FakeRuntime(is_stubborn=True)
    runtime.run(old, is_copy=True)
    runtime.run(old, is_copy=False)
    takeover = old_node.takeover()
    (cleaned,) = takeover.clean_up(takeover.candidates(), runtime)
    assert cleaned.reason == "its copy has been told to end and still does: run this again"
    assert list(old_node.places.active.iterdir()) == []
    assert len(old_node.files()) == 5
    takeover = old_node.takeover()
    (cleaned,) = takeover.clean_up(takeover.candidates(), FakeRuntime())
    assert cleaned.is_gone
    assert old_node.files() == set()


def test_what_was_not_imported_is_not_cleaned_up(old_node: OldNode) -> None:
    """Refused, or not yet: it is all that there is of the workload."""
    old_node.keep_api_server()
    old_node.keep(scheduler())
    before = old_node.files()
    takeover = old_node.takeover()
    cleaned = takeover.clean_up(takeover.candidates(), None)
    assert set(reasons(cleaned).values()) == {"it has not been imported"}
    assert old_node.files() == before


def test_a_successor_that_does_not_verify_is_none(old_node: OldNode) -> None:
    """What the old checkpointer has is then the better one."""
    old_node.keep_api_server()
    old_node.import_all()
    before = old_node.files()
    takeover = old_node.takeover()
    candidates = takeover.candidates()
    (old_node.store.material_root(API_SERVER, 1) / "secrets/..data/ca.crt").write_text("bad")
    (cleaned,) = takeover.clean_up(candidates, None)
    assert not cleaned.is_gone
    assert "revision 1 of ours fails" in cleaned.reason
    assert old_node.files() == before


def test_nothing_is_cleaned_up_under_a_running_checkpointer(old_node: OldNode) -> None:
    """It would write it anew; its own copy goes, so that it ends."""
    old_node.keep_api_server()
    old_node.keep_itself()
    old_node.import_all()
    takeover = old_node.takeover()
    with old_node.running():
        assert is_running(old_node.places.lock)
        cleaned = takeover.clean_up(takeover.candidates(), FakeRuntime())
    assert reasons(cleaned) == {
        "pod-checkpointer": "",
        "kube-apiserver": (
            "the old checkpointer still runs and would write it anew: delete its DaemonSet first"
        ),
    }
    assert not is_running(old_node.places.lock)
    assert not is_running(old_node.root / "none")


def test_foreign_files_stay(old_node: OldNode) -> None:
    """Other manifests, other folders, what somebody put beside its own."""
    old_node.keep_api_server()
    strangers = [
        old_node.places.active / "etcd.yaml",
        old_node.places.inactive / "notes.txt",
        old_node.places.secrets / "README",
        old_node.places.secrets / "kube-system/kube-apiserver-x7k2p/mine/file",
        old_node.places.config_maps / "edge/tunnel/config/file",
    ]
    for path in strangers:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text("kept")
    old_node.import_all()
    takeover = old_node.takeover()
    (cleaned,) = takeover.clean_up(takeover.candidates(), None)
    assert cleaned.is_gone
    assert old_node.files() == {str(path.relative_to(old_node.root)) for path in strangers}


def test_a_manifest_that_changed_hands_is_left_alone(old_node: OldNode) -> None:
    """Looked at again at the moment of removal."""
    old_node.keep_api_server()
    old_node.import_all()
    takeover = old_node.takeover()
    candidates = takeover.candidates()
    path = old_node.places.inactive / "kube-system-kube-apiserver-x7k2p.json"
    path.write_text("somebody else's")
    with pytest.raises(StoreError, match="does not carry the old checkpointer's mark any more"):
        takeover.clean_up(candidates, None)
    assert path.read_text() == "somebody else's"


class CrashError(BaseException):
    """The process is gone: nothing of it may clean up."""


class DyingCalls(SystemCalls):
    """Real calls that change the disk, of which only so many are done."""

    def __init__(self, left: int) -> None:
        self.left = left

    def _count(self) -> None:
        if self.left == 0:
            raise CrashError
        self.left -= 1

    def unlink(self, path: str) -> None:
        self._count()
        super().unlink(path)

    def rename(self, source: str, target: str) -> None:
        self._count()
        super().rename(source, target)

    def rmdir(self, path: str) -> None:
        self._count()
        super().rmdir(path)


def test_cleaning_up_can_die_anywhere_and_be_done_again(old_node: OldNode) -> None:
    """After every call that changes the disk; the second time nothing is left."""
    runtime = FakeRuntime()
    died = 0
    while True:
        old = old_node.keep_api_server(active=True)
        old_node.keep_itself()
        old_node.import_all()
        runtime.run(old, is_copy=False)
        disk = Disk(DyingCalls(died))
        try:
            takeover = old_node.takeover(disk)
            takeover.clean_up(takeover.candidates(), runtime)
            break
        except CrashError:
            died += 1
        takeover = old_node.takeover()
        takeover.clean_up(takeover.candidates(), runtime)
        assert old_node.files() == set()
        assert old_node.revisions() == {API_SERVER: [1]}
    assert died > 10


def test_an_import_that_died_is_finished_by_the_next(old_node: OldNode) -> None:
    """The revision was stored and the process ended before the record was written."""
    old = old_node.keep_api_server()
    takeover = old_node.takeover()
    (candidate,) = takeover.candidates()
    assert candidate.new is not None
    old_node.store.add(candidate.new)
    takeover = old_node.takeover()
    (candidate,) = takeover.candidates()
    assert candidate.state == "imported"
    takeover.finish_import(candidate)
    stored = old_node.store.read()
    assert isinstance(stored, Known)
    uid = old["metadata"]["ownerReferences"][0]["uid"]
    assert stored.value.checkpoints[0].record.parents == (uid,)
