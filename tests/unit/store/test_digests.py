"""Verifying finds every difference between a revision and its digests, and says what it is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkpointer.core.facts import Known
from checkpointer.store.revisions import Store


@pytest.fixture
def store(root, tmp_path, kit) -> Store:
    store = Store(root)
    kit.render_volume(tmp_path / "nested", {"x": b"1"})
    (tmp_path / "nested/mnt").mkdir()
    (tmp_path / "nested/..data/l").symlink_to("x")
    from checkpointer.store.rendered import read_rendered

    nested = read_rendered(tmp_path / "nested", "kubernetes.io~configmap", "nested")
    store.add(kit.new_revision((*kit.volumes_at(tmp_path / "rendered"), nested)))
    return store


@pytest.fixture
def folder(store, kit) -> Path:
    return store.material_root(kit.workload, 1).parent


def flip(path: Path) -> None:
    """Turn one bit of a file."""
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "manifest.json does not match its digest": lambda f: flip(f / "manifest.json"),
    "provenance.json does not match its digest": lambda f: flip(f / "provenance.json"),
    "digests.json is not JSON": lambda f: flip(f / "digests.json"),
    "manifest.json has mode 0644, expected 0600": lambda f: (f / "manifest.json").chmod(0o644),
    "manifest.json: No such file": lambda f: (f / "manifest.json").unlink(),
    "digests.json: No such file": lambda f: (f / "digests.json").unlink(),
    "extra does not belong there": lambda f: (f / "extra").write_bytes(b""),
    "material is missing or not a folder": lambda f: shutil.rmtree(f / "material"),
    "material/certs is missing": lambda f: shutil.rmtree(f / "material/certs"),
    "material/more does not belong there": lambda f: (f / "material/more").mkdir(),
    "..data/tls.key: content differs": lambda f: flip(f / "material/certs/..data/tls.key"),
    "..data/tls.key: mode is 0644, expected 0600": lambda f: (
        f / "material/certs/..data/tls.key"
    ).chmod(0o644),
    "..data/tls.key: is missing": lambda f: (f / "material/certs/..data/tls.key").unlink(),
    "..data/more: does not belong there": lambda f: (f / "material/certs/..data/more").write_bytes(
        b""
    ),
    "certs/tls.key is missing": lambda f: (f / "material/certs/tls.key").unlink(),
    "certs/more does not belong there": lambda f: (f / "material/certs/more").symlink_to(
        "..data/more"
    ),
    "certs/..evil does not belong there": lambda f: (f / "material/certs/..evil").mkdir(),
    "certs/more: does not belong there": lambda f: (f / "material/certs/more").mkdir(),
    "nested/mnt: is missing": lambda f: (f / "material/nested/mnt").rmdir(),
    "material/certs: mode is 0700, expected 0777": lambda f: (f / "material/certs").chmod(0o700),
    "certs/..data: mode is 0700, expected 0755": lambda f: (f / "material/certs/..data").chmod(
        0o700
    ),
    "..data/l: target differs": lambda f: (
        (f / "material/nested/..data/l").unlink(),
        (f / "material/nested/..data/l").symlink_to("y"),
    ),
    "the link tls.key leads out of the volume": lambda f: (
        (f / "material/certs/tls.key").unlink(),
        (f / "material/certs/tls.key").symlink_to("/etc/shadow"),
    ),
    "token is not a service-account token": lambda f: (f / "material/api/..data/token").write_bytes(
        b""
    ),
    "has no token at token": lambda f: (f / "material/api/..data/token").unlink(),
}


@pytest.mark.parametrize("said", DAMAGES)
def test_damage_is_found_and_named(store, folder, kit, said):
    """What is wrong is told with its path, and no content."""
    assert store.verify(kit.workload, 1) == ()
    DAMAGES[said](folder)
    problems = store.verify(kit.workload, 1)
    assert any(said in problem for problem in problems), problems
    assert str(folder) in problems[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_other_owner_is_found(store, folder, kit):
    """A file that its reader does not own any more may not be readable."""
    os.chown(folder / "material/certs/..data/tls.key", 0, 77)
    (problem,) = store.verify(kit.workload, 1)
    assert problem.endswith("tls.key: owner is 0:77, expected 0:0")


def test_missing_revision_is_a_problem(store, kit):
    """A revision that is gone does not verify."""
    assert store.verify(kit.workload, 2) != ()


def test_rest_of_an_interrupted_renewal_is_no_problem(store, folder, kit):
    """It means nothing to anybody; the revision serves."""
    copy = folder / "material/api"
    (copy / "..checkpoint-2").mkdir()
    (copy / "..checkpoint-2/token").write_bytes(b"half")
    (copy / "..data_tmp").symlink_to("..checkpoint-2")
    assert store.verify(kit.workload, 1) == ()
    assert store.clean() == ()
    assert sorted(p for p in os.listdir(copy) if p.startswith("..")) == ["..checkpoint-1", "..data"]


def test_renewed_token_verifies_by_its_form(store, folder, kit):
    """Its content is the API server's; no digest could say more."""
    (folder / "material/api/..data/token").write_bytes(kit.jwt(exp=3))
    assert store.verify(kit.workload, 1) == ()


FILES = st.sampled_from(
    [
        "manifest.json",
        "provenance.json",
        "digests.json",
        "material/certs/..data/tls.key",
        "material/api/..data/token",
        "material/nested/..data/x",
        "../../current",
        "../../record.json",
    ]
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(FILES, st.binary(max_size=40) | st.none(), st.data())
def test_any_damage_to_any_file_is_survived(store, folder, kit, name, content, data):
    """Reading answers, and a revision is served only if it verifies."""
    keep = {path: path.read_bytes() for path in folder.parent.parent.rglob("*") if path.is_file()}
    target = Path(os.path.realpath(folder / name))
    old = target.read_bytes() if target.exists() else b"{}"
    if content is None:  # one byte changed
        at = data.draw(st.integers(0, max(len(old) - 1, 0)))
        content = old[:at] + data.draw(st.binary(min_size=1, max_size=2)) + old[at + 1 :]
    try:
        target.write_bytes(content)
        store.invalidate()
        answer = store.read()
        assert isinstance(answer, Known)
        (found,) = answer.value.checkpoints
        assert bool(found.revisions) == (store.verify(kit.workload, 1) == ()) or found.problems
    finally:
        for path, before in keep.items():
            path.write_bytes(before)
        if target not in keep:
            target.unlink(missing_ok=True)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(["format", "files", "volumes", "plugins"])


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(KEYS, JSON)
def test_any_json_in_the_digests_is_survived(store, folder, kit, key, value):
    """A listing of any shape is a problem or fits; nothing is raised, nothing else is read."""
    path = folder / "digests.json"
    before = path.read_bytes()
    listing = json.loads(before)
    listing[key] = value
    if key == "volumes" and isinstance(value, dict):
        listing[key] = {f"../{name}": {"": ["folder", "token"]} for name in value} | value
    try:
        path.write_text(json.dumps(listing))
        if listing != json.loads(before):
            assert store.verify(kit.workload, 1) or key == "plugins"
        store.token_expiry(kit.workload, 1) if not store.verify(kit.workload, 1) else None
    finally:
        path.write_bytes(before)
