"""Every field of the v1 Pod up to Kubernetes 1.37, and what becomes of it in a checkpoint.

This is the one place to look up a field; check it against the API reference
(https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/). A row without
a treatment is kept as it is. Rows that say "rewritten" or "substituted" name what other modules
do: `containers`, `environment`, `downward`, `volumes`, `identity`. A test compares these tables
with the models of the newest `kubernetes` package, so that no new field goes unnoticed.
"""

from __future__ import annotations

from typing import Final

from checkpointer.manifest.shapes import Each, Kind, Row, Table, Treatment
from checkpointer.manifest.volume_fields import OBJECT_FIELD, RESOURCE_FIELD, VOLUME

_TEXT: Final = Row(Kind.TEXT)
_INT32: Final = Row(Kind.INT32)
_INT64: Final = Row(Kind.INT64)
_BOOL: Final = Row(Kind.BOOL)
_PORT: Final = Row(
    Kind.INT_OR_TEXT,
    Treatment.REWRITTEN,
    "a port's name becomes its number where the ports are dropped (host network)",
)

_SERVER_SIDE: Final = "kept by the API server; a static pod has none"
_SCHEDULING: Final = "there is nothing to schedule: the pod is on its node already"
_NODE_LABELS: Final = "offline the kubelet knows few labels of its node and would reject the pod"
_NO_CONTROLLER: Final = "nobody acts on it while the API is away"

HANDLER_ROWS: Final = {
    "exec": Row(Table("ExecAction", {"command": Row(Kind.TEXTS)})),
    "httpGet": Row(
        Table(
            "HTTPGetAction",
            {
                "host": _TEXT,
                "httpHeaders": Row(Each(Table("HTTPHeader", {"name": _TEXT, "value": _TEXT}))),
                "path": _TEXT,
                "port": _PORT,
                "protocol": _TEXT,
                "scheme": _TEXT,
            },
        )
    ),
    "tcpSocket": Row(Table("TCPSocketAction", {"host": _TEXT, "port": _PORT})),
}

PROBE: Final = Table(
    "Probe",
    {
        **HANDLER_ROWS,
        "grpc": Row(Table("GRPCAction", {"mode": _TEXT, "port": _INT32, "service": _TEXT})),
        "failureThreshold": _INT32,
        "initialDelaySeconds": _INT32,
        "periodSeconds": _INT32,
        "successThreshold": _INT32,
        "terminationGracePeriodSeconds": _INT64,
        "timeoutSeconds": _INT32,
    },
)

LIFECYCLE_HANDLER: Final = Table(
    "LifecycleHandler",
    {**HANDLER_ROWS, "sleep": Row(Table("SleepAction", {"seconds": _INT64}))},
)

LIFECYCLE: Final = Table(
    "Lifecycle",
    {
        "postStart": Row(LIFECYCLE_HANDLER),
        "preStop": Row(LIFECYCLE_HANDLER),
        "stopSignal": _TEXT,
    },
)

_KEY_REF: Final = {"key": _TEXT, "name": _TEXT, "optional": _BOOL}
_INLINED: Final = "static pods may not reference config maps or secrets: the value is written out"

ENV_SOURCE: Final = Table(
    "EnvVarSource",
    {
        "configMapKeyRef": Row(
            Table("ConfigMapKeySelector", _KEY_REF), Treatment.REWRITTEN, _INLINED
        ),
        "secretKeyRef": Row(Table("SecretKeySelector", _KEY_REF), Treatment.REWRITTEN, _INLINED),
        "fieldRef": Row(
            OBJECT_FIELD, Treatment.SUBSTITUTED, "the copy would see its own name, UID, ..."
        ),
        "fileKeyRef": Row(
            Table(
                "FileKeySelector",
                {"key": _TEXT, "optional": _BOOL, "path": _TEXT, "volumeName": _TEXT},
            )
        ),
        "resourceFieldRef": Row(RESOURCE_FIELD),
    },
    unknown=Treatment.REFUSED,
)

ENV: Final = Table("EnvVar", {"name": _TEXT, "value": _TEXT, "valueFrom": Row(ENV_SOURCE)})

_ENV_REF: Final = {"name": _TEXT, "optional": _BOOL}
ENV_FROM: Final = Table(
    "EnvFromSource",
    {
        "configMapRef": Row(Table("ConfigMapEnvSource", _ENV_REF), Treatment.REWRITTEN, _INLINED),
        "prefix": _TEXT,
        "secretRef": Row(Table("SecretEnvSource", _ENV_REF), Treatment.REWRITTEN, _INLINED),
    },
    unknown=Treatment.REFUSED,
)

APP_ARMOR: Final = Table("AppArmorProfile", {"localhostProfile": _TEXT, "type": _TEXT})
SECCOMP: Final = Table("SeccompProfile", {"localhostProfile": _TEXT, "type": _TEXT})
SELINUX: Final = Table(
    "SELinuxOptions", {"level": _TEXT, "role": _TEXT, "type": _TEXT, "user": _TEXT}
)
_WINDOWS: Final = Row(Kind.ANY, Treatment.DROPPED, "means nothing on Linux, where this agent runs")

SECURITY_CONTEXT: Final = Table(
    "SecurityContext",
    {
        "allowPrivilegeEscalation": _BOOL,
        "appArmorProfile": Row(APP_ARMOR),
        "capabilities": Row(
            Table("Capabilities", {"add": Row(Kind.TEXTS), "drop": Row(Kind.TEXTS)})
        ),
        "privileged": _BOOL,
        "procMount": _TEXT,
        "readOnlyRootFilesystem": _BOOL,
        "runAsGroup": _INT64,
        "runAsNonRoot": _BOOL,
        "runAsUser": _INT64,
        "seLinuxOptions": Row(SELINUX),
        "seccompProfile": Row(SECCOMP),
        "windowsOptions": _WINDOWS,
    },
)

POD_SECURITY_CONTEXT: Final = Table(
    "PodSecurityContext",
    {
        "appArmorProfile": Row(APP_ARMOR),
        "fsGroup": _INT64,
        "fsGroupChangePolicy": _TEXT,
        "runAsGroup": _INT64,
        "runAsNonRoot": _BOOL,
        "runAsUser": _INT64,
        "seLinuxChangePolicy": _TEXT,
        "seLinuxOptions": Row(SELINUX),
        "seccompProfile": Row(SECCOMP),
        "supplementalGroups": Row(Kind.INTS),
        "supplementalGroupsPolicy": _TEXT,
        "sysctls": Row(Each(Table("Sysctl", {"name": _TEXT, "value": _TEXT}))),
        "windowsOptions": _WINDOWS,
    },
)

RESOURCES: Final = Table(
    "ResourceRequirements",
    {
        "claims": Row(
            Kind.ANY,
            Treatment.REFUSED,
            "dynamic resource claims are resolved through the API",
            "use a device plugin's resource, or a host path to the device",
        ),
        "limits": Row(Kind.QUANTITIES),
        "requests": Row(Kind.QUANTITIES),
    },
)

CONTAINER_PORT: Final = Table(
    "ContainerPort",
    {
        "containerPort": _INT32,
        "hostIP": _TEXT,
        "hostPort": _INT32,
        "name": _TEXT,
        "protocol": _TEXT,
    },
)

VOLUME_MOUNT: Final = Table(
    "VolumeMount",
    {
        "bindMountOptions": Row(Kind.TEXTS),
        "mountPath": _TEXT,
        "mountPropagation": _TEXT,
        "name": _TEXT,
        "readOnly": Row(
            Kind.BOOL, Treatment.REWRITTEN, "true on material: the kubelet's own mount is read-only"
        ),
        "recursiveReadOnly": _TEXT,
        "subPath": _TEXT,
        "subPathExpr": _TEXT,
    },
)

_RESTART_POLICY: Final = (
    "kept only as a sidecar's Always: anything else is refused by kubelets without "
    "ContainerRestartRules, and a static pod is there to stay up"
)

CONTAINER: Final = Table(
    "Container",
    {
        "args": Row(Kind.TEXTS),
        "command": Row(Kind.TEXTS),
        "env": Row(Each(ENV), Treatment.REWRITTEN, _INLINED),
        "envFrom": Row(Each(ENV_FROM), Treatment.REWRITTEN, _INLINED),
        "image": Row(Kind.TEXT, Treatment.REWRITTEN, "only where the digest is to be pinned"),
        "imagePullPolicy": Row(
            Kind.TEXT, Treatment.REWRITTEN, "Always needs the registry at every start"
        ),
        "lifecycle": Row(LIFECYCLE),
        "livenessProbe": Row(PROBE),
        "name": _TEXT,
        "ports": Row(
            Each(CONTAINER_PORT),
            Treatment.REWRITTEN,
            "declared ports of a host-network pod make the kubelet reject the returning parent",
        ),
        "readinessProbe": Row(PROBE),
        "resizePolicy": Row(
            Kind.ANY, Treatment.DROPPED, "only the API can resize a pod, and never a static one"
        ),
        "resources": Row(RESOURCES),
        "restartPolicy": Row(Kind.TEXT, Treatment.REWRITTEN, _RESTART_POLICY),
        "restartPolicyRules": Row(Kind.ANY, Treatment.WARNED, _RESTART_POLICY),
        "securityContext": Row(SECURITY_CONTEXT),
        "startupProbe": Row(PROBE),
        "stdin": _BOOL,
        "stdinOnce": _BOOL,
        "terminationMessagePath": _TEXT,
        "terminationMessagePolicy": _TEXT,
        "tty": _BOOL,
        "volumeDevices": Row(
            Each(Table("VolumeDevice", {"devicePath": _TEXT, "name": _TEXT})),
            Treatment.REFUSED,
            "raw block volumes come from claims that are attached through the API",
            "use a host path of type BlockDevice in a privileged container",
        ),
        "volumeMounts": Row(Each(VOLUME_MOUNT)),
        "workingDir": _TEXT,
    },
)

EPHEMERAL_CONTAINER: Final = Table(
    "EphemeralContainer",
    {
        name: Row(Kind.ANY, Treatment.DROPPED, "part of a debugging session")
        for name in (*CONTAINER.rows, "targetContainerName")
    },
)

_DNS_CONFIG: Final = Table(
    "PodDNSConfig",
    {
        "nameservers": Row(Kind.TEXTS),
        "options": Row(Each(Table("PodDNSConfigOption", {"name": _TEXT, "value": _TEXT}))),
        "searches": Row(Kind.TEXTS),
    },
)

TOLERATION: Final = Table(
    "Toleration",
    {
        "effect": _TEXT,
        "key": _TEXT,
        "operator": _TEXT,
        "tolerationSeconds": _INT64,
        "value": _TEXT,
    },
)

_PRIORITY: Final = "kept only together with its class: the mirror pod is forbidden otherwise"

POD_SPEC: Final = Table(
    "PodSpec",
    {
        "activeDeadlineSeconds": Row(
            Kind.INT64, Treatment.DROPPED, "would end the copy for good in the middle of an outage"
        ),
        "affinity": Row(Kind.ANY, Treatment.DROPPED, _NODE_LABELS),
        "automountServiceAccountToken": Row(
            Kind.BOOL, Treatment.REWRITTEN, "false: a static pod has no service account"
        ),
        "containers": Row(Each(CONTAINER)),
        "dnsConfig": Row(_DNS_CONFIG),
        "dnsPolicy": _TEXT,
        "enableServiceLinks": _BOOL,
        "ephemeralContainers": Row(
            Each(EPHEMERAL_CONTAINER),
            Treatment.DROPPED,
            "part of a debugging session; a pod cannot be created with them",
        ),
        "evictionResponders": Row(Kind.ANY, Treatment.DROPPED, _NO_CONTROLLER),
        "hostAliases": Row(Each(Table("HostAlias", {"hostnames": Row(Kind.TEXTS), "ip": _TEXT}))),
        "hostIPC": _BOOL,
        "hostNetwork": _BOOL,
        "hostPID": _BOOL,
        "hostUsers": _BOOL,
        "hostname": Row(Kind.TEXT, Treatment.SUBSTITUTED, "the copy's own name would be used"),
        "hostnameOverride": _TEXT,
        "imagePullSecrets": Row(
            Each(Table("LocalObjectReference", {"name": _TEXT})),
            Treatment.DROPPED,
            "static pods may not reference secrets",
        ),
        "initContainers": Row(Each(CONTAINER)),
        "nodeName": Row(Kind.TEXT, Treatment.DROPPED, "the kubelet sets its own node's name"),
        "nodeSelector": Row(Kind.MAP, Treatment.DROPPED, _NODE_LABELS),
        "os": Row(Table("PodOS", {"name": _TEXT})),
        "overhead": Row(
            Kind.QUANTITIES, Treatment.DROPPED, "belongs to the runtime class, which is dropped"
        ),
        "preemptionPolicy": Row(Kind.TEXT, Treatment.REWRITTEN, _PRIORITY),
        "priority": Row(Kind.INT32, Treatment.REWRITTEN, _PRIORITY),
        "priorityClassName": Row(Kind.TEXT, Treatment.REWRITTEN, _PRIORITY),
        "readinessGates": Row(Kind.ANY, Treatment.DROPPED, _NO_CONTROLLER),
        "resourceClaims": Row(
            Kind.ANY,
            Treatment.REFUSED,
            "dynamic resource claims are resolved through the API",
            "use a device plugin's resource, or a host path to the device",
        ),
        "resources": Row(RESOURCES),
        "restartPolicy": Row(Kind.TEXT, Treatment.REWRITTEN, "Always: a checkpoint stays up"),
        "runtimeClassName": Row(
            Kind.TEXT,
            Treatment.WARNED,
            "runtime classes are read from the API at every start of a sandbox: the copy runs "
            "under the node's default runtime handler",
            "make that handler the runtime's default on this node, or do not checkpoint this pod",
        ),
        "schedulerName": Row(Kind.TEXT, Treatment.DROPPED, _SCHEDULING),
        "schedulingGates": Row(Kind.ANY, Treatment.DROPPED, _SCHEDULING),
        "schedulingGroup": Row(Kind.ANY, Treatment.DROPPED, _SCHEDULING),
        "securityContext": Row(POD_SECURITY_CONTEXT),
        "serviceAccount": Row(
            Kind.TEXT, Treatment.DROPPED, "static pods may not reference service accounts"
        ),
        "serviceAccountName": Row(
            Kind.TEXT, Treatment.DROPPED, "static pods may not reference service accounts"
        ),
        "setHostnameAsFQDN": _BOOL,
        "shareProcessNamespace": _BOOL,
        "subdomain": _TEXT,
        "terminationGracePeriodSeconds": _INT64,
        "tolerations": Row(
            Each(TOLERATION),
            Treatment.REWRITTEN,
            "one that tolerates everything: a taint must not end a copy",
        ),
        "topologySpreadConstraints": Row(Kind.ANY, Treatment.DROPPED, _SCHEDULING),
        "volumes": Row(Each(VOLUME)),
    },
)

_OWNER: Final = Table(
    "OwnerReference",
    {
        "apiVersion": _TEXT,
        "blockOwnerDeletion": _BOOL,
        "controller": _BOOL,
        "kind": _TEXT,
        "name": _TEXT,
        "uid": _TEXT,
    },
)

METADATA: Final = Table(
    "ObjectMeta",
    {
        "annotations": Row(
            Kind.MAP, Treatment.REWRITTEN, "only those that the node or its tools act on"
        ),
        "creationTimestamp": Row(Kind.ANY, Treatment.DROPPED, _SERVER_SIDE),
        "deletionGracePeriodSeconds": Row(Kind.ANY, Treatment.DROPPED, _SERVER_SIDE),
        "deletionTimestamp": Row(
            Kind.ANY,
            Treatment.REFUSED,
            "the pod is terminating",
            "wait for the pod that takes its place",
        ),
        "finalizers": Row(Kind.ANY, Treatment.DROPPED, "would hang the mirror pod's deletion"),
        "generateName": Row(Kind.TEXT, Treatment.DROPPED, _SERVER_SIDE),
        "generation": Row(Kind.ANY, Treatment.DROPPED, _SERVER_SIDE),
        "labels": Row(
            Kind.MAP, Treatment.REWRITTEN, "without those by which a controller would adopt it"
        ),
        "managedFields": Row(Kind.ANY, Treatment.DROPPED, _SERVER_SIDE),
        "name": Row(Kind.TEXT, Treatment.SUBSTITUTED, "a name of its own for every issue"),
        "namespace": _TEXT,
        "ownerReferences": Row(
            Each(_OWNER), Treatment.DROPPED, "the mirror pod's owner is the node, nothing else"
        ),
        "resourceVersion": Row(Kind.ANY, Treatment.DROPPED, "would fail the mirror pod's creation"),
        "selfLink": Row(Kind.ANY, Treatment.DROPPED, _SERVER_SIDE),
        "uid": Row(Kind.TEXT, Treatment.SUBSTITUTED, "the parent's would make the two one pod"),
    },
)

POD: Final = Table(
    "Pod",
    {
        "apiVersion": _TEXT,
        "kind": _TEXT,
        "metadata": Row(METADATA),
        "spec": Row(POD_SPEC),
        "status": Row(Kind.ANY, Treatment.DROPPED, _SERVER_SIDE),
    },
)
