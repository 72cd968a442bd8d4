"""The configuration: a wrong value is named by its key, what is left out has its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from checkpointer.config import (
    API_VERSION,
    KIND,
    Config,
    ConfigError,
    environment_name,
    load,
    parse_duration,
    setting_keys,
)

HEADER = f"apiVersion: {API_VERSION}\nkind: {KIND}\n"


def problems_of(text: str | None = None, **more: Any) -> tuple[str, ...]:
    """Return what is wrong with a configuration, the header left out."""
    with pytest.raises(ConfigError) as caught:
        load(HEADER + text if text is not None else None, **more)
    return caught.value.problems


@pytest.mark.parametrize(
    "text",
    [None, "", " \n", "# nothing but a comment\n", "---\n", HEADER, HEADER + "timing:\nlog: {}\n"],
)
def test_what_says_nothing_is_the_defaults(text: str | None) -> None:
    """An absent, empty, all-commented or header-only file leaves every default."""
    assert load(text) == Config()


def test_key_without_a_value_is_its_default() -> None:
    """A key that is left blank means the default, not nothing."""
    assert load(HEADER + "nodeName:\nendpoints: ~\ntiming: {grace: null}\nstageZero:\n") == Config()


def test_every_kind_of_value_is_read() -> None:
    """Texts, paths, durations, numbers, booleans, lists and mappings arrive as their types."""
    config = load(
        HEADER + "nodeName: edge-7\n"
        "kubeconfig: /etc/kubernetes//agent.conf\n"
        "endpoints: [https://10.0.0.1:6443, 'https://[fd00::1]:6443']\n"
        "selection: {annotation: false, labelSelectors: [{matchLabels: {a: b}}]}\n"
        "timing: {grace: 1m30s, crashLimit: 5}\n"
        "stageZero: [{names: [vip]}]\n"
    )
    assert config.node_name == "edge-7"
    assert config.kubeconfig == Path("/etc/kubernetes/agent.conf")
    assert config.endpoints == ("https://10.0.0.1:6443", "https://[fd00::1]:6443")
    assert config.selection.annotation is False
    assert config.selection.label_selectors == ({"matchLabels": {"a": "b"}},)
    assert (config.timing.grace_seconds, config.timing.crash_limit) == (90.0, 5)
    assert config.stage_zero == ({"names": ["vip"]},)


WRONG = [
    ("nodeName: 17", "nodeName: expected a text (in quotes, if it looks like something else)"),
    ("nodeName: yes", "nodeName: expected a text"),
    ("nodeName: 2026-01-01", "nodeName: expected a text"),
    ("nodeName: [a]", "nodeName: expected a text"),
    ("kubeconfig: kubelet.conf", "kubeconfig: expected an absolute path, not 'kubelet.conf'"),
    ("kubeconfig: /etc/../etc/x", "kubeconfig: expected an absolute path"),
    ("kubeconfig: {path: /x}", "kubeconfig: expected a text"),
    ("storeDirectory: ''", "storeDirectory: expected an absolute path, not ''"),
    ("endpoints: {a: b}", "endpoints: expected a list, not a mapping"),
    ("endpoints: [1]", "endpoints: expected a list of texts, not a list"),
    ("endpoints: [https://ok:1, 'http://x']", "endpoints[1]: expected https://host:port"),
    ("endpoints: ['https://x:0']", "endpoints[0]: expected https://host:port"),
    ("endpoints: ['https://x:65536']", "endpoints[0]: expected https://host:port"),
    ("endpoints: ['https://x:1/path']", "endpoints[0]: expected https://host:port"),
    ("endpoints: ['https://x?a']", "endpoints[0]: expected https://host:port"),
    ("endpoints: ['https://[::1']", "endpoints[0]: expected https://host:port"),
    ("runtimeEndpoint: tcp://x:1", "runtimeEndpoint: expected unix:///path/to/socket"),
    (f"runtimeEndpoint: unix:///{'x' * 107}", "runtimeEndpoint: expected unix:///path/to/socket"),
    ("selection: {annotation: 1}", "selection.annotation: expected true or false, not 1"),
    ("selection: {annotation: maybe}", "selection.annotation: expected true or false"),
    ("selection: {labelSelectors: [a]}", "selection.labelSelectors: expected a list of mappings"),
    ("selection: {labelSelectors: {}}", "selection.labelSelectors: expected a list, not a mapping"),
    ("selection: []", "selection: expected a mapping of settings"),
    ("selection: false", "selection: expected a mapping of settings"),
    ("selection: kube-system", "selection: expected a mapping of settings"),
    ("stageZero: etcd", "stageZero: expected a list, not 'etcd'"),
    ("stageZero: [etcd]", "stageZero: expected a list of mappings, not a list"),
    ("contact: {failures: 0}", "contact.failures: expected at least 1, not 0"),
    ("contact: {failures: -1}", "contact.failures: expected a whole number, not -1"),
    ("contact: {failures: 3.0}", "contact.failures: expected a whole number, not 3.0"),
    ("contact: {failures: true}", "contact.failures: expected a whole number, not True"),
    ("contact: {successes: 0}", "contact.successes: expected at least 1, not 0"),
    ("contact: {jitter: 1s}", "contact.jitter: no such setting"),
    ("contact: {suspectInterval: 0}", "contact.suspectInterval: expected at least 10ms, not 0.0s"),
    ("contact: {healthyInterval: 1ms}", "contact.healthyInterval: expected at least 10ms"),
    ("contact: {lostInterval: 0s}", "contact.lostInterval: expected at least 10ms"),
    ("probe: {timeout: 0}", "probe.timeout: expected at least 10ms, not 0.0s"),
    ("timing: {tick: 0}", "timing.tick: expected at least 10ms, not 0.0s"),
    ("timing: {watch: 0}", "timing.watch: expected at least 10ms"),
    ("timing: {lostWatch: 0}", "timing.lostWatch: expected at least 10ms"),
    ("timing: {backoffWatch: 0}", "timing.backoffWatch: expected at least 10ms"),
    ("timing: {crashLimit: 0}", "timing.crashLimit: expected at least 1, not 0"),
    ("timing: {grace: soon}", "timing.grace: expected a duration such as 30s, 1m30s or 200ms"),
    ("timing: {grace: -5}", "timing.grace: expected a duration"),
    ("timing: {grace: .nan}", "timing.grace: expected a duration"),
    ("timing: {tick: .inf}", "timing.tick: expected a duration"),
    ("timing: {tick: 9000h}", "timing.tick: expected a duration"),
    ("timing: {grace: true}", "timing.grace: expected a duration"),
    ("timing: {grace: [30s]}", "timing.grace: expected a duration"),
    ("timing: {graceSeconds: 3}", "timing.graceSeconds: no such setting"),
    ("snapshot: {keepRevisions: 0}", "snapshot.keepRevisions: expected at least 1, not 0"),
    ("snapshot: {keepRevisions: many}", "snapshot.keepRevisions: expected a whole number"),
    ("snapshot: {maxMaterialBytes: 0}", "snapshot.maxMaterialBytes: expected at least 1, not 0"),
    ("snapshot: {requests: half}", "snapshot.requests: expected keep or none, not 'half'"),
    ("service: {port: 65536}", "service.port: expected at most 65535, not 65536"),
    ("service: {host: 1}", "service.host: expected a text"),
    ("log: {level: INFO}", "log.level: expected debug or info or warning or error, not 'INFO'"),
    ("log: {format: xml}", "log.format: expected text or json, not 'xml'"),
    ("lockfile: /x", "lockfile: no such setting"),
    ("timing.grace: 3s", "timing.grace: no such setting"),
    ("1: 2", "1: no such setting"),
]


@pytest.mark.parametrize(("text", "expected"), WRONG, ids=[text for text, _ in WRONG])
def test_wrong_value_is_named_by_its_key(text: str, expected: str) -> None:
    """Whatever is wrong with a value, the one line says at which key and what was expected."""
    (problem,) = problems_of(text)
    assert problem.startswith(expected)


def test_all_problems_are_told_at_once() -> None:
    """An operator repairs a file in one go: a line for each key at fault."""
    assert problems_of("a: 1\nlog: {level: loud}\ntiming: {grace: x, tock: 1}\n") == (
        "a: no such setting",
        "log.level: expected debug or info or warning or error, not 'loud'",
        "timing.grace: expected a duration such as 30s, 1m30s or 200ms, not 'x'",
        "timing.tock: no such setting",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nodeName: a\nnodeName: b\n", "nodeName: set twice, again in line 4"),
        ("timing: {grace: 1s}\ntiming: {tick: 1s}\n", "timing: set twice, again in line 4"),
        ("log: {level: debug, level: info}\n", "log.level: set twice, again in line 3"),
        ("\tnodeName: a\n", "here, line 3: not valid YAML"),
        ("log: {level: debug\n", "here, line 4: not valid YAML"),
        ("nodeName: !!python/object:os.system a\n", "here, line 3: not valid YAML"),
        ("nodeName: 2026-99-99\n", "here: not valid YAML: a value is not what it looks like"),
        ("nodeName: \0\n", "here: not valid YAML"),
    ],
    ids=["twice", "group twice", "twice in a group", "tab", "open", "tag", "no date", "NUL"],
)
def test_yaml_trap_is_no_silent_default(text: str, expected: str) -> None:
    """What YAML would swallow or choke on is told with its place; nothing is run or guessed."""
    assert problems_of(text, source="here") == (expected,)


@pytest.mark.parametrize("text", ["[]", "- a\n- b\n", "agent", "3", "&a [*a]"])
def test_file_that_is_no_mapping_is_refused(text: str) -> None:
    """A list or a word is no configuration."""
    with pytest.raises(ConfigError) as caught:
        load(text, source="here")
    assert caught.value.problems == ("here: expected a mapping of settings",)


def test_two_documents_are_refused() -> None:
    """Of two documents the second would be ignored."""
    with pytest.raises(ConfigError, match=r"^here, line \d+: not valid YAML$"):
        load(f"{HEADER}---\n{HEADER}", source="here")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nodeName: a\n", (f"apiVersion: expected {API_VERSION}", f"kind: expected {KIND}")),
        (f"apiVersion: v1\nkind: {KIND}\n", (f"apiVersion: expected {API_VERSION}",)),
        (f"apiVersion: {API_VERSION}\nkind: Config\n", (f"kind: expected {KIND}",)),
    ],
)
def test_other_kind_of_file_is_refused(text: str, expected: tuple[str, ...]) -> None:
    """A file of another kind or version is not taken for ours, and told by its path."""
    with pytest.raises(ConfigError) as caught:
        load(text, source="here")
    assert caught.value.problems == tuple(f"here: {problem}" for problem in expected)


def test_wrong_value_is_not_told_where_it_may_be_a_secret() -> None:
    """What is no plain setting, such as a credential in the wrong place, is not echoed."""
    for text in (
        "kubeconfig: {token: hunter2}",
        "endpoints: ['https://admin:hunter2@api:6443']",
        "stageZero: [hunter2]",
        f"nodeName: [{'x' * 99}hunter2]",
        f"log: {{level: {'x' * 99}hunter2}}",
    ):
        assert "hunter2" not in "\n".join(problems_of(text))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("200ms", 0.2),
        ("2h", 7200.0),
        ("1.5s", 1.5),
        ("1h1m1s1ms", 3661.001),
        ("15", 15.0),
        (" 15s ", 15.0),
        (0, 0.0),
        (2.5, 2.5),
        ("8760h", 31536000.0),
    ],
)
def test_duration_is_read_as_go_does(value: object, seconds: float) -> None:
    """Durations are as in other node components; a bare number is seconds."""
    assert parse_duration(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        *("", "s", "-1s", "1 s", "1d", "1S", "30s30", "s30", "1e3", "٣s", "1..5s", "8761h"),
        *(True, None, [], -1, float("nan"), float("inf"), "9" * 400),
    ],
)
def test_other_duration_is_refused(value: object) -> None:
    """What is not plainly a duration is none; nor is one that no clock could wait for."""
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(value)


def test_environment_is_over_the_file() -> None:
    """A variable wins over the file, whether the file has the group, leaves it blank or not."""
    environment = {"CHECKPOINTER_TIMING_GRACE": "5s"}
    for text in ("", "timing: {grace: 9s}", "timing:\n"):
        assert load(HEADER + text, environment).timing.grace_seconds == 5.0
    kept = load(HEADER + "timing: {tick: 9s}", environment)
    assert (kept.timing.tick_seconds, kept.timing.grace_seconds) == (9.0, 5.0)


def test_flag_is_over_the_environment() -> None:
    """What the command line sets wins over variable and file."""
    environment = {"CHECKPOINTER_TIMING_GRACE": "5s", "CHECKPOINTER_NODE_NAME": "b"}
    config = load(
        HEADER + "timing: {grace: 9s}\nnodeName: a", environment, {"timing.grace": "200ms"}
    )
    assert (config.timing.grace_seconds, config.node_name) == (0.2, "b")


@pytest.mark.parametrize("key", setting_keys())
def test_every_key_has_its_variable(key: str) -> None:
    """Each key can be reached from the environment and the command line, and says if wrong."""
    name = environment_name(key)
    words = name.removeprefix("CHECKPOINTER_").split("_")
    assert "".join(words).lower() == key.replace(".", "").lower()
    wrong = "relative/path" if "irectory" in key or "ile" in key else "\n"
    for more in ({"environment": {name: wrong}}, {"overrides": {key: wrong}}):
        if key in _TAKES_ANYTHING:
            assert load(None, **more) is not None
        elif key in ("nodeName", "service.host"):
            assert load(None, **more) != Config()
        else:
            assert all(problem.startswith(key) for problem in problems_of(**more))


_TAKES_ANYTHING = {"endpoints", *(f"selection.{key}" for key in ("namespaces", "serviceAccounts"))}
_TAKES_ANYTHING |= {"selection.ownerKinds", "selection.images", "snapshot.keepAnnotations"}
_TAKES_ANYTHING |= {"snapshot.secretEnvironmentNamespaces"}


def test_words_of_a_variable_are_those_of_the_key() -> None:
    """Abbreviations in a key stay one word."""
    assert environment_name("bootIDFile") == "CHECKPOINTER_BOOT_ID_FILE"
    assert environment_name("snapshot.maxMaterialBytes") == (
        "CHECKPOINTER_SNAPSHOT_MAX_MATERIAL_BYTES"
    )


def test_list_in_the_environment_is_comma_separated() -> None:
    """Lists of texts can be given in one variable; empty means none."""
    environment = {"CHECKPOINTER_SELECTION_NAMESPACES": "kube-system, edge,,"}
    assert load(None, environment).selection.namespaces == ("kube-system", "edge")
    assert load(None, {"CHECKPOINTER_SELECTION_NAMESPACES": ""}).selection.namespaces == ()


@pytest.mark.parametrize("value", ["true", "True", "FALSE"])
def test_boolean_in_the_environment_is_a_word(value: str) -> None:
    """Booleans come as words; numbers are not taken for them."""
    config = load(None, {"CHECKPOINTER_SELECTION_ANNOTATION": value})
    assert config.selection.annotation is (value.lower() == "true")


def test_unknown_variable_is_refused() -> None:
    """A misspelt variable must not pass for a setting that was made."""
    environment = {"CHECKPOINTER_TIMING_GRACES": "hunter2", "CHECKPOINTER_CONTACT_JITTER": "1s"}
    assert problems_of(environment=environment) == (
        "CHECKPOINTER_CONTACT_JITTER: no such setting",
        "CHECKPOINTER_TIMING_GRACES: no such setting",
    )


def test_name_of_the_file_is_no_setting() -> None:
    """CHECKPOINTER_CONFIG names the file; other programs' variables are none of ours."""
    assert load(None, {"CHECKPOINTER_CONFIG": "/x", "PATH": "/bin", "checkpointer_x": "y"}) == (
        Config()
    )


def test_variables_of_a_service_are_no_settings() -> None:
    """A Service called checkpointer gives every pod variables that would configure the agent."""
    link = {
        "CHECKPOINTER_SERVICE_HOST": "10.96.0.7",
        "CHECKPOINTER_SERVICE_PORT": "9100",
        "CHECKPOINTER_SERVICE_PORT_METRICS": "9100",
        "CHECKPOINTER_PORT": "tcp://10.96.0.7:9100",
        "CHECKPOINTER_PORT_9100_TCP": "tcp://10.96.0.7:9100",
        "CHECKPOINTER_PORT_9100_TCP_ADDR": "10.96.0.7",
        "CHECKPOINTER_METRICS_SERVICE_HOST": "10.96.0.8",
        "CHECKPOINTER_METRICS_PORT": "udp://10.96.0.8:9100",
    }
    assert load(None, link | {"CHECKPOINTER_LOG_LEVEL": "debug"}).service == Config().service
    assert load(None, {"CHECKPOINTER_SERVICE_HOST": "api"}).service.host == "api"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"timing": "5s"}, "timing: expected a mapping of settings"),
        ({"timing.tock": "5s"}, "timing.tock: no such setting"),
        ({"nodeName.x": "5s"}, "nodeName: expected a text"),
        ({"": "5s"}, ": no such setting"),
        ({"log.level.x": "5s"}, "log.level: expected a text"),
    ],
)
def test_flag_for_no_key_is_refused(overrides: dict[str, str], expected: str) -> None:
    """A --set that means no setting says so."""
    (problem,) = problems_of(overrides=overrides)
    assert problem.startswith(expected)


def test_flag_below_a_plain_value_is_refused() -> None:
    """A --set cannot go below a value that the file gives."""
    text = HEADER + "log: {level: debug}"
    with pytest.raises(
        ConfigError, match=r"^--set log\.level\.x: level is not a group of settings"
    ):
        load(text, overrides={"log.level.x": "1"})


CONTRADICTIONS = [
    (
        {"storeDirectory": "/etc/kubernetes/manifests"},
        "storeDirectory: must not be the kubelet's manifest folder",
    ),
    (
        {"storeDirectory": "/etc/kubernetes/manifests/store"},
        "storeDirectory: must not lie in the kubelet's manifest folder",
    ),
    (
        {"storeDirectory": "/var/lib/kubelet"},
        "storeDirectory: must not contain kubeletDirectory (/var/lib/kubelet)",
    ),
    (
        {"storeDirectory": "/run/pod-checkpointer"},
        "storeDirectory: must not contain lockFile (/run/pod-checkpointer/lock)",
    ),
    (
        {"storeDirectory": "/s", "kubeconfig": "/s/k"},
        "storeDirectory: must not contain kubeconfig (/s/k)",
    ),
]


@pytest.mark.parametrize(("settings", "expected"), CONTRADICTIONS)
def test_store_has_its_folder_for_itself(settings: dict[str, str], expected: str) -> None:
    """The store closes its folder to everybody else: nothing that others use may lie there."""
    assert problems_of(yaml.safe_dump(settings)) == (expected,)


@pytest.mark.parametrize("folder", ["/", "/etc", "/etc/kubernetes"])
def test_store_in_a_system_folder_is_refused(folder: str) -> None:
    """Making /etc private to root would end the node."""
    assert all(
        problem.startswith("storeDirectory: must not contain ")
        for problem in problems_of(f"storeDirectory: {folder}")
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.1.2.3:65535", "[::1]:80", ""])
def test_http_on_loopback_needs_no_permission(address: str) -> None:
    """An address of this machine alone, or none, is taken as it is."""
    assert load(None, overrides={"http.address": address}).http.address == address


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10278", "expected an IP address and a port, such as 127.0.0.1:10278, not '10278'"),
        ("localhost:80", "expected an IP address and a port, such as 127.0.0.1:10278"),
        ("127.0.0.1:65536", "expected an IP address and a port"),
        ("127.0.0.300:80", "127.0.0.300 is not an IP address"),
        ("[::zz]:80", "expected an IP address"),
        ("0.0.0.0:80", "0.0.0.0 can be reached from other machines; expected a loopback address"),
        ("[::]:80", ":: can be reached from other machines"),
    ],
)
def test_http_address_is_checked(address: str, expected: str) -> None:
    """What would serve to the network has to be asked for."""
    (problem,) = problems_of(overrides={"http.address": address})
    assert problem.startswith(f"http.address: {expected}")


def test_http_may_be_served_to_other_machines_when_told() -> None:
    """Prometheus on another machine cannot scrape a loopback address."""
    overrides = {"http.address": "0.0.0.0:10278", "http.allowRemote": "true"}
    assert load(None, overrides=overrides).http.allow_remote
