"""What becomes of a pod's own fields, its identity, its containers and its volumes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from checkpointer.core.facts import Known
from checkpointer.core.workload import Workload
from checkpointer.manifest.identity import hostname_of
from checkpointer.manifest.sanitize import BoundClaim, Options
from checkpointer.manifest.verdict import MaterialVolume, Outcome
from tests.unit.manifest.builders import (
    NODE,
    copied_spec,
    first_container,
    judge,
    make_container,
    make_pod,
    make_sources,
    refused_paths,
)

MINIMAL_SPEC = {
    "hostNetwork": True,
    "containers": [
        {"name": "main", "image": "registry.example/web:1", "imagePullPolicy": "IfNotPresent"}
    ],
    "automountServiceAccountToken": False,
    "restartPolicy": "Always",
    "tolerations": [{"operator": "Exists"}],
}


def field_ref(path: str) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}


# Fields of the pod


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activeDeadlineSeconds", 60),
        ("affinity", {"nodeAffinity": {}}),
        ("automountServiceAccountToken", True),
        ("ephemeralContainers", [{"name": "debug", "image": "busybox"}]),
        ("evictionResponders", [{"name": "x"}]),
        ("imagePullSecrets", [{"name": "registry"}]),
        ("nodeName", "edge-07"),
        ("nodeSelector", {"a": "b"}),
        ("overhead", {"cpu": "1"}),
        ("preemptionPolicy", "PreemptLowerPriority"),
        ("priority", 0),
        ("readinessGates", [{"conditionType": "a/b"}]),
        ("restartPolicy", "Never"),
        ("runtimeClassName", "gvisor"),
        ("schedulerName", "default-scheduler"),
        ("schedulingGates", [{"name": "a/b"}]),
        ("schedulingGroup", {"podGroupName": "x"}),
        ("serviceAccount", "web"),
        ("serviceAccountName", "web"),
        ("tolerations", [{"key": "a", "operator": "Exists"}]),
        ("topologySpreadConstraints", [{"maxSkew": 1}]),
        ("fieldOfTomorrow", {"a": 1}),
        ("dnsPolicy", None),
    ],
)
def test_field_leaves_no_trace(field: str, value: Any) -> None:
    """Fields that a static pod cannot have, or must not, are not in the copy."""
    assert copied_spec(make_pod(**{field: value})) == MINIMAL_SPEC


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dnsConfig", {"nameservers": ["10.0.0.10"], "options": [{"name": "ndots"}]}),
        ("dnsPolicy", "ClusterFirstWithHostNet"),
        ("enableServiceLinks", False),
        ("hostAliases", [{"ip": "10.0.0.1", "hostnames": ["api"]}]),
        ("hostIPC", True),
        ("hostPID", True),
        ("hostname", "web"),
        ("os", {"name": "linux"}),
        ("resources", {"limits": {"cpu": "1"}}),
        ("securityContext", {"fsGroup": 1, "sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
        ("setHostnameAsFQDN", True),
        ("shareProcessNamespace", True),
        ("subdomain", "web"),
        ("terminationGracePeriodSeconds", 5),
    ],
)
def test_field_is_kept(field: str, value: Any) -> None:
    """Fields that mean the same without an API stay as they are."""
    assert copied_spec(make_pod(**{field: value})) == {**MINIMAL_SPEC, field: value}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"runtimeClassName": "gvisor"}, "spec.runtimeClassName"),
        ({"restartPolicy": "OnFailure"}, "spec.restartPolicy"),
        ({"fieldOfTomorrow": 1}, "spec.fieldOfTomorrow"),
        ({"imagePullSecrets": [{"name": "r"}]}, "spec.imagePullSecrets"),
        ({"hostUsers": False, "hostNetwork": False}, "spec.hostUsers"),
    ],
)
def test_field_is_warned_of(fields: dict[str, Any], path: str) -> None:
    """What the copy may do differently is a warning, and no refusal."""
    verdict = judge(make_pod(**fields))
    assert verdict.outcome is Outcome.WITH_WARNINGS
    assert [finding.path for finding in verdict.warnings] == [path]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"resourceClaims": [{"name": "gpu"}]}, "spec.resourceClaims"),
        ({"os": {"name": "windows"}}, "spec.os.name"),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, "metadata.deletionTimestamp"),
        ({"volumes": [{"name": "v", "csi": {"driver": "x"}}]}, "spec.volumes[0].csi"),
        ({"volumes": [{"name": "v", "ephemeral": {}}]}, "spec.volumes[0].ephemeral"),
        ({"volumes": [{"name": "v", "glusterfs": {"path": "x"}}]}, "spec.volumes[0].glusterfs"),
        ({"volumes": [{"name": "v", "azureFile": {}}]}, "spec.volumes[0].azureFile"),
        ({"volumes": [{"name": "v", "iscsi": {}}]}, "spec.volumes[0].iscsi"),
        ({"volumes": [{"name": "v", "gitRepo": {}}]}, "spec.volumes[0].gitRepo"),
        ({"volumes": [{"name": "v", "newSource": {}}]}, "spec.volumes[0].newSource"),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"podCertificate": {}}]}}]},
            "spec.volumes[0].projected.sources[0].podCertificate",
        ),
    ],
)
def test_field_refuses(fields: dict[str, Any], path: str) -> None:
    """What cannot work in an outage makes the pod not checkpointable, with the reason."""
    verdict = judge(make_pod(**fields))
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.manifest is None
    assert refused_paths(verdict) == [path]
    assert verdict.refusals[0].reason


def test_priority_trio_is_kept_whole() -> None:
    """A class goes with its priority and policy: the mirror pod is compared with the class."""
    trio = {
        "priority": 2000001000,
        "priorityClassName": "system-node-critical",
        "preemptionPolicy": "PreemptLowerPriority",
    }
    assert copied_spec(make_pod(**trio)) == {**MINIMAL_SPEC, **trio}


def test_unset_values_are_no_changes() -> None:
    """A field with its zero value is not worth a word."""
    pod = make_pod(
        affinity=None, imagePullSecrets=[], nodeName="", overhead={}, runtimeClassName=None
    )
    assert judge(pod).changes == judge(make_pod()).changes


def test_other_wrong_things_do_not_hide_a_refusal() -> None:
    """All refusals of a pod are told at once."""
    volumes = [{"name": "a", "csi": {}}, {"name": "b", "rbd": {}}]
    assert refused_paths(judge(make_pod(volumes=volumes))) == [
        "spec.volumes[0].csi",
        "spec.volumes[1].rbd",
    ]


@pytest.mark.parametrize(
    "junk",
    [
        None,
        3,
        "pod",
        [],
        {},
        {"metadata": 1},
        {"metadata": {}, "spec": {}},
        {"metadata": {"name": "a"}, "spec": {"containers": []}},
        {"metadata": {"name": "a"}, "spec": {"containers": [None]}},
        {"metadata": {"name": "a"}, "spec": {"containers": ["x"]}},
        {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "ports": 3}]}},
        {"metadata": {"name": "a", "labels": {"a": 1}}, "spec": {"containers": [{}]}},
        {
            "metadata": {"name": "a", "ownerReferences": [{"controller": True}]},
            "spec": {"containers": [{}]},
        },
        {"kind": "Service", "metadata": {"name": "a"}, "spec": {"containers": [{}]}},
        {"metadata": {"name": "a"}, "spec": {"containers": [{}], "hostNetwork": "yes"}},
        {"metadata": {"name": ["a"], "namespace": 3}, "spec": {"containers": [{}]}},
    ],
)
def test_junk_is_refused(junk: Any) -> None:
    """Whatever is handed in, the answer is a verdict."""
    verdict = judge(junk)
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.refusals


def test_nulls_are_absent_fields() -> None:
    """Nulls, as YAML files have them, mean nothing."""
    pod = make_pod(
        make_container(env=None, ports=None, resources=None, volumeMounts=None),
        volumes=None,
        metadata={"creationTimestamp": None, "annotations": None, "labels": None},
        securityContext=None,
    )
    assert copied_spec(pod) == MINIMAL_SPEC


# Identity


def test_copy_has_a_name_and_nothing_of_the_server() -> None:
    """Of the metadata only name, namespace, labels and annotations are left."""
    metadata = {
        "resourceVersion": "1",
        "generation": 1,
        "finalizers": ["a/b"],
        "managedFields": [{}],
        "generateName": "web-",
        "selfLink": "/x",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    verdict = judge(make_pod(metadata=metadata))
    assert verdict.workload == Workload("kube-system", "DaemonSet", "web")
    assert verdict.manifest is not None
    assert verdict.manifest["metadata"] == {
        "name": "web-checkpoint-00000000",
        "namespace": "kube-system",
    }


def test_labels_stay_but_for_those_of_the_template() -> None:
    """Services go on selecting the copy; nothing ties it to one rollout, or marks it ours."""
    labels = {
        "app": "web",
        "controller-revision-hash": "1",
        "pod-template-generation": "1",
        "pod-template-hash": "1",
        "checkpointer.alpha.coreos.com/workload": "x",
    }
    verdict = judge(make_pod(metadata={"labels": labels}))
    assert verdict.manifest is not None
    assert verdict.manifest["metadata"]["labels"] == {"app": "web"}


def test_annotations_stay_only_if_the_node_acts_on_them() -> None:
    """Confinement, networks and what the operator lists stay; the rest goes."""
    kept = {
        "container.apparmor.security.beta.kubernetes.io/main": "unconfined",
        "cpu-quota.crio.io": "disable",
        "example.com/exact": "1",
        "example.org/any": "1",
        "k8s.v1.cni.cncf.io/networks": "macvlan",
        "prometheus.io/scrape": "true",
    }
    gone = {
        "checkpointer.alpha.coreos.com/checkpoint": "true",
        "container.apparmor.security.beta.kubernetes.io/debugger": "unconfined",
        "example.com/exactly": "1",
        "k8s.v1.cni.cncf.io/network-status": "[]",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "kubernetes.io/config.hash": "x",
        "kubernetes.io/config.mirror": "x",
    }
    options = Options(node_name="edge-07", annotations=("example.com/exact", "example.org/*"))
    verdict = judge(make_pod(metadata={"annotations": {**gone, **kept}}), options=options)
    assert verdict.manifest is not None
    assert verdict.manifest["metadata"]["annotations"] == kept


@pytest.mark.parametrize(
    ("name", "hostname"),
    [("web-abcde", "web-abcde"), ("a" * 63, "a" * 63), ("a" * 60 + "-.-b-c", "a" * 60)],
)
def test_hostname_is_the_parent_s(name: str, hostname: str) -> None:
    """The parent's name, cut as the kubelet cuts it, stays the host name."""
    assert hostname_of(name) == hostname
    pod = make_pod(metadata={"name": name}, hostNetwork=False)
    assert copied_spec(pod)["hostname"] == hostname


def test_hostname_with_dots_cannot_be_kept() -> None:
    """`spec.hostname` takes no dots: the difference is warned of."""
    verdict = judge(make_pod(metadata={"name": "a.b"}, hostNetwork=False))
    assert [finding.path for finding in verdict.warnings] == ["spec.hostname"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web-abcde"),
        ("metadata.uid", "11111111-2222-3333-4444-555555555555"),
        ("spec.serviceAccountName", "web"),
        ("metadata.labels['pod-template-hash']", "77"),
        ("metadata.annotations['note']", "a $$(b)"),
        ("metadata.annotations['kubernetes.io/config.source']", "api"),
        ("metadata.annotations['kubernetes.io/config.hash']", ""),
        ("metadata.labels['checkpointer.alpha.coreos.com/workload']", ""),
    ],
)
def test_downward_value_that_differs_is_the_parent_s(path: str, value: str) -> None:
    """What the copy would see otherwise is written out as the parent saw it."""
    pod = make_pod(
        make_container(env=[field_ref(path)]),
        metadata={"labels": {"pod-template-hash": "77"}, "annotations": {"note": "a $(b)"}},
        serviceAccountName="web",
    )
    assert first_container(pod)["env"] == [{"name": "X", "value": value}]


@pytest.mark.parametrize(
    "path",
    [
        "metadata.namespace",
        "spec.nodeName",
        "status.hostIP",
        "status.podIPs",
        "metadata.labels['app']",
        "metadata.labels['absent']",
        "metadata.annotations['absent']",
    ],
)
def test_downward_value_that_is_the_same_is_left_to_the_kubelet(path: str) -> None:
    """What the kubelet knows without an API it tells the copy itself."""
    entry = field_ref(path)
    pod = make_pod(make_container(env=[entry]), metadata={"labels": {"app": "web"}})
    assert first_container(pod)["env"] == [entry]


# Containers


def test_ports_on_the_host_s_network_go_and_names_become_numbers() -> None:
    """Probes and handlers go on reaching the port that had a name."""
    action = {"httpGet": {"port": "web", "path": "/"}}
    container = make_container(
        ports=[{"name": "web", "containerPort": 8080}, {"containerPort": 9000}],
        livenessProbe=action,
        readinessProbe={"tcpSocket": {"port": "web"}},
        startupProbe={"httpGet": {"port": 9000}},
        lifecycle={"preStop": action, "postStart": {"exec": {"command": ["true"]}}},
    )
    pod = make_pod(container)
    before = copy.deepcopy(pod)
    found = first_container(pod)
    assert "ports" not in found
    assert found["livenessProbe"] == {"httpGet": {"port": 8080, "path": "/"}}
    assert found["readinessProbe"] == {"tcpSocket": {"port": 8080}}
    assert found["startupProbe"] == {"httpGet": {"port": 9000}}
    assert found["lifecycle"] == {
        "preStop": {"httpGet": {"port": 8080, "path": "/"}},
        "postStart": {"exec": {"command": ["true"]}},
    }
    assert pod == before


def test_ports_in_the_pod_s_own_network_stay() -> None:
    """Without the host's network ports hurt nobody; host ports are warned of."""
    ports = [{"name": "web", "containerPort": 8080, "hostPort": 80}]
    verdict = judge(make_pod(make_container(ports=ports), hostNetwork=False))
    assert verdict.manifest is not None
    assert verdict.manifest["spec"]["containers"][0]["ports"] == ports
    assert [finding.path for finding in verdict.warnings] == [
        "spec.containers[0].ports[0].hostPort"
    ]


@pytest.mark.parametrize(
    ("policy", "copied"),
    [
        ("Always", "IfNotPresent"),
        (None, "IfNotPresent"),
        ("IfNotPresent", "IfNotPresent"),
        ("Never", "Never"),
    ],
)
def test_no_pull_in_an_outage(policy: str | None, copied: str) -> None:
    """The image on the node is used; the policy is written out, as `latest` defaults to Always."""
    assert first_container(make_pod(make_container(imagePullPolicy=policy)))["imagePullPolicy"] == (
        copied
    )


def test_image_is_pinned_to_what_ran() -> None:
    """With pinning the copy runs exactly the parent's image."""
    options = Options(node_name="edge-07", pinned_images={"main": "registry.example/web@sha256:1"})
    assert first_container(make_pod(), options=options)["image"] == "registry.example/web@sha256:1"


def test_image_that_only_the_pod_s_credentials_get_is_warned_of() -> None:
    """The kubelet's own records decide, where they were read."""
    options = Options(
        node_name="edge-07", secret_images=Known(frozenset({"registry.example/web:1"}))
    )
    assert [finding.path for finding in judge(make_pod(), options=options).warnings] == [
        "spec.containers[0].image"
    ]
    clean = Options(node_name="edge-07", secret_images=Known(frozenset()))
    pod = make_pod(imagePullSecrets=[{"name": "r"}])
    assert judge(pod, options=clean).outcome is Outcome.CHECKPOINTABLE


def test_sidecars_stay_sidecars() -> None:
    """An init container with restartPolicy Always keeps it; other policies are the pod's."""
    pod = make_pod(
        make_container(restartPolicy="Never", restartPolicyRules=[{"action": "Restart"}]),
        initContainers=[
            make_container("sidecar", restartPolicy="Always"),
            make_container("init", restartPolicy="OnFailure"),
        ],
    )
    spec = copied_spec(pod)
    assert [c.get("restartPolicy") for c in spec["initContainers"]] == ["Always", None]
    assert "restartPolicy" not in spec["containers"][0]
    assert "restartPolicyRules" not in spec["containers"][0]


def test_requests_can_be_dropped() -> None:
    """With request_policy none the copy reserves nothing that can be overcommitted."""
    resources = {
        "limits": {"memory": "1Gi", "example.com/gpu": "1"},
        "requests": {"cpu": "1", "example.com/gpu": "1"},
    }
    options = Options(node_name="edge-07", request_policy="none")
    assert first_container(make_pod(make_container(resources=resources)), options=options)[
        "resources"
    ] == {
        "limits": {"memory": "1Gi", "example.com/gpu": "1"},
        "requests": {"cpu": "0", "memory": "0", "example.com/gpu": "1"},
    }


def resource_ref(resource: str, **fields: str) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {"resourceFieldRef": {"resource": resource, **fields}}}


REQUESTS = {
    "limits": {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "1500M"},
    "requests": {"cpu": "1250m", "memory": "300000001"},
}
NOTHING_RESERVED = Options(node_name="edge-07", request_policy="none")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"resource": "requests.cpu"}, "2"),
        ({"resource": "requests.cpu", "divisor": "1m"}, "1250"),
        ({"resource": "requests.cpu", "divisor": "0"}, "2"),
        ({"resource": "requests.memory"}, "300000001"),
        ({"resource": "requests.memory", "divisor": "1Mi"}, "287"),
        ({"resource": "requests.ephemeral-storage", "divisor": "1G"}, "2"),
        ({"resource": "requests.cpu", "containerName": "other", "divisor": "1m"}, "7"),
        ({"resource": "requests.cpu", "containerName": "main", "divisor": "1m"}, "1250"),
    ],
)
def test_requests_are_told_as_the_parents(fields: dict[str, str], expected: str) -> None:
    """A copy that reserves nothing is not told 0: it would size its heap or threads by that."""
    other = make_container("other", resources={"requests": {"cpu": "7m"}})
    asking = make_container(resources=REQUESTS, env=[resource_ref(**fields)])
    spec = copied_spec(make_pod(other, asking), options=NOTHING_RESERVED)
    assert spec["containers"][1]["env"] == [{"name": "X", "value": expected}]


@pytest.mark.parametrize("resource", ["limits.cpu", "limits.memory", "requests.hugepages-2Mi"])
def test_resources_that_stay_are_left_to_the_kubelet(resource: str) -> None:
    """And all of them where requests are kept, and those of a pod that has none."""
    entry = resource_ref(resource)
    container = make_container(resources=REQUESTS, env=[entry])
    assert first_container(make_pod(container), options=NOTHING_RESERVED)["env"] == [entry]
    entry = resource_ref("requests.cpu")
    container = make_container(resources=REQUESTS, env=[entry])
    assert first_container(make_pod(container))["env"] == [entry]
    container = make_container(env=[entry])
    assert first_container(make_pod(container), options=NOTHING_RESERVED)["env"] == [entry]


@pytest.mark.parametrize("is_projected", [False, True])
@pytest.mark.parametrize(
    ("resource", "options", "is_copied"),
    [
        ("requests.memory", NOTHING_RESERVED, True),
        ("limits.memory", NOTHING_RESERVED, False),
        ("requests.memory", NODE, False),
    ],
)
def test_files_that_tell_of_requests_are_copied(
    is_projected: bool, resource: str, options: Options, is_copied: bool
) -> None:
    """As the kubelet rendered them for the parent, where the copy requests nothing."""
    reference = {"containerName": "main", "resource": resource}
    source: dict[str, Any] = {"items": [{"path": "heap", "resourceFieldRef": reference}]}
    volume: dict[str, Any] = {"name": "v", "downwardAPI": source}
    if is_projected:
        volume = {"name": "v", "projected": {"sources": [{"downwardAPI": source}]}}
    pod = make_pod(make_container(resources=REQUESTS), volumes=[volume])
    (copied,) = copied_spec(pod, options=options)["volumes"]
    assert ("hostPath" in copied) == is_copied


def test_devices_are_warned_of() -> None:
    """A device plugin may not be there when the copy starts."""
    pod = make_pod(make_container(resources={"limits": {"example.com/gpu": "1", "cpu": "1"}}))
    assert [finding.path for finding in judge(pod).warnings] == ["spec.containers[0].resources"]


def test_unknown_container_field_is_dropped_with_a_warning() -> None:
    """A field of a later Kubernetes does not stop a checkpoint."""
    verdict = judge(make_pod(make_container(tomorrow=1)))
    assert verdict.manifest is not None
    assert "tomorrow" not in verdict.manifest["spec"]["containers"][0]
    assert [finding.path for finding in verdict.warnings] == ["spec.containers[0].tomorrow"]


@pytest.mark.parametrize(
    "key",
    [
        "k8s.v1.cni.cncf.io/networks",
        "k8s.v1.cni.cncf.io/network-status",
        "v1.multus-cni.io/default-network",
    ],
)
def test_networks_that_need_the_api_are_warned_of(key: str) -> None:
    """Multus asks the API at each start of a sandbox; on the host's network nobody does."""
    metadata = {"annotations": {key: "macvlan"}}
    verdict = judge(make_pod(metadata=metadata, hostNetwork=False))
    assert [finding.path for finding in verdict.warnings] == [f"metadata.annotations['{key}']"]
    assert judge(make_pod(metadata=metadata)).warnings == ()


# Volumes


def volume_pod(volume: dict[str, Any], **mount: Any) -> dict[str, Any]:
    mounts = [{"name": "v", "mountPath": "/v", **mount}]
    return make_pod(make_container(volumeMounts=mounts), volumes=[{"name": "v", **volume}])


TOKEN = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
NAMESPACE = {
    "downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}
}
NAME = {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}
LABELS = {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}


@pytest.mark.parametrize(
    ("volume", "material"),
    [
        (
            {"secret": {"secretName": "s"}},
            MaterialVolume("v", "kubernetes.io~secret", optional=False),
        ),
        (
            {"secret": {"secretName": "s", "optional": True}},
            MaterialVolume("v", "kubernetes.io~secret", optional=True),
        ),
        (
            {"configMap": {"name": "c", "items": [{"key": "a", "path": "b"}]}},
            MaterialVolume("v", "kubernetes.io~configmap", optional=False),
        ),
        (
            {"projected": {"sources": [TOKEN, NAMESPACE, {"configMap": {"name": "ca"}}]}},
            MaterialVolume("v", "kubernetes.io~projected", optional=False, tokens=("token",)),
        ),
        (
            {"projected": {"sources": [{"secret": {"name": "s", "optional": True}}]}},
            MaterialVolume("v", "kubernetes.io~projected", optional=True),
        ),
        (
            {"projected": {"sources": [{"clusterTrustBundle": {"name": "b", "path": "ca"}}]}},
            MaterialVolume("v", "kubernetes.io~projected", optional=False),
        ),
        (
            {"projected": {"sources": [{"downwardAPI": NAME}]}},
            MaterialVolume("v", "kubernetes.io~projected", optional=False),
        ),
        (
            {"downwardAPI": LABELS},
            MaterialVolume("v", "kubernetes.io~downward-api", optional=False),
        ),
    ],
)
def test_rendered_volume_becomes_material(volume: dict[str, Any], material: MaterialVolume) -> None:
    """What the kubelet rendered from the API is copied, and mounted read-only."""
    verdict = judge(volume_pod(volume, subPath="a/b"))
    assert verdict.manifest is not None
    spec = verdict.manifest["spec"]
    assert spec["volumes"] == [
        {"name": "v", "hostPath": {"path": "/material/v", "type": "Directory"}}
    ]
    assert spec["containers"][0]["volumeMounts"] == [
        {"name": "v", "mountPath": "/v", "subPath": "a/b", "readOnly": True}
    ]
    assert verdict.volumes == (material,)


@pytest.mark.parametrize(
    "volume",
    [
        {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"hostPath": {"path": "/var/log", "type": ""}},
        {"nfs": {"server": "nas", "path": "/export"}},
        {
            "downwardAPI": {
                "items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.labels['a']"}}]
            }
        },
        {"projected": {"sources": [NAMESPACE]}},
        {"projected": {"sources": []}},
        {"image": {"reference": "registry.example/data:1", "pullPolicy": "IfNotPresent"}},
        {},
    ],
)
def test_volume_without_the_api_stays(volume: dict[str, Any]) -> None:
    """What the node can mount by itself is kept as it is, and as writable as it was."""
    spec = copied_spec(volume_pod(volume))
    assert spec["volumes"] == [{"name": "v", **volume}]
    assert "readOnly" not in spec["containers"][0]["volumeMounts"][0]


def test_image_volume_is_not_pulled() -> None:
    """An image volume, too, is taken from the node."""
    spec = copied_spec(volume_pod({"image": {"reference": "r", "pullPolicy": "Always"}}))
    assert spec["volumes"][0]["image"] == {"reference": "r", "pullPolicy": "IfNotPresent"}


def test_unmounted_volume_is_rewritten_too() -> None:
    """The kubelet refuses a reference whether it is mounted or not."""
    pod = make_pod(volumes=[{"name": "v", "secret": {"secretName": "s"}}])
    assert copied_spec(pod)["volumes"][0]["hostPath"]["path"] == "/material/v"


@pytest.mark.parametrize(
    "token",
    [{"path": "t"}, {"path": "t", "expirationSeconds": 7200}, {"path": "t", "audience": "vault"}],
)
def test_short_token_is_warned_of(token: dict[str, Any]) -> None:
    """Only the token that admission asks for is extended to a year by the API server."""
    verdict = judge(volume_pod({"projected": {"sources": [{"serviceAccountToken": token}]}}))
    assert verdict.outcome is Outcome.WITH_WARNINGS


def bound(**spec: Any) -> BoundClaim:
    return BoundClaim({"spec": {"volumeName": "pv"}}, {"spec": spec})


CLAIM = {"persistentVolumeClaim": {"claimName": "data"}}


@pytest.mark.parametrize(
    ("claim", "host_path"),
    [
        (bound(local={"path": "/mnt/ssd"}), {"path": "/mnt/ssd", "type": "Directory"}),
        (bound(hostPath={"path": "/data"}), {"path": "/data"}),
        (
            bound(hostPath={"path": "/data", "type": "DirectoryOrCreate"}),
            {"path": "/data", "type": "DirectoryOrCreate"},
        ),
    ],
)
def test_claim_on_this_node_becomes_a_host_path(
    claim: BoundClaim, host_path: dict[str, str]
) -> None:
    """A claim whose volume is a folder of the node needs no API."""
    spec = copied_spec(volume_pod(CLAIM), make_sources(claims={"data": claim}))
    assert spec["volumes"] == [{"name": "v", "hostPath": host_path}]
    assert "readOnly" not in spec["containers"][0]["volumeMounts"][0]


def test_read_only_claim_is_mounted_read_only() -> None:
    """hostPath has no readOnly of its own, so the mounts get it."""
    volume = {"persistentVolumeClaim": {"claimName": "data", "readOnly": True}}
    spec = copied_spec(
        volume_pod(volume), make_sources(claims={"data": bound(local={"path": "/x"})})
    )
    assert spec["containers"][0]["volumeMounts"][0]["readOnly"] is True


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (None, "claim data does not exist"),
        (BoundClaim({}, None), "claim data is not bound to a volume"),
        (
            bound(csi={"driver": "x"}),
            "claim data is bound to a volume that is attached or mounted through the API",
        ),
        (bound(local={"path": "/x"}, volumeMode="Block"), "claim data is a raw block volume"),
        (
            bound(local={"path": "/dev/sdb", "fsType": "ext4"}),
            "claim data is bound to a disk that the kubelet formats and mounts, not to a folder",
        ),
    ],
)
def test_other_claims_refuse(claim: BoundClaim | None, reason: str) -> None:
    """A claim that needs the API refuses, with what stands against it."""
    verdict = judge(volume_pod(CLAIM), make_sources(claims={"data": claim}))
    assert [finding.reason for finding in verdict.refusals] == [reason]


def test_unread_claim_refuses_or_becomes_a_placeholder() -> None:
    """On a node an unread claim refuses; in an explanation of a file it is marked."""
    assert judge(volume_pod(CLAIM)).outcome is Outcome.REFUSED
    spec = copied_spec(volume_pod(CLAIM), options=Options(node_name="n", placeholders=True))
    assert spec["volumes"][0]["hostPath"] == {"path": "/<placeholder: path of claim data>"}


def test_gate_is_the_last_word() -> None:
    """A pod that the kubelet would refuse for any other reason is refused here."""
    pod = make_pod(make_container("Not_A_Label"))
    assert refused_paths(judge(pod)) == ["spec.containers[0].name"]
    long_node = Options(node_name="n" * 250)
    assert refused_paths(judge(make_pod(), options=long_node)) == ["metadata.name"]


def test_options_have_defaults() -> None:
    """Only the node's name has to be known."""
    assert judge(make_pod(), options=NODE).outcome is Outcome.CHECKPOINTABLE
