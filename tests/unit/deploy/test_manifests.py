"""What is applied to a cluster: every overlay renders, is valid, and gives what it promises."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client import models

from checkpointer import config, settings
from checkpointer.config import Config
from checkpointer.manifest.sanitize import sanitize
from checkpointer.manifest.sources import Options, Sources
from checkpointer.node.kubeconfig import read_kubeconfig
from tests.unit.deploy.conftest import ROOT, Objects, Render

MANIFESTS = ROOT / "manifests"
OVERLAYS = sorted(
    f"overlays/{path.name}"
    for path in (MANIFESTS / "overlays").iterdir()
    if path.name != "monitoring" or (MANIFESTS / "monitoring").is_dir()
)
ALL = ["base", *OVERLAYS]
COMPONENTS = sorted(path.name for path in (MANIFESTS / "components").iterdir())
CUSTOM = frozenset({"ServiceMonitor", "PodMonitor", "PrometheusRule"})
"""Kinds that no Kubernetes has by itself."""


def only(objects: Objects, kind: str) -> dict[str, Any]:
    (found,) = [found for found in objects if found["kind"] == kind]
    return found


def pod_spec(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = only(objects, "DaemonSet")["spec"]["template"]["spec"]
    return spec


def container(objects: Objects) -> dict[str, Any]:
    (found,) = pod_spec(objects)["containers"]
    return dict(found)


def settings_of(objects: Objects) -> Config:
    """Return the agent's settings as its container gets them."""
    maps = [found["data"] for found in objects if found["kind"] == "ConfigMap"]
    (data,) = [data for data in maps if "pod-checkpointer.yaml" in data]
    environment = {e["name"]: e.get("value", "node-1") for e in container(objects)["env"]}
    assert environment["CHECKPOINTER_CONFIG"] == "/etc/pod-checkpointer/pod-checkpointer.yaml"
    loaded = config.load(data["pod-checkpointer.yaml"], environment)
    settings.check(loaded)
    return loaded


def mounts(objects: Objects) -> dict[str, dict[str, Any]]:
    """Return what is mounted where: a host folder's volume with how it is mounted."""
    volumes = {volume["name"]: volume for volume in pod_spec(objects)["volumes"]}
    return {m["mountPath"]: {**volumes[m["name"]], **m} for m in container(objects)["volumeMounts"]}


@pytest.mark.parametrize("name", ALL)
def test_objects_are_those_of_the_api(render: Render, name: str) -> None:
    """A field that is misspelled or of another type would be refused, or silently dropped."""
    for document in render(name):
        if document["kind"] in CUSTOM:
            continue
        version = document["apiVersion"].rpartition("/")[2]
        model = getattr(models, version.capitalize() + document["kind"])
        typed = model.from_dict(document)
        assert client.ApiClient().sanitize_for_serialization(typed) == document


@pytest.mark.parametrize("name", ALL)
def test_all_is_in_the_system_s_namespace(render: Render, name: str) -> None:
    """One namespace to look at, and to clean up by its label."""
    for document in render(name):
        metadata = document["metadata"]
        if not document["kind"].startswith("Cluster"):
            assert metadata["namespace"] == "kube-system"
        assert metadata["labels"]["app.kubernetes.io/name"] == "pod-checkpointer"


@pytest.mark.parametrize("name", ALL)
def test_agent_accepts_its_configuration(render: Render, name: str) -> None:
    """Else it would not start, on any node at once."""
    assert settings_of(render(name)).selection.namespaces[0] == "kube-system"


@pytest.mark.parametrize("name", ALL)
def test_folders_of_the_configuration_are_the_node_s(render: Render, name: str) -> None:
    """Mounted at their own path: a copy names the same path to the kubelet."""
    rendered = render(name)
    found, loaded = mounts(rendered), settings_of(rendered)
    for folder in (
        loaded.manifest_directory,
        loaded.store_directory,
        loaded.kubelet_directory,
        loaded.lock_file.parent,
    ):
        assert found[str(folder)]["hostPath"]["path"] == str(folder)
    writable = {path for path, mount in found.items() if not mount.get("readOnly")}
    assert writable == {
        str(loaded.manifest_directory),
        str(loaded.store_directory),
        str(loaded.lock_file.parent),
    }
    assert any(loaded.kubeconfig.is_relative_to(path) for path in found)


@pytest.mark.parametrize("name", ALL)
def test_later_mounts_are_seen(render: Render, name: str) -> None:
    """Volumes are rendered onto tmpfs after the agent's start; ended ones must not be held."""
    found = mounts(render(name))
    runtime = {"/run/containerd", "/run/crio"} & set(found)
    assert len(runtime) == 1
    for path in ("/var/lib/kubelet", *runtime):
        assert found[path]["mountPropagation"] == "HostToContainer"
        assert found[path]["readOnly"] is True


@pytest.mark.parametrize("name", ALL)
def test_pod_has_no_more_than_it_needs(render: Render, name: str) -> None:
    """What runs as root on each node is held as tight as it goes."""
    spec, agent = pod_spec(render(name)), container(render(name))
    assert agent["securityContext"] == {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {
            "drop": ["ALL"],
            "add": ["CHOWN", "DAC_READ_SEARCH", "FOWNER", "FSETID"],
        },
    }
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not spec.get("hostPID")
    assert not spec.get("hostIPC")


@pytest.mark.parametrize("name", ALL)
def test_pod_survives_what_its_node_goes_through(render: Render, name: str) -> None:
    """Neither eviction nor taints nor the pods' network may keep the agent away."""
    spec = pod_spec(render(name))
    assert spec["hostNetwork"] is True
    assert spec["priorityClassName"] == "system-node-critical"
    assert {"operator": "Exists"} in spec["tolerations"]
    strategy = only(render(name), "DaemonSet")["spec"]["updateStrategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
    assert container(render(name))["resources"].keys() == {"requests", "limits"}


@pytest.mark.parametrize("name", ALL)
def test_pod_can_be_checkpointed_itself(render: Render, name: str) -> None:
    """The agent is its own first customer: without a copy it is not there after a reboot."""
    rendered = render(name)
    daemon_set = only(rendered, "DaemonSet")
    template = daemon_set["spec"]["template"]
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": daemon_set["metadata"]["name"]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **template["metadata"],
            "name": "pod-checkpointer-abcde",
            "namespace": "kube-system",
            "uid": "0b6f0a80-0000-4000-8000-000000000001",
            "ownerReferences": [{**owner, "uid": "1", "controller": True}],
        },
        "spec": {**template["spec"], "nodeName": "node-1"},
        "status": {"phase": "Running"},
    }
    options = Options(
        node_name="node-1",
        kubelet_dir="/var/lib/kubelet",
        service_host="10.0.0.1",
        service_port="6443",
    )
    verdict = sanitize(pod, "/material", Sources(), options)
    assert verdict.refusals == ()
    assert verdict.manifest is not None
    assert container(rendered)["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize("name", ALL)
def test_probes_ask_the_address_that_is_served(render: Render, name: str) -> None:
    """On the host's network, on the loopback address: nobody else may ask."""
    agent = container(render(name))
    asked = {
        (probe["httpGet"]["host"], probe["httpGet"]["port"], probe["httpGet"]["path"])
        for kind, probe in agent.items()
        if kind.endswith("Probe")
    }
    assert asked == {("127.0.0.1", 10278, "/healthz"), ("127.0.0.1", 10278, "/readyz")}
    served = getattr(settings_of(render(name)), "http", None)
    assert served is None or served.address in ("127.0.0.1:10278", "0.0.0.0:10278")


@pytest.mark.parametrize("name", ALL)
def test_installation_is_marked_for_the_nodes(render: Render, name: str) -> None:
    """A kubelet may not read a DaemonSet, but any Service: one of its name says it is there."""
    rendered = render(name)
    marker, daemon_set = (only(rendered, kind)["metadata"] for kind in ("Service", "DaemonSet"))
    assert marker["name"] == daemon_set["name"]
    assert only(rendered, "Service")["spec"] == {"clusterIP": "None"}


def test_control_plane_is_on_masters_only(render: Render) -> None:
    """By the label of today and that of old clusters."""
    affinity = pod_spec(render("overlays/control-plane"))["affinity"]["nodeAffinity"]
    (key,) = affinity.keys()
    keys = [term["matchExpressions"][0]["key"] for term in affinity[key]["nodeSelectorTerms"]]
    assert key.startswith("required")
    assert keys == ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"]


EDGE = "checkpointer.alpha.coreos.com/node"


@pytest.mark.parametrize("name", [name for name in ALL if name != "overlays/edge"])
def test_edge_nodes_have_one_agent(render: Render, name: str) -> None:
    """Of two installations on a node one would wait for ever, and nobody could say which."""
    spec = pod_spec(render(name))
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    for term in required["nodeSelectorTerms"]:
        wanted = {"key": EDGE, "operator": "NotIn", "values": ["edge"]}
        assert wanted in term["matchExpressions"]
    assert "affinity" not in pod_spec(render("overlays/edge"))


def test_edge_stands_beside_another_overlay(render: Render) -> None:
    """Names and selectors are disjoint, so a cluster can have both."""
    edge, other = render("overlays/edge"), render("overlays/control-plane")
    names = [{(o["kind"], o["metadata"]["name"]) for o in objects} for objects in (edge, other)]
    assert names[0] & names[1] == set()
    selector = only(edge, "DaemonSet")["spec"]["selector"]["matchLabels"]
    labels = only(other, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    assert any(labels.get(key) != value for key, value in selector.items())
    assert pod_spec(edge)["nodeSelector"][EDGE] == "edge"
    assert pod_spec(edge)["serviceAccountName"] == only(edge, "ServiceAccount")["metadata"]["name"]


def test_service_account_is_known_after_a_long_outage(render: Render, tmp_path: Path) -> None:
    """Its kubeconfig is one, and leads to a token that outlives an outage."""
    rendered = render("overlays/service-account")
    (configured,) = [o for o in rendered if o["kind"] == "ConfigMap"]
    written = tmp_path / "kubeconfig.yaml"
    written.write_text(configured["data"]["kubeconfig.yaml"])
    identity = read_kubeconfig(written)
    volumes = {volume["name"]: volume for volume in pod_spec(rendered)["volumes"]}
    token = volumes["identity"]["projected"]["sources"][0]["serviceAccountToken"]
    mounted = mounts(rendered)["/run/secrets/pod-checkpointer"]
    assert identity.token_file == f"{mounted['mountPath']}/{token['path']}"
    assert identity.ca_file == f"{mounted['mountPath']}/ca.crt"
    assert token["expirationSeconds"] >= 30 * 24 * 3600
    assert "kubeconfig" not in volumes


def test_documented_rights_are_those_of_the_role(render: Render) -> None:
    """docs/identity.md gives a reason for each right, and there is no right without one."""
    granted = {
        (document["kind"], rule["apiGroups"][0], resource, verb)
        for document in render("overlays/service-account")
        if document["kind"] in ("ClusterRole", "Role")
        for rule in document["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    row = re.compile(
        r"^\| `([a-z/]+)(?:\.([a-z0-9.]+))?` \| ([a-z, ]+) \| (ClusterRole|Role) \|", re.M
    )
    text = (ROOT / "docs/identity.md").read_text()
    documented = {
        (kind, group or "", resource, verb.strip())
        for resource, group, verbs, kind in row.findall(text)
        for verb in verbs.split(",")
    }
    assert documented == granted


@pytest.mark.parametrize("path", ["/etc/kubernetes/kubeconfig", "/var/lib/kubelet/kubeconfig"])
def test_patch_for_another_kubeconfig_works(render: Render, tmp_path: Path, path: str) -> None:
    """As docs/identity.md has it; the agent then reads what is mounted, and nothing else is."""
    page = (ROOT / "docs/identity.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    patches = yaml.safe_load(block.replace("/etc/kubernetes/kubeconfig", path))
    beside = os.path.relpath(MANIFESTS, tmp_path)
    kustomization = {"resources": [f"{beside}/base"], **patches}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    rendered = render(str(tmp_path))
    assert str(settings_of(rendered).kubeconfig) == path
    found = mounts(rendered)
    assert found[path]["hostPath"] == {"path": path, "type": "File"}
    assert "/etc/kubernetes/kubelet.conf" not in found


def test_selinux_does_without_privileges(render: Render) -> None:
    """Only the type is changed."""
    context = pod_spec(render("overlays/selinux"))["securityContext"]
    assert context["seLinuxOptions"] == {"type": "spc_t"}


def test_crio_replaces_containerd(render: Render) -> None:
    """A folder that does not exist would keep the pod from starting."""
    found = mounts(render("overlays/crio"))
    assert found["/run/crio"]["hostPath"] == {"path": "/run/crio", "type": "Directory"}
    assert "containerd" not in json.dumps(render("overlays/crio"))


def test_edge_comes_last(render: Render, tmp_path: Path) -> None:
    """Then no object of it has the name of one of another installation."""
    beside = os.path.relpath(MANIFESTS, tmp_path)
    names = ["service-account", "crio", "edge"]
    kustomization = {
        "resources": [f"{beside}/base"],
        "components": [f"{beside}/components/{name}" for name in names],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    rendered = render(str(tmp_path))
    others = {(o["kind"], o["metadata"]["name"]) for o in render("overlays/service-account")}
    assert {(o["kind"], o["metadata"]["name"]) for o in rendered} & others == set()
    (binding,) = [o for o in rendered if o["kind"] == "ClusterRoleBinding"]
    account = only(rendered, "ServiceAccount")["metadata"]["name"]
    assert binding["subjects"][0]["name"] == account
    assert binding["roleRef"]["name"] == only(rendered, "ClusterRole")["metadata"]["name"]


def test_components_go_together(render: Render, tmp_path: Path) -> None:
    """An operator combines them in a kustomization of his own, as docs/install.md shows."""
    beside = os.path.relpath(MANIFESTS, tmp_path)
    kustomization = {
        "resources": [f"{beside}/base"],
        "components": [f"{beside}/components/{name}" for name in COMPONENTS if name != "edge"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    rendered = render(str(tmp_path))
    assert pod_spec(rendered)["securityContext"]["seLinuxOptions"]
    assert "/run/crio" in mounts(rendered)
    assert only(rendered, "ClusterRole")
    assert settings_of(rendered).stage_zero is not None
