"""The kubelet's rules for static pods, one by one: what breaks a rule, and where it says so."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from checkpointer.manifest.acceptance import LARGEST_BYTES, refusals

LONG = "a" * 254


def static_pod(*, metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a manifest that is accepted."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "kube-system", **(metadata or {})},
        "spec": {"containers": [{"name": "main", "image": "web:1"}], **spec},
    }


def with_container(**fields: Any) -> dict[str, Any]:
    """Return a manifest whose container has these fields, and a volume `v`."""
    return static_pod(
        containers=[{"name": "main", "image": "web:1", **fields}],
        volumes=[{"name": "v", "emptyDir": {}}],
    )


def with_init(**fields: Any) -> dict[str, Any]:
    return static_pod(initContainers=[{"name": "init", "image": "web:1", **fields}])


def with_volume(**fields: Any) -> dict[str, Any]:
    return static_pod(volumes=[{"name": "v", **fields}])


def paths(manifest: Any, node_name: str = "edge-07", size: int | None = None) -> list[str]:
    return [finding.path for finding in refusals(manifest, node_name, size)]


def probe(**fields: Any) -> dict[str, Any]:
    return {"exec": {"command": ["true"]}, **fields}


ACCEPTED: dict[str, dict[str, Any]] = {
    "the least": static_pod(),
    "no namespace": static_pod(metadata={"namespace": None}),
    "unknown fields": static_pod(metadata={"x": 1}, y=2),
    "nulls": static_pod(volumes=None, securityContext=None, activeDeadlineSeconds=None),
    "volume without a source": with_volume(),
    "unknown volume source": with_volume(future={"a": 1}),
    "projection without sources": with_volume(projected={}),
    "projected downward API": with_volume(
        projected={
            "sources": [
                {
                    "downwardAPI": {
                        "items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]
                    }
                }
            ]
        }
    ),
    "NFS": with_volume(nfs={"server": "nas", "path": "/x"}),
    "iSCSI without a secret": with_volume(iscsi={"targetPortal": "x", "iqn": "iqn", "lun": 0}),
    "pull secret without a name": static_pod(imagePullSecrets=[{}]),
    "system class": static_pod(priorityClassName="system-node-critical", priority=2000001000),
    "class of the cluster": static_pod(priorityClassName="mine", priority=7),
    "priority 0": static_pod(priority=0, preemptionPolicy="PreemptLowerPriority"),
    "node selector of a made-up node": static_pod(nodeSelector={"kubernetes.io/os": "linux"}),
    "host network port": static_pod(
        hostNetwork=True,
        containers=[{"name": "m", "image": "i", "ports": [{"containerPort": 1}]}],
    ),
    "same port, two protocols": with_container(
        ports=[
            {"containerPort": 53, "hostPort": 53, "protocol": "UDP"},
            {"containerPort": 53, "hostPort": 53},
        ]
    ),
    "relaxed variable": with_container(env=[{"name": "my var", "value": "x"}]),
    "file key": with_container(
        env=[
            {"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "e", "key": "A"}}}
        ]
    ),
    "sidecar with probes": with_init(restartPolicy="Always", livenessProbe=probe()),
    "sub-path": with_container(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "a/..b"}]),
    "deletion cost": static_pod(
        metadata={"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}
    ),
    "matching profiles": static_pod(
        metadata={
            "annotations": {
                "container.apparmor.security.beta.kubernetes.io/main": "localhost/p",
                "seccomp.security.alpha.kubernetes.io/pod": "docker/default",
            }
        },
        securityContext={
            "appArmorProfile": {"type": "Localhost", "localhostProfile": "p"},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    ),
    "huge pages": with_container(
        resources={"limits": {"hugepages-2Mi": "4Mi", "memory": "1Gi"}}
        | {"requests": {"hugepages-2Mi": "4Mi"}}
    ),
    "pod-level resources": static_pod(
        resources={"requests": {"cpu": "1"}},
        containers=[{"name": "m", "image": "i", "resources": {"requests": {"cpu": "900m"}}}],
    ),
}

REFUSED: list[tuple[str, Any, str]] = [
    # The file
    ("no object", [], ""),
    ("null", None, "apiVersion"),
    ("a list of pods", {"apiVersion": "v1", "kind": "PodList", "items": []}, "kind"),
    ("no version", {**static_pod(), "apiVersion": None}, "apiVersion"),
    (
        "text for a number",
        static_pod(terminationGracePeriodSeconds="30"),
        "spec.terminationGracePeriodSeconds",
    ),
    ("fraction for an integer", static_pod(priority=0.5), "spec.priority"),
    ("number too large", static_pod(priority=1 << 31), "spec.priority"),
    ("text for a boolean", static_pod(hostNetwork="true"), "spec.hostNetwork"),
    ("text for a list", with_container(args="-v"), "spec.containers[0].args"),
    (
        "number in an annotation",
        static_pod(metadata={"annotations": {"a": 1}}),
        "metadata.annotations",
    ),
    # Metadata
    ("no name", static_pod(metadata={"name": None, "generateName": "a-"}), "metadata.name"),
    ("name with capitals", static_pod(metadata={"name": "Web"}), "metadata.name"),
    ("name too long with the node's", static_pod(metadata={"name": "a" * 247}), "metadata.name"),
    ("namespace with dots", static_pod(metadata={"namespace": "a.b"}), "metadata.namespace"),
    ("label key", static_pod(metadata={"labels": {"a b": ""}}), "metadata.labels['a b']"),
    ("label value", static_pod(metadata={"labels": {"a": "b c"}}), "metadata.labels['a']"),
    (
        "annotation key",
        static_pod(metadata={"annotations": {"/a": ""}}),
        "metadata.annotations['/a']",
    ),
    (
        "annotations too large",
        static_pod(metadata={"annotations": {"a": "x" * 262144}}),
        "metadata.annotations",
    ),
    (
        "mirror pod",
        static_pod(metadata={"annotations": {"kubernetes.io/config.mirror": ""}}),
        "metadata.annotations['kubernetes.io/config.mirror']",
    ),
    (
        "deletion cost",
        static_pod(metadata={"annotations": {"controller.kubernetes.io/pod-deletion-cost": "+5"}}),
        "metadata.annotations['controller.kubernetes.io/pod-deletion-cost']",
    ),
    (
        "profile of no container",
        static_pod(
            metadata={"annotations": {"container.apparmor.security.beta.kubernetes.io/x": ""}}
        ),
        "metadata.annotations['container.apparmor.security.beta.kubernetes.io/x']",
    ),
    (
        "seccomp annotation",
        static_pod(
            metadata={"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "localhost/../x"}}
        ),
        "metadata.annotations['seccomp.security.alpha.kubernetes.io/pod']",
    ),
    (
        "seccomp disagrees",
        static_pod(
            metadata={"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}},
            securityContext={"seccompProfile": {"type": "RuntimeDefault"}},
        ),
        "spec.securityContext.seccompProfile",
    ),
    (
        "deletion timestamp",
        static_pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        "metadata.deletionTimestamp",
    ),
    ("resource version", static_pod(metadata={"resourceVersion": "1"}), "metadata.resourceVersion"),
    (
        "owner without a UID",
        static_pod(
            metadata={"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n"}]}
        ),
        "metadata.ownerReferences[0].uid",
    ),
    ("finalizer", static_pod(metadata={"finalizers": ["a b"]}), "metadata.finalizers[0]"),
    # References to API objects
    ("service account", static_pod(serviceAccountName="web"), "spec.serviceAccountName"),
    ("old service account", static_pod(serviceAccount="web"), "spec.serviceAccountName"),
    ("pull secret", static_pod(imagePullSecrets=[{"name": "r"}]), "spec.imagePullSecrets[0]"),
    (
        "resource claim",
        static_pod(resourceClaims=[{"name": "gpu", "resourceClaimName": "g"}]),
        "spec.resourceClaims",
    ),
    (
        "envFrom",
        with_container(envFrom=[{"secretRef": {"name": "s", "optional": True}}]),
        "spec.containers[0].envFrom[0].secretRef",
    ),
    (
        "env of a secret",
        with_init(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
        "spec.initContainers[0].env[0].valueFrom.secretKeyRef",
    ),
    (
        "env of a config map",
        with_container(
            env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}]
        ),
        "spec.containers[0].env[0].valueFrom.configMapKeyRef",
    ),
    *[
        (f"volume {source}", with_volume(**{source: value}), f"spec.volumes[0].{source}")
        for source, value in {
            "azureFile": {"secretName": "s", "shareName": "x"},
            "configMap": {"name": "c", "optional": True},
            "csi": {"driver": "d"},
            "ephemeral": {"volumeClaimTemplate": {}},
            "glusterfs": {"endpoints": "e", "path": "p"},
            "persistentVolumeClaim": {"claimName": "p"},
            "secret": {"secretName": "s"},
        }.items()
    ],
    (
        "iSCSI with a secret",
        with_volume(iscsi={"secretRef": {"name": "s"}}),
        "spec.volumes[0].iscsi.secretRef",
    ),
    *[
        (
            f"projected {source}",
            with_volume(projected={"sources": [{source: value}]}),
            f"spec.volumes[0].projected.sources[0].{source}",
        )
        for source, value in {
            "clusterTrustBundle": {"path": "p"},
            "configMap": {"name": "c"},
            "podCertificate": {"signerName": "s"},
            "secret": {"name": "s"},
            "serviceAccountToken": {"path": "token"},
        }.items()
    ],
    (
        "empty projection",
        with_volume(projected={"sources": [{}]}),
        "spec.volumes[0].projected.sources[0]",
    ),
    # Admission, offline
    (
        "node selector",
        static_pod(nodeSelector={"node-role.kubernetes.io/control-plane": ""}),
        "spec.nodeSelector",
    ),
    (
        "required affinity",
        static_pod(
            affinity={
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}
                }
            }
        ),
        "spec.affinity.nodeAffinity",
    ),
    ("runtime class", static_pod(runtimeClassName="gvisor"), "spec.runtimeClassName"),
    ("Windows", static_pod(os={"name": "windows"}), "spec.os.name"),
    (
        "ephemeral containers",
        static_pod(ephemeralContainers=[{"name": "d", "image": "i"}]),
        "spec.ephemeralContainers",
    ),
    ("scheduling gates", static_pod(schedulingGates=[{"name": "a/b"}]), "spec.nodeName"),
    # The mirror pod
    ("overhead without a class", static_pod(overhead={"cpu": "1"}), "spec.overhead"),
    (
        "priority of another class",
        static_pod(priorityClassName="system-node-critical", priority=1),
        "spec.priority",
    ),
    ("priority without a class", static_pod(priority=5), "spec.priority"),
    ("preemption policy", static_pod(preemptionPolicy="Never"), "spec.preemptionPolicy"),
    # The pod
    ("restart policy", static_pod(restartPolicy="always"), "spec.restartPolicy"),
    ("DNS policy", static_pod(dnsPolicy="Cluster"), "spec.dnsPolicy"),
    ("DNS None without servers", static_pod(dnsPolicy="None"), "spec.dnsConfig.nameservers"),
    (
        "four name servers",
        static_pod(dnsConfig={"nameservers": ["10.0.0.1"] * 4}),
        "spec.dnsConfig.nameservers",
    ),
    (
        "name server",
        static_pod(dnsConfig={"nameservers": ["dns"]}),
        "spec.dnsConfig.nameservers[0]",
    ),
    ("search domain", static_pod(dnsConfig={"searches": ["-a"]}), "spec.dnsConfig.searches[0]"),
    ("many searches", static_pod(dnsConfig={"searches": ["a"] * 33}), "spec.dnsConfig.searches"),
    (
        "DNS option",
        static_pod(dnsConfig={"options": [{"value": "1"}]}),
        "spec.dnsConfig.options[0]",
    ),
    ("hostname with dots", static_pod(hostname="a.b"), "spec.hostname"),
    ("long hostname", static_pod(hostname="a" * 64), "spec.hostname"),
    ("subdomain", static_pod(subdomain="A"), "spec.subdomain"),
    (
        "hostname override on the host's network",
        static_pod(hostnameOverride="a.b", hostNetwork=True),
        "spec.hostnameOverride",
    ),
    ("long hostname override", static_pod(hostnameOverride="a" * 65), "spec.hostnameOverride"),
    ("class name", static_pod(priorityClassName="A"), "spec.priorityClassName"),
    ("deadline", static_pod(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds"),
    (
        "shared PIDs",
        static_pod(shareProcessNamespace=True, hostPID=True),
        "spec.shareProcessNamespace",
    ),
    ("user namespace", static_pod(hostUsers=False, hostIPC=True), "spec.hostIPC"),
    ("group", static_pod(securityContext={"fsGroup": -1}), "spec.securityContext.fsGroup"),
    (
        "groups",
        static_pod(securityContext={"supplementalGroups": [1 << 31]}),
        "spec.securityContext.supplementalGroups[0]",
    ),
    (
        "group policy",
        static_pod(securityContext={"fsGroupChangePolicy": "Never"}),
        "spec.securityContext.fsGroupChangePolicy",
    ),
    (
        "sysctl name",
        static_pod(securityContext={"sysctls": [{"name": "A", "value": "1"}]}),
        "spec.securityContext.sysctls[0].name",
    ),
    (
        "sysctl twice",
        static_pod(securityContext={"sysctls": [{"name": "kernel.shmmax", "value": "1"}] * 2}),
        "spec.securityContext.sysctls[1].name",
    ),
    (
        "sysctl of the host's network",
        static_pod(
            hostNetwork=True, securityContext={"sysctls": [{"name": "net/core/x", "value": "1"}]}
        ),
        "spec.securityContext.sysctls[0].name",
    ),
    (
        "sysctl of the host's IPC",
        static_pod(
            hostIPC=True, securityContext={"sysctls": [{"name": "kernel.sem", "value": "1"}]}
        ),
        "spec.securityContext.sysctls[0].name",
    ),
    (
        "seccomp type",
        static_pod(securityContext={"seccompProfile": {}}),
        "spec.securityContext.seccompProfile.type",
    ),
    (
        "seccomp profile",
        static_pod(
            securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}}
        ),
        "spec.securityContext.seccompProfile.localhostProfile",
    ),
    (
        "AppArmor profile",
        static_pod(
            securityContext={"appArmorProfile": {"type": "Unconfined", "localhostProfile": "x"}}
        ),
        "spec.securityContext.appArmorProfile.localhostProfile",
    ),
    (
        "toleration without a key",
        static_pod(tolerations=[{"value": "x"}]),
        "spec.tolerations[0].operator",
    ),
    (
        "toleration with a value",
        static_pod(tolerations=[{"operator": "Exists", "value": "x"}]),
        "spec.tolerations[0].value",
    ),
    (
        "toleration of an effect",
        static_pod(tolerations=[{"operator": "Exists", "effect": "x"}]),
        "spec.tolerations[0].effect",
    ),
    (
        "toleration for a time",
        static_pod(tolerations=[{"operator": "Exists", "tolerationSeconds": 5}]),
        "spec.tolerations[0].effect",
    ),
    ("host alias", static_pod(hostAliases=[{"ip": "x"}]), "spec.hostAliases[0].ip"),
    (
        "host alias name",
        static_pod(hostAliases=[{"ip": "::1", "hostnames": ["A"]}]),
        "spec.hostAliases[0].hostnames[0]",
    ),
    (
        "pod requests too small",
        static_pod(
            resources={"requests": {"cpu": "1"}},
            containers=[{"name": "m", "image": "i", "resources": {"requests": {"cpu": "1001m"}}}],
        ),
        "spec.resources.requests[cpu]",
    ),
    # Containers
    ("no containers", static_pod(containers=[]), "spec.containers"),
    ("null container", static_pod(containers=[None]), "spec.containers[0]"),
    ("container name", with_container(name="A"), "spec.containers[0].name"),
    ("no image", with_container(image=""), "spec.containers[0].image"),
    ("image in spaces", with_container(image=" web"), "spec.containers[0].image"),
    (
        "pull policy",
        with_container(imagePullPolicy="Sometimes"),
        "spec.containers[0].imagePullPolicy",
    ),
    (
        "message policy",
        with_container(terminationMessagePolicy="x"),
        "spec.containers[0].terminationMessagePolicy",
    ),
    (
        "same name",
        static_pod(containers=[{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]),
        "spec.containers[1].name",
    ),
    (
        "same name as an init container",
        static_pod(initContainers=[{"name": "main", "image": "i"}]),
        "spec.initContainers[0].name",
    ),
    (
        "restart policy of a container",
        with_container(restartPolicy="x"),
        "spec.containers[0].restartPolicy",
    ),
    (
        "rules without a policy",
        with_container(restartPolicyRules=[{"action": "Restart"}]),
        "spec.containers[0].restartPolicy",
    ),
    (
        "probe of an init container",
        with_init(readinessProbe=probe()),
        "spec.initContainers[0].readinessProbe",
    ),
    ("lifecycle of an init container", with_init(lifecycle={}), "spec.initContainers[0].lifecycle"),
    (
        "port",
        with_container(ports=[{"containerPort": 0}]),
        "spec.containers[0].ports[0].containerPort",
    ),
    (
        "host port",
        with_container(ports=[{"containerPort": 1, "hostPort": 70000}]),
        "spec.containers[0].ports[0].hostPort",
    ),
    (
        "port name",
        with_container(ports=[{"containerPort": 1, "name": "1"}]),
        "spec.containers[0].ports[0].name",
    ),
    (
        "port name twice",
        with_container(
            ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]
        ),
        "spec.containers[0].ports[1].name",
    ),
    (
        "protocol",
        with_container(ports=[{"containerPort": 1, "protocol": "tcp"}]),
        "spec.containers[0].ports[0].protocol",
    ),
    (
        "host port twice",
        with_container(ports=[{"containerPort": 1, "hostPort": 9}] * 2),
        "spec.containers[0].ports[1].hostPort",
    ),
    (
        "host port on the host's network",
        static_pod(
            hostNetwork=True,
            containers=[
                {"name": "m", "image": "i", "ports": [{"containerPort": 1, "hostPort": 2}]}
            ],
        ),
        "spec.containers[0].ports[0].hostPort",
    ),
    ("variable", with_container(env=[{"name": "A=B"}]), "spec.containers[0].env[0].name"),
    (
        "variable without a source",
        with_container(env=[{"name": "A", "valueFrom": {}}]),
        "spec.containers[0].env[0].valueFrom",
    ),
    (
        "variable with two values",
        with_container(
            env=[
                {
                    "name": "A",
                    "value": "x",
                    "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
                }
            ]
        ),
        "spec.containers[0].env[0].valueFrom",
    ),
    (
        "field of no pod",
        with_container(
            env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels"}}}]
        ),
        "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath",
    ),
    (
        "field with a subscript",
        with_container(
            env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x['a']"}}}]
        ),
        "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath",
    ),
    (
        "resource of no container",
        with_container(
            env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}}]
        ),
        "spec.containers[0].env[0].valueFrom.resourceFieldRef.resource",
    ),
    (
        "divisor",
        with_container(
            env=[
                {
                    "name": "A",
                    "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1Mi"}},
                }
            ]
        ),
        "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor",
    ),
    (
        "mount of nothing",
        with_container(volumeMounts=[{"name": "w", "mountPath": "/v"}]),
        "spec.containers[0].volumeMounts[0].name",
    ),
    (
        "mount without a path",
        with_container(volumeMounts=[{"name": "v"}]),
        "spec.containers[0].volumeMounts[0].mountPath",
    ),
    (
        "mounts at one path",
        with_container(volumeMounts=[{"name": "v", "mountPath": "/v"}] * 2),
        "spec.containers[0].volumeMounts[1].mountPath",
    ),
    (
        "sub-path that climbs",
        with_container(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "a/../b"}]),
        "spec.containers[0].volumeMounts[0].subPath",
    ),
    (
        "two sub-paths",
        with_container(
            volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "a", "subPathExpr": "b"}]
        ),
        "spec.containers[0].volumeMounts[0].subPathExpr",
    ),
    (
        "propagation without privileges",
        with_container(
            volumeMounts=[{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]
        ),
        "spec.containers[0].volumeMounts[0].mountPropagation",
    ),
    (
        "recursive read-only",
        with_container(
            volumeMounts=[{"name": "v", "mountPath": "/v", "recursiveReadOnly": "Enabled"}]
        ),
        "spec.containers[0].volumeMounts[0].recursiveReadOnly",
    ),
    (
        "device of an emptyDir",
        with_container(volumeDevices=[{"name": "v", "devicePath": "/dev/x"}]),
        "spec.containers[0].volumeDevices[0].name",
    ),
    (
        "probe without a handler",
        with_container(livenessProbe={}),
        "spec.containers[0].livenessProbe",
    ),
    (
        "probe with two handlers",
        with_container(livenessProbe=probe(tcpSocket={"port": 1})),
        "spec.containers[0].livenessProbe",
    ),
    (
        "liveness threshold",
        with_container(livenessProbe=probe(successThreshold=2)),
        "spec.containers[0].livenessProbe.successThreshold",
    ),
    (
        "negative period",
        with_container(readinessProbe=probe(periodSeconds=-1)),
        "spec.containers[0].readinessProbe.periodSeconds",
    ),
    (
        "grace of a readiness probe",
        with_container(readinessProbe=probe(terminationGracePeriodSeconds=1)),
        "spec.containers[0].readinessProbe.terminationGracePeriodSeconds",
    ),
    (
        "port of a probe",
        with_container(livenessProbe={"httpGet": {"port": "80"}}),
        "spec.containers[0].livenessProbe.httpGet.port",
    ),
    (
        "scheme of a probe",
        with_container(livenessProbe={"httpGet": {"port": 1, "scheme": "x"}}),
        "spec.containers[0].livenessProbe.httpGet.scheme",
    ),
    (
        "header of a probe",
        with_container(livenessProbe={"httpGet": {"port": 1, "httpHeaders": [{"name": "a b"}]}}),
        "spec.containers[0].livenessProbe.httpGet.httpHeaders",
    ),
    (
        "empty command",
        with_container(lifecycle={"preStop": {"exec": {}}}),
        "spec.containers[0].lifecycle.preStop.exec.command",
    ),
    (
        "long sleep",
        with_container(lifecycle={"preStop": {"sleep": {"seconds": 31}}}),
        "spec.containers[0].lifecycle.preStop.sleep",
    ),
    (
        "stop signal",
        with_container(lifecycle={"stopSignal": "SIGTERM"}),
        "spec.containers[0].lifecycle.stopSignal",
    ),
    (
        "request above the limit",
        with_container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1001m"}}),
        "spec.containers[0].resources.requests[cpu]",
    ),
    (
        "device request below the limit",
        with_container(resources={"limits": {"a.b/c": "2"}, "requests": {"a.b/c": "1"}}),
        "spec.containers[0].resources.requests[a.b/c]",
    ),
    (
        "device request without a limit",
        with_container(resources={"requests": {"a.b/c": "1"}}),
        "spec.containers[0].resources.limits[a.b/c]",
    ),
    (
        "half a device",
        with_container(resources={"limits": {"a.b/c": "500m"}}),
        "spec.containers[0].resources.limits[a.b/c]",
    ),
    (
        "unknown resource",
        with_container(resources={"limits": {"gpu": "1"}}),
        "spec.containers[0].resources.limits[gpu]",
    ),
    (
        "quantity",
        with_container(resources={"limits": {"cpu": "1x"}}),
        "spec.containers[0].resources.limits[cpu]",
    ),
    (
        "negative quantity",
        with_container(resources={"limits": {"cpu": -1}}),
        "spec.containers[0].resources.limits[cpu]",
    ),
    (
        "part of a huge page",
        with_container(resources={"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}}),
        "spec.containers[0].resources.limits[hugepages-2Mi]",
    ),
    (
        "only huge pages",
        with_container(resources={"limits": {"hugepages-2Mi": "2Mi"}}),
        "spec.containers[0].resources",
    ),
    (
        "claims of a container",
        with_container(resources={"claims": [{"name": "a"}]}),
        "spec.containers[0].resources.claims",
    ),
    (
        "user",
        with_container(securityContext={"runAsUser": -1}),
        "spec.containers[0].securityContext.runAsUser",
    ),
    (
        "unmasked proc",
        with_container(securityContext={"procMount": "Unmasked"}),
        "spec.containers[0].securityContext.procMount",
    ),
    (
        "no escalation, privileged",
        with_container(securityContext={"allowPrivilegeEscalation": False, "privileged": True}),
        "spec.containers[0].securityContext.allowPrivilegeEscalation",
    ),
    # Volumes
    ("volume name", static_pod(volumes=[{"name": "a.b"}]), "spec.volumes[0].name"),
    ("volume twice", static_pod(volumes=[{"name": "a"}, {"name": "a"}]), "spec.volumes[1].name"),
    ("two sources", with_volume(emptyDir={}, hostPath={"path": "/"}), "spec.volumes[0]"),
    ("host path without a path", with_volume(hostPath={}), "spec.volumes[0].hostPath.path"),
    (
        "host path that climbs",
        with_volume(hostPath={"path": "/a/../b"}),
        "spec.volumes[0].hostPath.path",
    ),
    (
        "host path type",
        with_volume(hostPath={"path": "/a", "type": "Dir"}),
        "spec.volumes[0].hostPath.type",
    ),
    ("medium", with_volume(emptyDir={"medium": "memory"}), "spec.volumes[0].emptyDir.medium"),
    ("size limit", with_volume(emptyDir={"sizeLimit": "-1"}), "spec.volumes[0].emptyDir.sizeLimit"),
    ("NFS path", with_volume(nfs={"server": "a", "path": "b"}), "spec.volumes[0].nfs.path"),
    ("image reference", with_volume(image={}), "spec.volumes[0].image.reference"),
    (
        "mode",
        with_volume(downwardAPI={"defaultMode": 512}),
        "spec.volumes[0].downwardAPI.defaultMode",
    ),
    (
        "file that climbs",
        with_volume(
            downwardAPI={"items": [{"path": "..a", "fieldRef": {"fieldPath": "metadata.name"}}]}
        ),
        "spec.volumes[0].downwardAPI.items[0].path",
    ),
    (
        "file of nothing",
        with_volume(downwardAPI={"items": [{"path": "a"}]}),
        "spec.volumes[0].downwardAPI.items[0]",
    ),
    (
        "file of an address",
        with_volume(
            downwardAPI={"items": [{"path": "a", "fieldRef": {"fieldPath": "status.podIP"}}]}
        ),
        "spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath",
    ),
    (
        "file of a resource of nobody",
        with_volume(
            downwardAPI={"items": [{"path": "a", "resourceFieldRef": {"resource": "limits.cpu"}}]}
        ),
        "spec.volumes[0].downwardAPI.items[0].resourceFieldRef.containerName",
    ),
]


@pytest.mark.parametrize("manifest", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(manifest: Mapping[str, Any]) -> None:
    """What the kubelet takes, the gate takes."""
    assert refusals(manifest, "edge-07") == ()


@pytest.mark.parametrize(
    ("manifest", "path"),
    [(manifest, path) for _, manifest, path in REFUSED],
    ids=[name for name, _, _ in REFUSED],
)
def test_refused(manifest: Any, path: str) -> None:
    """What breaks one rule is refused there, and the manifest is left as it was."""
    before = copy.deepcopy(manifest)
    assert path in paths(manifest)
    assert manifest == before


def test_token_without_account_says_what_the_kubelet_says() -> None:
    """The message seen on a real 1.36.2 node is ours, too."""
    manifest = with_volume(projected={"sources": [{"serviceAccountToken": {"path": "token"}}]})
    assert [finding.reason for finding in refusals(manifest, "edge-07")] == [
        "must not be specified when serviceAccountName is not set",
        "static pods may not reference serviceaccounts",
    ]


@pytest.mark.parametrize(("size", "found"), [(LARGEST_BYTES, []), (LARGEST_BYTES + 1, [""])])
def test_size_is_below_ten_mebibytes(size: int, found: list[str]) -> None:
    """A file of exactly 10 MiB is too large already."""
    assert paths(static_pod(), size=size) == found


def test_node_name_is_lowered_for_the_pod_s_name() -> None:
    """The kubelet lowers its node's name before it appends it."""
    assert paths(static_pod(), "EDGE-07") == []
    assert paths(static_pod(), "edge_07") == ["metadata.name"]
    assert paths(static_pod(), LONG) == ["metadata.name"]


def test_all_broken_rules_are_told() -> None:
    """One look at the findings is enough to repair a manifest."""
    manifest = static_pod(serviceAccountName="a", hostname="A", volumes=[{"name": "v", "csi": {}}])
    assert paths(manifest) == [
        "spec.hostname",
        "spec.serviceAccountName",
        "spec.volumes[0].csi",
    ]


@pytest.mark.parametrize(
    ("init", "total", "accepted"),
    [
        ([("100m", "Always"), ("900m", None)], "1", True),
        ([("100m", "Always"), ("950m", None)], "1", False),
        ([("950m", None), ("100m", "Always")], "1", True),
        ([("600m", "Always")], "1", False),
    ],
)
def test_sidecars_count_beside_what_runs_with_them(
    init: list[tuple[str, str | None]], total: str, accepted: bool
) -> None:
    """An init container runs beside the sidecars before it; containers beside all of them."""
    manifest = static_pod(
        resources={"requests": {"cpu": total}},
        containers=[{"name": "m", "image": "i", "resources": {"requests": {"cpu": "500m"}}}],
        initContainers=[
            {
                "name": f"i{index}",
                "image": "i",
                "restartPolicy": policy,
                "resources": {"requests": {"cpu": cpu}},
            }
            for index, (cpu, policy) in enumerate(init)
        ],
    )
    assert paths(manifest) == ([] if accepted else ["spec.resources.requests[cpu]"])
