"""Rendering: stable bytes, names that never clash, and a mark that only we can make."""

from __future__ import annotations

import json
import re
import uuid

import pytest

from checkpointer.core.workload import Workload
from checkpointer.manifest.formats import is_subdomain
from checkpointer.manifest.render import (
    RenderedManifest,
    canonical,
    content_digest,
    file_name,
    mark_of,
    pod_name,
    render,
)
from tests.unit.manifest.builders import judge, make_pod

WEB = Workload("kube-system", "DaemonSet", "web")


def rendered(
    workload: Workload = WEB,
    node: str = "edge-07",
    digest: str = "abc",
    revision: int = 1,
    issue: int = 0,
) -> RenderedManifest:
    manifest = judge(make_pod(metadata={"labels": {"app": "web"}})).manifest
    assert manifest is not None
    return render(manifest, workload, node, digest, revision, issue)


def test_canonical_form() -> None:
    """Keys are sorted, nothing is padded, text is UTF-8, a newline ends it."""
    assert canonical({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}\n'.encode()


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    """What UTF-8 cannot hold does not stop a checkpoint; Go reads it so as well."""
    assert canonical("a\ud800b") == '"a\ufffdb"\n'.encode()


def test_mark_is_read_back() -> None:
    """Our own file tells workload, revision, issue and UID."""
    found = rendered(revision=12, issue=3)
    mark = mark_of(found.content)
    assert mark is not None
    assert mark.workload == WEB
    assert (mark.revision, mark.issue, mark.uid) == (12, 3, found.uid)
    assert (mark.node, mark.digest) == ("edge-07", "abc")


def test_copy_keeps_labels_and_gets_the_mark() -> None:
    """The parent's labels stay beside ours; the selection annotation is not there."""
    metadata = json.loads(rendered().content)["metadata"]
    assert metadata["labels"] == {
        "app": "web",
        "checkpointer.alpha.coreos.com/workload": WEB.digest,
    }
    assert metadata["annotations"] == {
        "checkpointer.alpha.coreos.com/checkpoint-of": "kube-system/DaemonSet/web",
        "checkpointer.alpha.coreos.com/digest": "abc",
        "checkpointer.alpha.coreos.com/issue": "0",
        "checkpointer.alpha.coreos.com/node": "edge-07",
        "checkpointer.alpha.coreos.com/revision": "1",
    }


def test_name_and_uid_belong_together() -> None:
    """The name ends in the UID's beginning, so that a re-issue never waits for the one before."""
    found = rendered()
    assert uuid.UUID(found.uid).version == 5
    assert found.pod_name == f"web-checkpoint-{found.uid[:8]}"
    assert json.loads(found.content)["metadata"]["name"] == found.pod_name


def test_uid_changes_with_the_content_and_the_issue_only() -> None:
    """A new revision number of equal content is no new pod to the kubelet."""
    same = rendered().uid
    assert rendered(revision=9).uid == same
    others = {
        rendered(issue=1).uid,
        rendered(digest="abd").uid,
        rendered(node="edge-08").uid,
        rendered(workload=Workload("kube-system", "Deployment", "web")).uid,
        rendered(workload=Workload("other", "DaemonSet", "web")).uid,
    }
    assert len(others) == 5
    assert same not in others


def test_content_digest_sees_manifest_and_material() -> None:
    """Either of the two makes another content."""
    digests = {
        content_digest({"a": 1}, "m"),
        content_digest({"a": 2}, "m"),
        content_digest({"a": 1}, "n"),
    }
    assert len(digests) == 3
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests)


@pytest.mark.parametrize(
    ("name", "node", "namespace", "expected"),
    [
        ("web", "edge-07", "default", "web-checkpoint-12345678"),
        ("a.b", "edge-07", "default", "a.b-checkpoint-12345678"),
        ("Web_1", "edge-07", "default", "web-1-checkpoint-12345678"),
        ("--", "edge-07", "default", "p-checkpoint-12345678"),
        ("a-.b", "edge-07", "default", "a.b-checkpoint-12345678"),
    ],
)
def test_pod_name(name: str, node: str, namespace: str, expected: str) -> None:
    """The name begins as the workload's, in letters that a pod's name may have."""
    assert pod_name(Workload(namespace, "X", name), node, "12345678") == expected


@pytest.mark.parametrize("name", ["a" * 253, "a." * 126 + "a", "a-" * 126 + "a"])
@pytest.mark.parametrize("node", ["n", "n" * 63, "n" * 120])
@pytest.mark.parametrize("namespace", ["d", "d" * 63])
def test_pod_name_fits(name: str, node: str, namespace: str) -> None:
    """With node, namespace and UID it is a valid name and a valid folder for logs."""
    full = pod_name(Workload(namespace, "X", name), node, "12345678") + f"-{node}"
    assert is_subdomain(full)
    assert len(f"{namespace}_{full}_{uuid.UUID(int=0)}") <= 255


def test_file_name_tells_workloads_apart() -> None:
    """Names that read alike are different files; every issue has the same."""
    first = file_name(Workload("a-b", "Pod", "c"))
    second = file_name(Workload("a", "Pod", "b-c"))
    assert first != second
    assert first.startswith("pod-checkpointer-a-b-pod-c-")
    assert rendered().file_name == rendered(issue=5, revision=2, digest="x").file_name


@pytest.mark.parametrize("name", ["web", "../../etc/passwd", "x" * 300, "\0", "Ä"])
def test_file_name_is_a_plain_one(name: str) -> None:
    """No name of a workload leads out of the folder, or is too long for it."""
    found = file_name(Workload("kube-system", "DaemonSet", name))
    assert re.fullmatch(r"pod-checkpointer-[-.a-z0-9]*-[0-9a-f]{16}\.json", found)
    assert len(found) <= 200


def _without(field: str, key: str) -> bytes:
    manifest = json.loads(rendered().content)
    del manifest["metadata"][field][key]
    return canonical(manifest)


def _changed(field: str, key: str, value: object) -> bytes:
    manifest = json.loads(rendered().content)
    manifest["metadata"][field][key] = value
    return canonical(manifest)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"3",
        b"\xff\xfe{}",
        b"apiVersion: v1\nkind: Pod\n",
        b"[" * 100_000,
        b'{"metadata":{"labels":[],"annotations":"x","uid":3}}',
        b"1" * 5000,
        b" " * (11 << 20),
        _without("labels", "checkpointer.alpha.coreos.com/workload"),
        *[
            _without("annotations", f"checkpointer.alpha.coreos.com/{key}")
            for key in ("checkpoint-of", "revision", "issue", "node", "digest")
        ],
        _changed("labels", "checkpointer.alpha.coreos.com/workload", "0" * 16),
        _changed("annotations", "checkpointer.alpha.coreos.com/checkpoint-of", "a/b/c"),
        _changed("annotations", "checkpointer.alpha.coreos.com/checkpoint-of", "\ud800/b/c"),
        _changed("annotations", "checkpointer.alpha.coreos.com/revision", "-1"),
        _changed("annotations", "checkpointer.alpha.coreos.com/revision", "1" * 5000),
        _changed("annotations", "checkpointer.alpha.coreos.com/issue", "1"),
        _changed("annotations", "checkpointer.alpha.coreos.com/issue", 0),
        _changed("annotations", "checkpointer.alpha.coreos.com/node", "edge-08"),
    ],
    ids=range(25),
)
def test_what_is_not_wholly_ours_has_no_mark(content: bytes) -> None:
    """A file without the complete, consistent mark is somebody else's."""
    assert mark_of(content) is None
