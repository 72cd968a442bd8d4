"""`checkpointer explain`: verdicts for people and for programs, from a file or on a node."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkpointer.__main__ import main
from checkpointer.manifest.acceptance import refusals
from checkpointer.simulation.alarms import Alarms
from checkpointer.simulation.api_server import ApiServer
from checkpointer.simulation.connections import Mode
from checkpointer.simulation.cri_server import CriServer
from checkpointer.simulation.programs import Programs
from checkpointer.simulation.runtime import Runtime
from tests.unit.manifest import golden_pods
from tests.unit.manifest.builders import make_container, make_pod

IMAGE = "registry.example/web:1"
SECRET = "hunter2-is-not-for-everybody"
CHECKPOINT = {"checkpointer.alpha.coreos.com/checkpoint": "true"}
INLINE = {"checkpointer.alpha.coreos.com/inline-secrets": "true"}


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Explain = Callable[..., Answer]


@pytest.fixture
def explain(capsys: pytest.CaptureFixture[str], folder: Path) -> Explain:
    """Run the command with a configuration that knows nothing of this machine."""
    config = folder / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "checkpointer.alpha.coreos.com/v1alpha1",
                "kind": "CheckpointerConfiguration",
                "nodeName": "node-1",
                "kubeconfig": str(folder / "kubelet.conf"),
                "kubeletDirectory": str(folder / "kubelet"),
                "storeDirectory": str(folder / "store"),
                "runtimeEndpoint": f"unix://{folder}/cri.sock",
            }
        )
    )

    def run(*arguments: str) -> Answer:
        status = main(["explain", "--config", str(config), *arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(status, captured.out, captured.err)

    return run


@pytest.fixture
def write(folder: Path) -> Callable[[Any], str]:
    """Write an input file: text as it is, anything else as JSON; return its name."""

    def write_it(content: Any) -> str:
        path = folder / "input"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write_it


def selected(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Return a pod of which nothing is to be said: selected, complete, on the host's network."""
    annotations = {**CHECKPOINT, **spec.pop("annotations", {})}
    return make_pod(*containers, metadata={"annotations": annotations}, **spec)


WARNED = selected(make_container(), restartPolicy="OnFailure")
REFUSED = selected(make_container(), runtimeClassName="kata")
REFUSED["spec"]["volumes"] = [{"name": "v", "csi": {"driver": "d.example"}}]
FROM_CONFIG_MAP = [
    {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level"}}}
]
FROM_SECRET = [
    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}
]


# From files


@pytest.mark.parametrize(
    ("pod", "verdict", "status"),
    [
        (selected(), "checkpointable", 0),
        (WARNED, "checkpointable with warnings", 0),
        (REFUSED, "not checkpointable", 3),
    ],
)
def test_the_exit_status_says_whether_all_can_be_checkpointed(
    explain: Explain, write: Any, pod: dict[str, Any], verdict: str, status: int
) -> None:
    """0 for yes, with warnings or without; 3 for no."""
    answer = explain("-f", write(pod), "-o", "json")
    assert (answer.status, answer.err) == (status, "")
    assert [one["verdict"] for one in answer.json] == [verdict]


def test_one_refused_pod_of_many_is_enough(explain: Explain, write: Any) -> None:
    """For use in scripts: `explain -f all.yaml && roll out`."""
    pods = {"kind": "List", "apiVersion": "v1", "items": [selected(), REFUSED, WARNED]}
    answer = explain("-f", write(pods), "-o", "json")
    assert answer.status == 3
    assert len(answer.json) == 3


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(selected()),
        json.dumps(selected(), indent=2) + "\n" + json.dumps(selected()),
        yaml.safe_dump(selected()),
        yaml.safe_dump_all([selected(), selected()]),
        "---\n" + yaml.safe_dump(selected()) + "---\n",
        json.dumps({"kind": "List", "items": [selected()]}),
        json.dumps({"kind": "PodList", "items": [{**selected(), "kind": None}]}).replace(
            '"kind": null, ', ""
        ),
        yaml.safe_dump({"kind": "List", "items": [{"kind": "List", "items": [selected()]}]}),
    ],
    ids=["JSON", "two in JSON", "YAML", "two in YAML", "--- around", "List", "PodList", "nested"],
)
def test_pods_come_in_every_form_that_kubectl_prints(
    explain: Explain, write: Any, content: str
) -> None:
    """One pod, documents one after the other, lists."""
    answer = explain("-f", write(content), "-o", "json")
    assert answer.status == 0
    assert {one["pod"] for one in answer.json} == {"kube-system/web-abcde"}
    assert len(answer.json) == content.count("web-abcde")


def test_the_same_pod_is_the_same_in_yaml_and_json(explain: Explain, write: Any) -> None:
    """The golden pods, as `kubectl get -o yaml` and `-o json` would print them."""
    pods = [golden_pods.load(name)[0] for name in golden_pods.NAMES]
    in_json = explain("-f", write({"kind": "List", "items": pods}), "-o", "json")
    in_yaml = explain("-f", write(yaml.safe_dump_all(pods, sort_keys=False)), "-o", "json")
    assert in_json == in_yaml
    assert len(in_json.json) == len(pods)


def test_booleans_are_those_of_kubectl(explain: Explain, write: Any) -> None:
    """An unquoted `y` is true for kubectl and the kubelet, so it cannot be a variable's value."""
    text = yaml.safe_dump(selected(make_container(env=[{"name": "A", "value": "VALUE"}])))
    quoted = explain("-f", write(text.replace("VALUE", '"y"')), "--manifest")
    assert {"name": "A", "value": "y"} in quoted.json["spec"]["containers"][0]["env"]
    bare = explain("-f", write(text.replace("VALUE", "y")), "-o", "json")
    assert bare.status == 3
    assert bare.json[0]["refusals"][0]["path"] == "spec.containers[0].env[0].value"
    modes = yaml.safe_dump(selected()).replace("hostNetwork: true", "hostNetwork: yes")
    assert explain("-f", write(modes)).status == 0


def test_a_dash_is_standard_input(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kubectl get pod -o yaml | checkpointer explain -f -`."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(WARNED).encode())))
    assert explain("-f", "-").status == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    answer = explain("-f", "-")
    assert (answer.status, answer.err) == (
        1,
        "checkpointer: standard input: holds no pod; expected a Pod or a List of Pods\n",
    )


@pytest.mark.parametrize("status", ['"x"', '{"phase": 5}', '{"conditions": ["x"]}'])
def test_a_status_of_another_form_is_a_refusal(explain: Explain, write: Any, status: str) -> None:
    """It is in no copy, but what excludes a pod is read from it."""
    pod = '{"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "a"}]}'
    answer = explain("-f", write(f'{pod}, "status": {status}}}'))
    assert answer.status == 3
    assert "refused      status" in answer.out


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "holds no pod; expected a Pod or a List of Pods"),
        ("---\n---\n", "holds no pod; expected a Pod or a List of Pods"),
        ('{"kind": "List", "items": []}', "holds no pod; expected a Pod or a List of Pods"),
        ('{"kind": "List"}', "holds no pod; expected a Pod or a List of Pods"),
        ('{"kind": "List", "items": {}}', "expected a Pod or a List of Pods, not List"),
        ('{"kind": "List", "items": [1]}', "expected a Pod or a List of Pods"),
        ('{"kind": "DaemonSet"}', "expected a Pod or a List of Pods, not DaemonSet"),
        ('{"kind": ["Pod"]}', "expected a Pod or a List of Pods"),
        ('{"kind": "a\\u001b[31m"}', "expected a Pod or a List of Pods, not a\\x1b[31m"),
        ("{}", "expected a Pod or a List of Pods"),
        ("hello", "expected a Pod or a List of Pods"),
        ("5", "expected a Pod or a List of Pods"),
        ("{" * 5000, "nested more than 500 levels deep"),
        ("a: b: c", "line 1: neither YAML nor JSON: mapping values are not allowed"),
    ],
)
def test_what_is_no_pod_is_said_so_by_the_files_name(
    explain: Explain, write: Any, content: str, reason: str
) -> None:
    """Nothing on standard output, one line on standard error."""
    path = write(content)
    answer = explain("-f", path)
    assert (answer.status, answer.out) == (1, "")
    assert answer.err.startswith(f"checkpointer: {path}")
    assert reason in answer.err
    assert answer.err.count("\n") == 1


def test_a_file_that_is_not_there_is_named(explain: Explain, folder: Path) -> None:
    """With the system's reason."""
    answer = explain("-f", f"{folder}/none")
    assert (answer.status, answer.err) == (
        1,
        f"checkpointer: cannot read {folder}/none: No such file or directory\n",
    )
    assert "Is a directory" in explain("-f", str(folder)).err


@pytest.mark.parametrize(
    "pod",
    [
        {"kind": "Pod"},
        {"kind": "Pod", "metadata": None, "spec": None},
        {"kind": "Pod", "metadata": 5, "spec": []},
        {"kind": "Pod", "metadata": {"annotations": ["x"], "namespace": ["y"]}},
        {"kind": "Pod", "metadata": {"annotations": {"a": 1}, "labels": "x", "name": 7}},
        {"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [None, 5, {}]}},
        {"kind": "Pod", "metadata": {"name": "a\ud800\u001b", "namespace": "/../"}, "spec": {}},
        selected(make_container(env=[{"name": "A", "valueFrom": {"fieldRef": []}}])),
        selected(make_container(resources={"limits": {"cpu": 1.5e300}})),
    ],
)
@pytest.mark.parametrize("form", ["table", "json", "yaml"])
def test_a_broken_pod_is_refused_and_breaks_nothing(
    explain: Explain, write: Any, pod: dict[str, Any], form: str
) -> None:
    """The verdict says what is wrong with it, in every form."""
    answer = explain("-f", write(pod), "-o", form)
    assert (answer.status, answer.err) == (3, "")
    assert "not checkpointable" in answer.out
    assert "\x1b" not in answer.out.replace('"\x1b', "")


def test_nothing_of_this_machine_is_needed_for_a_file(explain: Explain, write: Any) -> None:
    """No kubeconfig, no API, no runtime, no kubelet, no store."""
    answer = explain("-f", write(selected(make_container(env=FROM_CONFIG_MAP))))
    assert (answer.status, answer.err) == (0, "")


def test_what_only_the_api_knows_is_a_marked_placeholder(explain: Explain, write: Any) -> None:
    """And the verdict says that there are some."""
    path = write(selected(make_container(env=FROM_CONFIG_MAP)))
    environment = explain("-f", path, "--manifest").json["spec"]["containers"][0]["env"]
    assert {entry["name"]: entry["value"] for entry in environment}["LEVEL"] == (
        "<placeholder: key level of config map settings>"
    )
    (one,) = explain("-f", path, "-o", "json").json
    assert "what only the API knows is a placeholder in the manifest" in one["notes"]


def test_a_configured_endpoint_is_no_placeholder(explain: Explain, write: Any) -> None:
    """With it, and nothing to be read, the manifest is what a node would run."""
    path = write(selected())
    service = ("--set", "service.host=10.0.0.1")
    assert explain("-f", path, "-o", "json", *service).json[0]["notes"] == []
    assert "placeholder" not in explain("-f", path, "--manifest", *service).out


def test_material_is_shown_where_it_would_lie(explain: Explain, write: Any, folder: Path) -> None:
    """Below the configured store, in the workload's folder."""
    pod = selected(volumes=[{"name": "certs", "secret": {"secretName": "web"}}])
    path = write(pod)
    (volume,) = explain("-f", path, "--manifest").json["spec"]["volumes"]
    assert volume["name"] == "certs"
    assert volume["hostPath"]["path"].startswith(f"{folder}/store/kube-system/")
    table = explain("-f", path).out
    assert "  material     kubernetes.io~secret/certs\n" in table


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_the_manifest_is_one_that_the_kubelet_accepts(
    explain: Explain, write: Any, form: str
) -> None:
    """All the golden pods that are not refused; in YAML that the kubelet reads as it is meant."""
    pods = [golden_pods.load(name)[0] for name in golden_pods.NAMES]
    answer = explain("-f", write({"kind": "List", "items": pods}), "--manifest", "-o", form)
    if form == "yaml":
        manifests = list(yaml.safe_load_all(answer.out))
    else:
        decoder, text, manifests = json.JSONDecoder(), answer.out, []
        while text:
            manifest, end = decoder.raw_decode(text)
            manifests.append(manifest)
            text = text[end:].lstrip()
    refused = answer.err.splitlines()
    assert len(manifests) + len(refused) == len(pods)
    assert all(": not checkpointable: " in line for line in refused)
    for manifest in manifests:
        assert refusals(manifest, "node-1", len(json.dumps(manifest))) == ()


def test_words_that_yaml_takes_for_something_else_are_quoted(explain: Explain, write: Any) -> None:
    """`value: y` in the manifest folder would be a boolean, and the whole file refused."""
    words = ["y", "no", "0o17", "1e3", "12:30", "~", "2026-01-01", "0x10", "=", ".5"]
    env = [{"name": f"V{index}", "value": word} for index, word in enumerate(words)]
    answer = explain("-f", write(selected(make_container(env=env))), "--manifest", "-o", "yaml")
    for word in words:
        assert f"value: '{word}'\n" in answer.out


def test_a_refused_pod_has_no_manifest(explain: Explain, write: Any) -> None:
    """Nothing that could be piped into a folder; the reason goes to standard error."""
    answer = explain("-f", write(REFUSED), "--manifest")
    assert (answer.status, answer.out) == (3, "")
    assert answer.err.startswith("checkpointer: kube-system/web-abcde: not checkpointable: spec.")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"namespace": "default"}, "this node's configuration does not allow namespace default"),
        (
            {"ownerReferences": [{"kind": "Job", "name": "j", "controller": True}]},
            "it belongs to a Job: it runs to its end, once",
        ),
        (
            {"annotations": {"kubernetes.io/config.mirror": "x"}},
            "it is a static pod: the kubelet starts it without the API anyway",
        ),
    ],
)
def test_a_pod_that_the_agent_never_takes_is_refused_with_the_reason(
    explain: Explain, write: Any, metadata: dict[str, Any], reason: str
) -> None:
    """However good its spec is."""
    pod = make_pod(metadata={"annotations": CHECKPOINT, **metadata})
    answer = explain("-f", write(pod), "-o", "json")
    assert answer.status == 3
    assert answer.json[0]["refusals"] == [{"path": "selection", "reason": reason, "cure": ""}]


def test_a_pod_that_nobody_selected_is_told_so(explain: Explain, write: Any) -> None:
    """It could be checkpointed, it just will not be."""
    answer = explain("-f", write(make_pod()), "-o", "json")
    assert answer.status == 0
    assert answer.json[0]["notes"][0].startswith("not selected: ")


def test_the_table_says_the_gravest_first(explain: Explain, write: Any) -> None:
    """Verdict, workload, what is refused, warned of, changed."""
    lines = explain("-f", write(REFUSED)).out.splitlines()
    assert lines[0] == "kube-system/web-abcde: not checkpointable"
    assert lines[1] == "  workload     kube-system/daemonset/web"
    words = [line.split()[0] for line in lines[1:]]
    assert words.index("refused") < words.index("dropped")
    assert any("Cure: " in line for line in lines)
    assert all(line[2:15].rstrip() in {*words} for line in lines[1:])


def test_yaml_says_what_json_says(explain: Explain, write: Any) -> None:
    """Two forms of one thing."""
    path = write({"kind": "List", "items": [WARNED, REFUSED]})
    in_yaml = explain("-f", path, "-o", "yaml").out
    assert yaml.safe_load(in_yaml) == explain("-f", path, "-o", "json").json


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("web",), "web: expected NAMESPACE/POD, or -f FILE"),
        (("/web",), "/web: expected NAMESPACE/POD"),
        (("a/b/c",), "a/b/c: expected NAMESPACE/POD"),
        (("a/b", "--set", "nodeName"), "--set nodeName: expected KEY=VALUE"),
        (("a/b", "--set", "timing.such=1"), "timing.such"),
        (("a/b", "--set", "timing.grace=soon"), "timing.grace"),
        (("a/b", "--config", "/nonexistent/config"), "/nonexistent/config"),
    ],
)
def test_wrong_usage_is_2(explain: Explain, arguments: tuple[str, ...], reason: str) -> None:
    """Whatever the API would have said."""
    answer = explain(*arguments)
    assert (answer.status, answer.out) == (2, "")
    assert reason in answer.err


@pytest.mark.parametrize("arguments", [(), ("a/b", "-f", "x"), ("a/b", "-o", "xml")])
def test_options_that_do_not_fit_are_2(explain: Explain, arguments: tuple[str, ...]) -> None:
    """As argparse has it."""
    with pytest.raises(SystemExit) as caught:
        explain(*arguments)
    assert caught.value.code == 2


def test_a_reader_that_leaves_early_gets_no_traceback(folder: Path, write: Any) -> None:
    """`checkpointer explain ... | head -1`."""
    path = write({"kind": "List", "items": [REFUSED] * 200})
    command = [sys.executable, "-m", "checkpointer", "explain", "-f", path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "not checkpointable" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 3


# On a node


@contextmanager
def runtime_with(folder: Path, *images: str) -> Iterator[None]:
    """Run a container runtime that has these images."""
    alarms = Alarms()
    runtime = Runtime(Programs({}), alarms)
    runtime.images = set(images)
    server = CriServer(runtime, folder / "cri.sock")
    try:
        server.open()
        yield
    finally:
        server.close()
        alarms.close()


@pytest.fixture
def cluster(api: ApiServer, folder: Path) -> Callable[..., None]:
    """Create a pod on a node, with the objects that it refers to, and a folder for the kubelet."""
    (folder / "kubelet").mkdir()

    def create(pod: dict[str, Any], node: str = "node-1") -> None:
        pod = {**pod, "spec": {**pod["spec"], "nodeName": node}}
        for resource, name, data in (
            ("configmaps", "settings", {"level": "debug"}),
            ("secrets", "login", {"password": base64.b64encode(SECRET.encode()).decode()}),
        ):
            named = {"name": name, "namespace": "kube-system"}
            api.cluster.apply(resource, {"metadata": named, "data": data})
        api.cluster.create("nodes", {"metadata": {"name": node}, "status": {"nodeInfo": {}}})
        api.cluster.create("pods", pod)

    return create


WANTED = "kube-system/web-abcde"


def test_on_a_node_the_api_is_read(explain: Explain, cluster: Any, folder: Path) -> None:
    """What a file has placeholders for is there."""
    cluster(selected(make_container(env=FROM_CONFIG_MAP)))
    with runtime_with(folder, IMAGE):
        manifest = explain(WANTED, "--manifest").json
        (one,) = explain(WANTED, "-o", "json").json
    assert {"name": "LEVEL", "value": "debug"} in manifest["spec"]["containers"][0]["env"]
    assert (one["verdict"], one["notes"]) == ("checkpointable", [])


def test_images_that_are_absent_are_seen(explain: Explain, cluster: Any, folder: Path) -> None:
    """The runtime is asked."""
    cluster(selected())
    with runtime_with(folder, "other.example/image:1"):
        (one,) = explain(WANTED, "-o", "json").json
    assert one["verdict"] == "checkpointable with warnings"
    assert [warning["path"] for warning in one["warnings"]] == ["spec.containers[0].image"]
    assert "the runtime does not have this image" in one["warnings"][0]["reason"]


def test_images_that_only_a_secret_gets_are_seen(
    explain: Explain, cluster: Any, folder: Path
) -> None:
    """The kubelet's records are read."""
    cluster(selected())
    with runtime_with(folder, IMAGE):
        pulled = folder / "kubelet/image_manager/pulled"
        pulled.mkdir(parents=True)
        (one,) = explain(WANTED, "-o", "json").json
        assert one["warnings"] == []
        for identity in image_ids(IMAGE):
            record = {
                "kind": "ImagePulledRecord",
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "lastUpdatedTime": "2026-03-01T09:15:00Z",
                "imageRef": identity,
                "credentialMapping": {"registry.example/web": {"kubernetesSecrets": []}},
            }
            name = hashlib.sha256(identity.encode()).hexdigest()
            (pulled / f"sha256-{name}").write_text(json.dumps(record))
        (one,) = explain(WANTED, "-o", "json").json
    assert "only the pod's own credentials get this image" in one["warnings"][0]["reason"]


def image_ids(image: str) -> list[str]:
    """Return the ids that the simulated runtime gives an image."""
    from checkpointer.simulation.cri_answers import image_item

    return [image_item(image).id]


def test_without_a_runtime_it_says_that_images_were_not_seen(
    explain: Explain, cluster: Any
) -> None:
    """A runtime that does not answer has not said that an image is absent."""
    cluster(selected())
    assert explain(WANTED, "-o", "json").json[0]["verdict"] == "checkpointable"


def test_volumes_are_looked_at(explain: Explain, cluster: Any, folder: Path) -> None:
    """What a snapshot would stumble over is a refusal here too."""
    cluster(selected(volumes=[{"name": "certs", "secret": {"secretName": "login"}}]))
    with runtime_with(folder, IMAGE):
        (one,) = explain(WANTED, "-o", "json").json
        assert one["verdict"] == "checkpointable"
        assert one["notes"][0].startswith("its volumes were not seen: ")
        uid = explain_uid(folder)
        volumes = folder / "kubelet/pods" / uid / "volumes"
        volume = volumes / "kubernetes.io~secret/certs"
        (volume / "..1").mkdir(parents=True)
        (volume / "..1/key").write_text(SECRET)
        (volume / "..data").symlink_to("..1")
        (volume / "key").symlink_to("..data/key")
        assert explain(WANTED, "-o", "json").json[0]["verdict"] == "checkpointable"
        (volume / "..1/away").symlink_to("/etc/shadow")
        answer = explain(WANTED, "-o", "json")
    assert answer.status == 3
    assert answer.json[0]["refusals"][0]["path"] == "spec.volumes"
    assert "leads out of the volume" in answer.json[0]["refusals"][0]["reason"]
    assert SECRET not in answer.out


def explain_uid(folder: Path) -> str:
    """Return the UID that the simulated API gave the pod."""
    from checkpointer.node.api import ApiClient

    client = ApiClient(folder / "kubelet.conf")
    try:
        pod = client.get("/api/v1/namespaces/kube-system/pods/web-abcde")
        return str(pod["metadata"]["uid"])
    finally:
        client.close()


@pytest.mark.shows_secrets
@pytest.mark.parametrize("opted_in", [False, True])
@pytest.mark.parametrize("form", ["table", "json", "yaml"])
def test_a_secrets_value_is_printed_only_in_the_manifest(
    explain: Explain, cluster: Any, folder: Path, form: str, opted_in: bool
) -> None:
    """Refused without the opt-in; with it, shown only on demand."""
    cluster(selected(make_container(env=FROM_SECRET), annotations=INLINE if opted_in else {}))
    with runtime_with(folder, IMAGE):
        answer = explain(WANTED, "-o", form)
        manifest = explain(WANTED, "--manifest", "-o", form)
    assert answer.status == manifest.status == (0 if opted_in else 3)
    assert SECRET not in answer.out + answer.err + manifest.err
    assert (SECRET in manifest.out) is opted_in


def test_a_pod_of_another_node_is_explained_as_far_as_it_can_be(
    explain: Explain, cluster: Any, folder: Path, api: ApiServer
) -> None:
    """An administrator's kubeconfig reads it; images and volumes are not on this node."""
    from checkpointer.simulation.authorizer import User

    token = "admin"
    api.tokens[token] = User("admin", ("system:masters",))
    kubeconfig = yaml.safe_load((folder / "kubelet.conf").read_text())
    kubeconfig["users"][0]["user"] = {"token": token}
    (folder / "admin.conf").write_text(yaml.safe_dump(kubeconfig))
    cluster(selected(), node="node-2")
    with runtime_with(folder):
        answer = explain(WANTED, "-o", "json", "--kubeconfig", f"{folder}/admin.conf")
    assert answer.status == 0
    assert answer.json[0]["notes"] == [
        "it runs on node-2, this is node-1: its images and volumes were not seen"
    ]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (Mode.REFUSED, "ConnectionRefusedError"),
        (Mode.ERROR, "HTTP 500"),
        (Mode.UNAUTHORIZED, "HTTP 401"),
        (Mode.FORBIDDEN, "HTTP 403"),
    ],
)
def test_without_the_api_there_is_no_verdict(
    explain: Explain, cluster: Any, api: ApiServer, mode: Mode, reason: str
) -> None:
    """Status 1, and which pod could not be asked for, and why."""
    cluster(selected())
    api.mode = mode
    answer = explain(WANTED)
    assert (answer.status, answer.out) == (1, "")
    assert answer.err.startswith(f"checkpointer: {WANTED}: GET ")
    assert reason in answer.err


def test_a_pod_that_is_not_there_is_said_so(explain: Explain, api: ApiServer) -> None:
    """A node is not told more than that it may not ask."""
    answer = explain("kube-system/none")
    assert answer.status == 1
    assert answer.err.startswith("checkpointer: kube-system/none: ")


@pytest.mark.parametrize("content", ["", "{", "kind: Config"])
def test_a_kubeconfig_that_is_none_is_named(explain: Explain, folder: Path, content: str) -> None:
    """Without a traceback."""
    (folder / "kubelet.conf").write_text(content)
    answer = explain(WANTED)
    assert answer.status == 1
    assert "kubelet.conf" in answer.err
    assert "a pod in a file is explained by -f FILE" in answer.err


def test_it_changes_nothing(explain: Explain, cluster: Any, folder: Path, api: ApiServer) -> None:
    """No store, no writes to the API."""
    cluster(selected(make_container(env=FROM_CONFIG_MAP)))
    before = sorted(str(path) for path in folder.rglob("*"))
    asked = api.requests
    explain(WANTED)
    assert sorted(str(path) for path in folder.rglob("*")) == before
    assert all(what.startswith("get ") for what in api.requests - asked)
