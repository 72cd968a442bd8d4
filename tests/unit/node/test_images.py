"""What a node knows of a copy's images, by the runtime and by the records of kubelets from 1.35."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.manifest.sanitize import Options, Sources, sanitize
from checkpointer.manifest.verdict import Outcome
from checkpointer.node.cri import ImageInfo
from checkpointer.node.images import (
    PullPolicy,
    images_of,
    look_up,
    pinned_images,
    repository_of,
)
from tests.unit.manifest.builders import make_container, make_pod

WEB = "registry.example:5000/team/web:1"
WEB_NAME = "registry.example:5000/team/web"
ID = "sha256:" + "a" * 64
DIGEST = "sha256:" + "d" * 64
NODE_WIDE = {"nodePodsAccessible": True}
BY_SECRET = {
    "kubernetesSecrets": [
        {
            "uid": "5d0c4c77-9a34-4b0e-9b51-1c4f7f0c8a11",
            "namespace": "kube-system",
            "name": "registry",
            "credentialHash": "0" * 64,
        }
    ]
}
BY_SERVICE_ACCOUNT = {
    "kubernetesServiceAccounts": [
        {
            "uid": "7e1e2f52-31a5-49a5-a9a0-6a5d0ad2f7c3",
            "namespace": "kube-system",
            "name": "web",
        }
    ]
}


class Runtime:
    """A runtime with these images, by every name it answers to."""

    def __init__(self, images: dict[str, str], broken: str = "") -> None:
        self.images, self.broken = images, broken
        self.asked: list[str] = []

    def has_image(self, image: str) -> Fact[ImageInfo | None]:
        self.asked.append(image)
        if self.broken:
            return Unknown(self.broken)
        found = self.images.get(image)
        return Known(None if found is None else ImageInfo(found, (image,), (), 1, pinned=False))


@pytest.fixture
def kubelet(tmp_path: Path) -> Path:
    """The folder of a kubelet that keeps records and has none yet."""
    for name in ("pulled", "pulling"):
        (tmp_path / "image_manager" / name).mkdir(parents=True, mode=0o700)
    return tmp_path


def file_of(kubelet: Path, folder: str, key: str) -> Path:
    name = f"sha256-{hashlib.sha256(key.encode()).hexdigest()}"
    return kubelet / "image_manager" / folder / name


def record(kubelet: Path, mapping: dict[str, Any] | None, identity: str = ID, **other: Any) -> None:
    """Write a record as the kubelet does: one line of JSON, 0600."""
    value = {
        "kind": "ImagePulledRecord",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "lastUpdatedTime": "2026-03-01T09:15:00Z",
        "imageRef": identity,
        **({} if mapping is None else {"credentialMapping": mapping}),
        **other,
    }
    path = file_of(kubelet, "pulled", identity)
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")
    path.chmod(0o600)


def intend(kubelet: Path, image: str) -> None:
    """Write what the kubelet leaves behind when it dies while it pulls."""
    value = {
        "kind": "ImagePullIntent",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "image": image,
    }
    file_of(kubelet, "pulling", image).write_text(json.dumps(value) + "\n")


def pod_of(image: str = WEB) -> dict[str, Any]:
    return make_pod(make_container(image=image))


def restricted(kubelet: Path, image: str = WEB, identity: str = ID) -> Fact[frozenset[str]]:
    return look_up(pod_of(image), Runtime({image: identity}), kubelet, pin=False).restricted


@pytest.mark.parametrize(
    ("mapping", "is_restricted"),
    [
        ({WEB_NAME: NODE_WIDE}, False),
        ({WEB_NAME: BY_SECRET}, True),
        ({WEB_NAME: BY_SERVICE_ACCOUNT}, True),
        ({WEB_NAME: {}}, True),
        ({"other.example/web": NODE_WIDE}, True),
        ({"other.example/web": BY_SECRET, WEB_NAME: NODE_WIDE}, False),
        ({}, True),
        (None, True),
    ],
    ids=[
        "every pod may",
        "a secret's",
        "a service account's",
        "nobody's",
        "under another name only",
        "another name's secret",
        "no name",
        "the pull was interrupted",
    ],
)
def test_an_image_is_free_only_if_its_record_says_so_for_its_name(
    kubelet: Path, mapping: dict[str, Any] | None, is_restricted: bool
) -> None:
    """The kubelet pulls again unless the record names the image as every pod's."""
    record(kubelet, mapping)
    assert restricted(kubelet) == Known(frozenset({WEB} if is_restricted else ()))


def test_an_image_without_a_record_was_preloaded_and_is_free(kubelet: Path) -> None:
    """What the kubelet did not pull, it does not doubt."""
    record(kubelet, {WEB_NAME: BY_SECRET}, identity="sha256:" + "b" * 64)
    assert restricted(kubelet) == Known(frozenset())


def test_a_record_belongs_to_the_image_that_is_there_now(kubelet: Path) -> None:
    """The tag moved: the older image's record says nothing of the newer image."""
    old, new = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    record(kubelet, {WEB_NAME: BY_SECRET}, identity=old)
    record(kubelet, {WEB_NAME: NODE_WIDE}, identity=new)
    assert restricted(kubelet, identity=new) == Known(frozenset())
    assert restricted(kubelet, identity=old) == Known(frozenset({WEB}))


def test_names_in_records_are_as_the_pod_has_them(kubelet: Path) -> None:
    """`nginx:1` is recorded as `nginx`, not under what the short name stands for."""
    record(kubelet, {"nginx": NODE_WIDE})
    assert restricted(kubelet, "nginx:1") == Known(frozenset())
    record(kubelet, {"docker.io/library/nginx": NODE_WIDE})
    assert restricted(kubelet, "nginx:1") == Known(frozenset({"nginx:1"}))


def test_records_of_the_alpha_kubelets_count_too(kubelet: Path) -> None:
    """1.33 and 1.34 wrote v1alpha1; later kubelets read it."""
    record(kubelet, {WEB_NAME: NODE_WIDE}, apiVersion="kubelet.config.k8s.io/v1alpha1")
    assert restricted(kubelet) == Known(frozenset())


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"kind": "ImagePulledRecord"}', '{"kind":"Pod","apiVersion":"v1"}'],
)
def test_a_record_that_the_kubelet_cannot_read_makes_it_pull(kubelet: Path, content: str) -> None:
    """MustAttemptImagePull answers yes to an error."""
    file_of(kubelet, "pulled", ID).write_text(content)
    assert restricted(kubelet) == Known(frozenset({WEB}))


@pytest.mark.parametrize(
    "mapping", [[], {WEB_NAME: None}, {WEB_NAME: []}, {WEB_NAME: {"nodePodsAccessible": "true"}}]
)
def test_a_record_of_the_wrong_form_makes_it_pull(kubelet: Path, mapping: Any) -> None:
    """Nothing but a plain true opens an image to all."""
    record(kubelet, None, credentialMapping=mapping)
    assert restricted(kubelet) == Known(frozenset({WEB}))


def test_a_record_of_another_image_in_this_ones_file_is_none(kubelet: Path) -> None:
    """As the kubelet sees it: the file's name is a hash, its content decides."""
    record(kubelet, {WEB_NAME: BY_SECRET})
    file_of(kubelet, "pulled", ID).rename(file_of(kubelet, "pulled", "sha256:other"))
    assert restricted(kubelet, identity="sha256:other") == Known(frozenset())


def test_an_interrupted_pull_makes_the_kubelet_doubt_the_image(kubelet: Path) -> None:
    """At its next start it makes a record without credentials from the intent."""
    intend(kubelet, WEB)
    assert restricted(kubelet) == Known(frozenset({WEB}))
    assert restricted(kubelet, "other.example/web:1") == Known(frozenset())


def test_a_kubelet_that_keeps_no_records_doubts_nothing(tmp_path: Path) -> None:
    """Before 1.35, or with the gate off; whether the runtime answers does not matter then."""
    facts = look_up(pod_of(), Runtime({}, "no answer"), tmp_path, pin=False)
    assert facts.restricted == Known(frozenset())
    assert look_up(pod_of(), None, tmp_path, pin=False).restricted == Known(frozenset())


def test_without_the_runtime_the_records_cannot_be_told_apart(kubelet: Path) -> None:
    """They are found by the runtime's id of the image."""
    facts = look_up(pod_of(), Runtime({}, "no answer"), kubelet, pin=False)
    assert facts.restricted == Unknown("no answer")
    assert facts.absent == frozenset()
    assert look_up(pod_of(), None, kubelet, pin=False).restricted == Unknown(
        "no container runtime was found"
    )


def test_records_that_cannot_be_read_are_unknown(kubelet: Path) -> None:
    """An error of the disk is no record and no absence of one."""
    path = file_of(kubelet, "pulled", ID)
    path.mkdir()
    assert restricted(kubelet) == Unknown(f"cannot read {path}: Is a directory")


def test_absent_images_are_those_that_the_runtime_says_it_has_not(kubelet: Path) -> None:
    """Init containers and image volumes count; what has no image does not."""
    pod = make_pod(
        make_container(image=WEB),
        make_container("bare", image=""),
        initContainers=[make_container("init", image="gone.example/init:1")],
        volumes=[
            {"name": "data", "image": {"reference": "gone.example/data:1"}},
            {"name": "any", "emptyDir": {}},
        ],
    )
    runtime = Runtime({WEB: ID})
    facts = look_up(pod, runtime, kubelet, pin=False)
    assert facts.absent == {"gone.example/init:1", "gone.example/data:1"}
    assert facts.restricted == Known(frozenset())
    assert len(runtime.asked) == len(set(runtime.asked)) == 3


def test_repositories() -> None:
    """Tag and digest go, a port stays, nothing is added."""
    assert {
        image: repository_of(image)
        for image in (
            "nginx",
            "nginx:1",
            f"nginx:1@{DIGEST}",
            "localhost:5000/web",
            WEB,
            f"{WEB_NAME}@{DIGEST}",
        )
    } == {
        "nginx": "nginx",
        "nginx:1": "nginx",
        f"nginx:1@{DIGEST}": "nginx",
        "localhost:5000/web": "localhost:5000/web",
        WEB: WEB_NAME,
        f"{WEB_NAME}@{DIGEST}": WEB_NAME,
    }


@pytest.mark.parametrize(
    ("image", "image_id", "pinned"),
    [
        (WEB, f"{WEB_NAME}@{DIGEST}", f"{WEB_NAME}@{DIGEST}"),
        (WEB, f"docker-pullable://{WEB_NAME}@{DIGEST}", f"{WEB_NAME}@{DIGEST}"),
        ("nginx:1", f"docker.io/library/nginx@{DIGEST}", f"nginx@{DIGEST}"),
        ("team/web", f"docker.io/team/web@{DIGEST}", f"team/web@{DIGEST}"),
        (WEB, f"mirror.example/web@{DIGEST}", f"mirror.example/web@{DIGEST}"),
        (WEB, ID, None),
        (WEB, "", None),
        (WEB, None, None),
        (WEB, f"{WEB_NAME}@md5:1", None),
        ("", f"{WEB_NAME}@{DIGEST}", None),
    ],
)
def test_pinning_takes_the_digest_that_ran_under_the_pods_own_name(
    image: str, image_id: str | None, pinned: str | None
) -> None:
    """A copy under another name would miss the kubelet's record."""
    pod = pod_of(image)
    pod["status"] = {"containerStatuses": [{"name": "main", "imageID": image_id}]}
    assert pinned_images(pod) == ({} if pinned is None else {"main": pinned})


def test_pinning_covers_init_containers_and_survives_a_bare_status() -> None:
    """A status may be missing, or speak of containers that the spec does not have."""
    pod = make_pod(
        make_container(image=WEB), initContainers=[make_container("init", image="init.example/i")]
    )
    assert pinned_images(pod) == {}
    pod["status"] = {
        "initContainerStatuses": [{"name": "init", "imageID": f"init.example/i@{DIGEST}"}],
        "containerStatuses": [{"name": "other", "imageID": f"{WEB_NAME}@{DIGEST}"}, {}],
    }
    assert pinned_images(pod) == {"init": f"init.example/i@{DIGEST}"}


@pytest.mark.parametrize(
    ("runtime", "is_pinned"),
    [
        (Runtime({WEB: ID, f"{WEB_NAME}@{DIGEST}": ID}), True),
        (Runtime({WEB: ID}), False),
        (Runtime({}, "no answer"), True),
        (None, True),
    ],
    ids=["there", "not there by digest", "not answering", "no runtime"],
)
def test_a_digest_that_the_runtime_does_not_have_is_not_pinned(
    kubelet: Path, runtime: Runtime | None, is_pinned: bool
) -> None:
    """An image that was loaded from a file may be there by its tag only."""
    pod = pod_of()
    pod["status"] = {"containerStatuses": [{"name": "main", "imageID": f"{WEB_NAME}@{DIGEST}"}]}
    facts = look_up(pod, runtime, kubelet, pin=True)
    assert facts.pinned == ({"main": f"{WEB_NAME}@{DIGEST}"} if is_pinned else {})
    assert facts.absent == frozenset()
    expected = f"{WEB_NAME}@{DIGEST}" if is_pinned else WEB
    assert images_of(pod, facts.pinned) == {expected}


def test_what_the_copy_runs_is_what_is_warned_of(kubelet: Path) -> None:
    """A pinned image is looked up, and warned of, by the name that the copy has for it."""
    record(kubelet, {WEB_NAME: BY_SECRET})
    pod = pod_of()
    pod["status"] = {"containerStatuses": [{"name": "main", "imageID": f"{WEB_NAME}@{DIGEST}"}]}
    runtime = Runtime({WEB: ID, f"{WEB_NAME}@{DIGEST}": ID})
    facts = look_up(pod, runtime, kubelet, pin=True)
    options = Options(
        node_name="edge-07",
        pinned_images=facts.pinned,
        absent_images=facts.absent,
        secret_images=facts.restricted,
    )
    verdict = sanitize(pod, "/material", Sources(), options)
    assert verdict.outcome is Outcome.WITH_WARNINGS
    assert [warning.path for warning in verdict.warnings] == ["spec.containers[0].image"]
    assert verdict.obstacles == verdict.warnings


def test_an_image_that_is_gone_keeps_the_copy_from_starting(kubelet: Path) -> None:
    """Other warnings, such as one of restarts that differ, do not."""
    pod = pod_of()
    pod["spec"]["restartPolicy"] = "OnFailure"
    facts = look_up(pod, Runtime({}), kubelet, pin=False)
    options = Options(
        node_name="edge-07", absent_images=facts.absent, secret_images=facts.restricted
    )
    verdict = sanitize(pod, "/material", Sources(), options)
    assert {one.path for one in verdict.warnings} > {"spec.containers[0].image"}
    assert [one.path for one in verdict.obstacles] == ["spec.containers[0].image"]


POLICIES = {
    # policy, allowlist -> (preloaded image, a secret's image, every pod's image) is restricted
    ("NeverVerifyPreloadedImages", ()): (False, True, False),
    ("NeverVerify", ()): (False, False, False),
    ("AlwaysVerify", ()): (True, True, False),
    ("NeverVerifyAllowlistedImages", ()): (True, True, False),
    ("NeverVerifyAllowlistedImages", (WEB_NAME,)): (False, False, False),
    ("NeverVerifyAllowlistedImages", ("registry.example:5000/team/*",)): (False, False, False),
    ("NeverVerifyAllowlistedImages", ("registry.example:5000/te",)): (True, True, False),
    ("OfALaterKubelet", ()): (True, True, False),
}


@pytest.mark.parametrize(("policy", "expected"), POLICIES.items())
def test_the_kubelets_policy_decides_which_images_are_verified(
    kubelet: Path, policy: tuple[str, tuple[str, ...]], expected: tuple[bool, bool, bool]
) -> None:
    """The configuration's policy over the records, as image_pull_policies.go has it."""

    def is_restricted() -> bool:
        runtime = Runtime({WEB: ID})
        found = look_up(pod_of(), runtime, kubelet, pin=False, policy=PullPolicy(*policy))
        assert isinstance(found.restricted, Known)
        return found.restricted.value == {WEB}

    preloaded = is_restricted()
    record(kubelet, {WEB_NAME: BY_SECRET})
    by_secret = is_restricted()
    record(kubelet, {WEB_NAME: NODE_WIDE})
    assert (preloaded, by_secret, is_restricted()) == expected


def test_the_allowlist_has_full_names() -> None:
    """A pod's `nginx:1` is `docker.io/library/nginx` there."""
    policy = PullPolicy("NeverVerifyAllowlistedImages", ("docker.io/library/nginx",))
    assert not policy.verifies("nginx:1", was_pulled=True)
    assert policy.verifies("docker.io/other/nginx:1", was_pulled=True)
