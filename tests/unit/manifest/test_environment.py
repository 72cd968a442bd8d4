"""The environment of a copy is what the kubelet would have computed for the parent."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from checkpointer.core.facts import Known, Unknown
from checkpointer.manifest.expansion import escape
from checkpointer.manifest.sanitize import Options, Sources, references
from checkpointer.manifest.verdict import Change, Outcome
from tests.unit.manifest.builders import (
    NODE,
    first_container,
    judge,
    make_container,
    make_pod,
    make_sources,
    refused_paths,
)

OPTED_IN = Options(node_name="edge-07", inline_secrets=True)
CONFIG = {"data": {"A": "1", "B": "2"}}
SECRET = {"data": {"TOKEN": base64.b64encode(b"s3cret").decode()}}


def key_ref(name: str, key: str, *, secret: bool = False, **more: Any) -> dict[str, Any]:
    field = "secretKeyRef" if secret else "configMapKeyRef"
    return {"name": "X", "valueFrom": {field: {"name": name, "key": key, **more}}}


def env_of(container: dict[str, Any], sources: Any, options: Options = NODE) -> Any:
    return first_container(make_pod(container), sources, options).get("env")


def test_env_from_comes_first_and_sorted() -> None:
    """Variables of envFrom stand before env, so that env overrides and may refer to them."""
    container = make_container(
        env=[{"name": "C", "value": "$(A)"}], envFrom=[{"configMapRef": {"name": "config"}}]
    )
    assert env_of(container, make_sources({"config": CONFIG})) == [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "2"},
        {"name": "C", "value": "$(A)"},
    ]


def test_later_source_wins() -> None:
    """Of two envFrom sources with one name the later one counts."""
    container = make_container(
        envFrom=[{"configMapRef": {"name": "first"}}, {"configMapRef": {"name": "second"}}]
    )
    sources = make_sources({"first": CONFIG, "second": {"data": {"B": "two"}}})
    assert env_of(container, sources) == [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "two"},
    ]


def test_prefix_goes_before_every_name() -> None:
    """The prefix is part of the name before it is judged, as in the kubelet."""
    container = make_container(envFrom=[{"prefix": "P_", "configMapRef": {"name": "config"}}])
    sources = make_sources({"config": {"data": {"0": "zero"}}})
    assert env_of(container, sources) == [{"name": "P_0", "value": "zero"}]


def test_invalid_names_are_skipped_with_a_warning() -> None:
    """A key that is no variable's name is left out, as kubelets before 1.32 do."""
    container = make_container(envFrom=[{"configMapRef": {"name": "config"}}])
    verdict = judge(make_pod(container), make_sources({"config": {"data": {"0A": "x"}}}))
    assert verdict.outcome is Outcome.WITH_WARNINGS
    assert verdict.manifest is not None
    assert "env" not in verdict.manifest["spec"]["containers"][0]
    assert verdict.warnings[0].path == "spec.containers[0].envFrom[0]"


def test_invalid_names_stay_where_the_kubelet_takes_them() -> None:
    """A kubelet of 1.32 gives the parent every variable, so the copy has them all."""
    container = make_container(envFrom=[{"configMapRef": {"name": "config"}}])
    options = Options(node_name="edge-07", kubelet_version=(1, 32))
    sources = make_sources({"config": {"data": {"0A": "x"}}})
    assert env_of(container, sources, options) == [{"name": "0A", "value": "x"}]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("costs $5", "costs $5"),
        ("$(NAME)", "$$(NAME)"),
        ("$$(NAME)", "$$$$(NAME)"),
        ("a$$b $c", "a$$$$b $$c"),
        ("open $(", "open $$("),
        ("$é", "$$é"),
        ("ends in $", "ends in $"),
        ("", ""),
    ],
)
def test_referenced_values_are_not_expanded(value: str, written: str) -> None:
    """The kubelet expands `value` but no value from a reference: dollars are doubled."""
    container = make_container(env=[key_ref("config", "A")])
    sources = make_sources({"config": {"data": {"A": value}}})
    assert env_of(container, sources) == [{"name": "X", "value": written}]
    assert _expand(escape(value)) == value


def test_own_values_are_left_to_the_kubelet() -> None:
    """References in the parent's own values are expanded by the kubelet, as ever."""
    container = make_container(env=[{"name": "A", "value": "$$(B) $(C)"}])
    assert env_of(container, None) == [{"name": "A", "value": "$$(B) $(C)"}]


@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize("missing", ["object", "key"])
@pytest.mark.parametrize("optional", [False, True])
def test_what_is_missing_is_left_out_only_if_optional(
    secret: bool, missing: str, optional: bool
) -> None:
    """An optional reference to nothing leaves the variable out; another one stops the pod."""
    container = make_container(env=[key_ref("it", "A", secret=secret, optional=optional)])
    known = {"it": None if missing == "object" else {"data": {}}}
    sources = make_sources(secrets=known) if secret else make_sources(config_maps=known)
    verdict = judge(make_pod(container), sources)
    if optional:
        assert verdict.manifest is not None
        assert "env" not in verdict.manifest["spec"]["containers"][0]
        assert verdict.changes[-1].action in {"dropped", "rewritten"}
    else:
        field = "secretKeyRef" if secret else "configMapKeyRef"
        assert refused_paths(verdict) == [f"spec.containers[0].env[0].valueFrom.{field}"]


def test_missing_optional_variable_keeps_an_earlier_one() -> None:
    """Leaving an optional variable out does not take away what envFrom gave."""
    container = make_container(
        env=[
            {
                "name": "A",
                "valueFrom": {"configMapKeyRef": {"name": "no", "key": "A", "optional": True}},
            }
        ],
        envFrom=[{"configMapRef": {"name": "config"}}],
    )
    assert env_of(container, make_sources({"config": CONFIG, "no": None})) == [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "2"},
    ]


def test_binary_data_is_no_environment() -> None:
    """The kubelet takes variables from `data` only."""
    container = make_container(envFrom=[{"configMapRef": {"name": "config"}}])
    sources = make_sources({"config": {"data": {"A": "1"}, "binaryData": {"B": "AA=="}}})
    assert env_of(container, sources) == [{"name": "A", "value": "1"}]


def test_unread_source_refuses() -> None:
    """What nobody read is not taken for absent, not even when it is optional."""
    container = make_container(
        envFrom=[{"configMapRef": {"name": "config", "optional": True}}],
        env=[key_ref("other", "A", optional=True)],
    )
    verdict = judge(make_pod(container), Sources({"config": Unknown("403 Forbidden")}))
    assert [(finding.path, finding.reason) for finding in verdict.refusals] == [
        ("spec.containers[0].envFrom[0]", "config map config: 403 Forbidden"),
        (
            "spec.containers[0].env[0].valueFrom.configMapKeyRef",
            "config map other: it was not read from the API",
        ),
    ]


def test_secret_values_need_an_opt_in() -> None:
    """Without an opt-in a secret in the environment refuses, with the cure."""
    container = make_container(
        envFrom=[{"secretRef": {"name": "s"}}], env=[key_ref("s", "TOKEN", secret=True)]
    )
    verdict = judge(make_pod(container), make_sources(secrets={"s": SECRET}))
    assert verdict.outcome is Outcome.REFUSED
    assert refused_paths(verdict) == [
        "spec.containers[0].envFrom[0]",
        "spec.containers[0].env[0].valueFrom.secretKeyRef",
    ]
    assert all("inline-secrets" in finding.cure for finding in verdict.refusals)
    assert "s3cret" not in repr(verdict)


def test_opted_in_secret_is_decoded() -> None:
    """With the opt-in the decoded value is written out, and only there."""
    container = make_container(
        envFrom=[{"secretRef": {"name": "s"}}], env=[key_ref("s", "TOKEN", secret=True)]
    )
    verdict = judge(make_pod(container), make_sources(secrets={"s": SECRET}), OPTED_IN)
    assert verdict.manifest is not None
    assert verdict.manifest["spec"]["containers"][0]["env"] == [
        {"name": "TOKEN", "value": "s3cret"},
        {"name": "X", "value": "s3cret"},
    ]
    assert "s3cret" not in repr((verdict.changes, verdict.warnings, verdict.refusals))


def test_secret_that_is_no_text_refuses() -> None:
    """Bytes that are not UTF-8 cannot be in a manifest."""
    container = make_container(env=[key_ref("s", "K", secret=True)])
    sources = make_sources(secrets={"s": {"data": {"K": base64.b64encode(b"\xff").decode()}}})
    verdict = judge(make_pod(container), sources, OPTED_IN)
    assert [finding.reason for finding in verdict.refusals] == [
        "key K of secret s is not text: it cannot be in a manifest"
    ]


def test_init_containers_have_an_environment_too() -> None:
    """Init containers are inlined like all others."""
    pod = make_pod(initContainers=[make_container("init", env=[key_ref("c", "A")])])
    verdict = judge(pod, make_sources({"c": CONFIG}))
    assert verdict.manifest is not None
    assert verdict.manifest["spec"]["initContainers"][0]["env"] == [{"name": "X", "value": "1"}]


def test_the_api_s_address_is_added() -> None:
    """The kubelet cannot tell it in an outage, so every container is told."""
    options = Options(node_name="edge-07", service_host="10.0.0.1", service_port="6443")
    verdict = judge(make_pod(), options=options)
    assert verdict.manifest is not None
    assert verdict.manifest["spec"]["containers"][0]["env"] == [
        {"name": "KUBERNETES_SERVICE_HOST", "value": "10.0.0.1"},
        {"name": "KUBERNETES_SERVICE_PORT", "value": "6443"},
    ]
    assert (
        Change(
            "spec.containers[0].env",
            "added",
            "where to find the API: offline the kubelet cannot tell",
        )
        in verdict.changes
    )


def test_the_api_s_address_of_the_container_counts() -> None:
    """A container that sets the address itself keeps it; its port is the service's, as before."""
    options = Options(node_name="edge-07", service_host="10.0.0.1", service_port="6443")
    container = make_container(env=[{"name": "KUBERNETES_SERVICE_HOST", "value": "own"}])
    assert env_of(container, None, options) == [
        {"name": "KUBERNETES_SERVICE_PORT", "value": "443"},
        {"name": "KUBERNETES_SERVICE_HOST", "value": "own"},
    ]


HOST, PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
URL = {"name": "URL", "value": f"https://$({HOST}):$({PORT})"}
OURS = [{"name": HOST, "value": "10.0.0.1"}, {"name": PORT, "value": "6443"}]
OWN_HOST, OWN_PORT = {"name": HOST, "value": "own"}, {"name": PORT, "value": "8443"}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ([URL], [*OURS, URL]),
        ([URL, OWN_HOST, OWN_PORT], [*OURS, URL, OWN_HOST, OWN_PORT]),
        ([OWN_HOST, OWN_PORT, URL], [OWN_HOST, OWN_PORT, URL]),
        ([URL, OWN_PORT], [*OURS, URL, OWN_PORT]),
        ([URL, OWN_HOST], [*OURS, URL, OWN_HOST, {"name": PORT, "value": "443"}]),
        (
            [{"name": HOST, "value": f"[$({HOST})]"}, OWN_PORT],
            [OURS[0], {"name": HOST, "value": f"[$({HOST})]"}, OWN_PORT],
        ),
    ],
)
def test_references_to_the_api_s_address_are_expanded_as_the_parents_were(
    env: list[dict[str, str]], expected: list[dict[str, str]]
) -> None:
    """From the service, up to where the container sets the variable: the kubelet's order."""
    options = Options(node_name="edge-07", service_host="10.0.0.1", service_port="6443")
    container = make_container(env=env, args=[f"--server=$({HOST}):$({PORT})"])
    found = judge(make_pod(container), options=options)
    assert found.manifest is not None
    (copied,) = found.manifest["spec"]["containers"]
    assert (copied["env"], copied["args"]) == (expected, container["args"])
    assert found.warnings == ()
    again = judge(make_pod(copied), options=options)
    assert again.manifest is not None
    assert again.manifest["spec"]["containers"] == [copied]


def test_unset_api_address_is_a_warning_for_pods_with_an_account() -> None:
    """Without a configured endpoint a pod that talks to the API is warned of."""
    verdict = judge(make_pod(serviceAccountName="web"))
    assert [finding.path for finding in verdict.warnings] == ["spec.containers"]


def test_placeholders_stand_for_what_is_not_known() -> None:
    """An explanation of a file shows where values would be."""
    options = Options(node_name="edge-07", placeholders=True)
    container = make_container(
        envFrom=[{"configMapRef": {"name": "all"}}], env=[key_ref("config", "A")]
    )
    verdict = judge(make_pod(container), options=options)
    assert verdict.outcome is Outcome.WITH_WARNINGS
    assert verdict.manifest is not None
    assert verdict.manifest["spec"]["containers"][0]["env"] == [
        {"name": "X", "value": "<placeholder: key A of config map config>"}
    ]


def test_placeholders_do_not_hide_a_missing_opt_in() -> None:
    """An explanation of a file refuses an environment from secrets as the node would."""
    options = Options(node_name="edge-07", placeholders=True)
    container = make_container(env=[key_ref("s", "A", secret=True)])
    assert judge(make_pod(container), options=options).outcome is Outcome.REFUSED


def test_service_links_in_use_are_warned_of() -> None:
    """A reference to a service's variable is undefined in an outage."""
    container = make_container(
        args=["$(DB_SERVICE_HOST)", "$(OWN)", "$$(ESCAPED_PORT)"],
        env=[{"name": "OWN", "value": "$(DB_PORT_5432_TCP_ADDR)"}],
    )
    verdict = judge(make_pod(container))
    assert [finding.reason.split()[5].strip(",") for finding in verdict.warnings] == [
        "DB_PORT_5432_TCP_ADDR",
        "DB_SERVICE_HOST",
    ]


@pytest.mark.parametrize(
    ("name", "is_warned_of"),
    [
        ("DB_SERVICE_HOST", False),
        ("DB_PORT_5432_TCP_ADDR", False),
        ("KUBERNETES_SERVICE_PORT_HTTPS", True),
        ("KUBERNETES_PORT_443_TCP_ADDR", True),
    ],
)
def test_without_service_links_only_the_api_s_own_variables_are_missed(
    name: str, is_warned_of: bool
) -> None:
    """The parent did not have the others either: nothing differs, and nobody is warned."""
    container = make_container(args=[f"$({name})"])
    assert bool(judge(make_pod(container, enableServiceLinks=False)).warnings) is is_warned_of
    assert judge(make_pod(container)).warnings


def test_a_service_variable_that_is_set_too_late_is_warned_of() -> None:
    """The parent's kubelet expanded it from the service; what comes later sets it for others."""
    env = [
        {"name": "A", "value": "$(DB_SERVICE_HOST)"},
        {"name": "DB_SERVICE_HOST", "value": "own"},
        {"name": "B", "value": "$(DB_SERVICE_HOST)"},
    ]
    container = make_container(env=env, args=["$(DB_SERVICE_HOST)"])
    assert len(judge(make_pod(container)).warnings) == 1
    assert judge(make_pod(make_container(env=env[1:], args=container["args"]))).warnings == ()


def test_a_mount_path_of_a_service_variable_is_warned_of() -> None:
    """Without the variable the kubelet does not start the container at all."""
    mount = {"name": "data", "mountPath": "/data", "subPathExpr": "$(DB_SERVICE_HOST)"}
    pod = make_pod(make_container(volumeMounts=[mount]), volumes=[{"name": "data", "emptyDir": {}}])
    (warning,) = judge(pod).warnings
    assert "DB_SERVICE_HOST" in warning.reason


def test_references_name_what_has_to_be_read() -> None:
    """Only the environment and claims are read from the API; volumes are on the node."""
    pod = make_pod(
        make_container(
            env=[key_ref("c1", "A"), key_ref("s1", "A", secret=True)],
            envFrom=[{"secretRef": {"name": "s2"}}, {"configMapRef": {"name": "c2"}}],
        ),
        initContainers=[make_container("init", env=[key_ref("c3", "A")])],
        volumes=[
            {"name": "a", "persistentVolumeClaim": {"claimName": "p"}},
            {"name": "b", "secret": {"secretName": "not-read"}},
        ],
    )
    found = references(pod)
    assert found.config_maps == {"c1", "c2", "c3"}
    assert found.secrets == {"s1", "s2"}
    assert found.claims == {"p"}


@pytest.mark.parametrize("pod", [None, [], {}, {"spec": 3}, {"spec": {"containers": [None, 3]}}])
def test_references_of_junk_are_none(pod: Any) -> None:
    """Reading what to read never raises."""
    assert references(pod) == references({})


def _expand(text: str) -> str:
    """Expand as third_party/forked/golang/expansion does, with no variable defined.

    Works on bytes, as Go does, with its way of turning one byte into a character.
    """
    source, result, cursor = text.encode(), bytearray(), 0
    while cursor < len(source):
        byte = source[cursor]
        if byte != ord("$") or cursor + 1 == len(source):
            result.append(byte)
            cursor += 1
            continue
        following = source[cursor + 1]
        if following == ord("$"):
            result += b"$"
            cursor += 2
        elif following == ord("(") and (end := source.find(b")", cursor)) > 0:
            result += b"<expanded>"
            cursor = end + 1
        else:
            result += b"$" + chr(following).encode()
            cursor += 2
    return result.decode()


def test_known_is_not_unknown() -> None:
    """A source that says there is nothing differs from one that could not tell."""
    container = make_container(envFrom=[{"configMapRef": {"name": "c", "optional": True}}])
    assert judge(make_pod(container), Sources({"c": Known(None)})).manifest is not None


@pytest.mark.parametrize(
    ("field", "on_host", "expected"),
    [
        ("status.hostIP", True, "the container does not start"),
        ("status.hostIPs", False, "the container does not start"),
        ("status.podIP", True, "the variable is empty"),
        ("status.podIPs", True, "the variable is empty"),
        ("status.podIP", False, None),
        ("spec.nodeName", True, None),
    ],
)
def test_an_address_that_the_cloud_tells_is_warned_of(
    field: str, on_host: bool, expected: str | None
) -> None:
    """A kubelet that has it from the API knows none in an outage; all others know their own."""
    entry = {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": field}}}
    pod = make_pod(make_container(env=[entry]), hostNetwork=on_host)
    found = judge(pod, options=Options(node_name="edge-07", has_cloud_address=True)).warnings
    assert [warning.path for warning in found] == (
        ["spec.containers[0].env[0].valueFrom"] if expected else []
    )
    assert all(warning.reason.endswith(str(expected)) for warning in found)
    assert judge(pod).warnings == ()
